"""Rigid motions and pinhole cameras on tensors, in the conventions of the recorded ground truth.

A pose is (..., 7): x, y, z in metres and a quaternion w, x, y, z, world frame. A camera is (..., 8): its pose, with
axes right, up, backward, and its vertical field of view in degrees. Pixel (0, 0) is the upper left corner of the
upper left pixel; x counts columns and y rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.geometry.rotations import from_quaternion

# Points closer than this to the camera's plane are not projected.
NEAR_M = 1e-4


def moved(points: Tensor, now: Tensor, later: Tensor) -> Tensor:
    """Move world points (..., K, 3) with a rigid body from its pose ``now`` to its pose ``later`` (..., 7)."""
    body = (points - now[..., None, :3]) @ from_quaternion(now[..., 3:])
    return body @ from_quaternion(later[..., 3:]).transpose(-1, -2) + later[..., None, :3]


def focal(camera: Tensor, height: int) -> Tensor:
    """Focal length in pixels for a picture of ``height`` rows, (...)."""
    return height / 2 / (torch.deg2rad(camera[..., 7]) / 2).tan()


def project(points: Tensor, camera: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """World points (..., K, 3) -> pixels (..., K, 2) as x, y, and depth along the viewing direction (..., K).

    Points behind the camera have a negative depth; their pixels are meaningless.
    """
    local = (points - camera[..., None, :3]) @ from_quaternion(camera[..., 3:7])
    depth = -local[..., 2]
    scale = focal(camera, height)[..., None] / depth.clamp(min=NEAR_M)
    x, y = width / 2 + local[..., 0] * scale, height / 2 - local[..., 1] * scale
    return torch.stack((x, y), dim=-1), depth


def rays(camera: Tensor, pixels: Tensor, height: int, width: int) -> Tensor:
    """Pixels (..., K, 2) -> points at depth 1 in the camera frame, (..., K, 3)."""
    f = focal(camera, height)[..., None]
    x, y = (pixels[..., 0] - width / 2) / f, (height / 2 - pixels[..., 1]) / f
    return torch.stack((x, y, -torch.ones_like(x)), dim=-1)


def to_world(local: Tensor, camera: Tensor) -> Tensor:
    """Points in the camera frame (..., K, 3) -> world frame."""
    return local @ from_quaternion(camera[..., 3:7]).transpose(-1, -2) + camera[..., None, :3]


def unproject(depth: Tensor, pixels: Tensor, camera: Tensor, height: int, width: int) -> Tensor:
    """Depths (..., K) at pixels (..., K, 2) -> world points (..., K, 3); the inverse of :func:`project`."""
    return to_world(rays(camera, pixels, height, width) * depth[..., None], camera)


def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Centres of all pixels in row order, (height * width, 2)."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack((x, y), dim=-1).flatten(0, 1) + 0.5


def seen(points: Tensor, camera: Tensor, depth: Tensor, tolerance_m: float) -> Tensor:
    """Visibility of world points (..., K, 3) for a camera with the depth map ``depth`` (..., H, W): (..., K) bool.

    A point is visible when it lies in the picture and no surface is more than ``tolerance_m`` in front of it.
    """
    height, width = depth.shape[-2:]
    pixels, distance = project(points, camera, height, width)
    x, y = pixels[..., 0].floor().long(), pixels[..., 1].floor().long()
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & (distance > NEAR_M)
    at = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return inside & (distance <= depth.flatten(-2).gather(-1, at) + tolerance_m)
