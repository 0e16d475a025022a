"""Where something will be or happen, as a map over the picture (`ps.task-map`, eq. 16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig
from wamkit.contract.specs import CLOCK
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, project
from wamkit.substrates.episode_progress import success_value

POSES = {"gripper": "gripper_pose", "object": "object_pose", "contact": "gripper_pose"}


@SubstrateConfig.register_subclass("heatmap")
@dataclass(frozen=True)
class HeatmapConfig(SubstrateConfig):
    """Gaussian map of where the gripper, object or contact is, worth its value (survey eq. 16; AIM).

    Attributes:
        camera: the view.
        grid: rows and columns of the map.
        sigma: standard deviation of the Gaussian, cells.
        where: ``gripper``; ``object``, the first movable body of the task, which read off a goal is a placement map;
            or ``contact``, the gripper while a part of it touches an object, else nothing.
        discount: the peak is this to the power of the ticks until success (a value map); None leaves it at 1.
    """

    camera: str = "scene"
    grid: int = 16
    sigma: float = 1.5
    where: Literal["gripper", "object", "contact"] = "gripper"
    discount: float | None = None

    @override
    def build(self, data: DataSpec) -> Heatmap:
        """Build; raises :class:`ConfigError` when the camera or a pose is missing."""
        reader = "substrate 'heatmap'"
        if self.camera not in data.observation.cameras:
            raise ConfigError(
                f"{reader}: no camera {self.camera!r}. {did_you_mean(self.camera, data.observation.cameras)}"
            )
        if self.grid < 3 or self.sigma < 0.5:
            raise ConfigError(
                f"{reader}: grid {self.grid} (at least 3) and sigma {self.sigma} cells (at least 0.5) cannot be "
                f"read back below a pixel"
            )
        if self.where not in POSES or not (self.discount is None or 0 < self.discount < 1):
            raise ConfigError(
                f"{reader}: where = {self.where!r} must be one of {sorted(POSES)}, and discount = {self.discount} "
                f"None or between 0 and 1"
            )
        extras = [POSES[self.where], f"camera.{self.camera}"]
        extras += ["contact"] if self.where == "contact" else []
        extras += [CLOCK] if self.discount is not None else []
        for name in extras:
            data.extra(name, reader)
        size = data.observation.cameras[self.camera]
        return Heatmap(self, tuple(extras), size.height, size.width)


@final
class Heatmap(Substrate):
    """(B, T, grid, grid), a token per row: 1 at the place, -1 far from it or when it is behind the camera."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "heatmap"

    def __init__(self, config: HeatmapConfig, extras: tuple[str, ...], height: int, width: int) -> None:
        super().__init__()
        self.config, self.extras, self.height, self.width = config, extras, height, width

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid)

    def draw(self, pixels: Tensor) -> Tensor:
        """Positions (..., 2) as x, y in pixels of the picture -> maps (..., grid, grid) in [-1, 1]."""
        grid = self.config.grid
        size = torch.tensor([self.width, self.height], device=pixels.device)
        centre = pixels / size * grid
        cell = torch.arange(grid, device=pixels.device) + 0.5
        squared = (cell - centre[..., 0:1]).square()[..., None, :] + (cell - centre[..., 1:2]).square()[
            ..., None
        ]
        return 2 * torch.exp(-squared / (2 * self.config.sigma**2)) - 1

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        pose, camera = (observation.extras[name].float() for name in self.extras[:2])
        place = pose[:, :, 0] if pose.dim() == 4 else pose
        pixels, depth = project(place[:, :, None, :3], camera, self.height, self.width)
        peak = (depth[:, :, 0] > NEAR_M).float()
        if self.config.where == "contact":
            peak = peak * observation.extras["contact"].any(dim=-1)
        if self.config.discount is not None:
            peak = peak * success_value(observation, self.config.discount)
        return (self.draw(pixels[:, :, 0]) + 1) * peak[..., None, None] - 1

    def points(self, values: Tensor) -> Tensor:
        """Maps (..., grid, grid) -> positions (..., 2) as x, y in pixels of the picture.

        The logarithm of a Gaussian is a parabola: three cells around the maximum give its vertex exactly.
        """
        grid = self.config.grid
        log = ((values + 1) / 2).clamp(min=1e-8).log()
        peak = log.flatten(-2).argmax(dim=-1)
        row, column = (peak // grid).clamp(1, grid - 2), (peak % grid).clamp(1, grid - 2)
        flat = log.flatten(-2)

        def at(rows: Tensor, columns: Tensor) -> Tensor:
            return flat.gather(-1, (rows * grid + columns)[..., None])[..., 0]

        def vertex(before: Tensor, here: Tensor, after: Tensor) -> Tensor:
            curvature = (before - 2 * here + after).clamp(max=-1e-6)
            return (before - after) / (2 * curvature)

        here = at(row, column)
        x = column + 0.5 + vertex(at(row, column - 1), here, at(row, column + 1))
        y = row + 0.5 + vertex(at(row - 1, column), here, at(row + 1, column))
        size = torch.tensor([self.width, self.height], device=values.device)
        return torch.stack((x, y), dim=-1) / grid * size
