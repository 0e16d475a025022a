"""Scene flow: future positions of the points visible now, on a grid or on an object (`ps.motion-geometry`, eq. 15).

Both substrates take a pixel of "now" with its depth and its object, and move the point with that object's pose. Pixels
without an object stand still. The robot's links are not objects, so a mask tells for which pixels motion is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Positive, Size, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import PointMotion, Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.geometry.cameras import moved, pixel_centres, project, seen, unproject
from wamkit.substrates.views import check_grid

TOLERANCE_M = 0.03  # depth that half a pixel spans on a slanted surface a metre away


@dataclass(frozen=True)
class CameraView:
    """Ground truth of one camera at T steps.

    Attributes:
        camera: the camera's pose and lens, (B, T, 8).
        depth: depth in metres, (B, T, H, W).
        ids: object of every pixel in row order, k + 1 for the k-th object and 0 for none, (B, T, H * W).
        poses: poses of the K objects, (B, T, K, 7).
    """

    camera: Tensor
    depth: Tensor
    ids: Tensor
    poses: Tensor

    @classmethod
    def of(cls, observation: Observation, camera: str) -> CameraView:
        """Ground truth of ``camera`` in the extras of an observation."""
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
        """Mask (B, T, K) of the world points (B, T, K, 3) that are visible at each step."""
        return seen(points, self.camera, self.depth, tolerance_m)


def carried(points: Tensor, ids: Tensor, now: CameraView, later: CameraView) -> Tensor:
    """Positions (B, T, K, 3) at every later step of world points (B, K, 3) on the objects ``ids`` (B, K).

    Points with id 0 stand still.
    """
    steps = later.poses.shape[1]
    places = points[:, None].expand(-1, steps, -1, -1)
    result = places
    for k in range(later.poses.shape[2]):
        with_object = moved(places, now.poses[:, :, k].expand(-1, steps, -1), later.poses[:, :, k])
        result = torch.where((ids == k + 1)[:, None, :, None], with_object, result)
    return result


def check_view(camera: str, data: DataSpec, reader: str) -> tuple[str, ...]:
    """Names of the extras of one view; raises :class:`ConfigError` when the camera or an extra is missing."""
    data.camera(camera, reader)
    names = (f"camera.{camera}", f"depth.{camera}", f"object_id.{camera}", "object_pose")
    for name in names:
        data.extra(name, reader)
    return names


@SubstrateConfig.register_subclass("object_flow")
@dataclass(frozen=True)
class ObjectFlowConfig(SubstrateConfig):
    """Exact rigid flow of a grid of pixels since now, in 2D or 3D, with visibility (survey eq. 15).

    Attributes:
        camera: camera whose pixels are followed.
        grid: rows and columns of the grid.
        space: space of the displacements: ``image``, where 2 is the whole picture, or ``world``, in ``unit_m``.
        unit_m: metres that count as one (world only).
        tolerance_m: metres that a point may lie behind the visible surface and still count as visible.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "camera.{camera}",
        "depth.{camera}",
        "object_id.{camera}",
        "object_pose",
    )
    camera: Word = "scene"
    grid: Size = 8
    space: Literal["image", "world"] = "image"
    unit_m: Positive = 0.1
    tolerance_m: NonNegative = TOLERANCE_M

    @override
    def build(self, data: DataSpec) -> ObjectFlow:
        """Build; raises :class:`ConfigError` when ground truth is missing or the grid does not fit."""
        reader = "substrate 'object_flow'"
        extras, size = check_view(self.camera, data, reader), data.camera(self.camera, reader)
        check_grid("depth", self.camera, self.grid, data, reader)
        return ObjectFlow(self, extras, (size.height, size.width))


