"""Future readings of low-dimensional sensors, such as a simulator's state (`ps.sensor-latent`, eq. 16)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import SomeWords
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Standing, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation
from wamkit.nn.transforms import Standardizer
from wamkit.substrates.views import FIT_FRAMES, sample_frames


@SubstrateConfig.register_subclass("sensor_values")
@dataclass(frozen=True)
class SensorValuesConfig(SubstrateConfig):
    """Standardised future values of small extras: poses, velocities (survey section 3, sensor futures).

    Unlike those of ``pose_stream``, the values are absolute, so that a world model can observe its own predictions.

    Attributes:
        sensors: names of extras of the dataset.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensors}",)
    sensors: SomeWords = ("object_pose",)

    @override
    def build(self, data: DataSpec) -> SensorValues:
        """Build; raises :class:`ConfigError` when the dataset lacks one."""
        return SensorValues({name: data.extra(name, "substrate 'sensor_values'") for name in self.sensors})


@final
class SensorValues(Substrate):
    """Extras side by side in one token (B, T, 1, D), every entry with mean 0 and deviation 1 over the dataset."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "values"
    standing: Standing = "body"

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.extras = tuple(shapes)
        self.shapes = shapes
        self.sizes = [math.prod(shape) for shape in shapes.values()]
        self.standard = Standardizer(sum(self.sizes))

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, sum(self.sizes))

    def _physical(self, observation: Observation) -> Tensor:
        return torch.cat([observation.extras[name].flatten(2).float() for name in self.extras], dim=2)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        return self.standard(self._physical(observation))[:, :, None]

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        """Physical values named after the extras, in their shapes and units."""
        parts = self.standard.inverse(values[:, :, 0]).split(self.sizes, dim=2)
        return {
            name: Reading("quantity", part.unflatten(2, self.shapes[name]), shows=Sensor(name))
            for name, part in zip(self.extras, parts, strict=True)
        }

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Estimate mean and deviation from frames drawn from the dataset."""
        self.standard.fit(self._physical(sample_frames(windows, FIT_FRAMES, seed)).flatten(0, 1))
