"""Propose, foresee, score, choose (`pl.candidate-scoring`; eq. 6, 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from wamkit.contract.calls import PlanResult
from wamkit.contract.protocols import Planner, PlannerConfig
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError
from wamkit.planners.goal_cost import goal_cost
from wamkit.planners.rounds import cheapest, check_sampling, spending


@PlannerConfig.register_subclass("candidate_scoring")
@dataclass(frozen=True)
class CandidateScoringConfig(PlannerConfig):
    """Best of n proposals by their predicted distance to the goal (survey, eq. 6 and 10).

    Attributes:
        future: future stream that is scored.
        goal: goal stream that it is compared with.
        candidates: proposals per call; 1 is the base policy.
    """

    future: str = "future"
    goal: str = "goal"
    candidates: int = 8

    def build(self) -> CandidateScoring:
        """Build; raises :class:`ConfigError` without a candidate."""
        check_sampling("candidate_scoring", self.candidates)
        return CandidateScoring(self)


@final
class CandidateScoring(Planner):
    """Works on any representation of actions and futures, because it never averages candidates."""

    def __init__(self, config: CandidateScoringConfig) -> None:
        self.config = config
        self.future = config.future
        self.goal = config.goal

    def plan(
        self,
        propose: Callable[[int], Tensor],
        predict: Callable[[Tensor], Tensor],
        goal: Tensor,
        budget: Budget,
        noise: RowNoise,
        carry: Any = (),
    ) -> PlanResult:
        """See :class:`wamkit.contract.Planner`. The executed candidate is the argmin of the costs."""
        n, rounds = spending("candidate_scoring", self.config.candidates, 0, budget)
        if rounds:
            raise BudgetError(
                f"planner 'candidate_scoring' has no iterations (asked for {rounds}); use `candidates`"
            )
        candidates = propose(n)
        return PlanResult(*cheapest(candidates, goal_cost(predict(candidates), goal)), n)
