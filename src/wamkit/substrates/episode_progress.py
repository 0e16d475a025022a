"""Task progress and task value of future steps (`ps.task-map`, survey eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Between
from wamkit.contract.protocols import Category, DataSpec, Standing, Substrate, SubstrateConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import DataError


def success_value(observation: Observation, discount: float) -> Tensor:
    """``discount`` to the power of the ticks until success, (B, T); zero in episodes that failed.

    Raises:
        DataError: the dataset does not record which episodes succeeded.
    """
    _, left, success = observation.extras[CLOCK].float().unbind(-1)
    if success.isnan().any():
        raise DataError(
            "the value of a step depends on success, which the dataset does not record for all its episodes. Predict "
            "`progress` instead, or write the dataset with the outcome of its episodes."
        )
    return discount**left * success


@SubstrateConfig.register_subclass("progress")
@dataclass(frozen=True)
class ProgressConfig(SubstrateConfig):
    """Share of the task that will be done, from -1 at its start to 1 at its end (survey eq. 16)."""

    extras: ClassVar[tuple[str, ...]] = ("episode_clock",)

    @override
    def build(self, data: DataSpec) -> Progress:
        """Build; raises :class:`ConfigError` without an episode clock."""
        data.extra(CLOCK, "substrate 'progress'")
        return Progress()


@final
class Progress(Substrate):
    """Progress in [-1, 1], (B, T, 1, 1), linear in time over every episode."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "progress"
    standing: Standing = "score"
    extras = (CLOCK,)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, 1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        since, left, _ = observation.extras[CLOCK].float().unbind(-1)
        return (2 * since / (since + left).clamp(min=1) - 1)[..., None, None]

    def share(self, values: Tensor) -> Tensor:
        """Library function: share of the task that is done according to ``values``, (B, T) in [0, 1]."""
        return ((values[..., 0, 0] + 1) / 2).clamp(0, 1)


@SubstrateConfig.register_subclass("value")
@dataclass(frozen=True)
class ValueConfig(SubstrateConfig):
    """Discounted success of future steps: 1 once it is reached, 0 if it never is (survey eq. 16; AIM).

    Attributes:
        discount: factor on the value for every tick until success.
    """

    extras: ClassVar[tuple[str, ...]] = ("episode_clock",)
    discount: Between = 0.98

    @override
    def build(self, data: DataSpec) -> Value:
        """Build; raises :class:`ConfigError` without an episode clock."""
        data.extra(CLOCK, "substrate 'value'")
        return Value(self)


@final
class Value(Substrate):
    """Value scaled to [-1, 1], that is, twice the value minus one: (B, T, 1, 1)."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "value"
    standing: Standing = "score"
    extras = (CLOCK,)

    def __init__(self, config: ValueConfig) -> None:
        super().__init__()
        self.config = config

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, 1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Scaled values of the observed steps; raises :class:`DataError` where success is not recorded."""
        return (2 * success_value(observation, self.config.discount) - 1)[..., None, None]

    def ticks_left(self, values: Tensor) -> Tensor:
        """Library function: ticks until success according to ``values``, (B, T)."""
        value = ((values[..., 0, 0] + 1) / 2).clamp(1e-8, 1)
        return value.log() / torch.tensor(self.config.discount).log()
