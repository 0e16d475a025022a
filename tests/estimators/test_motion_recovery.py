"""Actions recovered by motion (`ar.motion-recovery`): a known rigid path is executed, what is not one is flagged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from scenes import look, pose, scene_spec
from wamkit.actions import ChunkConfig
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Batch, Budget, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import DenoiserConfig, MotionRecoveryConfig, RegressorConfig
from wamkit.estimators.arm_path import ArmConfig
from wamkit.geometry.recovery import rigid_path
from wamkit.substrates import ObjectFlowConfig, PoseStreamConfig, ProprioceptionConfig, TracksConfig
from wamkit.trunks import TransformerConfig

H, OFFSETS, UNIT = 6, (2, 6), 0.1
HAND = (0.05, -0.02, 0.3)
START = pose(0.02, 0.01, 0.1)
# The plate's poses at the two predicted steps: it slides, rises and turns.
PATH = [pose(0.05, 0.02, 0.12, 0.2), pose(0.1, -0.03, 0.2, 0.5)]


def config(substrate: SubstrateConfig, **options: Any) -> DesignConfig:
    return DesignConfig(
        name="recovered",
        horizon=H,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"motion": substrate},
        futures={"future": FutureConfig("motion", OFFSETS)},
        action=ChunkConfig(),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={
            "video": DenoiserConfig(steps=2),
            "recovery": MotionRecoveryConfig(unit_m=UNIT, **options),
        },
        factors=(Factor(("future",), (), "video"), Factor(("action",), ("future",), "recovery")),
        controller=Chunked(execute=H),
    )


def built(substrate: SubstrateConfig, data: DataSpec | None = None, **options: Any) -> Design:
    torch.manual_seed(0)
    return Design(config(substrate, **options), data or scene_spec()).eval()


def scene() -> tuple[Observation, Observation]:
    """What is seen now, with the hand's position in the state, and what will be."""
    now = look([START])
    state = torch.tensor([[[*HAND, 0.0]]])
    return replace(now, state=state), look(PATH)


def recover(design: Design, future: Tensor, now: Observation) -> tuple[np.ndarray, bool]:
    """Action (H, A) for a given future, and the flag."""
    values, budget = {"future": future}, Budget()
    forecast, _ = design.forecast(now, design.initial_state(1), budget, [0], given=values)
    return forecast.action[0].double().numpy(), bool(forecast.flags["action"][0])


def truth(design: Design) -> tuple[Tensor, Observation]:
    now, later = scene()
    return design.substrate("future").encode(later, now), now


def moved(point: Tensor, step: int) -> np.ndarray:
    """Where a point that is fixed to the plate goes, written apart from the code under test."""
    a, b = START, PATH[step]
    yaw = 2 * math.atan2(b[6].item(), b[3].item())
    turn = Rotation.from_euler("z", yaw)
    return np.asarray(turn.apply((point - a[:3]).numpy()) + b[:3].numpy())


SUBSTRATES: Mapping[str, SubstrateConfig] = {
    "tracks": TracksConfig(points=10),
    "object_flow": ObjectFlowConfig(grid=8, space="world", unit_m=0.05),
    "pose_stream": PoseStreamConfig(),
}


@pytest.mark.parametrize("name", sorted(SUBSTRATES))
def test_the_hand_goes_where_the_centre_of_the_body_goes(name: str) -> None:
    design = built(SUBSTRATES[name], grip=0.7)
    future, now = truth(design)
    action, flagged = recover(design, future, now)
    motion = design.substrate("future").moving_points(future, now, "object")
    origin = torch.zeros(3) if motion.anchored else START[:3]
    seen = motion.known[0].all(dim=0)
    centre = motion.start[0][seen].mean(dim=0) + origin
    assert not flagged
    path = np.cumsum(action[:, :3], axis=0) * UNIT
    for step, tick in enumerate(OFFSETS):
        np.testing.assert_allclose(path[tick - 1], moved(centre, step) - centre.numpy(), atol=2e-5)
    np.testing.assert_allclose(path[0], path[1] / 2, atol=1e-6)  # at constant speed between the steps
    np.testing.assert_allclose(action[:, 3], 0.7, atol=1e-6)


