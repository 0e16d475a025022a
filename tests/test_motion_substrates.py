"""Motion geometry: known rigid motions come back exactly; what is hidden is flagged, not invented."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scenes import ABOVE, ASLANT, SIDE, look, pose, scene_spec
from wamkit.errors import ConfigError
from wamkit.substrates import PolylineConfig, PoseStreamConfig
from wamkit.substrates.rigid import (
    from_six_d,
    moved,
    pixel_centres,
    project,
    rotation,
    seen,
    six_d,
    unproject,
)

DATA = scene_spec()
NOW = pose(0.05, 0.02, 0.2, 0.3)
LATER = pose(0.12, -0.04, 0.25, 1.0)


def points(seed: int, count: int = 6) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 0.2


# ---------------------------------------------------------------------------------------------------- algebra


def test_a_quarter_turn_about_z() -> None:
    quarter = rotation(torch.tensor([math.sqrt(0.5), 0, 0, math.sqrt(0.5)]))
    torch.testing.assert_close(quarter @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    assert torch.equal(rotation(torch.zeros(4)), torch.eye(3))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999))
def test_rotations_are_rotations_and_six_d_keeps_them(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    matrix = rotation(torch.randn(4, generator=g))
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
    with pytest.raises(ConfigError, match="each body once"):
        PoseStreamConfig(("object", "object")).build(DATA)


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
