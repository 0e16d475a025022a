"""Augmentations that move pixels: shift, crop, rotation and zoom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Decay, Fraction, Range, Room
from wamkit.contract.augmenting import AugmentConfig, Draws, GeometricAugment


@final
@AugmentConfig.register_subclass("shift")
@dataclass(frozen=True)
class Shift(GeometricAugment):
    """Translation by whole pixels along both axes; edge pixels are repeated (DrQ, Kostrikov et al. 2020).

    Attributes:
        pixels: largest translation along an axis, pixels.
    """

    pixels: Room = 4

    @override
    def move(self, values: Tensor, draws: Draws, nearest: bool) -> Tensor:
        height, width = values.shape[-2:]
        padded = F.pad(values.flatten(1, 2), [self.pixels] * 4, mode="replicate")
        starts = draws.integers("shift", 0, 2 * self.pixels, 2).tolist()
        moved = [row[:, y : y + height, x : x + width] for row, (y, x) in zip(padded, starts, strict=True)]
        return torch.stack(moved).view_as(values)


@final
@AugmentConfig.register_subclass("crop")
@dataclass(frozen=True)
class Crop(GeometricAugment):
    """Random crop, resized to the whole picture.

    Attributes:
        share: smallest side of the crop as a share of the picture's; 1 for no crop.
    """

    share: Fraction = 0.9

    @override
    def move(self, values: Tensor, draws: Draws, nearest: bool) -> Tensor:
        side = draws.uniform("side", self.share, 1.0)
        centre = draws.uniform("centre", -1.0, 1.0, 2) * (1 - side)[:, None]
        linear = side[:, None, None] * torch.eye(2)
        return warp(values, torch.cat((linear, centre[:, :, None]), dim=2), nearest)


@final
@AugmentConfig.register_subclass("affine")
@dataclass(frozen=True)
class Affine(GeometricAugment):
    """Rotation about the centre and zoom; edge pixels are repeated.

    Attributes:
        degrees: largest rotation in either direction.
        zoom: largest change of size: factors from 1 - zoom to 1 + zoom.
    """

    degrees: Annotated[float, Range(0, 180)] = 5.0
    zoom: Decay = 0.05

    @override
    def move(self, values: Tensor, draws: Draws, nearest: bool) -> Tensor:
        angle = draws.uniform("degrees", -self.degrees, self.degrees) * (math.pi / 180)
        size = draws.uniform("zoom", 1 - self.zoom, 1 + self.zoom)
        height, width = values.shape[-2:]
        sine, cosine = angle.sin() / size, angle.cos() / size
        # Coordinates run from -1 to 1 along both axes, so an oblong picture would be sheared without its sides.
        x = torch.stack((cosine, -sine * height / width), dim=1)
        y = torch.stack((sine * width / height, cosine), dim=1)
        return warp(values, F.pad(torch.stack((x, y), dim=1), (0, 1)), nearest)


def warp(values: Tensor, places: Tensor, nearest: bool) -> Tensor:
    """Read (B, N, C, h, w) at moved places, edge pixels repeated.

    Args:
        values: pictures or maps.
        places: (B, 2, 3), from coordinates x, y, 1 of the result, -1 to 1 between its borders, to those of ``values``.
        nearest: true to take the nearest pixel, false to mix the four around the place.
    """
    flat = values.flatten(1, 2)
    rows, columns = ((torch.arange(n) + 0.5) * (2 / n) - 1 for n in flat.shape[-2:])
    by_x, by_y, start = places[:, None, None].unbind(dim=-1)  # (B, 1, 1, 2) each
    grid = by_x * columns[:, None] + by_y * rows[:, None, None] + start  # (B, h, w, 2)
    mode = "nearest" if nearest else "bilinear"
    return F.grid_sample(flat, grid, mode, padding_mode="border", align_corners=False).view_as(values)