def test_a_grippers_own_predicted_pose_is_followed() -> None:
    design = built(
        PoseStreamConfig(bodies=("object", "gripper")),
        body="gripper",
        hold="rigid",
        position=("x_m", "y_m", "z_m"),
    )
    now, later = scene()
    now = replace(now, extras={**now.extras, "gripper_pose": pose(*HAND)[None, None]})
    goes = torch.stack([pose(0.1, 0.0, 0.25, 0.4), pose(0.0, 0.05, 0.35, 0.9)])
    later = replace(later, extras={**later.extras, "gripper_pose": goes[None]})
    action, flagged = recover(design, design.substrate("future").encode(later, now), now)
    assert not flagged
    np.testing.assert_allclose(action[:, :3].sum(axis=0) * UNIT, goes[1, :3] - torch.tensor(HAND), atol=1e-5)


def turning_spec(mode: str = "delta", rotation: str = "axis_angle") -> DataSpec:
    """An action with a rotation, in the world frame."""
    data = scene_spec()
    names = ("x", "y", "z", "rx", "ry", "rz", "grip")
    action = ActionSpec(names, (-1.0,) * 7, (1.0,) * 7, 40.0, mode, "world", rotation, "positive_closes")  # type: ignore[arg-type]
    unit = {"mean": np.zeros(7), "std": np.ones(7), "min": -np.ones(7), "max": np.ones(7)}
    return replace(data, action=action, stats={**data.stats, "action": unit})


def test_a_held_body_carries_the_hand_around_with_it() -> None:
    design = built(
        ObjectFlowConfig(grid=8, space="world"), turning_spec(), hold="rigid", position=("x_m", "y_m", "z_m")
    )
    future, now = truth(design)
    action, flagged = recover(design, future, now)
    assert not flagged
    place, turn = np.array(HAND), Rotation.identity()
    for step, tick in enumerate(OFFSETS):
        done = 0 if step == 0 else OFFSETS[step - 1]
        for row in action[done:tick]:
            place, turn = place + row[:3] * UNIT, Rotation.from_rotvec(row[3:6]) * turn
        np.testing.assert_allclose(place, moved(torch.tensor(HAND), step), atol=2e-5)
        assert turn.magnitude() == pytest.approx((0.2, 0.5)[step], abs=1e-4)


def test_absolute_positions_are_reached() -> None:
    data = turning_spec("absolute", "none")
    names = ("x", "y", "z")
    action = replace(data.action, names=names, low=(-9.0,) * 3, high=(9.0,) * 3, gripper="none")
    stats = {**data.stats, "action": {"mean": np.zeros(3), "std": np.ones(3)}}
    design = built(TracksConfig(), replace(data, action=action, stats=stats), position=("x_m", "y_m", "z_m"))
    future, now = truth(design)
    recovered, flagged = recover(design, future, now)
    assert not flagged
    delta, _ = recover(built(TracksConfig()), future, now)
    np.testing.assert_allclose(
        recovered * UNIT, np.array(HAND) + np.cumsum(delta[:, :3], 0) * UNIT, atol=1e-5
    )


# ------------------------------------------------------------------------------------------------- lost points


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), lost=st.integers(0, 4))
def test_four_of_twelve_points_may_be_lost(seed: int, lost: int) -> None:
    rng = np.random.default_rng(seed)
    turns, shift = Rotation.from_rotvec(rng.normal(size=(4, 3)) * 0.4), rng.normal(size=(4, 3)) * 0.1
    body = rng.normal(size=(12, 3)) * 0.05
    tracks = np.stack([body, *(turn.apply(body) + p for turn, p in zip(turns, shift, strict=True))])
    for t in range(1, 5):
        wrong = rng.choice(12, lost, replace=False)
        tracks[t, wrong] += rng.normal(size=(lost, 3)) + 0.2
    path = rigid_path(tracks, share=0.6)
    assert path.rigid.all()
    assert path.turning.all()
    np.testing.assert_allclose(path.rotation[1:], turns.as_matrix(), atol=1e-8)
    np.testing.assert_allclose(path.translation[1:], shift, atol=1e-8)
    assert rigid_path(tracks).rigid.all() == (
        lost == 0
    )  # least squares over all points sees that they disagree


