"""Future path of the gripper (`ps.motion-geometry`, eq. 15)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.geometry.cameras import project


@SubstrateConfig.register_subclass("polyline")
@dataclass(frozen=True)
class PolylineConfig(SubstrateConfig):
    """Gripper path, in the world relative to now or in the pixels of one view (survey eq. 15).

    Attributes:
        camera: camera in whose pixels the path is given; empty for the world.
        unit_m: metres that count as one (world only).
    """

    extras: ClassVar[tuple[str, ...]] = ("gripper_pose", "camera.{camera} (with `camera`)")
    camera: str = ""
    unit_m: Positive = 0.1

    @override
    def build(self, data: DataSpec) -> Polyline:
        """Build; raises :class:`ConfigError` when a camera or a pose is missing."""
        reader = "substrate 'polyline'"
        data.extra("gripper_pose", reader)
        if self.camera:
            data.camera(self.camera, reader)
            data.extra(f"camera.{self.camera}", reader)
        return Polyline(self, data)


@final
class Polyline(Substrate):
    """Displacement since now (B, T, 1, 3) in ``unit_m``, or picture x and y (B, T, 1, 2), [-1, 1] inside it."""

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "polyline"

    def __init__(self, config: PolylineConfig, data: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.relative = self.rebases = not config.camera
        self.extras = ("gripper_pose", f"camera.{config.camera}") if config.camera else ("gripper_pose",)
        size = data.observation.cameras[config.camera] if config.camera else None
        self.aspect = size.width / size.height if size else 1.0

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, 1, 2 if self.config.camera else 3)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        place = observation.extras["gripper_pose"][..., :3].float()
        if self.config.camera:
            camera = observation.extras[f"camera.{self.config.camera}"].float()
            # Projected to a picture of size 2, so that its units are those of the values up to the aspect ratio.
            pixels, _ = project(place[:, :, None], camera, 2, 2)
            scale = torch.tensor([1 / self.aspect, 1.0], device=place.device)
            return (pixels - 1) * scale
        assert now is not None
        return (place - now.extras["gripper_pose"][..., :3].float())[:, :, None] / self.config.unit_m

    @override
    def rebase(self, values: Tensor, observation: Observation, now: Observation) -> Tensor:
        return values - self.encode(observation, now) if self.relative else values

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        if self.config.camera:
            return {"place": Reading("displacement", values / 2, "picture")}
        return {"place": Reading("displacement", values * self.config.unit_m, "m")}
