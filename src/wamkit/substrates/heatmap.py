"""Heatmaps over the picture: future place of a body or an event (`ps.task-map`, eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Between, Range, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.geometry.cameras import NEAR_M, project
from wamkit.nn.spots import draw_spots, spot_centres
from wamkit.substrates.episode_progress import success_value
from wamkit.substrates.views import first_pose

POSES = {"gripper": "gripper_pose", "object": "object_pose", "contact": "gripper_pose"}


@SubstrateConfig.register_subclass("heatmap")
@dataclass(frozen=True)
class HeatmapConfig(SubstrateConfig):
    """Gaussian map of the place of gripper, object or contact, with its value as the peak (survey eq. 16; AIM).

    Attributes:
        camera: camera whose view the map covers.
        grid: rows and columns of the map.
        sigma: standard deviation of the Gaussian, cells.
        where: body or event on the map: ``gripper``; ``object``, the first movable body of the task (on a goal, a
            placement map); or ``contact``, the gripper while it touches an object, otherwise an empty map.
        discount: base of the peak's height, raised to the number of ticks until success, which makes a value map; None
            for a peak of 1.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "gripper_pose or object_pose (`where`)",
        "camera.{camera}",
        "contact (`where` contact)",
        "episode_clock (with `discount`)",
    )
    camera: Word = "scene"
    # A smaller grid or a narrower spot cannot be read back below a pixel.
    grid: Annotated[int, Range(3, 16384)] = 16
    sigma: Annotated[float, Range(0.5)] = 1.5
    where: Literal["gripper", "object", "contact"] = "gripper"
    discount: Between | None = None

    @override
    def build(self, data: DataSpec) -> Heatmap:
        """Build; raises :class:`ConfigError` when the camera or a pose is missing."""
        reader = "substrate 'heatmap'"
        size = data.camera(self.camera, reader)
        extras = [POSES[self.where], f"camera.{self.camera}"]
        extras += ["contact"] if self.where == "contact" else []
        extras += [CLOCK] if self.discount is not None else []
        for name in extras:
            data.extra(name, reader)
        return Heatmap(self, tuple(extras), size.height, size.width)


@final
class Heatmap(Substrate):
    """Map (B, T, grid, grid), one token per row: 1 at the place, -1 far from it or if it is behind the camera."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "heatmap"

    def __init__(self, config: HeatmapConfig, extras: tuple[str, ...], height: int, width: int) -> None:
        super().__init__()
        self.config, self.extras, self.height, self.width = config, extras, height, width

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid)

    def draw(self, pixels: Tensor) -> Tensor:
        """Maps (..., grid, grid) in [-1, 1] of positions (..., 2), x and y in pixels."""
        size = torch.tensor([self.width, self.height], device=pixels.device)
        return draw_spots(pixels / size * self.config.grid, self.config.grid, self.config.sigma)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        pose, camera = first_pose(observation, self.extras[0]), observation.extras[self.extras[1]].float()
        pixels, depth = project(pose[:, :, None, :3], camera, self.height, self.width)
        peak = (depth[:, :, 0] > NEAR_M).float()
        if self.config.where == "contact":
            peak = peak * observation.extras["contact"].any(dim=-1)
        if self.config.discount is not None:
            peak = peak * success_value(observation, self.config.discount)
        return (self.draw(pixels[:, :, 0]) + 1) * peak[..., None, None] - 1

    def points(self, values: Tensor) -> Tensor:
        """Positions (..., 2), x and y in pixels, of the peaks of maps (..., grid, grid)."""
        size = torch.tensor([self.width, self.height], device=values.device)
        return spot_centres(values) / self.config.grid * size
