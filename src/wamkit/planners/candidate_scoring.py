"""Best of n: propose, predict, score, choose (`pl.candidate-scoring`; eq. 6, 10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from typing_extensions import override

from wamkit.config.ranges import Count
from wamkit.contract.calls import PlanResult
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.streams import RowNoise
from wamkit.planners.rounds import CandidateScores, SamplingConfig, SamplingPlanner, cheapest


@PlannerConfig.register_subclass("candidate_scoring")
@dataclass(frozen=True)
class CandidateScoringConfig(SamplingConfig):
    """Best of n proposals by the objective, such as their predicted distance to the goal (survey, eq. 6 and 10).

    Attributes:
        candidates: proposals per call; 1 executes the base policy's own action.
        together: true to score an action by the streams that were sampled together with it, in one factor; false to
            predict them anew, given the action.
    """

    candidates: Count = 8
    together: bool = False

    @property
    @override
    def sampled_together(self) -> bool:
        return self.together

    @override
    def build(self) -> CandidateScoring:
        """Build the planner."""
        return CandidateScoring(self)


@final
class CandidateScoring(SamplingPlanner):
    """Works on any representation of actions and futures, because it never averages candidates."""

    def __init__(self, config: CandidateScoringConfig) -> None:
        super().__init__("candidate_scoring", config, iterations=None)
        self.config = config

    @override
    def search(self, score: CandidateScores, rounds: int, noise: RowNoise, carry: Any) -> PlanResult:
        cost = score(score.proposals)
        action, least = cheapest(score.proposals, cost)
        return PlanResult(action, least, score.proposals.shape[1], chosen=cost.argmin(dim=1))
