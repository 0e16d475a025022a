"""Spatial memory: a hash of voxels that depth images carve, fill and render (`mm.spatial-memory`).

A depth image shows the surface at every pixel and that the space in front of it is free. Every observation therefore
removes stored voxels in free space and writes voxels on the surface. Occluded voxels are neither, and stay for as long
as they are occluded. Voxel hashing: Niessner et al. 2013; carving of free space: Curless and Levoy 1996; used as a
policy's memory in 3D-ALP (survey eq. 36).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.geometry.cameras import NEAR_M, focal, pixel_centres, project, unproject

HALF_RANGE = 2**20  # voxels on each side of the origin that a code can address


@dataclass(frozen=True)
class DrawnView:
    """Picture rendered from the memory.

    Attributes:
        values: (height, width, F), values of the voxel at every pixel; zero where nothing is known.
        depth: (height, width), metres along the viewing direction; infinity where nothing is known.
        known: (height, width) bool, True at pixels that show a voxel.
    """

    values: Tensor
    depth: Tensor
    known: Tensor


@final
class SpatialMemory:
    """Points with values (colours, labels, features), one per occupied voxel.

    A voxel that is observed again is overwritten, so that the memory grows with the observed surface and not with time.

    Args:
        voxel_m: side of a voxel in metres.
        far_m: largest depth in metres that is stored; pixels beyond it still carve the space in front of them.

    Attributes:
        points: (M, 3), mean position per voxel in metres, world frame.
        values: (M, F), mean values per voxel.
    """

    def __init__(self, voxel_m: float = 0.02, far_m: float = 2.0) -> None:
        if not voxel_m > 0 or not far_m > 0:
            raise ConfigError(f"SpatialMemory: voxel_m {voxel_m} and far_m {far_m} must be above 0.")
        self.voxel_m, self.far_m = voxel_m, far_m
        self._codes = torch.zeros(0, dtype=torch.int64)
        self.points = torch.zeros(0, 3)
        self.values = torch.zeros(0, 0)

    def __len__(self) -> int:
        """Number of occupied voxels."""
        return len(self._codes)

    def see(self, observation: Observation, camera: str) -> None:
        """Observe the newest step of one episode: colours (0 to 255) and depth of ``camera``.

        Raises:
            SpecError: the observation has more than one row, or no image, depth or pose of the camera.
        """
        if observation.batch_size != 1:
            raise SpecError(f"a spatial memory belongs to one episode, got {observation.batch_size} rows.")
        names = (f"depth.{camera}", f"camera.{camera}")
        for name in names:
            if name not in observation.extras:
                raise SpecError(
                    f"no extra {name!r} in the observation. {did_you_mean(name, observation.extras)}"
                )
        depth, pose = (observation.extras[name][0, -1].float().cpu() for name in names)
        self.observe(depth, pose, observation.view(camera)[0, -1].permute(1, 2, 0).float().cpu())

    def observe(self, depth: Tensor, camera: Tensor, values: Tensor) -> None:
        """Remove voxels in free space and write voxels on the surface.

        Args:
            depth: (H, W), metres along the viewing direction.
            camera: (8,), pose and vertical field of view; see :mod:`wamkit.geometry.cameras`.
            values: (H, W, F), values per pixel.

        Raises:
            SpecError: the shapes do not match, F changes, or a point is outside the addressable range.
        """
        if values.dim() != 3 or values.shape[:2] != depth.shape or camera.shape != (8,):
            raise SpecError(
                f"needs depth (H, W), camera (8,) and values (H, W, F), got {tuple(depth.shape)}, "
                f"{tuple(camera.shape)} and {tuple(values.shape)}."
            )
        if len(self) and values.shape[2] != self.values.shape[1]:
            raise SpecError(f"this memory holds {self.values.shape[1]} values, got {values.shape[2]}.")
        self._keep(~self.seen_through(depth, camera))
        height, width = depth.shape
        points = unproject(depth.flatten(), pixel_centres(height, width, depth.device), camera, height, width)
        near = depth.flatten().isfinite() & (depth.flatten() > NEAR_M) & (depth.flatten() <= self.far_m)
        self._write(points[near], values.flatten(0, 1)[near].float())

    def seen_through(self, depth: Tensor, camera: Tensor) -> Tensor:
        """Mask of the voxels in free space, (M,) bool: in the picture and in front of its surface."""
        height, width = depth.shape
        pixels, distance = project(self.points, camera, height, width)
        x, y = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (distance > NEAR_M)
        surface = depth.flatten()[y.clamp(0, height - 1) * width + x.clamp(0, width - 1)]
        return inside & (surface > distance + math.sqrt(3) * self.voxel_m)

    def _keep(self, rows: Tensor) -> None:
        self._codes, self.points = self._codes[rows], self.points[rows]
        self.values = self.values[rows]

    def _write(self, points: Tensor, values: Tensor) -> None:
        """Overwrite the voxels of ``points`` (K, 3) with the mean position and the mean values (K, F) per voxel."""
        cells = (points / self.voxel_m).floor().long() + HALF_RANGE
        if bool(((cells < 0) | (cells >= 2 * HALF_RANGE)).any()):
            raise SpecError(
                f"a point lies more than {HALF_RANGE * self.voxel_m:.0f} m from the origin; use larger voxels."
            )
        codes = (cells[:, 0] * 2 * HALF_RANGE + cells[:, 1]) * 2 * HALF_RANGE + cells[:, 2]
        fresh, owner, count = torch.unique(codes, return_inverse=True, return_counts=True)
        means = []
        for rows in (points, values):
            total = rows.new_zeros(len(fresh), rows.shape[1]).index_add(0, owner, rows)
            means.append(total / count[:, None])
        self._keep(~torch.isin(self._codes, fresh))
        self._codes = torch.cat((self._codes, fresh))
        self.points = torch.cat((self.points, means[0]))
        self.values = torch.cat((self.values.reshape(-1, values.shape[1]), means[1]))

    def locate(self, value: Tensor, tolerance: float) -> Tensor | None:
        """Mean position (3,) of the points whose values differ from ``value`` (F,) by at most ``tolerance`` per entry.

        None when there are no such points.
        """
        matches = ((self.values - value).abs() <= tolerance).all(dim=1)
        return self.points[matches].mean(dim=0) if bool(matches.any()) else None

    def render(self, camera: Tensor, height: int, width: int) -> DrawnView:
        """Render the memory for ``camera`` (8,); every pixel shows its nearest voxel."""
        pixels, distance = project(self.points, camera, height, width)
        half = (0.5 * focal(camera, height) * self.voxel_m / distance.clamp(min=NEAR_M)).clamp(max=height / 4)
        ahead = distance > NEAR_M
        targets, sources = [], []
        reach = math.ceil(float(half[ahead].max())) if bool(ahead.any()) else 0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                x, y = pixels[:, 0].floor().long() + dx, pixels[:, 1].floor().long() + dy
                offset = torch.stack((x + 0.5, y + 0.5), dim=1) - pixels
                near = (offset.abs() <= half[:, None].clamp(min=0.5)).all(dim=1) & ahead
                drawn = (near & (x >= 0) & (x < width) & (y >= 0) & (y < height)).nonzero()[:, 0]
                targets.append((y * width + x)[drawn])
                sources.append(drawn)
        pixel = torch.cat(targets) if targets else torch.zeros(0, dtype=torch.int64)
        voxel = torch.cat(sources) if sources else pixel
        return self._nearest(pixel, voxel, distance, height, width)

    def _nearest(self, pixel: Tensor, voxel: Tensor, distance: Tensor, height: int, width: int) -> DrawnView:
        """Nearest voxel per pixel (z-buffer), from pairs of pixel and voxel index (P,) and distances (M,)."""
        depth = torch.full((height * width,), math.inf)
        depth = depth.scatter_reduce(0, pixel, distance[voxel], "amin")
        front = distance[voxel] <= depth[pixel]
        shown = torch.full((height * width,), -1).scatter_reduce(0, pixel[front], voxel[front], "amax")
        known = shown >= 0
        values = torch.zeros(height * width, self.values.shape[1])
        values[known] = self.values[shown[known]]
        return DrawnView(values.view(height, width, -1), depth.view(height, width), known.view(height, width))
