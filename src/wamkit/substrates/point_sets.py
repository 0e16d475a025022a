"""Depth maps of several views as one set of points, and how well views agree (`ps.multiview-4d`, eq. 15)."""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.geometry.cameras import NEAR_M, pixel_centres, project, unproject


def scene_points(depth: Tensor, camera: Tensor) -> Tensor:
    """Depth maps (..., H, W) and their cameras (..., 8) -> world points (..., H * W, 3), in row order."""
    height, width = depth.shape[-2:]
    pixels = pixel_centres(height, width, depth.device).expand(*depth.shape[:-2], -1, -1)
    return unproject(depth.flatten(-2), pixels, camera, height, width)


def disagreement(
    depth: Tensor, camera: Tensor, other: Tensor, other_camera: Tensor, tolerance_m: float
) -> tuple[Tensor, Tensor]:
    """Carry one view into another by its depth and pose, and compare what both see.

    Args:
        depth: (..., H, W), metres, of the view that is carried over.
        camera: (..., 8), where it was taken from.
        other: (..., H', W'), metres, of the view that it is compared with.
        other_camera: (..., 8).
        tolerance_m: what the other view sees this much nearer hides the point; it is not compared then.

    Returns:
        metres that the other view sees farther (positive) or nearer than where the first one puts the surface,
        (..., H * W), bilinear between its pixels, and which points are compared: they lie in the other picture, and
        nothing hides them, (..., H * W) bool.
    """
    height, width = other.shape[-2:]
    pixels, distance = project(scene_points(depth, camera), other_camera, height, width)
    # A pixel's depth is measured at its centre, half a pixel inside.
    x, y = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1) & (distance > NEAR_M)
    left, top = x.floor().clamp(0, width - 2), y.floor().clamp(0, height - 2)
    right, down = (x - left).clamp(0, 1), (y - top).clamp(0, 1)
    flat, at = other.flatten(-2), (top * width + left).long()

    def seen(offset: int) -> Tensor:
        return flat.gather(-1, at + offset)

    upper = seen(0) * (1 - right) + seen(1) * right
    lower = seen(width) * (1 - right) + seen(width + 1) * right
    error = upper * (1 - down) + lower * down - distance
    corners = torch.stack([seen(k) for k in (0, 1, width, width + 1)])
    hidden = corners.amin(dim=0) < distance - tolerance_m
    return error, inside & ~hidden
