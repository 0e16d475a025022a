"""Goal, body sensors and depth: what is missing is flagged and its buffer never read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes import ABOVE, ASLANT, HALF, look, pose, scene_spec, shifted
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.rows import join_observations
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.encoders import BodySensorsConfig, DepthConfig, DepthEncoder, GoalImageConfig
from wamkit.encoders.depth import DepthFrame
from wamkit.errors import ConfigError, SpecError
from wamkit.geometry.cameras import moved
from wamkit.geometry.rotations import from_quaternion

DATA = scene_spec()
WINDOW = WindowSpec(observation=(-2, 0))
PLATE = pose(0.05, 0.02, 0.2, 0.3)


def build(config: EncoderConfig) -> Encoder:
    torch.manual_seed(0)
    return config.build(DATA, WINDOW, 16).eval()


# ------------------------------------------------------------------------------------------------------- goal


def goal_config(dropout: float = 0.2) -> GoalImageConfig:
    return GoalImageConfig(channels=(8, 8), keypoints=4, tokens=2, dropout=dropout)


def test_swapping_the_goal_changes_the_tokens_and_dropping_it_gives_the_null_token() -> None:
    encoder, now = build(goal_config()), look([PLATE, PLATE])
    assert encoder.goal
    here, there = (look([pose(x, 0.0, 0.2)]) for x in (-0.2, 0.2))
    first, second = (encoder(replace(now, goal=goal))[0] for goal in (here, there))
    none, pad = encoder(now)
    assert first.shape == none.shape == (1, 2, 16)
    assert not pad.any()
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, none)
    unsaid = replace(here, pad=torch.ones(1, 1, dtype=torch.bool))
    assert torch.equal(encoder(replace(now, goal=unsaid))[0], none)
    blank = replace(now, images={"scene": torch.zeros_like(now.images["scene"])})
    assert torch.equal(encoder(blank)[0], none)  # it reads the goal, not what is seen now


def test_a_goal_is_dropped_in_training_only() -> None:
    encoder, now = build(goal_config(dropout=1.0)), look([PLATE])
    aimed = replace(now, goal=look([pose(0.1, 0, 0.2)]))
    none = encoder(now)[0]
    assert not torch.equal(encoder(aimed)[0], none)
    assert torch.equal(encoder.train()(aimed)[0], none)


def test_the_goal_encoder_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
        GoalImageConfig(cameras=("scen",)).build(DATA, WINDOW, 16)
    with pytest.raises(ConfigError, match="patch 5 does not divide"):
        GoalImageConfig(patch=5).build(DATA, WINDOW, 16)
    blind = replace(look([PLATE]), images={})
    with pytest.raises(SpecError, match=r"goal observation: no image of camera 'scene'"):
        build(goal_config())(replace(look([PLATE]), goal=blind))


# --------------------------------------------------------------------------------------------------- sensors


def feel(force: Tensor, **missing: Tensor) -> Observation:
    frame = look([PLATE, PLATE])
    return replace(frame, extras={**frame.extras, "contact_force": force}, missing=missing)


def test_a_contact_shows_in_the_token_of_its_own_step_and_sensor() -> None:
    encoder = build(BodySensorsConfig(("contact", "contact_force")))
    assert encoder.extras == ("contact", "contact_force")
    quiet, hit = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    hit[0, 1, 0, 2] = 2.0
    before, pad = encoder(feel(quiet))
    after, _ = encoder(feel(hit))
    assert before.shape == (1, 4, 16)
    assert pad.shape == (1, 4)
    changed = (before != after).any(dim=-1)[0].tolist()
    assert changed == [False, False, False, True]


def test_garbage_in_a_missing_buffer_changes_nothing() -> None:
    encoder = build(BodySensorsConfig(("contact_force",)))
    gone = torch.tensor([[False, True]])
    found = []
    for garbage in (0.0, 1e30, float("nan"), float("inf")):
        force = torch.ones(1, 2, 3, 3)
        force[0, 1] = garbage
        tokens = encoder(feel(force, contact_force=gone))[0]
        tokens.sum().backward()
        gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
        assert all(g.isfinite().all() for g in gradients)
        found.append(tokens.detach())
    assert all(torch.equal(found[0], other) for other in found)
    there = encoder(feel(torch.ones(1, 2, 3, 3)))[0]
    assert torch.equal(there[:, 0], found[0][:, 0])
    assert not torch.allclose(there[:, 1], found[0][:, 1])


class Plates:
    """Frames with a plate here and there, as a dataset gives them."""

    num_frames = 40

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        torch.manual_seed(3)
        frames = [look([pose(0.6 + 0.01 * float(torch.randn(())), 0.0, 0.2)]) for _ in index]
        return Batch(
            join_observations(frames),
            torch.zeros(len(index), 1, 4),
            torch.zeros(len(index), 1, dtype=torch.bool),
        )


def test_a_standardised_sensor_tells_millimetres_and_keeps_its_scale_in_a_checkpoint() -> None:
    def change(encoder: Encoder) -> float:
        near, far = (encoder(look([pose(x, 0.0, 0.2)] * 2))[0] for x in (0.6, 0.601))
        return float((near - far).detach().norm())

    plain = build(BodySensorsConfig(("object_pose",)))
    encoder = build(BodySensorsConfig(("object_pose",), normalization="mean_std"))
    encoder.fit(Plates(), 0)
    assert change(encoder) > 10 * change(plain)
    again = build(BodySensorsConfig(("object_pose",), normalization="mean_std"))
    again.load_state_dict(encoder.state_dict())
    assert change(again) == change(encoder)


def test_sensors_are_dropped_in_training_only() -> None:
    encoder = build(BodySensorsConfig(("contact_force",), dropout=1.0))
    gone = encoder(feel(torch.ones(1, 2, 3, 3), contact_force=torch.ones(1, 2, dtype=torch.bool)))[0]
    assert not torch.equal(encoder(feel(torch.ones(1, 2, 3, 3)))[0], gone)
    assert torch.equal(encoder.train()(feel(torch.ones(1, 2, 3, 3)))[0], gone)


def test_sensors_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs the extra 'contact_forc'"):
        build(BodySensorsConfig(("contact_forc",)))
    with pytest.raises(ConfigError, match="1024 values per step"):
        build(BodySensorsConfig(("depth.scene",)))
    with pytest.raises(ConfigError, match="sensors: must not be empty"):
        build(BodySensorsConfig(()))
    with pytest.raises(SpecError, match=r"no sensor 'contact_force' in the observation"):
        build(BodySensorsConfig())(replace(look([PLATE]), extras={}))


# ----------------------------------------------------------------------------------------------------- depth


def depth_encoder(frame: DepthFrame) -> DepthEncoder:
    encoder = build(DepthConfig(grid=4, frame=frame, points=4))
    assert isinstance(encoder, DepthEncoder)
    return encoder


@pytest.mark.parametrize("camera", [ABOVE, ASLANT])
def test_world_points_lie_on_the_scene_whatever_the_camera(camera: Tensor) -> None:
    points = depth_encoder("world").points(look([PLATE], camera=camera)).flatten(0, 3)
    height = points[:, 2]
    on_plate = height > 0.1
    assert 8 < on_plate.sum() < 128
    torch.testing.assert_close(height, on_plate * 0.2, atol=1e-5, rtol=0)
    local = (points[on_plate] - PLATE[:3]) @ from_quaternion(PLATE[3:])
    assert local[:, :2].abs().max() < HALF + 1e-5


def test_a_rigid_motion_of_everything_changes_world_tokens_only() -> None:
    frame, by = look([PLATE], camera=ASLANT), pose(0.7, -0.4, 0.3, 1.1)
    carried = shifted(frame, by)
    for name in ("camera", "gripper"):
        encoder = depth_encoder(name)  # type: ignore[arg-type]
        torch.testing.assert_close(encoder(carried)[0], encoder(frame)[0], atol=1e-5, rtol=0)
    world = depth_encoder("world")
    origin = torch.tensor([0.0, 0, 0, 1, 0, 0, 0])
    expected = moved(world.points(frame).flatten(0, 3), origin, by)
    torch.testing.assert_close(world.points(carried).flatten(0, 3), expected, atol=1e-5, rtol=0)


def test_the_fallback_stands_in_exactly_where_depth_is_missing() -> None:
    encoder, frame = depth_encoder("world"), look([PLATE, PLATE])
    whole, pad = encoder(frame)
    assert whole.shape == (1, 2 * 16, 16)
    assert pad.shape == (1, 32)
    found = []
    for garbage in (0.0, float("nan"), 1e20):
        depth = frame.extras["depth.scene"].clone()
        depth[:, 1] = garbage
        torn = replace(
            frame,
            extras={**frame.extras, "depth.scene": depth},
            missing={"depth.scene": torch.tensor([[False, True]])},
        )
        found.append(encoder(torn)[0])
    assert all(torch.equal(found[0], other) for other in found)
    assert torch.equal(found[0][:, :16], whole[:, :16])
    expected = encoder.fallback + encoder.cell + encoder.time[1]
    torch.testing.assert_close(found[0][0, 16:], expected)


def test_points_of_the_gripper_frame_are_world_points_moved_back_and_turned_back() -> None:
    g = torch.Generator().manual_seed(0)
    pose = torch.randn(1, 1, 7, generator=g)
    frame = look([PLATE])
    frame = replace(frame, extras={**frame.extras, "gripper_pose": pose})
    world, matrix = depth_encoder("world").points(frame), from_quaternion(pose[..., 3:])
    expected = torch.einsum("btji,btnmj->btnmi", matrix, world - pose[..., None, None, :3])
    torch.testing.assert_close(depth_encoder("gripper").points(frame), expected, atol=1e-5, rtol=0)


def test_depth_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ConfigError, match=r"no camera 'scen'"):
        build(DepthConfig("scen"))
    with pytest.raises(ConfigError, match="5 cells of 4 points do not divide"):
        build(DepthConfig(grid=5))
    poor = replace(DATA, extras={"depth.scene": (32, 32)})
    with pytest.raises(ConfigError, match=r"'depth' needs the extra 'camera.scene'"):
        DepthConfig().build(poor, WINDOW, 16)
    with pytest.raises(SpecError, match=r"no extra 'depth.scene'"):
        depth_encoder("world")(replace(look([PLATE]), extras={}))
