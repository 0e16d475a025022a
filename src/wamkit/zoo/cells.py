"""Cells of the design space: one design from four choices, substrate, coupling, backbone and deployment.

A coupling is a factorisation written as data. The estimator ``world`` models every factor that generates a future, and
``policy`` an action factor that does not. Nothing here depends on the parts that are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wamkit.actions import ChunkConfig
from wamkit.contract.planning import PlannerConfig
from wamkit.contract.protocols import (
    ActionConfig,
    EncoderConfig,
    EstimatorConfig,
    SubstrateConfig,
    TrunkConfig,
)
from wamkit.contract.specs import ACTION
from wamkit.controllers import Chunked, Controller
from wamkit.design.config import DesignConfig, FutureConfig
from wamkit.design.graph import Factor
from wamkit.encoders import ImagesConfig, InstructionConfig, StateConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.planners import CandidateScoringConfig
from wamkit.trunks import TransformerConfig

FUTURE, GOAL = "future", "goal"

COUPLINGS: Mapping[str, tuple[Factor, ...]] = {
    "direct": (Factor((ACTION,), (), "policy"),),
    "joint": (Factor((FUTURE, ACTION), (), "world"),),
    "post_head": (Factor((FUTURE,), (), "world"), Factor((ACTION,), (FUTURE,), "policy")),
    "rollout": (
        Factor((GOAL,), (), "goal"),
        Factor((ACTION,), (), "policy"),
        Factor((FUTURE,), (ACTION,), "world"),
    ),
}


def default_encoders() -> dict[str, EncoderConfig]:
    """Encoders of images, state and instruction, with their default settings."""
    return {"images": ImagesConfig(), "state": StateConfig(), "instruction": InstructionConfig()}


@dataclass(frozen=True)
class Cell:
    """Four choices of a design and the values that they need.

    Attributes:
        substrate: representation of the future.
        coupling: name of the coupling, a key of :data:`COUPLINGS`.
        estimator: estimator of the factors that generate a future or a goal.
        controller: deployment of the design.
        policy: estimator of an action factor without a future; None for ``estimator``.
        action: representation of the action.
        planner: search over actions, used by a coupling with a goal.
        trunk: network that every estimator runs on.
        encoders: name -> encoder of the context.
        horizon: number of predicted actions, in ticks.
        stride: offset of the predicted future, in ticks.
    """

    substrate: SubstrateConfig
    coupling: str
    estimator: EstimatorConfig
    controller: Controller = field(default_factory=Chunked)
    policy: EstimatorConfig | None = None
    action: ActionConfig = field(default_factory=lambda: ChunkConfig(ticks_per_token=4))
    planner: PlannerConfig = field(default_factory=lambda: CandidateScoringConfig(future=FUTURE, goal=GOAL))
    trunk: TrunkConfig = field(default_factory=TransformerConfig)
    encoders: Mapping[str, EncoderConfig] = field(default_factory=default_encoders)
    horizon: int = 16
    stride: int = 8

    def design(self, name: str = "cell") -> DesignConfig:
        """Config of the design; raises :class:`ConfigError` on an unknown coupling."""
        if self.coupling not in COUPLINGS:
            raise ConfigError(f"no coupling {self.coupling!r}. {did_you_mean(self.coupling, COUPLINGS)}")
        factors = COUPLINGS[self.coupling]
        streams = {stream for factor in factors for stream in factor.generates}
        parts = {
            "world": self.estimator,
            "goal": self.estimator,
            "policy": self.policy if self.policy is not None else self.estimator,
        }
        planned = GOAL in streams
        return DesignConfig(
            name=name,
            horizon=self.horizon,
            stride=self.stride,
            encoders=dict(self.encoders),
            substrates={"substrate": self.substrate} if FUTURE in streams else {},
            futures={FUTURE: FutureConfig("substrate", (self.stride,))} if FUTURE in streams else {},
            goals={GOAL: "substrate"} if planned else {},
            action=self.action,
            trunks={"main": self.trunk},
            estimators={name: parts[name] for name in sorted({factor.estimator for factor in factors})},
            factors=factors,
            planner=self.planner if planned else None,
            controller=self.controller,
        )