@pytest.mark.parametrize(("wrong", "flagged"), [(0, False), (3, False), (5, True), (9, True)])
def test_lost_points_change_nothing_until_too_many_are(wrong: int, flagged: bool) -> None:
    """From then on the hand stays, and says so: nothing is executed silently."""
    design = built(TracksConfig(points=10))
    future, now = truth(design)
    noise = torch.randn(wrong, 3, generator=torch.Generator().manual_seed(1)) * 2
    broken = future.clone()
    broken[0, 1, :wrong, 3:6] += noise  # the last step only
    action, found = recover(design, broken, now)
    assert found == flagged
    clean, _ = recover(design, future, now)
    if flagged:
        np.testing.assert_allclose(action[2:, :3], 0, atol=1e-6)
        np.testing.assert_allclose(action[:2], clean[:2], atol=1e-6)
    else:
        assert np.abs(clean[2:, :3]).max() > 0.1
        hand, wanted = (np.cumsum(a[:, :3], axis=0)[-1] * UNIT for a in (action, clean))
        assert np.linalg.norm(hand - wanted) < 0.12  # the centre is that of the points that are left


def test_an_articulated_body_is_flagged() -> None:
    design = built(TracksConfig(points=10), tolerance_m=0.001)
    future, now = truth(design)
    hinged = future.clone()
    hinged[..., :5, 3:6] = 0  # half of it stays behind
    action, flagged = recover(design, hinged, now)
    assert flagged
    np.testing.assert_allclose(action[:, :3], 0, atol=1e-6)


def test_points_on_a_line_do_not_tell_a_rotation() -> None:
    line = np.linspace(0, 1, 5)[:, None] * np.array([0.1, 0.2, 0.0])
    path = rigid_path(np.stack((line, line + 0.1)), share=0.6)
    assert path.rigid.all()
    assert not path.turning.any()


def test_what_the_limits_of_the_action_do_not_reach_is_flagged() -> None:
    future, now = truth(built(TracksConfig()))
    torch.manual_seed(0)
    made = config(TracksConfig())
    slow = {**made.estimators, "recovery": MotionRecoveryConfig(unit_m=0.01)}
    action, flagged = recover(Design(replace(made, estimators=slow), scene_spec()).eval(), future, now)
    assert flagged
    assert np.abs(action).max() <= 1.0


# ------------------------------------------------------------------------------------------------------- an arm

JOINTS = tuple(f"j{i}" for i in range(6))
AXES = ("0 0 1", "0 1 0", "0 1 0", "1 0 0", "0 1 0", "1 0 0")
REST = np.array([0.2, 0.5, 0.6, 0.1, 0.5, 0.2])


def robot(folder: Path) -> Path:
    body, close = "", ""
    for i, axis in enumerate(AXES):
        body += (
            f'<body name="l{i}" pos="0 0 {0.0 if i == 0 else 0.12}"><joint name="j{i}" axis="{axis}" range="-2.5 2.5"/>'
            f'<geom type="capsule" fromto="0 0 0 0 0 0.1" size="0.02"/>'
        )
        close += "</body>"
    file = folder / "arm.xml"
    file.write_text(
        f'<mujoco><compiler angle="radian" autolimits="true"/><worldbody>{body}<site name="hand" pos="0 0 0.1"/>'
        f"{close}</worldbody></mujoco>"
    )
    return file


def arm_data() -> DataSpec:
    data = scene_spec()
    observation = ObservationSpec(data.observation.cameras, JOINTS, 40.0)
    action = ActionSpec(JOINTS, (-3.0,) * 6, (3.0,) * 6, 40.0, "absolute", "world", "joint")
    unit = {"mean": np.zeros(6), "std": np.ones(6)}
    return replace(
        data, observation=observation, action=action, stats={"action": unit, "observation.state": unit}
    )


@pytest.mark.parametrize(("scale", "flagged"), [(0.3, False), (8.0, True)])
def test_joints_follow_a_held_body_and_poses_out_of_reach_are_flagged(
    scale: float, flagged: bool, tmp_path: Path
) -> None:
    pytest.importorskip("mink")
    pytest.importorskip("mujoco")
    arm = ArmConfig(robot(tmp_path), "hand", JOINTS, turn=not flagged)
    design = built(PoseStreamConfig(bodies=("gripper",)), arm_data(), body="gripper", hold="rigid", arm=arm)
    shift = scale * torch.tensor([[0.02, 0.05, -0.04], [0.08, 0.1, -0.1]])
    turn = torch.stack(
        [torch.tensor([1.0, 0, 0, 0, 1, 0]), torch.tensor([0.98, 0.19899749, 0, -0.19899749, 0.98, 0])]
    )
    future = torch.cat((shift / 0.1, turn), dim=-1)[None, :, None]
    now = replace(look([START]), state=torch.tensor(REST).float()[None, None])
    action, found = recover(design, future, now)
    assert found == flagged
    if not flagged:
        recovery: Any = design.estimators["recovery"]
        start, rotation = recovery.arm.effector.pose(REST)
        for step, tick in enumerate(OFFSETS):
            place, turned = recovery.arm.effector.pose(action[tick - 1])
            np.testing.assert_allclose(place, start + shift[step].numpy(), atol=2e-3)
            assert (turned * rotation.inv()).magnitude() == pytest.approx(
                (0.0, math.acos(0.98))[step], abs=0.02
            )


