"""Several views with depth and normals: exact on planes and spheres, consistent with each other, moving in 4D."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scenes import ABOVE, ASLANT, SIDE, look, pose, scene_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import CameraSpec, ObservationSpec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import pixel_centres, rays, to_world
from wamkit.geometry.rotations import from_quaternion
from wamkit.substrates import NormalMapConfig, PatchPCAConfig, RGBDConfig
from wamkit.substrates.normals import surface_normals
from wamkit.substrates.point_sets import disagreement, scene_points

BIG = 64
HALF = 0.12  # of the cube's side, metres
SPEED = torch.tensor([0.03, -0.02, 0.015])  # metres per step
CUBE_TASK = torch.tensor([-0.05, 0.05, HALF])


def tilted(angle: float, x: float, y: float) -> Tensor:
    """A camera at 1 m height that looks down and is turned about its x axis."""
    return torch.tensor([x, y, 1.0, math.cos(angle / 2), math.sin(angle / 2), 0.0, 0.0, 60.0])


LEFT, RIGHT = tilted(0.35, 0.05, -0.4), tilted(-0.3, -0.05, 0.35)


def directions(camera: Tensor, side: int) -> Tensor:
    """World directions of depth 1, (side * side, 3)."""
    return to_world(rays(camera, pixel_centres(side, side, camera.device), side, side), camera) - camera[:3]


def cube_depth(centre: Tensor, camera: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (BIG, BIG) of an axis-aligned cube over the floor by ray casting, and where it is the cube."""
    way = directions(camera, BIG)
    floor = -camera[2] / way[:, 2]
    low, high = (centre - HALF - camera[:3]) / way, (centre + HALF - camera[:3]) / way
    enter, leave = torch.minimum(low, high).amax(dim=1), torch.maximum(low, high).amin(dim=1)
    hit = (enter < leave) & (enter > 0)
    return torch.where(hit, enter, floor).view(BIG, BIG), hit.view(BIG, BIG)


def cube_spec() -> DataSpec:
    cameras = {name: CameraSpec(BIG, BIG) for name in ("left", "right")}
    shapes: dict[str, tuple[int, ...]] = {}
    for name in cameras:
        shapes |= {f"depth.{name}": (BIG, BIG), f"camera.{name}": (8,)}
    return replace(scene_spec(), observation=ObservationSpec(cameras, ("x",), 40.0), extras=shapes)


def cube(rows: list[list[Tensor]]) -> Observation:
    """The cube at these centres, seen from both sides; rows and steps."""
    images, extras = {}, {}
    for name, camera in (("left", LEFT), ("right", RIGHT)):
        views = [[cube_depth(centre, camera) for centre in row] for row in rows]
        depth = torch.stack([torch.stack([d for d, _ in row]) for row in views])
        inside = torch.stack([torch.stack([h for _, h in row]) for row in views])
        images[name] = (inside * 120 + 60).to(torch.uint8)[:, :, None].expand(-1, -1, 3, -1, -1).contiguous()
        extras |= {f"depth.{name}": depth, f"camera.{name}": camera.expand(*depth.shape[:2], 8)}
    pad = torch.zeros(len(rows), len(rows[0]), dtype=torch.bool)
    return Observation(images, torch.zeros(*pad.shape, 1), ("",) * len(rows), pad, extras)


class Cubes:
    """A dataset of cubes on the table."""

    num_frames = 40

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        g = torch.Generator().manual_seed(0)
        centres = torch.rand(self.num_frames, 3, generator=g) * torch.tensor([0.3, 0.3, 0.1])
        seen = cube([[centres[i] + torch.tensor([-0.15, -0.15, HALF])] for i in index])
        return Batch(seen, torch.zeros(len(index), 1, 4), torch.zeros(len(index), 1, dtype=torch.bool))


# ---------------------------------------------------------------------------------------------------- normals


@pytest.mark.parametrize("camera", [ABOVE, ASLANT, LEFT])
def test_the_floor_points_up_from_wherever_it_is_seen(camera: Tensor) -> None:
    way = directions(camera, SIDE)
    depth = (-camera[2] / way[:, 2]).view(SIDE, SIDE)
    normals = surface_normals(depth, camera) @ from_quaternion(camera[3:7]).T
    torch.testing.assert_close(normals, torch.tensor([0.0, 0, 1]).expand(SIDE, SIDE, 3), atol=2e-4, rtol=0)


def test_a_sphere_points_outwards() -> None:
    centre, radius, side = torch.tensor([0.05, -0.03, 0.4]), 0.25, 128
    way = directions(ABOVE, side)
    start = ABOVE[:3] - centre
    a, b, c = way.square().sum(dim=1), way @ start, start @ start - radius**2
    root = b.square() - a * c
    depth = torch.where(root > 0, (-b - root.clamp(min=0).sqrt()) / a, -ABOVE[2] / way[:, 2])
    truth = F.normalize(ABOVE[:3] + depth[:, None] * way - centre, dim=1)
    normals = surface_normals(depth.view(side, side), ABOVE).view(-1, 3)  # ABOVE has the world's axes
    facing = (truth * F.normalize(way, dim=1)).sum(
        dim=1
    ) < -0.4  # not at the rim, where a pixel spans a cliff
    cosine = (normals * truth).sum(dim=1)[(root > 0) & facing]
    assert len(cosine) > 500
    assert torch.rad2deg(cosine.clamp(max=1).arccos()).max() < 4


