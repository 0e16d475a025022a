"""Surface normals from depth and camera intrinsics (`ps.multiview-4d`, survey eqs. 13, 15; TesserAct 2025)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Size, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import pixel_centres, rays
from wamkit.geometry.rotations import from_quaternion
from wamkit.substrates.views import check_grid


def surface_normals(depth: Tensor, camera: Tensor) -> Tensor:
    """Unit normals (..., H, W, 3), in the camera's axes, of depth maps (..., H, W) and their cameras (..., 8).

    A normal is perpendicular to the steps to one neighbour in the row and one in the column. Of the two neighbours in
    each direction the one nearer in depth is used, so that a surface does not tilt towards the background at its
    edge. Normals point to the camera.
    """
    height, width = depth.shape[-2:]
    pixels = pixel_centres(height, width, depth.device).expand(*depth.shape[:-2], -1, -1)
    points = rays(camera, pixels, height, width) * depth.flatten(-2)[..., None]
    points = points.unflatten(-2, (height, width))
    normal = F.normalize(torch.linalg.cross(_step(points, -2), _step(points, -3), dim=-1), dim=-1)
    away = (normal * points).sum(dim=-1, keepdim=True) > 0
    return torch.where(away, -normal, normal)


def _step(points: Tensor, axis: int) -> Tensor:
    """Step to the previous or next neighbour along ``axis``, whichever is nearer in depth; same shape."""
    change = points.diff(dim=axis)
    after = torch.cat((change, change.narrow(axis, -1, 1)), dim=axis)
    before = torch.cat((change.narrow(axis, 0, 1), change), dim=axis)
    return torch.where(after[..., 2:].abs() <= before[..., 2:].abs(), after, before)


@SubstrateConfig.register_subclass("normal_map")
@dataclass(frozen=True)
class NormalMapConfig(SubstrateConfig):
    """Low-resolution surface normals, from recorded depth (TesserAct, 2025; survey eq. 15).

    Attributes:
        camera: camera whose normals are predicted.
        grid: rows and columns of the map. A cell holds the mean normal of its pixels, which is shorter where they
            differ.
        frame: axes of the normals: ``camera`` (right, up, backward) or ``world``.
    """

    extras: ClassVar[tuple[str, ...]] = ("depth.{camera}", "camera.{camera}")
    camera: Word = "scene"
    grid: Size = 8
    frame: Literal["camera", "world"] = "camera"

    @override
    def build(self, data: DataSpec) -> NormalMap:
        """Build; raises :class:`ConfigError` when depth or the camera's pose is missing, or the grid does not fit."""
        reader = "substrate 'normal_map'"
        depth = check_grid("depth", self.camera, self.grid, data, reader)
        data.extra(f"camera.{self.camera}", reader)
        if min(data.extras[depth]) < 2:
            raise ConfigError(
                f"{reader}: a picture of {data.extras[depth]} pixels is too small for normals; each side needs 2"
            )
        return NormalMap(self, (depth, f"camera.{self.camera}"))


@final
class NormalMap(Substrate):
    """Mean normals (B, T, grid, grid * 3): one token per row of cells, x, y and z of each cell."""

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "normals"

    def __init__(self, config: NormalMapConfig, extras: tuple[str, ...]) -> None:
        super().__init__()
        self.config, self.extras = config, extras

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid * 3)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        depth, camera = (observation.extras[name].float() for name in self.extras)
        normals = surface_normals(depth, camera)
        if self.config.frame == "world":
            normals = torch.einsum("btij,bthwj->bthwi", from_quaternion(camera[..., 3:7]), normals)
        h, w = (side // self.config.grid for side in depth.shape[-2:])
        cells = rearrange(normals, "b t (i h) (j w) c -> b t i j c h w", h=h, w=w)
        return cells.mean(dim=(-1, -2)).flatten(3)

    def normals(self, values: Tensor) -> Tensor:
        """Unit normals (B, T, grid, grid, 3) of values."""
        return F.normalize(values.unflatten(3, (self.config.grid, 3)), dim=-1)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"normals": Reading("feature", self.normals(values).flatten(2, 3))}
