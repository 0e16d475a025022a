"""Where what is seen now will have moved to: exact scene flow on a grid and tracks of object points
(`ps.motion-geometry`, eq. 15).

Both take a pixel of "now", its depth and the object it belongs to, and move it with that object's pose. Pixels of
no object stand still; the robot's own links are not objects, so a mask says which pixels a motion is known for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, did_you_mean
from wamkit.geometry.cameras import moved, pixel_centres, project, seen, unproject

TOLERANCE_M = 0.03  # half a pixel of an aslant surface, seen from a metre away


@dataclass(frozen=True)
class CameraView:
    """One camera's ground truth at T steps, flattened to pixels in row order.

    Attributes:
        camera: (B, T, 8).
        depth: (B, T, H, W) metres.
        ids: (B, T, H * W), k + 1 for the k-th object.
        poses: (B, T, K, 7).
    """

    camera: Tensor
    depth: Tensor
    ids: Tensor
    poses: Tensor

    @classmethod
    def of(cls, observation: Observation, camera: str) -> CameraView:
        """Read it off an observation's extras."""
        extras = observation.extras
        ids = extras[f"object_id.{camera}"].flatten(2).long()
        return cls(
            extras[f"camera.{camera}"].float(),
            extras[f"depth.{camera}"].float(),
            ids,
            extras["object_pose"].float(),
        )

    def points(self, index: Tensor) -> Tensor:
        """World points of the pixels ``index`` (B, K) at the first step, (B, K, 3)."""
        height, width = self.depth.shape[-2:]
        pixels = pixel_centres(height, width, index.device)[index]
        depth = self.depth[:, 0].flatten(1).gather(1, index)
        return unproject(depth, pixels, self.camera[:, 0], height, width)

    def visible(self, points: Tensor, tolerance_m: float) -> Tensor:
        """Which world points (B, T, K, 3) are seen at each step, (B, T, K) bool."""
        return seen(points, self.camera, self.depth, tolerance_m)


def carried(points: Tensor, ids: Tensor, now: CameraView, later: CameraView) -> Tensor:
    """World points (B, K, 3) of objects ``ids`` (B, K) at every later step, (B, T, K, 3). Id 0 stands still."""
    steps = later.poses.shape[1]
    places = points[:, None].expand(-1, steps, -1, -1)
    result = places
    for k in range(later.poses.shape[2]):
        there = moved(places, now.poses[:, :, k].expand(-1, steps, -1), later.poses[:, :, k])
        result = torch.where((ids == k + 1)[:, None, :, None], there, result)
    return result


def check_view(camera: str, data: DataSpec, reader: str) -> tuple[str, ...]:
    """Extras of one view; raises :class:`ConfigError` where the camera or one of them is not there."""
    if camera not in data.observation.cameras:
        raise ConfigError(f"{reader}: no camera {camera!r}. {did_you_mean(camera, data.observation.cameras)}")
    names = (f"camera.{camera}", f"depth.{camera}", f"object_id.{camera}", "object_pose")
    for name in names:
        data.extra(name, reader)
    return names


@SubstrateConfig.register_subclass("object_flow")
@dataclass(frozen=True)
class ObjectFlowConfig(SubstrateConfig):
    """Exact rigid flow of a grid of pixels since now, in 2D or 3D, with visibility (survey eq. 15).

    Attributes:
        camera: the view.
        grid: rows and columns of the grid.
        space: ``image`` gives displacements in pictures (2 is the whole picture), ``world`` in ``unit_m``.
        unit_m: metres that count as one.
        tolerance_m: how far behind the seen surface a point may lie and still be visible.
    """

    camera: str = "scene"
    grid: int = 8
    space: Literal["image", "world"] = "image"
    unit_m: float = 0.1
    tolerance_m: float = TOLERANCE_M

    @override
    def build(self, data: DataSpec) -> ObjectFlow:
        """Build; raises :class:`ConfigError` when ground truth is missing or the grid does not fit."""
        extras = check_view(self.camera, data, "substrate 'object_flow'")
        size = data.observation.cameras[self.camera]
        if size.height % self.grid or size.width % self.grid:
            raise ConfigError(
                f"substrate 'object_flow': camera {self.camera!r} has {size.height} x {size.width} pixels, which a "
                f"grid of {self.grid} does not divide. Choose another `grid`."
            )
        return ObjectFlow(self, extras, (size.height, size.width))