def test_edges_do_not_lean_and_the_map_says_which_way_surfaces_face() -> None:
    frame = look([pose(0.05, 0.0, 0.3)], camera=ASLANT)
    normals = surface_normals(frame.extras["depth.scene"], frame.extras["camera.scene"])
    world = normals @ from_quaternion(ASLANT[3:7]).T
    assert (
        world[..., 2] > 0.999
    ).float().mean() > 0.98  # plate and floor; only single corner pixels may differ
    substrate = NormalMapConfig(frame="world").build(scene_spec())
    values = substrate.encode(frame)
    spec = substrate.spec("future", "future", 1)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features) == (1, 1, 8, 24)
    assert substrate.normals(values)[..., 2].min() > 0.99
    own = NormalMapConfig().build(scene_spec())
    axis = from_quaternion(ASLANT[3:7]).T @ torch.tensor([0.0, 0, 1])
    assert (own.normals(own.encode(frame)) @ axis).min() > 0.99
    assert substrate.label() == "Geometric (normals)"


# ------------------------------------------------------------------------------------------- several views


def test_a_view_carried_by_depth_and_pose_is_the_other_view() -> None:
    frame = cube([[CUBE_TASK]])
    depth, other = frame.extras["depth.left"][0, 0], frame.extras["depth.right"][0, 0]
    error, compared = disagreement(depth, LEFT, other, RIGHT, 0.03)
    assert compared.float().mean() > 0.5
    assert error[compared].abs().median() < 1e-4
    assert (error[compared].abs() < 0.02).float().mean() > 0.97
    hidden = cube_depth(CUBE_TASK, RIGHT)[
        1
    ]  # the sides of the cube that only one camera sees are not invented
    assert not compared.all()
    assert hidden.any()
    shifted = torch.tensor([0.1, 0, 0, 0, 0, 0, 0, 0]) + RIGHT
    wrong, where = disagreement(depth, LEFT, other, shifted, 0.03)
    assert wrong[where].abs().mean() > 5 * error[compared].abs().mean()  # a wrong pose is noticed


def test_predicted_views_agree_and_the_cube_moves_as_it_was_made_to() -> None:
    substrate = RGBDConfig(codec=PatchPCAConfig(8, 96), near_m=0.4, far_m=1.6, normals=True).build(
        cube_spec()
    )
    assert substrate.extras == ("depth.left", "camera.left", "depth.right", "camera.right")
    substrate.fit(Cubes(), 0)
    steps = 5
    film = cube([[CUBE_TASK + k * SPEED for k in range(steps)]])
    values = substrate.encode(film)
    metres = substrate.metres(values)
    poses = {"left": LEFT.expand(1, steps, 8), "right": RIGHT.expand(1, steps, 8)}
    error, compared = disagreement(metres["left"], poses["left"], metres["right"], poses["right"], 0.05)
    assert compared.float().mean() > 0.4
    assert error[compared].abs().median() < 0.01
    cloud = torch.cat(list(substrate.points(values, poses).values()), dim=2)[0]
    exact = torch.cat([scene_points(film.extras[f"depth.{n}"], poses[n]) for n in ("left", "right")], dim=2)[
        0
    ]
    for points, tolerance in ((exact, 0.002), (cloud, 0.006)):
        path = torch.stack([top_of(points[k], CUBE_TASK + k * SPEED) for k in range(steps)])
        velocity = (path[1:] - path[:-1]).mean(dim=0)
        assert (velocity - SPEED).abs().max() < tolerance
    normals = substrate.normals(values)["left"][0].movedim(1, -1) @ from_quaternion(LEFT[3:7]).T
    top = cube_depth(CUBE_TASK, LEFT)[1]
    assert normals[0][top][:, 2].median() > 0.9
    assert substrate.decode(values)["left"].shape == (1, steps, 3, BIG, BIG)


def top_of(points: Tensor, near: Tensor) -> Tensor:
    """Centre of the highest face within a rough box around the cube."""
    box = points[((points - near).abs() < HALF + 0.05).all(dim=1)]
    height = box[:, 2].quantile(0.98)
    face = box[(box[:, 2] - height).abs() < 0.02]
    low, high = face.quantile(0.02, dim=0), face.quantile(0.98, dim=0)
    return (low + high) / 2


def test_what_is_missing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'normal_map' needs the extra 'depth\.scene'"):
        NormalMapConfig().build(replace(scene_spec(), extras={}))
    with pytest.raises(ConfigError, match="a grid of 5 does not divide"):
        NormalMapConfig(grid=5).build(scene_spec())
    bare = {k: v for k, v in scene_spec().extras.items() if not k.startswith("camera")}
    with pytest.raises(ConfigError, match=r"with normals needs the extra 'camera\.scene'"):
        RGBDConfig(normals=True).build(replace(scene_spec(), extras=bare))
    plain = RGBDConfig(codec=PatchPCAConfig(8, 8)).build(scene_spec())
    with pytest.raises(ConfigError, match="set normals to true"):
        plain.normals(torch.zeros(1, 1, 16, 8))
