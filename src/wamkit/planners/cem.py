"""Cross-entropy method through a world model (`pl.sampling-mpc`; Rubinstein and Kroese 2004)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Room, Size
from wamkit.contract.calls import PlanResult
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.errors import ConfigError
from wamkit.planners.rounds import CandidateScores, SamplingConfig, SamplingPlanner, cheapest


@PlannerConfig.register_subclass("cem")
@dataclass(frozen=True)
class CEMConfig(SamplingConfig):
    """Cross-entropy search for the action whose predicted future is nearest the goal (Rubinstein 2004).

    Attributes:
        iterations: rounds of refitting; 0 picks the best proposal.
        elites: number of cheapest candidates that the next Gaussian is fitted to.
        deviation_cost: weight of the squared distance from the mean proposal, in units of the proposals' spread;
            keeps the plan in the region where the world model has seen data. 0 switches it off.
    """

    iterations: Room = 2
    elites: Size = 6
    deviation_cost: NonNegative = 0.0

    @override
    def build(self) -> CEM:
        """Build the planner; raises :class:`ConfigError` when there are more ``elites`` than ``candidates``."""
        if self.elites > self.candidates:
            raise ConfigError(
                f"planner 'cem': elites {self.elites} must be at most candidates {self.candidates}"
            )
        return CEM(self)


@final
class CEM(SamplingPlanner):
    """Sample, score, refit a diagonal Gaussian to the elites, repeat; return the best candidate of all rounds."""

    def __init__(self, config: CEMConfig) -> None:
        super().__init__("cem", config, config.iterations, config.deviation_cost)
        self.config = config

    @override
    def check(self, action: StreamSpec) -> None:
        """Require continuous actions, because elites are averaged."""
        action.require(discrete=False, reader="planner 'cem'")

    @override
    def search(self, score: CandidateScores, rounds: int, noise: RowNoise, carry: Any) -> PlanResult:
        candidates = score.proposals
        n = candidates.shape[1]
        elites = min(self.config.elites, n)
        best, best_cost = candidates[:, 0], torch.full_like(candidates[:, 0, 0, 0, 0], torch.inf)
        for k in range(rounds + 1):
            cost = score(candidates)
            chosen, value = cheapest(candidates, cost)
            best = torch.where((value < best_cost)[:, None, None, None], chosen, best)
            best_cost = torch.minimum(value, best_cost)
            if k < rounds:
                top = cost.topk(elites, dim=1, largest=False).indices[:, :, None, None, None]
                kept = candidates.gather(1, top.expand(-1, -1, *candidates.shape[2:]))
                mean, std = kept.mean(dim=1, keepdim=True), kept.std(dim=1, keepdim=True, correction=0)
                sample = noise.normal(n, *candidates.shape[2:]).view_as(candidates)
                candidates = mean + std * sample
        return PlanResult(best, best_cost, n * (rounds + 1))
