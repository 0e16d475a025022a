"""What planners that sample candidates share: how many, what they cost, which one is best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.planners.goal_cost import goal_cost


def check_sampling(planner: str, candidates: int, iterations: int = 0, deviation_cost: float = 0.0) -> None:
    """Raise :class:`ConfigError` unless a planner's configuration says how candidates are sampled and scored."""
    if candidates < 1 or iterations < 0 or not deviation_cost >= 0:
        raise ConfigError(
            f"planner {planner!r}: candidates {candidates} must be at least 1, iterations {iterations} and "
            f"deviation_cost {deviation_cost} at least 0"
        )


def spending(planner: str, candidates: int, iterations: int, budget: Budget) -> tuple[int, int]:
    """Candidates per round and further rounds, as configured or as ``budget`` says."""
    n = candidates if budget.candidates is None else budget.candidates
    rounds = iterations if budget.iterations is None else budget.iterations
    if n < 1 or rounds < 0:
        raise BudgetError(
            f"planner {planner!r}: candidates {n} must be at least 1 and iterations {rounds} at least 0"
        )
    return n, rounds


def cheapest(candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Of candidates (B, n, T, N, D) that cost (B, n): the cheapest one (B, T, N, D) and its cost (B,)."""
    value, index = cost.min(dim=1)
    return candidates[torch.arange(len(index), device=index.device), index], value


@dataclass(frozen=True)
class CandidateScores:
    """What candidates cost.

    Attributes:
        predict: actions -> the future they lead to; see :meth:`wamkit.contract.Planner.plan`.
        goal: (B, 1, M, D').
        centre: (B, 1, T, N, D), mean of the proposals.
        spread: (B, 1, T, N, D), their standard deviation.
        deviation_cost: weight of the mean squared distance from ``centre`` in units of ``spread``.
    """

    predict: Callable[[Tensor], Tensor]
    goal: Tensor
    centre: Tensor
    spread: Tensor
    deviation_cost: float

    @staticmethod
    def around(
        proposals: Tensor, predict: Callable[[Tensor], Tensor], goal: Tensor, deviation_cost: float
    ) -> CandidateScores:
        """The cost of actions where ``proposals`` (B, n, T, N, D) are what is usual."""
        centre = proposals.mean(dim=1, keepdim=True)
        spread = proposals.std(dim=1, keepdim=True, correction=0)
        return CandidateScores(predict, goal, centre, spread, deviation_cost)

    def __call__(self, candidates: Tensor) -> Tensor:
        """Candidates (B, n, T, N, D) -> (B, n)."""
        cost = goal_cost(self.predict(candidates), self.goal)
        if self.deviation_cost:
            deviation = (candidates - self.centre) / self.spread.clamp(min=1e-3)
            cost = cost + self.deviation_cost * deviation.square().mean(dim=(-3, -2, -1))
        return cost
