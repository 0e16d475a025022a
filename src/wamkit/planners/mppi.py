"""Model predictive path integral control through a world model (`pl.sampling-mpc`; Williams et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wamkit.calls import PlanResult
from wamkit.errors import ConfigError
from wamkit.planners.rounds import Score, spending
from wamkit.protocols import Planner, PlannerConfig
from wamkit.streams import RowNoise, StreamSpec
from wamkit.types import Budget


@PlannerConfig.register_subclass("mppi")
@dataclass(frozen=True)
class MPPIConfig(PlannerConfig):
    """Path integral control: candidates averaged with weights exp(-cost / temperature) (Williams et al. 2017).

    Attributes:
        future: future stream that is scored.
        goal: goal stream that it is compared with.
        candidates: action candidates per round.
        iterations: rounds of sampling around the mean after that of the proposals.
        temperature: in units of the cost; 0 is the cheapest candidate alone.
        decay: factor on the spread of the samples from round to round; 1 keeps that of the proposals.
        deviation_cost: weight of the squared distance from the mean proposal, in units of its spread.
    """

    future: str = "future"
    goal: str = "goal"
    candidates: int = 32
    iterations: int = 2
    temperature: float = 0.05
    decay: float = 1.0
    deviation_cost: float = 0.0

    def build(self) -> MPPI:
        """Build; raises :class:`ConfigError` on a negative temperature or a decay outside (0, 1]."""
        if not self.temperature >= 0 or not 0 < self.decay <= 1:
            raise ConfigError(
                f"planner 'mppi': temperature {self.temperature} must be at least 0 and decay {self.decay} above 0 "
                f"and at most 1"
            )
        return MPPI(self)


@final
class MPPI(Planner):
    """Sample, average by cost, sample around the average, repeat; return the last average."""

    def __init__(self, config: MPPIConfig) -> None:
        self.config = config
        self.future = config.future
        self.goal = config.goal

    def check(self, action: StreamSpec) -> None:
        """See :class:`wamkit.protocols.Planner`: candidates are averaged, so actions must be continuous."""
        action.require(discrete=False, reader="planner 'mppi'")

    def weights(self, cost: Tensor) -> Tensor:
        """Costs (B, n) -> weights (B, n) that sum to one."""
        if self.config.temperature == 0:
            return torch.nn.functional.one_hot(cost.argmin(dim=1), cost.shape[1]).to(cost.dtype)
        return torch.softmax(-cost / self.config.temperature, dim=1)

    def plan(
        self,
        propose: Callable[[int], Tensor],
        predict: Callable[[Tensor], Tensor],
        goal: Tensor,
        budget: Budget,
        noise: RowNoise,
    ) -> PlanResult:
        """See :class:`wamkit.protocols.Planner`. One further evaluation is spent on the cost of the result."""
        n, rounds = spending("mppi", self.config.candidates, self.config.iterations, budget)
        candidates = propose(n)
        score = Score.around(candidates, predict, goal, self.config.deviation_cost)
        for k in range(rounds + 1):
            weights = self.weights(score(candidates))
            mean = torch.einsum("bn,bntmd->btmd", weights, candidates)[:, None]
            if k < rounds:
                sample = noise.normal(n, *candidates.shape[2:]).view_as(candidates)
                candidates = mean + score.spread * self.config.decay ** (k + 1) * sample
        return PlanResult(mean[:, 0], score(mean)[:, 0], n * (rounds + 1) + 1)
