"""Motion geometry: known rigid motions come back exactly; what is hidden is flagged, not invented."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenes import ABOVE, ASLANT, SIDE, look, pose, scene_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Observation
from wamkit.envs.base import SimulatedEnv
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import moved, pixel_centres, project, seen, unproject
from wamkit.geometry.rotations import from_quaternion, from_six_d, six_d
from wamkit.substrates import ObjectFlowConfig, PolylineConfig, PoseStreamConfig, TracksConfig

DATA = scene_spec()
NOW = pose(0.05, 0.02, 0.2, 0.3)
LATER = pose(0.12, -0.04, 0.25, 1.0)


def points(seed: int, count: int = 6) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 0.2


# ---------------------------------------------------------------------------------------------------- algebra


def test_a_quarter_turn_about_z() -> None:
    quarter = from_quaternion(torch.tensor([math.sqrt(0.5), 0, 0, math.sqrt(0.5)]))
    torch.testing.assert_close(quarter @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    assert torch.equal(from_quaternion(torch.zeros(4)), torch.eye(3))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_rotations_are_rotations_and_six_d_keeps_them(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    matrix = from_quaternion(torch.randn(4, generator=g))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), atol=1e-5, rtol=0)
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0, abs=1e-5)
    torch.testing.assert_close(from_six_d(six_d(matrix)), matrix, atol=1e-5, rtol=0)
    noisy = from_six_d(six_d(matrix) + 0.3 * torch.randn(6, generator=g))
    torch.testing.assert_close(noisy @ noisy.T, torch.eye(3), atol=1e-5, rtol=0)


def test_moved_points_keep_their_place_in_the_body() -> None:
    x = points(0)
    torch.testing.assert_close(moved(x, NOW, NOW), x)
    there = moved(x, NOW, LATER)
    torch.testing.assert_close(moved(there, LATER, NOW), x)
    torch.testing.assert_close(torch.cdist(there, there), torch.cdist(x, x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("camera", [ABOVE, ASLANT])
def test_unproject_inverts_project(camera: Tensor) -> None:
    pixels, depth = project(points(1), camera, 24, 32)
    torch.testing.assert_close(unproject(depth, pixels, camera, 24, 32), points(1), atol=1e-5, rtol=0)


def test_a_camera_that_looks_down_sees_what_one_expects() -> None:
    """1 m above the floor with 60 degrees, half the picture is tan(30 degrees) metres."""
    edge = math.tan(math.radians(30))
    pixels, depth = project(torch.tensor([[0.0, 0, 0], [edge, 0, 0], [0, edge, 0]]), ABOVE, SIDE, SIDE)
    torch.testing.assert_close(pixels, torch.tensor([[16.0, 16], [32, 16], [16, 0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(depth, torch.ones(3))


def test_points_behind_something_or_outside_are_not_seen() -> None:
    depth = look([NOW]).extras["depth.scene"][0, 0]
    here = torch.tensor([[0.05, 0.02, 0.2], [0.05, 0.02, 0.1], [0.5, 0.5, 0.0], [3.0, 0, 0], [0, 0, 1.5]])
    assert seen(here, ABOVE, depth, 0.01).tolist() == [True, False, True, False, False]


def test_the_ray_cast_scene_lies_on_its_plates() -> None:
    frame = look([NOW], camera=ASLANT)
    depth, ids = frame.extras["depth.scene"][0, 0], frame.extras["object_id.scene"][0, 0]
    world = unproject(depth.flatten(), pixel_centres(SIDE, SIDE, depth.device), ASLANT, SIDE, SIDE)
    assert 20 < int((ids == 1).sum()) < 500
    torch.testing.assert_close(world[:, 2], ids.flatten().float() * 0.2, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------------ pose stream


def test_a_known_transform_comes_back_as_that_transform() -> None:
    substrate = PoseStreamConfig(("object",)).build(DATA)
    values = substrate.encode(look([NOW, LATER]), look([NOW]))
    spec = substrate.spec("future", "future", 2)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features) == (1, 2, 1, 9)
    still = torch.tensor([0.0, 0, 0, 1, 0, 0, 0, 1, 0])
    torch.testing.assert_close(values[0, 0, 0], still, atol=1e-5, rtol=0)
    turned, shift = (part[0, 1, 0] for part in substrate.motion(values))
    x = points(2)
    applied = (x - NOW[:3]) @ turned.T + NOW[:3] + shift
    torch.testing.assert_close(applied, moved(x, NOW, LATER), atol=1e-5, rtol=0)


def test_the_pose_stream_keeps_bodies_apart_and_needs_their_poses() -> None:
    substrate = PoseStreamConfig(("object", "gripper")).build(DATA)
    hand = torch.stack((pose(0, 0, 0.5), pose(0.1, 0, 0.5)))
    values = substrate.encode(look([NOW, NOW], hand), look([NOW]))
    assert values[0, :, 0, :3].abs().max() < 1e-6
    torch.testing.assert_close(values[0, :, 1, 0], torch.tensor([0.0, 1.0]))
    assert substrate.label() == "Geometric (pose)"
    with pytest.raises(ConfigError, match=r"'pose_stream' needs the extra 'gripper_pose'"):
        PoseStreamConfig().build(replace(DATA, extras={"object_pose": (2, 7)}))
    with pytest.raises(
        ConfigError, match=r"PoseStreamConfig\.bodies: must name each entry once.*'object', 'object'"
    ):
        PoseStreamConfig(("object", "object"))


# --------------------------------------------------------------------------------------------------- polyline


def test_the_polyline_is_the_path_of_the_gripper() -> None:
    hand = torch.stack((pose(0.1, 0, 0.5), pose(0.1, 0.2, 0.4)))
    frames = look([NOW, NOW], hand)
    world = PolylineConfig().build(DATA)
    assert world.relative
    torch.testing.assert_close(
        world.encode(frames, frames.steps([0]))[0, :, 0], torch.tensor([[0.0, 0, 0], [0, 2, -1]])
    )
    picture = PolylineConfig(camera="scene").build(DATA)
    assert not picture.relative
    pixels, _ = project(hand[:, None, :3], ABOVE.expand(2, 8), SIDE, SIDE)
    torch.testing.assert_close(picture.encode(frames)[0], pixels / (SIDE / 2) - 1, atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match=r"no camera 'scen'"):
        PolylineConfig(camera="scen").build(DATA)


# ------------------------------------------------------------------------------------------- flow and tracks


@pytest.mark.parametrize("camera", [ABOVE, ASLANT])
def test_the_flow_of_a_rigid_body_is_its_transform(camera: Tensor) -> None:
    config = ObjectFlowConfig(grid=16, space="world")
    substrate = config.build(DATA)
    now = look([NOW], camera=camera)
    values = substrate.encode(look([LATER, NOW], camera=camera), now)
    spec = substrate.spec("future", "future", 2)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features) == (1, 2, 16, 80)
    field = substrate.field(values)[0].flatten(1, 2)
    pixels = pixel_centres(SIDE, SIDE, values.device)[substrate.index()]
    depth = now.extras["depth.scene"].flatten()[substrate.index()]
    ids = now.extras["object_id.scene"].flatten()[substrate.index()]
    start = unproject(depth, pixels, camera, SIDE, SIDE)
    mine = ids == 1
    assert mine.sum() > 8
    expected = (moved(start, NOW, LATER) - start) / config.unit_m
    torch.testing.assert_close(field[0, mine, :3], expected[mine], atol=1e-4, rtol=0)
    assert (field[:, ~mine, :3] == 0).all()
    assert (field[:, :, 3] == torch.where(mine, 1.0, -1.0)).all()
    torch.testing.assert_close(field[1, :, :3], torch.zeros(256, 3), atol=1e-4, rtol=0)  # back where it was
    assert (field[:, mine, 4] == 1).all()


def test_image_flow_points_from_pixel_to_pixel() -> None:
    """A plate that is pushed by d at height z moves by d * f / (1 - z) pixels, seen from 1 m above."""
    substrate = ObjectFlowConfig(grid=16).build(DATA)
    step, lower = 0.1, pose(0.05 + 0.1, 0.02, 0.2, 0.3)
    field = substrate.field(substrate.encode(look([lower]), look([NOW])))[0, 0]
    mine = field[..., 2] == 1
    focal = 16 / math.tan(math.radians(30))
    u = step * focal / 0.8 * 2 / SIDE
    torch.testing.assert_close(
        field[mine][:, :2], torch.tensor([u, 0.0]).expand(int(mine.sum()), 2), atol=1e-4, rtol=0
    )


def test_what_slides_under_a_cover_is_flagged_and_its_motion_is_still_true() -> None:
    cover = pose(0.2, 0.0, 0.5)
    under = pose(0.28, 0.0, 0.2)
    now, later = look([NOW], second=cover), look([NOW, under], second=cover)
    tracks = TracksConfig(points=6).build(DATA)
    values = tracks.encode(later, now)[0]
    assert values.shape == (2, 6, 7)
    assert (values[0, :, 6] == 1).all()
    assert (values[1, :, 6] == -1).all()
    origin, shift = values[1, :, :3] * 0.1 + NOW[:3], values[1, :, 3:6] * 0.1
    torch.testing.assert_close(origin + shift, moved(origin, NOW, under), atol=1e-5, rtol=0)
    flow = ObjectFlowConfig(grid=16, space="world").build(DATA)
    field = flow.field(flow.encode(later, now))[0]
    ids = now.extras["object_id.scene"].flatten()[flow.index()].view(16, 16)
    assert (field[1][ids == 1][:, 4] == -1).all()
    assert (field[1][ids == 2][:, 4] == 1).all()  # the cover itself


def test_tracked_points_lie_on_the_object_and_are_spread_over_it() -> None:
    now = look([NOW], camera=ASLANT)
    values = TracksConfig(points=16).build(DATA).encode(now, now)[0, 0]
    body = values[:, :3] * 0.1 @ from_quaternion(NOW[3:])
    assert body[:, 2].abs().max() < 1e-5
    assert body[:, :2].abs().max() < 0.15 + 1e-5
    assert body[:, :2].std(dim=0).min() > 0.04
    assert values[:, 3:6].abs().max() < 1e-5


def test_without_an_object_in_view_nothing_is_invented() -> None:
    gone = look([pose(5.0, 5.0, 0.2)])
    values = TracksConfig(points=4).build(DATA).encode(gone, gone)
    assert (values[..., :6] == 0).all()
    assert (values[..., 6] == -1).all()


def test_flow_and_tracks_say_which_ground_truth_they_miss() -> None:
    poor = replace(DATA, extras={k: v for k, v in DATA.extras.items() if k != "object_id.scene"})
    for config in (ObjectFlowConfig(), TracksConfig()):
        with pytest.raises(ConfigError, match=r"needs the extra 'object_id.scene'"):
            config.build(poor)
    with pytest.raises(ConfigError, match="a grid of 5 does not divide"):
        ObjectFlowConfig(grid=5).build(DATA)


@pytest.mark.sim
def test_moved_points_land_on_the_object_in_a_recorded_scene() -> None:
    """Every convention at once: depth, camera, object and pose agree in MuJoCo when a drawer opens."""
    from wamkit.envs import MetaWorldConfig

    record = ("depth", "camera", "object_id", "object_pose")
    env = MetaWorldConfig("drawer-open-v3", record=record, cameras=("scene",)).build()
    env.reset(seed=1)
    act = env.expert()
    for _ in range(30):
        env.advance(act())
    frames = [env.observe()]
    while np.linalg.norm(frames[0]["extras"]["object_pose"] - env.observe()["extras"]["object_pose"]) < 0.08:
        env.advance(act())
        assert env.tick < 190
    frames.append(env.observe())
    before, after = (gather(frame) for frame in frames)
    values = TracksConfig(points=64).build(data_of(env)).encode(after, before)[0, 0]
    moved_by = values[:, 3:6].norm(dim=-1) * 0.1
    torch.testing.assert_close(moved_by, moved_by[:1].expand(64), atol=1e-3, rtol=0)  # a drawer slides
    assert 0.05 < moved_by[0] < 0.3
    visible = values[:, 6] == 1
    assert visible.sum() > 16
    start = values[:, :3] * 0.1 + before.extras["object_pose"][0, 0, 0, :3]
    pixels, _ = project(start + values[:, 3:6] * 0.1, after.extras["camera.scene"][0, 0], 64, 64)
    x, y = pixels[visible].floor().long().unbind(-1)
    assert (after.extras["object_id.scene"][0, 0, y, x] == 1).float().mean() > 0.9
    env.close()


def gather(frame: dict[str, Any]) -> Observation:
    extras = {
        name: torch.from_numpy(np.asarray(value))[None, None] for name, value in frame["extras"].items()
    }
    return Observation({}, torch.zeros(1, 1, 4), ("",), torch.zeros(1, 1, dtype=torch.bool), extras)


def data_of(env: SimulatedEnv) -> DataSpec:
    shapes = {name: shape for name, (shape, _) in env.extras_spec.items()}
    return DataSpec(env.observation_spec, env.action_spec, {}, shapes)


# ---------------------------------------------------------------------------------------- as seen from a later moment


@pytest.mark.parametrize("config", [PolylineConfig(), PoseStreamConfig()])
def test_a_rebased_prediction_is_the_one_made_later(config: PolylineConfig | PoseStreamConfig) -> None:
    """What was predicted at the start, as seen on the way, is what would be predicted there."""
    substrate = config.build(DATA)
    hands = torch.stack([pose(0.1 * k, 0.2, 0.5 - 0.1 * k, 0.4 * k) for k in range(4)])
    start, way = look([NOW], hands[:1]), look([LATER], hands[1:2])
    ends = look([NOW, LATER], hands[2:])
    rebased = substrate.rebase(substrate.encode(ends, start), way, start)
    torch.testing.assert_close(rebased, substrate.encode(ends, way), atol=1e-5, rtol=0)
    assert substrate.rebases
    assert not torch.allclose(rebased, substrate.encode(ends, start), atol=1e-2)


def test_rebased_tracks_start_where_the_points_are_and_end_where_they_ended() -> None:
    substrate = TracksConfig(points=16).build(DATA)
    start, way, ends = look([NOW]), look([pose(0.2, 0.1, 0.2, 0.8)]), look([LATER, NOW])
    told = substrate.encode(ends, start)
    rebased = substrate.rebase(told, way, start)
    places = told[..., :3] * 0.1 + NOW[:3]  # in the world, at the start
    here = moved(places, NOW, way.extras["object_pose"][0, 0, 0])
    origin = way.extras["object_pose"][0, 0, 0, :3]
    torch.testing.assert_close(rebased[..., :3] * 0.1 + origin, here, atol=1e-5, rtol=0)
    goals = places + told[..., 3:6] * 0.1
    torch.testing.assert_close(here + rebased[..., 3:6] * 0.1, goals, atol=1e-5, rtol=0)
    assert torch.equal(rebased[..., 6], told[..., 6])
    torch.testing.assert_close(substrate.rebase(told, start, start), told, atol=1e-6, rtol=0)
    gone = look([pose(5.0, 5.0, 0.2)])
    assert torch.equal(substrate.rebase(told, way, gone), told)  # nothing is known of points that nobody saw


def test_values_that_stay_relative_to_their_call_say_so() -> None:
    flow, picture = ObjectFlowConfig().build(DATA), PolylineConfig(camera="scene").build(DATA)
    now = look([NOW])
    assert not flow.rebases
    with pytest.raises(NotImplementedError, match="ObjectFlow stays relative to its call"):
        flow.rebase(flow.encode(now, now), now, now)
    values = torch.rand(1, 2, 1, 2)
    assert torch.equal(picture.rebase(values, now, now), values)