@final
class ObjectFlow(Substrate):
    """Flow (B, T, grid rows, grid columns * C), one token per row of the grid.

    A pixel has C channels: its displacement (2 or 3), zero without an object; a flag for belonging to an object; and a
    flag for being visible. Flags are 1 or -1.
    """

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "flow"
    relative = True

    def __init__(self, config: ObjectFlowConfig, extras: tuple[str, ...], size: tuple[int, int]) -> None:
        super().__init__()
        self.config, self.extras, self.size = config, extras, size
        self.channels = 4 if config.space == "image" else 5
        if config.space == "world":
            self.moves = {"object": (f"camera.{config.camera}", f"depth.{config.camera}")}

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid * self.channels)

    def index(self) -> Tensor:
        """Indices of the grid's pixels, the centres of its cells, (grid * grid,)."""
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
        end = carried(start, ids, before, later)
        if self.config.space == "image":
            scale = 2 / torch.tensor([self.size[1], self.size[0]], device=start.device)
            first, _ = project(start, before.camera[:, 0], *self.size)
            shift = (project(end, later.camera, *self.size)[0] - first[:, None]) * scale
        else:
            shift = (end - start[:, None]) / self.config.unit_m
        on_object = (ids > 0)[:, None, :, None].expand(-1, end.shape[1], -1, 1)
        visible = later.visible(end, self.config.tolerance_m)[..., None] & on_object
        values = torch.cat(
            (torch.where(on_object, shift, 0.0), on_object * 2.0 - 1, visible * 2.0 - 1), dim=-1
        )
        return values.unflatten(2, (self.config.grid, self.config.grid)).flatten(3)

    def field(self, values: Tensor) -> Tensor:
        """Channels (B, T, grid, grid, C) of values: displacement as encoded, object flag, visible flag."""
        return values.unflatten(3, (self.config.grid, self.channels))

    @override
    def moving_points(self, values: Tensor, now: Observation, body: str) -> PointMotion:
        """Points of the grid that lie on an object, in the world, from the present depth; ``space`` world only."""
        field = self.field(values).flatten(2, 3)
        depth, camera = (
            now.extras[name][:, 0].float()
            for name in (f"depth.{self.config.camera}", f"camera.{self.config.camera}")
        )
        index = self.index().to(values.device)
        pixels = pixel_centres(*self.size, values.device)[index].expand(len(values), -1, -1)
        start = unproject(depth.flatten(1)[:, index], pixels, camera, *self.size)
        later = start[:, None] + field[..., :3] * self.config.unit_m
        return PointMotion(start, later, (field[..., 3] > 0) & (field[..., 4] > 0), anchored=True)

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
    """Exact tracks of points on the object's surface, with visibility (survey eq. 15).

    Attributes:
        camera: camera that selects the points and determines their visibility.
        points: number of tracked points, spread over the pixels in which the object is visible now.
        unit_m: metres that count as one.
        tolerance_m: metres that a point may lie behind the visible surface and still count as visible.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "camera.{camera}",
        "depth.{camera}",
        "object_id.{camera}",
        "object_pose",
    )
    camera: Word = "scene"
    points: Size = 8
    unit_m: Positive = 0.1
    tolerance_m: NonNegative = TOLERANCE_M

    @override
    def build(self, data: DataSpec) -> Tracks:
        """Build; raises :class:`ConfigError` when ground truth is missing."""
        return Tracks(self, check_view(self.camera, data, "substrate 'tracks'"))


@final
class Tracks(Substrate):
    """Tracks (B, T, points, 7): start relative to the object's origin, displacement since now, visible (1 or -1).

    Start and displacement are in ``unit_m``. Rows in which the object is not visible now hold zeros and -1.
    """

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "tracks"
    relative = True
    rebases = True

    def __init__(self, config: TracksConfig, extras: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.extras = config, extras
        self.moves = {"object": ()}

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.points, 7)

    def choose(self, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, points) spread evenly over a mask (B, H * W), and the rows whose mask is not empty, (B,)."""
        count = mask.sum(dim=1)
        order = (~mask).int().argsort(dim=1, stable=True)  # the mask's pixels first, in row order
        share = (torch.arange(self.config.points, device=mask.device) + 0.5) / self.config.points
        return order.gather(1, (share * count[:, None]).long()), count > 0

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        before, later = CameraView.of(now, self.config.camera), CameraView.of(observation, self.config.camera)
        index, present = self.choose(before.ids[:, 0] == 1)
        start = before.points(index)
        end = carried(start, torch.ones_like(index), before, later)
        origin = before.poses[:, :1, 0, None, :3]
        parts = ((start[:, None] - origin).expand_as(end), end - start[:, None])
        visible = later.visible(end, self.config.tolerance_m) & present[:, None, None]
        places = torch.cat(parts, dim=-1) / self.config.unit_m * present[:, None, None, None]
        return torch.cat((places, visible[..., None] * 2.0 - 1), dim=-1)

    @override
    @torch.no_grad()
    def rebase(self, values: Tensor, observation: Observation, now: Observation) -> Tensor:
        """Same points: where they are at ``observation``, relative to the object's origin there, and how far they go.

        Rows in which the object was not visible at ``now`` stay as they are: nothing is known of their points.
        """
        before, here = CameraView.of(now, self.config.camera), CameraView.of(observation, self.config.camera)
        _, present = self.choose(before.ids[:, 0] == 1)
        covered = self.encode(observation, now)[..., 3:6]  # (B, 1, points, 3), displacement from now to here
        origin = (here.poses[:, :1, 0, None, :3] - before.poses[:, :1, 0, None, :3]) / self.config.unit_m
        shift = torch.cat((covered - origin, -covered), dim=-1) * present[:, None, None, None]
        return torch.cat((values[..., :6] + shift, values[..., 6:]), dim=-1)

    @override
    def moving_points(self, values: Tensor, now: Observation, body: str) -> PointMotion:
        """The tracked points, in a frame at the object's origin, which a track does not tell."""
        start = values[:, 0, :, :3] * self.config.unit_m
        later = start[:, None] + values[..., 3:6] * self.config.unit_m
        return PointMotion(start, later, values[..., 6] > 0, anchored=False)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        shift = values[..., 3:6] * self.config.unit_m
        return {"tracks": Reading("displacement", shift, "m", values[..., 6] > 0)}
