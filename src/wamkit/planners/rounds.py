"""Base of the planners that score sampled candidates round by round."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Count
from wamkit.contract.calls import PlanResult
from wamkit.contract.planning import ObjectiveConfig, Planner, PlannerConfig
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.planners.objectives import GoalDistanceConfig


@dataclass(frozen=True)
class SamplingConfig(PlannerConfig):
    """Base of the configs of planners that sample candidates.

    Attributes:
        future: future stream whose distance to ``goal`` is scored, without an ``objective``.
        goal: goal stream that the prediction is compared with, without an ``objective``.
        candidates: action candidates per round.
        objective: what candidates are scored by; None for the distance of ``future`` to ``goal``.
    """

    future: str = "future"
    goal: str = "goal"
    candidates: Count = 32
    objective: ObjectiveConfig | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.objective is not None and (self.future, self.goal) != ("future", "goal"):
            raise ConfigError(
                f"planner: future {self.future!r} and goal {self.goal!r} are not read beside an objective. Leave them "
                f"out, and name the streams in the objective."
            )

    @property
    @override
    def scores(self) -> ObjectiveConfig:
        return GoalDistanceConfig(self.future, self.goal) if self.objective is None else self.objective


def cheapest(candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
    """Pick the cheapest of candidates (B, n, T, N, D) with cost (B, n): returns it (B, T, N, D) and its cost (B,)."""
    value, index = cost.min(dim=1)
    return candidates[torch.arange(len(index), device=index.device), index], value


@dataclass(frozen=True)
class CandidateScores:
    """Cost of action candidates.

    Attributes:
        proposals: (B, n, T, N, D), the actions that deviations are measured from.
        predicted: cost of what the world model predicts; see :meth:`wamkit.contract.Planner.plan`.
        deviation_cost: weight of the mean squared distance from ``centre``, in units of ``spread``.
        seen: costs (B, n) of the candidates so far, round by round.
    """

    proposals: Tensor
    predicted: Callable[[Tensor], Tensor]
    deviation_cost: float
    seen: list[Tensor] = field(default_factory=list)

    @cached_property
    def centre(self) -> Tensor:
        """Mean of the proposals, (B, 1, T, N, D)."""
        return self.proposals.mean(dim=1, keepdim=True)

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation of the proposals, (B, 1, T, N, D)."""
        return self.proposals.std(dim=1, keepdim=True, correction=0)

    def __call__(self, candidates: Tensor) -> Tensor:
        """Return the cost (B, n) of candidates (B, n, T, N, D)."""
        cost = self.predicted(candidates)
        if self.deviation_cost:
            deviation = (candidates - self.centre) / self.spread.clamp(min=1e-3)
            cost = cost + self.deviation_cost * deviation.square().mean(dim=(-3, -2, -1))
        self.seen.append(cost)
        return cost


class SamplingPlanner(Planner):
    """Draws proposals, then searches around them; subclasses implement the search.

    Args:
        name: the planner's name, for errors.
        config: the number of candidates.
        iterations: rounds after the proposals, or None for a planner that cannot iterate.
        deviation_cost: weight of the distance from the proposals in the cost.
    """

    def __init__(
        self, name: str, config: SamplingConfig, iterations: int | None, deviation_cost: float = 0.0
    ) -> None:
        self.name = name
        self.candidates = config.candidates
        self.iterations = iterations
        self.deviation_cost = deviation_cost

    def _spending(self, budget: Budget) -> tuple[int, int]:
        """Candidates per round and rounds after the first: the configured numbers, unless ``budget`` sets others."""
        n = self.candidates if budget.candidates is None else budget.candidates
        rounds = (self.iterations or 0) if budget.iterations is None else budget.iterations
        if n < 1 or rounds < 0:
            raise BudgetError(
                f"planner {self.name!r}: candidates {n} must be at least 1 and iterations {rounds} at least 0"
            )
        if rounds and self.iterations is None:
            raise BudgetError(
                f"planner {self.name!r} has no iterations (asked for {rounds}); use `candidates`"
            )
        return n, rounds

    @override
    def plan(
        self,
        propose: Callable[[int], Tensor],
        cost: Callable[[Tensor], Tensor],
        budget: Budget,
        noise: RowNoise,
        carry: Any = (),
    ) -> PlanResult:
        n, rounds = self._spending(budget)
        score = CandidateScores(propose(n), cost, self.deviation_cost)
        return replace(self.search(score, rounds, noise, carry), costs=torch.cat(score.seen, dim=1))

    @abstractmethod
    def search(self, score: CandidateScores, rounds: int, noise: RowNoise, carry: Any) -> PlanResult:
        """Find a cheap action, starting from ``score.proposals``.

        Args:
            score: the proposals, and the cost of any candidates.
            rounds: rounds to sample after the proposals.
            noise: per-row noise.
            carry: what the planner carries between calls; see :meth:`wamkit.contract.Planner.plan`.
        """
