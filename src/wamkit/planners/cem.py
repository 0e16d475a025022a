"""Cross-entropy method through a world model (`pl.sampling-mpc`; Rubinstein and Kroese 2004)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from wamkit.contract.calls import PlanResult
from wamkit.contract.protocols import Planner, PlannerConfig
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.planners.rounds import CandidateScores, cheapest, check_sampling, spending


@PlannerConfig.register_subclass("cem")
@dataclass(frozen=True)
class CEMConfig(PlannerConfig):
    """Cross-entropy search for the action whose predicted future is nearest the goal (Rubinstein 2004).

    Attributes:
        future: future stream that is scored.
        goal: goal stream that it is compared with.
        candidates: action candidates per iteration.
        iterations: rounds of refitting; 0 picks the best proposal.
        elites: candidates that the next Gaussian is fitted to.
        deviation_cost: weight of the squared distance from the mean proposal, in units of its spread: keeps
            the plan where the world model has seen data. 0 switches it off.
    """

    future: str = "future"
    goal: str = "goal"
    candidates: int = 32
    iterations: int = 2
    elites: int = 6
    deviation_cost: float = 0.0

    def build(self) -> CEM:
        """Build; raises :class:`ConfigError` without a candidate or with more elites than candidates."""
        check_sampling("cem", self.candidates, self.iterations, self.deviation_cost)
        if not 1 <= self.elites <= self.candidates:
            raise ConfigError(
                f"planner 'cem': elites {self.elites} must be 1 to candidates {self.candidates}"
            )
        return CEM(self)


@final
class CEM(Planner):
    """Sample, score, refit a diagonal Gaussian to the elites, repeat; return the best candidate ever seen."""

    def __init__(self, config: CEMConfig) -> None:
        self.config = config
        self.future = config.future
        self.goal = config.goal

    def check(self, action: StreamSpec) -> None:
        """See :class:`wamkit.contract.Planner`: elites are averaged, so actions must be continuous."""
        action.require(discrete=False, reader="planner 'cem'")

    def plan(
        self,
        propose: Callable[[int], Tensor],
        predict: Callable[[Tensor], Tensor],
        goal: Tensor,
        budget: Budget,
        noise: RowNoise,
        carry: Any = (),
    ) -> PlanResult:
        """See :class:`wamkit.contract.Planner`. The cost is the last step's squared distance to the goal."""
        n, rounds = spending("cem", self.config.candidates, self.config.iterations, budget)
        elites = min(self.config.elites, n)
        candidates = propose(n)
        score = CandidateScores.around(candidates, predict, goal, self.config.deviation_cost)
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
