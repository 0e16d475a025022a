"""Point sets from the depth maps of several views, and the agreement of views (`ps.multiview-4d`, eq. 15)."""

from __future__ import annotations

import torch
from torch import Tensor

from wamkit.geometry.cameras import NEAR_M, pixel_centres, project, unproject


def scene_points(depth: Tensor, camera: Tensor) -> Tensor:
    """World points (..., H * W, 3), in row order, of depth maps (..., H, W) and their cameras (..., 8)."""
    height, width = depth.shape[-2:]
    pixels = pixel_centres(height, width, depth.device).expand(*depth.shape[:-2], -1, -1)
    return unproject(depth.flatten(-2), pixels, camera, height, width)


def disagreement(
    depth: Tensor, camera: Tensor, other: Tensor, other_camera: Tensor, tolerance_m: float
) -> tuple[Tensor, Tensor]:
    """Library function: depth error between two views, by projecting the points of one into the other.

    Args:
        depth: depth of the projected view in metres, (..., H, W).
        camera: pose and lens of its camera, (..., 8).
        other: depth of the view it is compared with in metres, (..., H', W').
        other_camera: pose and lens of that view's camera, (..., 8).
        tolerance_m: metres by which a surface in the other view must be nearer to occlude a point; occluded points are
            not compared.

    Returns:
        error in metres, (..., H * W): depth in the other view, bilinear between its pixels, minus the distance of the
        projected point; and mask (..., H * W) of the points compared: those inside the other picture and not occluded.
    """
    height, width = other.shape[-2:]
    pixels, distance = project(scene_points(depth, camera), other_camera, height, width)
    # A pixel's depth is measured at its centre, half a pixel inside.
    x, y = pixels[..., 0] - 0.5, pixels[..., 1] - 0.5
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1) & (distance > NEAR_M)
    left, top = x.floor().clamp(0, width - 2), y.floor().clamp(0, height - 2)
    right, down = (x - left).clamp(0, 1), (y - top).clamp(0, 1)
    flat, corner = other.flatten(-2), (top * width + left).long()

    def depth_at(offset: int) -> Tensor:
        return flat.gather(-1, corner + offset)

    upper = depth_at(0) * (1 - right) + depth_at(1) * right
    lower = depth_at(width) * (1 - right) + depth_at(width + 1) * right
    error = upper * (1 - down) + lower * down - distance
    corners = torch.stack([depth_at(k) for k in (0, 1, width, width + 1)])
    hidden = corners.amin(dim=0) < distance - tolerance_m
    return error, inside & ~hidden
