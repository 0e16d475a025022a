"""Score policies by what a world model imagines of them, and say how far to trust it (`ev.wm-evaluator`)."""

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
from wamkit.planners.goal_cost import goal_cost

FLOOR = 0.1  # of the values' mean deviation: what a probe at least divides by
Scorer = Callable[[Dream], Tensor]  # a finished dream -> (B,), more is better


def substrate_of(world: Design, stream: str) -> Substrate:
    """The substrate of a future stream that can be compared with an observation; ConfigError otherwise."""
    if stream not in world.config.futures:
        raise ConfigError(
            f"design {world.name!r} has no future {stream!r}. {did_you_mean(stream, world.config.futures)}"
        )
    substrate = world.substrates[world.config.substrate_of(stream)]
    assert isinstance(substrate, Substrate)
    if substrate.relative:
        raise ConfigError(
            f"future {stream!r} tells motion since now, which no single observation shows. Score another stream."
        )
    return substrate


@final
class GoalDistance:
    """Minus the distance of the last imagined step to a goal, as a planner measures it.

    Args:
        world: the world model.
        stream: future stream that is compared.
        goal: (B, 1) or (1, 1), what is to be reached, with the extras that the stream's substrate reads.

    Raises:
        ConfigError: there is no such future, or it is relative to "now".
    """

    def __init__(self, world: Design, stream: str, goal: Observation) -> None:
        self._stream = stream
        self._goal = substrate_of(world, stream).encode(to_device(goal, next(world.parameters()).device))

    def __call__(self, finished: Dream) -> Tensor:
        """(B,), zero at the goal and negative elsewhere."""
        reached = finished.values(self._stream)
        goal = self._goal.expand(reached.shape[0], *[-1] * (self._goal.dim() - 1))
        return -goal_cost(reached[:, None], goal)[:, 0]


@final
class SuccessProbe:
    """Probability that a task is solved where a dream ends: logistic regression on a future stream's values.

    Args:
        world: the world model; its stream must be continuous.
        stream: future stream that is read, mean over tokens, standardised, what hardly varies by less.
        shown: (M, 1), observations, e.g. the last frames of episodes and earlier ones.
        solved: (M,) bool, whether the task is solved there.
        ridge: weight of the squared coefficients, per observation.
        pool: ``mean`` reads the mean over the tokens; ``tokens`` all of them side by side, so that it matters where in
            a picture something is.
        when: ``end`` scores where the dream ends; ``ever`` its best step, as an episode ends when it is solved.

    Raises:
        ConfigError: there is no such future, it is relative to "now", or it has token ids.
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
        values = substrate_of(world, stream).encode(to_device(shown, next(world.parameters()).device))
        if not values.is_floating_point():
            raise ConfigError(f"future {stream!r} has token ids, which a probe cannot average")
        if solved.shape != (len(values),) or solved.all() or not solved.any():
            raise DataError(
                f"success probe: needs solved and unsolved observations, {len(values)} in all, got "
                f"{int(solved.sum())} solved of {tuple(solved.shape)}"
            )
        self._stream, self._substrate, self._pool, self._when = (
            stream,
            substrate_of(world, stream),
            pool,
            when,
        )
        x = self._read(values)
        # What hardly varies on real frames would turn the smallest error of an imagined one into certainty.
        spread = x.std(dim=0)
        least = max(FLOOR * spread.square().mean().sqrt().item(), 1e-6)
        self._mean, self._deviation = x.mean(dim=0), spread.clamp(min=least)
        self._weight = self._fit(self._standard(x), solved.to(x.device, x.dtype), ridge)

    def _read(self, values: Tensor) -> Tensor:
        """(M, 1, N, D) -> (M, D), or (M, N * D) where all tokens are read."""
        return values[:, 0].mean(dim=1) if self._pool == "mean" else values[:, 0].flatten(1)

    def _standard(self, x: Tensor) -> Tensor:
        """(M, D) -> (M, D + 1), the last column one."""
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
        """Values (M, 1, N, D) of the stream -> (M,)."""
        return torch.sigmoid(self._standard(self._read(values)) @ self._weight)

    def of(self, shown: Observation) -> Tensor:
        """(M,), what it says of observations (M, 1) that were really seen."""
        return self.probability(self._substrate.encode(to_device(shown, self._weight.device)))

    def __call__(self, finished: Dream) -> Tensor:
        """(B,), probability."""
        steps = finished.made if self._when == "ever" else finished.made[-1:]
        found = [self.probability(forecast.future[self._stream][:, :1]) for forecast in steps]
        return torch.stack(found).amax(dim=0)


@final
class PerInstruction:
    """Scores each row by the scorer of its instruction.

    Args:
        scorers: instruction -> scorer.
    """

    def __init__(self, scorers: Mapping[str, Scorer]) -> None:
        self._scorers = dict(scorers)

    def __call__(self, finished: Dream) -> Tensor:
        """(B,); :class:`DataError` where an instruction has no scorer."""
        tasks = finished.start.task
        unknown = sorted(set(tasks) - set(self._scorers))
        if unknown:
            raise DataError(f"no scorer for the instructions {unknown}; there are {sorted(self._scorers)}")
        found = {scorer: scorer(finished) for scorer in {self._scorers[task] for task in tasks}}
        return torch.stack([found[self._scorers[task]][row] for row, task in enumerate(tasks)])