# ---------------------------------------------------------------------------------------------------- in a design


def test_it_is_a_factor_without_parameters_or_loss_and_leaves_the_backbone_to_the_video() -> None:
    design = built(TracksConfig())
    assert design.factorisation() == "p(s|c) p(a|s,c)"
    cells = ("Geometric", "Post-prediction head", "Diffusion", "Chunked")
    assert tuple(design.cells().values()) == cells
    assert design.graph.wam().paths == ("produces",)
    assert not [key for key in design.state_dict() if "recovery" in key]
    now, later = scene()
    batch = Batch(now, torch.zeros(1, H, 4), torch.zeros(1, H, dtype=torch.bool), future=later)
    losses = design.loss(batch)
    assert set(losses.terms) == {"future"}
    losses.total.backward()
    forecast, _ = design.forecast(now, design.initial_state(1), Budget(), [0])
    assert forecast.action.shape == (1, H, 4)
    assert forecast.nfe == {"future": 2, "action": 0}
    assert forecast.flags["action"].shape == (1,)
    assert decode(DesignConfig, encode(design.config), "here") == design.config


def test_rows_are_recovered_one_by_one() -> None:
    design = built(TracksConfig(points=10))
    future, now = truth(design)
    still = torch.cat((future[..., :3], torch.zeros_like(future[..., :3]), future[..., 6:]), dim=-1)
    two = Observation(
        {name: image.repeat(2, 1, 1, 1, 1) for name, image in now.images.items()}, now.state.repeat(2, 1, 1),
        now.task * 2, now.pad.repeat(2, 1), {name: x.repeat(2, *[1] * (x.dim() - 1)) for name, x in now.extras.items()},
    )  # fmt: skip
    given = {"future": torch.cat((future, still))}
    action = design.forecast(two, design.initial_state(2), Budget(), [0, 1], given=given)[0].action
    np.testing.assert_allclose(action[0].numpy(), recover(design, future, now)[0], atol=1e-6)
    np.testing.assert_allclose(action[1, :, :3].numpy(), 0, atol=1e-6)


def test_the_present_depth_is_a_sensor_that_cannot_be_missing() -> None:
    design = built(ObjectFlowConfig(space="world"))
    assert set(design.sensors) == {"camera.scene", "depth.scene"}
    assert design.droppable == {}
    assert built(TracksConfig()).sensors == ()


REFUSED: Mapping[str, tuple[SubstrateConfig, dict[str, Any], str]] = {
    "no motion": (ProprioceptionConfig(), {}, "shows no points that move, not of 'object'"),
    "image flow": (ObjectFlowConfig(space="image"), {}, "object_flow' with space: world"),
    "body": (TracksConfig(), {"body": "gripper"}, r"shows the motion of \['object'\], not of 'gripper'"),
    "position": (TracksConfig(), {"hold": "rigid"}, "position must name the three state entries"),
    "entry": (TracksConfig(), {"position": ("x_m", "y_m", "zm")}, "no state entry 'zm'. Did you mean 'z_m'"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_recovered_is_refused_when_it_is_built(name: str) -> None:
    substrate, options, message = REFUSED[name]
    with pytest.raises(ConfigError, match=message):
        built(substrate, **options)


def test_streams_and_actions_that_do_not_fit_are_refused() -> None:
    made = config(TracksConfig())
    two = replace(
        made,
        estimators={**made.estimators, "video": RegressorConfig()},
        factors=(Factor(("action",), (), "recovery"), Factor(("future",), ("action",), "video")),
    )
    with pytest.raises(ConfigError, match="generates an action from one future"):
        Design(two, scene_spec())
    with pytest.raises(ConfigError, match="the action moves joints; name the robot's model"):
        built(TracksConfig(), arm_data())
    with pytest.raises(ConfigError, match="no robot model at"):
        built(TracksConfig(), arm_data(), arm=ArmConfig(Path("nowhere.xml"), "hand", JOINTS))
    with pytest.raises(ConfigError, match="Use delta actions in the world frame"):
        built(TracksConfig(), turning_spec("absolute"), position=("x_m", "y_m", "z_m"))