@final
class ObjectFlow(Substrate):
    """(B, T, grid rows, grid columns * C): per pixel displacement (2 or 3), moving object (1), visible (1).

    Displacement is zero where a pixel belongs to no object; flags are 1 or -1. A token is one row of the grid.
    """

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "flow"
    relative = True

    def __init__(self, config: ObjectFlowConfig, extras: tuple[str, ...], size: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.extras, self.size = config, extras, size
        self.channels = 4 if config.space == "image" else 5

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid * self.channels)

    def index(self) -> Tensor:
        """The grid's pixels, the middle of each cell, (grid * grid,)."""
        (height, width), grid = self.size, self.config.grid
        rows, columns = (torch.arange(grid) * side // grid + side // (2 * grid) for side in (height, width))
        return (rows[:, None] * width + columns).flatten()

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        before, later = CameraView.of(now, self.config.camera), CameraView.of(observation, self.config.camera)
        index = self.index().to(before.depth.device).expand(now.batch_size, -1)
        ids, start = before.ids[:, 0].gather(1, index), before.points(index)
        there = carried(start, ids, before, later)
        if self.config.space == "image":
            scale = 2 / torch.tensor([self.size[1], self.size[0]], device=start.device)
            first, _ = project(start, before.camera[:, 0], *self.size)
            shift = (project(there, later.camera, *self.size)[0] - first[:, None]) * scale
        else:
            shift = (there - start[:, None]) / self.config.unit_m
        mine = (ids > 0)[:, None, :, None].expand(-1, there.shape[1], -1, 1)
        visible = later.visible(there, self.config.tolerance_m)[..., None] & mine
        values = torch.cat((torch.where(mine, shift, 0.0), mine * 2.0 - 1, visible * 2.0 - 1), dim=-1)
        return values.unflatten(2, (self.config.grid, self.config.grid)).flatten(3)

    def field(self, values: Tensor) -> Tensor:
        """Values -> (B, T, grid, grid, C): displacement as encoded, moving flag, visible flag."""
        return values.unflatten(3, (self.config.grid, self.channels))

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        field = self.field(values).flatten(2, 3)
        shift, visible = field[..., :-2], field[..., -1] > 0
        if self.config.space == "world":
            return {"flow": Reading("displacement", shift * self.config.unit_m, "m", visible)}
        size = torch.tensor([self.size[1], self.size[0]], device=values.device)
        return {"flow": Reading("displacement", shift * size / 2, "px", visible)}


@SubstrateConfig.register_subclass("tracks")
@dataclass(frozen=True)
class TracksConfig(SubstrateConfig):
    """Points on the object's surface, tracked exactly, with visibility (survey eq. 15).

    Attributes:
        camera: the view that picks the points and tells whether they are hidden.
        points: number of tracked points, spread over the object's visible pixels of now.
        unit_m: metres that count as one.
        tolerance_m: how far behind the seen surface a point may lie and still be visible.
    """

    camera: str = "scene"
    points: int = 8
    unit_m: float = 0.1
    tolerance_m: float = TOLERANCE_M

    @override
    def build(self, data: DataSpec) -> Tracks:
        """Build; raises :class:`ConfigError` when ground truth is missing."""
        return Tracks(self, check_view(self.camera, data, "substrate 'tracks'"))


@final
class Tracks(Substrate):
    """(B, T, points, 7): start seen from the object's origin, displacement since now, both in ``unit_m``; visible.

    A row that shows no object now has zeros and visibility -1.
    """

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "tracks"
    relative = True

    def __init__(self, config: TracksConfig, extras: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.extras = config, extras

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.points, 7)

    def choose(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H * W) bool -> pixels spread evenly over the mask (B, points), and whether there is any (B,)."""
        count = mask.sum(dim=1)
        order = (~mask).int().argsort(dim=1, stable=True)  # the mask's pixels first, in row order
        share = (torch.arange(self.config.points, device=mask.device) + 0.5) / self.config.points
        return order.gather(1, (share * count[:, None]).long()), count > 0

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        before, later = CameraView.of(now, self.config.camera), CameraView.of(observation, self.config.camera)
        index, some = self.choose(before.ids[:, 0] == 1)
        start = before.points(index)
        there = carried(start, torch.ones_like(index), before, later)
        origin = before.poses[:, :1, 0, None, :3]
        parts = ((start[:, None] - origin).expand_as(there), there - start[:, None])
        visible = later.visible(there, self.config.tolerance_m) & some[:, None, None]
        places = torch.cat(parts, dim=-1) / self.config.unit_m * some[:, None, None, None]
        return torch.cat((places, visible[..., None] * 2.0 - 1), dim=-1)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        shift = values[..., 3:6] * self.config.unit_m
        return {"tracks": Reading("displacement", shift, "m", values[..., 6] > 0)}
