"""Scorers of imagined rollouts (`ev.wm-evaluator`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.contract.protocols import Substrate
from wamkit.contract.types import Observation, to_device
from wamkit.design import Design
from wamkit.errors import ConfigError, DataError, did_you_mean
from wamkit.imagination.dreams import Dream

FLOOR = 0.1  # lower bound on the probe's scale, as a fraction of the RMS standard deviation of all features
Scorer = Callable[[Dream], Tensor]  # scores a finished dream, (B,); higher is better


def scorable_substrate(world: Design, stream: str) -> Substrate:
    """Substrate of a future stream whose values can be computed from a single observation.

    Raises:
        ConfigError: there is no such future, or its values are relative to "now".
    """
    if stream not in world.config.futures:
        raise ConfigError(
            f"design {world.name!r} has no future {stream!r}. {did_you_mean(stream, world.config.futures)}"
        )
    substrate = world.substrate(stream)
    if substrate.relative:
        raise ConfigError(
            f"future {stream!r} describes motion since now, which a single observation does not show. Score another "
            f"stream."
        )
    return substrate


@final
class SuccessProbe:
    """Probability that a dream solves its task: logistic regression on the values of a future stream.

    Args:
        world: world model.
        stream: name of the continuous future stream that the probe reads. Its features are standardised; those that
            hardly vary are divided by a lower bound instead of their own deviation.
        shown: observations (M, 1), e.g. the last frames of episodes and earlier ones.
        solved: label of every observation, (M,) bool, True where the task is solved.
        ridge: weight of the squared coefficients, per observation.
        pool: ``mean`` averages the tokens; ``tokens`` concatenates them, so that positions in a picture matter.
        when: ``end`` scores the last step of a dream; ``ever`` its best step, as an episode ends once it is solved.

    Raises:
        ConfigError: there is no such future, it is relative to "now", or its values are token ids.
        DataError: all observations are solved, or none.
    """

    def __init__(
        self,
        world: Design,
        stream: str,
        shown: Observation,
        solved: Tensor,
        ridge: float = 1e-3,
        pool: Literal["mean", "tokens"] = "mean",
        when: Literal["end", "ever"] = "end",
    ) -> None:
        self._stream, self._substrate = stream, scorable_substrate(world, stream)
        self._pool, self._when = pool, when
        values = self._substrate.encode(to_device(shown, next(world.parameters()).device))
        if not values.is_floating_point():
            raise ConfigError(
                f"future {stream!r} consists of token ids, which a probe cannot read. Score a continuous stream."
            )
        if solved.shape != (len(values),) or solved.all() or not solved.any():
            raise DataError(
                f"success probe: needs solved and unsolved observations, {len(values)} in all, got "
                f"{int(solved.sum())} solved of {tuple(solved.shape)}"
            )
        x = self._read(values)
        # Without a floor, a feature that hardly varies on real frames would turn a tiny error of an imagined frame
        # into certainty.
        spread = x.std(dim=0)
        floor = max(FLOOR * spread.square().mean().sqrt().item(), 1e-6)
        self._mean, self._deviation = x.mean(dim=0), spread.clamp(min=floor)
        self._weight = self._fit(self._standard(x), solved.to(x.device, x.dtype), ridge)

    def _read(self, values: Tensor) -> Tensor:
        """Features of values (M, 1, N, D): (M, D), or (M, N * D) if all tokens are read."""
        return values[:, 0].mean(dim=1) if self._pool == "mean" else values[:, 0].flatten(1)

    def _standard(self, x: Tensor) -> Tensor:
        """Standardise (M, D) and append a column of ones, (M, D + 1)."""
        return F.pad((x - self._mean) / self._deviation, (0, 1), value=1.0)

    @staticmethod
    @torch.enable_grad()
    def _fit(x: Tensor, solved: Tensor, ridge: float) -> Tensor:
        weight = torch.zeros(x.shape[1], device=x.device, requires_grad=True)
        optimiser = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimiser.zero_grad()
            value = F.binary_cross_entropy_with_logits(x @ weight, solved) + ridge * weight.square().sum()
            value.backward()
            return value

        optimiser.step(loss)
        return weight.detach()

    def probability(self, values: Tensor) -> Tensor:
        """Probability of success (M,) from values (M, 1, N, D) of the stream."""
        return torch.sigmoid(self._standard(self._read(values)) @ self._weight)

    def of(self, shown: Observation) -> Tensor:
        """Probability of success (M,) from recorded observations (M, 1)."""
        return self.probability(self._substrate.encode(to_device(shown, self._weight.device)))

    def __call__(self, finished: Dream) -> Tensor:
        """Probability of success of every row of a dream, (B,)."""
        steps = finished.made if self._when == "ever" else finished.made[-1:]
        probabilities = [self.probability(forecast.future[self._stream][:, :1]) for forecast in steps]
        return torch.stack(probabilities).amax(dim=0)


@final
class PerInstruction:
    """Scores every row of a dream by the scorer of its instruction.

    Args:
        scorers: instruction -> scorer.
    """

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers = dict(scorers)

    def __call__(self, finished: Dream) -> Tensor:
        """Scores (B,); raises :class:`DataError` if an instruction has no scorer."""
        tasks = finished.start.task
        unknown = sorted(set(tasks) - set(self._scorers))
        if unknown:
            raise DataError(
                f"no scorer for the instructions {unknown}; there are scorers for {sorted(self._scorers)}"
            )
        scores = {scorer: scorer(finished) for scorer in {self._scorers[task] for task in tasks}}
        return torch.stack([scores[self._scorers[task]][row] for row, task in enumerate(tasks)])
