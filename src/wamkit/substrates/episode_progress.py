"""Scores of future steps: task progress, task value and reward (`ps.task-map`, survey eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Between, Positive
from wamkit.contract.data import DataSpec
from wamkit.contract.planning import Worth
from wamkit.contract.protocols import Category, Standing, Substrate, SubstrateConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.streams import Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, DataError


def success_value(observation: Observation, discount: float) -> Tensor:
    """``discount`` to the power of the ticks until success, (B, T); zero in episodes that failed.

    Raises:
        DataError: the dataset does not record which episodes succeeded.
    """
    _, left, success = observation.extras[CLOCK].float().unbind(-1)
    if success.isnan().any():
        raise DataError(
            "the value or reward of a step depends on success, which the dataset does not record for all its episodes. "
            "Predict `progress` instead, or write the dataset with the outcome of its episodes."
        )
    return discount**left * success


def success_reward(observation: Observation) -> Tensor:
    """Reward of every step, (B, T): 1 at the last step of an episode that succeeded, 0 elsewhere.

    Its discounted sum from a step to the end of the episode is :func:`success_value`. Raises :class:`DataError` where
    success is not recorded.
    """
    left = observation.extras[CLOCK].float()[..., 1]
    return torch.where(left == 0, success_value(observation, 1.0), 0.0)


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
class Value(Substrate, Worth):
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

    @override
    def worth(self, values: Tensor) -> Tensor:
        """Discounted success, (B, T)."""
        return (values[..., 0, 0] + 1) / 2

    @override
    def valued(self, worth: Tensor) -> Tensor:
        return (2 * worth - 1)[..., None, None]

    def ticks_left(self, values: Tensor) -> Tensor:
        """Library function: ticks until success according to ``values``, (B, T)."""
        value = self.worth(values).clamp(1e-8, 1)
        return value.log() / torch.tensor(self.config.discount).log()


@SubstrateConfig.register_subclass("reward")
@dataclass(frozen=True)
class RewardConfig(SubstrateConfig):
    """Reward of future steps: an extra of the dataset, or success at the end of the episode (iVideoGPT).

    The discounted return of the reward of success is the substrate ``value``.

    Attributes:
        extra: name of an extra with one reward per step; empty for 1 at the last step of a successful episode.
        scale: reward that becomes the value 1.
    """

    extras: ClassVar[tuple[str, ...]] = ("episode_clock (without `extra`)", "{extra}")

    extra: str = ""
    scale: Positive = 1.0

    @override
    def build(self, data: DataSpec) -> Reward:
        """Build; raises :class:`ConfigError` when the extra is missing or is not one number per step."""
        shape = data.extra(self.extra or CLOCK, "substrate 'reward'")
        if self.extra and shape not in ((), (1,)):
            raise ConfigError(
                f"substrate 'reward': extra {self.extra!r} has the shape {shape} per step; a reward is one number. "
                f"Name another extra, or leave `extra` empty for success at the end."
            )
        return Reward(self)


@final
class Reward(Substrate):
    """Reward of each step in units of ``scale``: (B, T, 1, 1)."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "reward"
    standing: Standing = "score"

    def __init__(self, config: RewardConfig) -> None:
        super().__init__()
        self.config = config
        self.extras = (config.extra or CLOCK,)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, 1)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        """Rewards of the observed steps; raises :class:`DataError` where success is needed and not recorded."""
        if self.config.extra:
            reward = observation.extras[self.config.extra].float().reshape(observation.pad.shape)
        else:
            reward = success_reward(observation)
        return (reward / self.config.scale)[..., None, None]

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        extra = self.config.extra
        reward = self.config.scale * values[..., 0, 0]
        return {"reward": Reading("quantity", reward[..., None], shows=Sensor(extra) if extra else None)}
