"""Returns of imagined rollouts, and how much more likely an action should become (`pl.imagination-ac`, `pt.wm-rl`).

    R[k] = r[k] + d ((1 - l) V[k] + l R[k+1]),   R[K-1] = r[K-1] + d V[K-1]

r[k] is the reward of step k, V[k] the value of the state at its end, d the discount of a step and l the trace
(Sutton & Barto 2018, chapter 12; Hafner et al. 2023, DreamerV3, eq. 7).
"""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.errors import ConfigError

FLAT = 1e-8  # spread of advantages below which all count as equal


def lambda_returns(reward: Tensor, value: Tensor, discount: float, trace: float) -> Tensor:
    """Return from the start of every step, (K, R).

    Args:
        reward: (K, R), reward of step k.
        value: (K, R), value of the state at the end of step k; zeros without one.
        discount: factor of one step.
        trace: 0 takes the value after one step, 1 the rewards of all steps and the value at their end.
    """
    if reward.shape != value.shape:
        raise ConfigError(
            f"lambda_returns: reward {tuple(reward.shape)} and value {tuple(value.shape)} must have one shape"
        )
    following, returns = value[-1], []
    for r, v in zip(reward.flip(0), value.flip(0), strict=True):
        following = r + discount * ((1 - trace) * v + trace * following)
        returns.append(following)
    return torch.stack(returns[::-1])


def advantages(returns: Tensor, value: Tensor | None, group: int) -> Tensor:
    """How much better a row's return is than expected at each step, (K, R), in standard deviations of all rows.

    What is expected in the first step is the mean over the group, which shares its start; later, where the rows of a
    group have parted, it is the value of the state, and the mean over the group without one.

    Args:
        returns: (K, R), rows of one start side by side.
        value: (K, R), value at the end of step k, or None.
        group: rows per start.
    """
    expected = returns.unflatten(1, (-1, group)).mean(dim=2).repeat_interleave(group, dim=1)
    if value is not None:
        expected = torch.cat((expected[:1], value[:-1]))
    above = returns - expected
    return above / above.std(correction=0).clamp(min=FLAT)


def improved_shares(advantage: Tensor, group: int, temperature: float) -> Tensor:
    """Share of every row in what the policy is regressed on, (K, R); the sum over all is 1.

    Within a group, shares are proportional to exp(advantage / temperature): the rows become a sample of the policy that
    gains most for its distance from the one that drew them (advantage-weighted regression, Peng et al. 2019, eq. 5).
    Every start and every step has the same share in total.
    """
    grouped = (advantage / temperature).unflatten(1, (-1, group)).softmax(dim=2)
    return (grouped / grouped.shape[0] / grouped.shape[1]).flatten(1)


def drawn_rows(shares: Tensor, count: int) -> Tensor:
    """Draw ``count`` rows with given ``shares`` (N,), which sum to 1: indices, ascending.

    Systematic resampling from the global generator: row i is drawn ``count * shares[i]`` times in expectation, and
    never a whole time more or less (Kitagawa 1996). The mean loss of the drawn rows is therefore an unbiased estimate
    of the weighted loss of all rows, whatever computes it.
    """
    places = (torch.arange(count, dtype=torch.float64) + torch.rand((), dtype=torch.float64)) / count
    ends = shares.double().cpu().cumsum(0)
    return torch.searchsorted(ends, places * ends[-1], right=True).clamp(max=len(shares) - 1)
