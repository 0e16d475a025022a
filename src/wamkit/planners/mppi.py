"""Model predictive path integral control through a world model (`pl.sampling-mpc`; Williams et al. 2017)."""

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
from wamkit.planners.rounds import CandidateScores, check_sampling, spending


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
        warm_shift: steps of the action stream that are executed between two calls: the controller's ``execute`` over
            the ticks of a step. The search
            then begins around the last call's plan, moved on by as many steps, as path integral control is defined;
            the steps that this leaves open are the proposals'. 0 begins every search at the proposals. Only for
            actions whose values do not depend on when they are said: not for ones relative to the pose at the call.
    """

    future: str = "future"
    goal: str = "goal"
    candidates: int = 32
    iterations: int = 2
    temperature: float = 0.05
    decay: float = 1.0
    deviation_cost: float = 0.0
    warm_shift: int = 0

    def build(self) -> MPPI:
        """Build; raises :class:`ConfigError` on a negative number or a decay outside (0, 1]."""
        check_sampling("mppi", self.candidates, self.iterations, self.deviation_cost)
        if self.warm_shift < 0:
            raise ConfigError(
                f"planner 'mppi': warm_shift {self.warm_shift} must be at least 0, which is off"
            )
        if not self.temperature >= 0 or not 0 < self.decay <= 1:
            raise ConfigError(
                f"planner 'mppi': temperature {self.temperature} must be at least 0 and decay {self.decay} above 0 "
                f"and at most 1"
            )
        return MPPI(self)


@dataclass(frozen=True)
class Nominal:
    """The plan that is carried to the next call.

    Attributes:
        plan: (B, T, N, D).
        known: (B,), False before the first call of an episode.
    """

    plan: Tensor
    known: Tensor


@final
class MPPI(Planner):
    """Sample, average by cost, sample around the average, repeat; return the last average."""

    def __init__(self, config: MPPIConfig) -> None:
        self.config = config
        self.future = config.future
        self.goal = config.goal

    def check(self, action: StreamSpec) -> None:
        """See :class:`wamkit.contract.Planner`: candidates are averaged, so actions must be continuous."""
        action.require(discrete=False, reader="planner 'mppi'")
        if self.config.warm_shift >= action.steps:
            raise ConfigError(
                f"planner 'mppi': warm_shift {self.config.warm_shift} leaves nothing of an action of {action.steps} "
                f"steps; give a smaller one, or 0 to begin every search at the proposals"
            )

    def initial_carry(self, action: StreamSpec, rows: int, device: torch.device) -> Any:
        """See :class:`wamkit.contract.Planner`: no plan yet, or nothing without a warm start."""
        if not self.config.warm_shift:
            return ()
        plan = torch.zeros(rows, action.steps, action.tokens, action.features, device=device)
        return Nominal(plan, torch.zeros(rows, dtype=torch.bool, device=device))

    def start(self, proposals: Tensor, carry: Any) -> Tensor:
        """Proposals (B, n, T, N, D), moved so that their mean is the last plan, where there is one.

        The first one stays where it is, so that a plan which the world has left behind can be given up, and that one
        candidate is the policy's own action.
        """
        if not isinstance(carry, Nominal):
            return proposals
        centre = proposals.mean(dim=1)
        kept = carry.plan[:, self.config.warm_shift :][:, : centre.shape[1]]
        nominal = torch.cat((kept, centre[:, kept.shape[1] :]), dim=1)
        moved = proposals + (nominal - centre)[:, None]
        moved = torch.cat((proposals[:, :1], moved[:, 1:]), dim=1)
        return torch.where(carry.known[:, None, None, None, None], moved, proposals)

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
        carry: Any = (),
    ) -> PlanResult:
        """See :class:`wamkit.contract.Planner`. One further evaluation is spent on the cost of the result."""
        n, rounds = spending("mppi", self.config.candidates, self.config.iterations, budget)
        proposals = propose(n)
        score = CandidateScores.around(proposals, predict, goal, self.config.deviation_cost)
        candidates = self.start(proposals, carry)
        for k in range(rounds + 1):
            weights = self.weights(score(candidates))
            mean = torch.einsum("bn,bntmd->btmd", weights, candidates)[:, None]
            if k < rounds:
                sample = noise.normal(n, *candidates.shape[2:]).view_as(candidates)
                candidates = mean + score.spread * self.config.decay ** (k + 1) * sample
        plan, cost = mean[:, 0], score(mean)[:, 0]
        known = torch.ones(len(plan), dtype=torch.bool, device=plan.device)
        return PlanResult(
            plan, cost, n * (rounds + 1) + 1, Nominal(plan, known) if self.config.warm_shift else ()
        )
