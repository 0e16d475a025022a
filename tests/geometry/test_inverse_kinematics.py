"""Inverse kinematics: a tracked object's known path is executed by an arm; what cannot be done is said."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wamkit.contract.specs import ActionSpec
from wamkit.errors import MissingExtraError, SpecError
from wamkit.geometry.inverse_kinematics import joint_path
from wamkit.geometry.kinematics import EndEffector
from wamkit.geometry.recovery import follow, rigid_path

pytest.importorskip("mink")
mujoco: Any = pytest.importorskip("mujoco")

AXES = ("0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1", "0 1 0", "0 0 1")
START = np.array([0.2, 0.6, -0.1, 1.2, 0.1, 0.7, 0.3])


def arm() -> Any:
    """Seven hinges in a chain, 0.8 m long, with a held object at its end and a position servo per joint."""
    body, close = "", ""
    for i, axis in enumerate(AXES):
        body += (
            f'<body name="l{i}" pos="0 0 {0.0 if i == 0 else 0.12}">'
            f'<joint name="j{i}" type="hinge" axis="{axis}" range="-2.2 2.2" damping="2"/>'
            f'<geom type="capsule" fromto="0 0 0 0 0 0.1" size="0.02" density="500"/>'
        )
        close += "</body>"
    tool = '<site name="tool" pos="0 0 0.12"/><body name="held" pos="0 0 0.15"><geom size="0.02" density="100"/></body>'
    servos = "".join(f'<position joint="j{i}" kp="200" kv="10"/>' for i in range(7))
    return mujoco.MjModel.from_xml_string(
        f'<mujoco><compiler angle="radian" autolimits="true"/>'
        f'<option gravity="0 0 0" timestep="0.005" integrator="implicitfast">'
        f'<flag contact="disable"/></option><worldbody>{body}{tool}{close}</worldbody>'
        f"<actuator>{servos}</actuator></mujoco>"
    )


def state(model: Any, joints: np.ndarray) -> Any:
    data = mujoco.MjData(model)
    data.qpos[:] = joints
    mujoco.mj_forward(model, data)
    return data


def clip(data: Any, steps: int = 8, points: int = 10) -> tuple[np.ndarray, Rotation, np.ndarray]:
    """Tracks (T, K, 3) of points on the held object, moved along a known path about its own centre."""
    rng = np.random.default_rng(0)
    centre = data.body("held").xpos
    t = np.arange(steps)[:, None]
    turn, shift = Rotation.from_rotvec(t * [0.03, -0.05, 0.08]), t * [0.01, 0.015, -0.012]
    cloud = rng.normal(size=(points, 3)) * 0.03
    tracks = np.stack([turn[i].apply(cloud) + centre + shift[i] for i in range(steps)])
    return tracks, turn, centre + shift


def test_a_tracked_object_is_carried_along_its_known_path() -> None:
    model = arm()
    data = state(model, START)
    tracks, turn, centres = clip(data)
    first = data.body("held").xmat.reshape(3, 3).copy()
    gripper = data.site("tool")
    places, turns = rigid_path(tracks).carried(gripper.xpos, gripper.xmat.reshape(3, 3))
    path = joint_path(EndEffector(model, "tool"), START, places, turns).require_reached()
    low, high = model.jnt_range.T
    assert ((path.joints >= low) & (path.joints <= high)).all()
    spec = ActionSpec(tuple(f"j{i}" for i in range(7)), (-0.03,) * 7, (0.03,) * 7, 20.0, rotation="joint")
    actions = follow(np.concatenate((START[None], path.joints)), spec)
    assert np.abs(actions).max() <= 0.03 + 1e-9
    np.testing.assert_allclose(START + actions.sum(axis=0), path.joints[-1], atol=1e-9)
    # Executed by the servos, step by step along the path; the object's own pose is the judge.
    target, errors = START.copy(), []
    data.ctrl[:] = START
    for before, after in zip(np.concatenate((START[None], path.joints)), path.joints, strict=False):
        for delta in follow(np.stack((before, after)), spec):
            target += delta
            data.ctrl[:] = target
            mujoco.mj_step(model, data, 10)
        mujoco.mj_step(model, data, 100)
        body, i = data.body("held"), len(errors)
        angle = (Rotation.from_matrix(body.xmat.reshape(3, 3) @ first.T) * turn[i].inv()).magnitude()
        errors.append((np.linalg.norm(body.xpos - centres[i]), angle))
    assert len(errors) == 8
    assert np.max(errors, axis=0)[0] < 0.002  # metres
    assert np.max(errors, axis=0)[1] < 0.01  # radians


def test_an_articulated_object_raises_the_flag() -> None:
    model = arm()
    data = state(model, START)
    tracks, _, _ = clip(data)
    tracks[:, :4] += np.linspace(0, 0.05, 8)[:, None, None]  # a lid that opens
    path = rigid_path(tracks)
    assert path.rigid[0]
    assert not path.rigid[-1]
    with pytest.raises(SpecError, match="is not one rigid motion"):
        path.carried(data.site("tool").xpos, data.site("tool").xmat.reshape(3, 3))


def test_what_is_out_of_reach_is_approached_and_marked() -> None:
    model = arm()
    here = state(model, START).site("tool").xpos
    there = here + np.linspace(0, 1, 5)[:, None] * [1.0, 0.0, 0.0]
    path = joint_path(EndEffector(model, "tool"), START, there)
    assert path.reached.tolist() == [True, *path.reached[1:-1].tolist(), False]
    np.testing.assert_allclose(
        [
            np.linalg.norm(state(model, q).site("tool").xpos - p)
            for q, p in zip(path.joints, there, strict=True)
        ],
        path.position_m,
        atol=1e-6,
    )
    # The arm is 0.84 m long: stretched out, the difference is the least that can be left.
    least = np.linalg.norm(there[-1]) - 0.84
    assert least - 1e-6 <= path.position_m[-1] < np.linalg.norm(there[-1] - here) - 0.1
    with pytest.raises(SpecError, match=r"pose \d of 5 is out of reach"):
        path.require_reached()


def test_joint_limits_hold_where_the_pose_would_break_them() -> None:
    model = arm()
    model.jnt_range[3] = [1.1, 1.3]
    here = state(model, START).site("tool").xpos
    places = here + np.linspace(0, 0.3, 4)[:, None] * [0.0, 0.0, 1.0]
    path = joint_path(EndEffector(model, "tool"), START, places)
    assert path.joints[:, 3].min() >= 1.1
    assert path.joints[:, 3].max() <= 1.3


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = arm()
    with pytest.raises(SpecError, match=r"starts outside its limits: joint coordinate 1 is 3\.0"):
        joint_path(EndEffector(model, "tool"), np.array([0.0, 3.0, 0, 0, 0, 0, 0]), np.zeros((1, 3)))
    with pytest.raises(SpecError, match=r"rotations \(T, 3, 3\)"):
        joint_path(EndEffector(model, "tool"), START, np.zeros((2, 3)), np.zeros((1, 3, 3)))
    spec = ActionSpec(("a", "b"), (-1.0,) * 2, (1.0,) * 2, 20.0, mode="absolute", rotation="joint")
    with pytest.raises(SpecError, match="needs delta actions"):
        follow(np.zeros((3, 2)), spec)
    monkeypatch.setitem(sys.modules, "mink", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[kinematics\]"):
        joint_path(EndEffector(model, "tool"), START, np.zeros((1, 3)))
