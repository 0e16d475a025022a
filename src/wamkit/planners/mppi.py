"""Model predictive path integral control through a world model (`pl.sampling-mpc`; Williams et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Fraction, NonNegative, Room
from wamkit.contract.calls import PlanResult
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.errors import ConfigError
from wamkit.planners.rounds import CandidateScores, SamplingConfig, SamplingPlanner


@PlannerConfig.register_subclass("mppi")
@dataclass(frozen=True)
class MPPIConfig(SamplingConfig):
    """Path integral control: candidates averaged with weights exp(-cost / temperature) (Williams et al. 2017).

    Attributes:
        iterations: rounds of sampling around the mean, after the round of the proposals.
        temperature: temperature of the weights, in units of the cost; 0 takes the cheapest candidate alone.
        decay: factor on the spread of the samples from round to round; 1 keeps the spread of the proposals.
        deviation_cost: weight of the squared distance from the mean proposal, in units of the proposals' spread.
        warm_shift: steps of the action stream that are executed between two calls, i.e. the controller's
            ``execute`` divided by the ticks of a step. The search then starts around the last call's plan, shifted
            by that many steps (receding horizon); the steps that the shift leaves open come from the proposals.
            0 starts every search at the proposals. Use it only for actions whose values do not depend on the time
            of the call: not for actions relative to the pose at the call.
    """

    iterations: Room = 2
    temperature: NonNegative = 0.05
    decay: Fraction = 1.0
    deviation_cost: NonNegative = 0.0
    warm_shift: Room = 0

    @override
    def build(self) -> MPPI:
        """Build the planner."""
        return MPPI(self)


@dataclass(frozen=True)
class Nominal:
    """Plan that is carried to the next call.

    Attributes:
        plan: (B, T, N, D).
        known: (B,) bool, False before the first call of an episode.
    """

    plan: Tensor
    known: Tensor


@final
class MPPI(SamplingPlanner):
    """Sample, average by cost, sample around the average, repeat; return the last average."""

    def __init__(self, config: MPPIConfig) -> None:
        super().__init__("mppi", config, config.iterations, config.deviation_cost)
        self.config = config

    @override
    def check(self, action: StreamSpec) -> None:
        """Require continuous actions, because candidates are averaged, and a plan longer than the warm shift."""
        action.require(discrete=False, reader="planner 'mppi'")
        if self.config.warm_shift >= action.steps:
            raise ConfigError(
                f"planner 'mppi': warm_shift {self.config.warm_shift} leaves nothing of an action of {action.steps} "
                f"steps; give a smaller one, or 0 to begin every search at the proposals"
            )

    @override
    def initial_carry(self, action: StreamSpec, rows: int, device: torch.device) -> Any:
        """Return an unknown plan, or nothing without a warm start."""
        if not self.config.warm_shift:
            return ()
        plan = torch.zeros(rows, action.steps, action.tokens, action.features, device=device)
        return Nominal(plan, torch.zeros(rows, dtype=torch.bool, device=device))

    def start(self, proposals: Tensor, carry: Any) -> Tensor:
        """Shift proposals (B, n, T, N, D) so that their mean is the last plan, in rows that have one.

        The first proposal is not shifted: the search can then drop a plan that no longer fits the world, and the
        policy's own action stays among the candidates.
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
        """Turn costs (B, n) into weights (B, n) that sum to one."""
        if self.config.temperature == 0:
            return torch.nn.functional.one_hot(cost.argmin(dim=1), cost.shape[1]).to(cost.dtype)
        return torch.softmax(-cost / self.config.temperature, dim=1)

    @override
    def search(self, score: CandidateScores, rounds: int, noise: RowNoise, carry: Any) -> PlanResult:
        """Average candidates by cost; one further evaluation scores the result."""
        n = score.proposals.shape[1]
        candidates = self.start(score.proposals, carry)
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
