"""Future contacts and contact forces on the hand (`ps.sensor-latent`, `ps.task-map`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Standing, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation


@SubstrateConfig.register_subclass("wrench")
@dataclass(frozen=True)
class WrenchConfig(SubstrateConfig):
    """Future contact forces on fingers and palm on an invertible logarithmic scale (survey section 3, sensor).

    Attributes:
        unit_n: force in newton at which the scale turns from linear to logarithmic.
    """

    extras: ClassVar[tuple[str, ...]] = ("contact_force",)
    unit_n: Positive = 1.0

    @override
    def build(self, data: DataSpec) -> Wrench:
        """Build; raises :class:`ConfigError` when the dataset has no forces."""
        return Wrench(self, math.prod(data.extra("contact_force", "substrate 'wrench'")))


@final
class Wrench(Substrate):
    """Forces (B, T, 1, parts * 3) as sign(f) log(1 + |f| / unit), because impacts far exceed holding forces."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "force"
    standing: Standing = "body"
    extras = ("contact_force",)

    def __init__(self, config: WrenchConfig, width: int) -> None:
        super().__init__()
        self.config, self.width = config, width

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, self.width)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        force = observation.extras["contact_force"].float().flatten(2)[:, :, None]
        return force.sign() * (force.abs() / self.config.unit_n).log1p()

    def newton(self, values: Tensor) -> Tensor:
        """Forces (B, T, parts, 3) of values, in newton."""
        force = values.sign() * values.abs().expm1() * self.config.unit_n
        return force[:, :, 0].unflatten(2, (-1, 3))

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"force": Reading("quantity", self.newton(values), "N", shows=Sensor("contact_force"))}


@SubstrateConfig.register_subclass("contact")
@dataclass(frozen=True)
class ContactConfig(SubstrateConfig):
    """Future contact of every part of the hand with the object, 1 or -1 each (survey eq. 16)."""

    extras: ClassVar[tuple[str, ...]] = ("contact",)

    @override
    def build(self, data: DataSpec) -> Contact:
        """Build; raises :class:`ConfigError` when the dataset has no contacts."""
        (width,) = data.extra("contact", "substrate 'contact'")
        return Contact(width)


@final
class Contact(Substrate):
    """Contacts (B, T, 1, parts): 1 for a part that touches, -1 for one that does not."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "contact"
    extras = ("contact",)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, self.width)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        return observation.extras["contact"].float()[:, :, None] * 2 - 1

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        touching = (values[:, :, 0] > 0).long()
        return {"contact": Reading("classes", touching, classes=2, shows=Sensor("contact"))}
