"""Distance of a predicted future to a goal."""

from __future__ import annotations

from torch import Tensor


def goal_cost(future: Tensor, goal: Tensor) -> Tensor:
    """Return the cost of every candidate, (B, n).

    Args:
        future: (B, n, F, M, D) values or (B, n, F, M) ids; the last step counts.
        goal: (B, 1, M, D) values or (B, 1, M) ids.

    Returns:
        The mean squared distance of values, or the share of ids that differ.
    """
    last = future[:, :, -1]
    if not future.is_floating_point():
        return (last != goal).float().mean(dim=-1)
    return (last - goal).square().mean(dim=(-2, -1))
