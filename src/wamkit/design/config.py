"""Config of a design: the survey's four choices and the mechanisms, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

# Importing these rooms registers the parts that a config can choose.
import wamkit.encoders
import wamkit.estimators
import wamkit.memory
import wamkit.planners
import wamkit.substrates  # noqa: F401
from wamkit.actions import ChunkConfig
from wamkit.config.ranges import Earlier, Length, NonNegative, Range, Room, Size, Word
from wamkit.config.values import Config
from wamkit.contract.protocols import (
    ActionConfig,
    EncoderConfig,
    EstimatorConfig,
    PlannerConfig,
    SubstrateConfig,
    TrunkConfig,
)
from wamkit.contract.types import Aim
from wamkit.controllers import Chunked, Controller
from wamkit.design.graph import Factor
from wamkit.errors import ConfigError
from wamkit.trunks import TransformerConfig


@dataclass(frozen=True)
class FutureConfig(Config):
    """One future stream: what it is made of, and at which steps.

    Attributes:
        substrate: name of the substrate that represents it.
        offsets: control ticks ahead of "now", ascending.
        milestones: number of the task's next milestones (key frames) to predict, instead of offsets.
    """

    substrate: Word
    offsets: Annotated[tuple[Room, ...], Length(ascending=True)] = ()
    milestones: Annotated[int, Range(0, 1024)] = 0

    @property
    def steps(self) -> int:
        """Number of predicted steps."""
        return self.milestones or len(self.offsets)


@dataclass(frozen=True)
class DesignConfig(Config):
    """The survey's four choices (eq. 37) and the mechanisms, as one value.

    Attributes:
        name: name of the design, for people; nothing branches on it.
        horizon: H, control ticks of predicted actions.
        stride: control ticks of one model step, for designs that keep a past.
        observation: offsets of the observed steps in the context, in ticks, the last one 0.
        width: features per context token.
        encoders: name -> encoder of the context c.
        substrates: name -> substrate, the representation of a future.
        futures: future stream name -> substrate and offsets.
        goals: goal stream name -> name of its substrate.
        aim: goal of goal streams and of encoders that read one: ``end``, the last observation of the episode, or
            ``next``, the first milestone of the task after "now".
        states: state stream name -> features. A state is inferred; it does not occur in the data.
        taps: state stream name -> future whose generating network it is a hidden state of (survey eq. 14). A tap has
            one token per token of the future, as wide as the network's trunk.
        action: representation of the action stream, which is always called ``action``.
        trunks: name -> trunk.
        estimators: name -> estimator.
        factors: chain rule, in the order in which streams are generated.
        planner: search over actions, or None.
        controller: controller that turns forecasts into one action per tick.
        loss_weights: stream name -> weight of its loss, 1 for streams without an entry (eq. 19's lambda).
    """

    name: str = "design"
    horizon: Size = 16
    stride: Size = 8
    observation: Annotated[tuple[Earlier, ...], Length(1, ascending=True)] = (0,)
    width: Size = 128
    encoders: dict[str, EncoderConfig] = field(default_factory=dict)
    substrates: dict[str, SubstrateConfig] = field(default_factory=dict)
    futures: dict[str, FutureConfig] = field(default_factory=dict)
    goals: dict[str, Word] = field(default_factory=dict)
    aim: Aim = "end"
    states: dict[str, Size] = field(default_factory=dict)
    taps: dict[str, Word] = field(default_factory=dict)
    action: ActionConfig = field(default_factory=ChunkConfig)
    trunks: dict[str, TrunkConfig] = field(default_factory=lambda: {"main": TransformerConfig()})
    estimators: dict[str, EstimatorConfig] = field(default_factory=dict)
    factors: tuple[Factor, ...] = ()
    planner: PlannerConfig | None = None
    controller: Controller = field(default_factory=Chunked)
    loss_weights: dict[str, NonNegative] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.observation[-1] != 0:
            raise ConfigError(f'observation: must end with 0, which is "now", got {list(self.observation)}.')

    def substrate_of(self, stream: str) -> str:
        """Name of the substrate of a future or goal stream."""
        return self.futures[stream].substrate if stream in self.futures else self.goals[stream]
