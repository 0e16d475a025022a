"""One cell of the design space from its four choices: substrate, coupling, backbone, deployment.

A coupling is a factorisation written as data; the estimator named ``world`` models every factor with a future in
it, and ``policy`` an action factor that has none. Nothing here depends on which parts are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from wamkit.actions import ChunkConfig
from wamkit.contract.protocols import (
    ActionConfig,
    EncoderConfig,
    EstimatorConfig,
    PlannerConfig,
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
    """Images, state and instruction."""
    return {"images": ImagesConfig(), "state": StateConfig(), "instruction": InstructionConfig()}


@dataclass(frozen=True)
class Cell:
    """The four choices and the few values they need.

    Attributes:
        substrate: where the future lives.
        coupling: one of :data:`COUPLINGS`.
        estimator: backbone family of the factors with a future (of the action where there is none).
        controller: deployment.
        policy: estimator of an action factor without a future in it; None takes ``estimator``.
        action: representation of the action.
        planner: search of a coupling that selects.
        trunk: network that every estimator runs on.
        encoders: context.
        horizon: predicted actions, ticks.
        stride: ticks ahead of the predicted future.
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
        """The design's config; raises :class:`ConfigError` on an unknown coupling."""
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
