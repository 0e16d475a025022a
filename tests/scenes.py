"""A scene in closed form: a square plate over a floor, seen from straight above or aslant, rendered by ray casting."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from support import data_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import CameraSpec, ObservationSpec
from wamkit.contract.types import Observation
from wamkit.geometry.cameras import moved, pixel_centres, rays, to_world
from wamkit.geometry.rotations import from_quaternion

SIDE = 32  # pixels
HALF = 0.15  # metres from the plate's centre to its edge
STATE = ("x_m", "y_m", "z_m", "open")


def turn(yaw: float) -> tuple[float, ...]:
    return (math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2))


def pose(x: float, y: float, z: float, yaw: float = 0.0) -> Tensor:
    return torch.tensor([x, y, z, *turn(yaw)])


ABOVE = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 60.0])  # at 1 m, looking down, x to the right
ASLANT = torch.tensor([0.1, -0.3, 1.0, math.cos(0.15), math.sin(0.15), 0.0, 0.0, 60.0])


def render(plates: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Depth and id (SIDE, SIDE) of square plates (K, 7); 0 is the floor, k + 1 the k-th plate."""
    directions = rays(camera, pixel_centres(SIDE, SIDE, torch.device("cpu")), SIDE, SIDE)
    world = to_world(directions, camera) - camera[:3]
    depth, index = -camera[2] / world[:, 2], torch.zeros(SIDE * SIDE, dtype=torch.uint8)
    for k, plate in enumerate(plates):
        reach = (plate[2] - camera[2]) / world[:, 2]
        local = (camera[:3] + reach[:, None] * world - plate[:3]) @ from_quaternion(plate[3:])
        hit = (local[:, :2].abs() <= HALF).all(dim=1) & (reach < depth)
        depth, index = torch.where(hit, reach, depth), torch.where(hit, k + 1, index).to(torch.uint8)
    return depth.view(SIDE, SIDE), index.view(SIDE, SIDE)


def scene_spec() -> DataSpec:
    """Specs of :func:`look`."""
    observation = ObservationSpec({"scene": CameraSpec(SIDE, SIDE)}, STATE, 40.0)
    shapes = {
        "object_pose": (2, 7),
        "gripper_pose": (7,),
        "contact": (3,),
        "contact_force": (3, 3),
        "camera.scene": (8,),
        "depth.scene": (SIDE, SIDE),
        "object_id.scene": (SIDE, SIDE),
        "segmentation.scene": (SIDE, SIDE),
    }
    stats = dict(data_spec().stats)
    return replace(data_spec(), observation=observation, extras=shapes, stats=stats)


def look(
    plates: list[Tensor], gripper: Tensor | None = None, camera: Tensor = ABOVE, second: Tensor | None = None
) -> Observation:
    """One row that sees the first plate at these poses, one per step, and ``second``, which stands still."""
    steps = len(plates)
    grip = pose(0.0, 0.0, 0.5).expand(steps, 7) if gripper is None else gripper
    scenes = [torch.stack([p] if second is None else [p, second]) for p in plates]
    views = [render(scene, camera) for scene in scenes]
    depth, ids = (torch.stack([view[i] for view in views])[None] for i in (0, 1))
    objects = torch.zeros(1, steps, 2, 7)
    for t, scene in enumerate(scenes):
        objects[0, t, : len(scene)] = scene
    extras = {
        "object_pose": objects,
        "gripper_pose": grip[None],
        "contact": torch.zeros(1, steps, 3, dtype=torch.uint8),
        "contact_force": torch.zeros(1, steps, 3, 3),
        "camera.scene": camera.expand(1, steps, 8),
        "depth.scene": depth,
        "object_id.scene": ids,
        "segmentation.scene": torch.where(ids > 0, 4, 1).to(torch.uint8),
    }
    images = (ids.float() * 80 + 40).to(torch.uint8)[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()
    pad = torch.zeros(1, steps, dtype=torch.bool)
    return Observation({"scene": images}, torch.zeros(1, steps, 4), ("push it",), pad, extras)


def shifted(frame: Observation, by: Tensor) -> Observation:
    """Scene, camera and robot carried away together by the rigid motion ``by`` (7,)."""
    origin = torch.tensor([0.0, 0, 0, 1, 0, 0, 0])
    extras = dict(frame.extras)
    for name in ("camera.scene", "gripper_pose"):
        value = extras[name].clone()
        place = moved(value[..., None, :3], origin.expand(1, 1, 7), by.expand(1, 1, 7))[..., 0, :]
        value[..., :3], value[..., 3:7] = place, multiply(by[3:], value[..., 3:7])
        extras[name] = value
    return replace(frame, extras=extras)


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Hamilton product of quaternions w, x, y, z."""
    w = a[..., :1] * b[..., :1] - (a[..., 1:] * b[..., 1:]).sum(-1, keepdim=True)
    v = a[..., :1] * b[..., 1:] + b[..., :1] * a[..., 1:]
    return torch.cat((w, v + torch.linalg.cross(a[..., 1:].expand_as(b[..., 1:]), b[..., 1:])), dim=-1)
