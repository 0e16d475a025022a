"""Low-resolution segmentation and depth maps from exact labels (`ps.task-map`, `ps.motion-geometry`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from einops import rearrange
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.substrates.views import check_grid

CLASSES = 5  # background, scene, arm, gripper, object: the recorded segmentation
CLASS_IDS = {"background": 0, "scene": 1, "arm": 2, "gripper": 3, "object": 4}


def cells(image: Tensor, grid: int) -> Tensor:
    """Pixels of every cell, (B, T, grid, grid, pixels), of an image (B, T, H, W)."""
    height, width = image.shape[-2] // grid, image.shape[-1] // grid
    return rearrange(image, "b t (i h) (j w) -> b t i j (h w)", h=height, w=width)


@SubstrateConfig.register_subclass("segmentation")
@dataclass(frozen=True)
class SegmentationConfig(SubstrateConfig):
    """Low-resolution semantic masks, as class shares or as ids of the commonest class (survey eq. 16).

    Attributes:
        camera: camera whose segmentation is predicted.
        grid: rows and columns of the map.
        values: ``shares`` for the fraction of a cell that each class covers, ``ids`` for the commonest class (a
            discrete stream).
    """

    extras: ClassVar[tuple[str, ...]] = ("segmentation.{camera}",)
    camera: Word = "scene"
    grid: Size = 8
    values: Literal["shares", "ids"] = "shares"

    @override
    def build(self, data: DataSpec) -> Segmentation:
        """Build; raises :class:`ConfigError` when the labels are missing or the grid does not fit."""
        extra = check_grid("segmentation", self.camera, self.grid, data, "substrate 'segmentation'")
        return Segmentation(self, extra)


@final
class Segmentation(Substrate):
    """Shares (B, T, grid, grid * 5), one token per row of cells, or ids (B, T, grid * grid)."""

    category: ClassVar[Category] = "affordance"
    variant: ClassVar[str] = "mask"

    def __init__(self, config: SegmentationConfig, extra: str) -> None:
        super().__init__()
        self.config, self.extras = config, (extra,)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        grid = self.config.grid
        if self.config.values == "ids":
            return StreamSpec(name, role, steps, grid * grid, 1, CLASSES)
        return StreamSpec(name, role, steps, grid, grid * CLASSES)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        labels = cells(observation.extras[self.extras[0]].long(), self.config.grid)
        shares = torch.stack([(labels == k).float().mean(dim=-1) for k in range(CLASSES)], dim=-1)
        return shares.argmax(dim=-1).flatten(2) if self.config.values == "ids" else shares.flatten(3)

    def classes(self, values: Tensor) -> Tensor:
        """Commonest class of every cell, (B, T, grid, grid) int64."""
        if self.config.values == "ids":
            return values.unflatten(2, (self.config.grid, self.config.grid))
        return values.unflatten(3, (self.config.grid, CLASSES)).argmax(dim=-1)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"mask": Reading("classes", self.classes(values).flatten(2), classes=CLASSES)}


@SubstrateConfig.register_subclass("depth_map")
@dataclass(frozen=True)
class DepthMapConfig(SubstrateConfig):
    """Low-resolution depth map: the median depth of every cell (survey eq. 15).

    Attributes:
        camera: camera whose depth is predicted.
        grid: rows and columns of the map.
        near_m: distance in metres mapped to 1; smaller distances are clipped.
        far_m: distance in metres mapped to -1; larger distances are clipped.
    """

    extras: ClassVar[tuple[str, ...]] = ("depth.{camera}",)
    camera: Word = "scene"
    grid: Size = 8
    near_m: Positive = 0.1
    far_m: Positive = 2.0

    @override
    def build(self, data: DataSpec) -> DepthMap:
        """Build; raises :class:`ConfigError` when depth is missing or the grid does not fit."""
        if not self.near_m < self.far_m:
            raise ConfigError(
                f"substrate 'depth_map': need near_m < far_m, got {self.near_m} and {self.far_m}"
            )
        return DepthMap(self, check_grid("depth", self.camera, self.grid, data, "substrate 'depth_map'"))


@final
class DepthMap(Substrate):
    """Inverse depth (B, T, grid, grid) scaled to [-1, 1], one token per row. Near objects get most of the range."""

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "depth"

    def __init__(self, config: DepthMapConfig, extra: str) -> None:
        super().__init__()
        self.config, self.extras = config, (extra,)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.config.grid, self.config.grid)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        near, far = self.config.near_m, self.config.far_m
        depth = cells(observation.extras[self.extras[0]].float(), self.config.grid).median(dim=-1).values
        inverse = 1 / depth.clamp(near, far)
        return 2 * (inverse - 1 / far) / (1 / near - 1 / far) - 1

    def metres(self, values: Tensor) -> Tensor:
        """Depth (B, T, grid, grid) in metres, between ``near_m`` and ``far_m``."""
        near, far = self.config.near_m, self.config.far_m
        return 1 / ((values.clamp(-1, 1) + 1) / 2 * (1 / near - 1 / far) + 1 / far)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"depth": Reading("quantity", self.metres(values), "m")}
