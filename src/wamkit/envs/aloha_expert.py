"""A scripted demonstrator for the cube's transfer: waypoints of both grippers, joints by inverse kinematics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wamkit.envs.base import ScriptedExpert
from wamkit.geometry.kinematics import Accuracy, EndEffector

if TYPE_CHECKING:
    import mujoco

Floats = NDArray[np.float64]
ROUNDS = 200
REACH_M = 0.15  # from the gripper's frame to between its finger tips
MEET = np.array([0.0, 0.5, 0.28])  # between the arms, where the cube changes hands
PITCH_DEG = 60.0  # of the picking gripper, below the horizon
# A solution that is this near is used; the cube and the fingers are wider.
NEAR_M = 0.005


class ArmKinematics:
    """One arm of the model: where its gripper is, and which joints bring it elsewhere.

    Args:
        model: both arms.
        arm: ``left`` or ``right``.
    """

    def __init__(self, model: mujoco.MjModel, arm: str) -> None:
        self._gripper = EndEffector(model, f"vx300s_{arm}/gripper_link", "body")
        self.joints = slice(0, 6) if arm == "left" else slice(8, 14)
        self._moving = np.zeros(model.nv)  # fingers, the other arm and the cube stay where they are
        self._moving[self.joints] = 1.0

    def pose(self, qpos: Floats) -> tuple[Floats, Rotation]:
        """Position (3,) in metres and rotation of the gripper's frame (x points out of the fingers), world frame."""
        return self._gripper.pose(qpos)

    def solve(self, qpos: Floats, place: Floats, turn: Rotation) -> Floats:
        """The positions of all joints with this arm's gripper as near to a pose as its limits allow."""
        return self._gripper.solve(
            qpos, place, turn.as_matrix(), Accuracy(rounds=ROUNDS), self._moving
        ).joints


@dataclass(frozen=True)
class Waypoint:
    """Where one arm is to be at a tick: its six joints and the opening of its gripper."""

    tick: int
    joints: Floats
    opening: float


def pitched(degrees: float, yaw: float) -> Rotation:
    """A gripper that points ``degrees`` below the horizon, towards ``yaw`` (radians; 0 is +x)."""
    return Rotation.from_euler("z", yaw) * Rotation.from_euler("y", degrees, degrees=True)


def tip_at(point: Floats, turn: Rotation) -> Floats:
    """Where the gripper's frame is when the middle between its finger tips is at ``point``."""
    return point - turn.apply([REACH_M, 0.0, 0.0])


def offset(point: Floats, x: float, y: float, z: float) -> Floats:
    """A point so much further, metres."""
    return point + np.array([x, y, z])


def transfer(model: mujoco.MjModel, data: mujoco.MjData) -> ScriptedExpert:
    """The demonstrator of the episode that ``data`` stands at the beginning of."""
    start = np.asarray(data.qpos).copy()
    cube = start[16:19].copy()
    cube[2] = 0.02  # it is dropped from a little above the table
    right = right_path(ArmKinematics(model, "right"), start, cube)
    left = left_path(ArmKinematics(model, "left"), start)
    tick = -1

    def act() -> NDArray[np.float32]:
        nonlocal tick
        tick += 1
        return np.concatenate([at(left, tick), at(right, tick)]).astype(np.float32)

    return act


def right_path(arm: ArmKinematics, start: Floats, cube: Floats) -> list[Waypoint]:
    """Above the cube, down, close, up, to the meeting place; then let go and draw back."""
    base = np.array([0.469, 0.5])
    away = np.arctan2(*(cube[:2] - base)[::-1])
    picking, level = pitched(PITCH_DEG, away), pitched(0.0, np.pi)
    plan = (
        (60, tip_at(offset(cube, 0, 0, 0.08), picking), picking, 1.0),
        (95, tip_at(offset(cube, 0, 0, 0.005), picking), picking, 1.0),
        (120, tip_at(offset(cube, 0, 0, 0.005), picking), picking, 0.0),
        (150, tip_at(offset(cube, 0, 0, 0.12), picking), picking, 0.0),
        (210, tip_at(MEET, level), level, 0.0),
        (290, tip_at(MEET, level), level, 0.0),
        (310, tip_at(MEET, level), level, 1.0),
        (350, tip_at(offset(MEET, 0.12, 0, 0), level), level, 1.0),
    )
    return solved(arm, start, plan)


def left_path(arm: ArmKinematics, start: Floats) -> list[Waypoint]:
    """To the meeting place with the gripper turned by a quarter, so that the fingers pass each other; close."""
    level = pitched(0.0, 0.0) * Rotation.from_euler("x", 90, degrees=True)
    plan = (
        (150, tip_at(offset(MEET, -0.12, 0, 0), level), level, 1.0),
        (215, tip_at(offset(MEET, -0.12, 0, 0), level), level, 1.0),
        (255, tip_at(MEET, level), level, 1.0),
        (285, tip_at(MEET, level), level, 0.0),
        (310, tip_at(MEET, level), level, 0.0),
        (350, tip_at(offset(MEET, -0.08, 0, 0), level), level, 0.0),
    )
    return solved(arm, start, plan)


def solved(arm: ArmKinematics, start: Floats, plan: Any) -> list[Waypoint]:
    """Joints for every waypoint, each from the one before; raises where the arm cannot come near."""
    qpos = start
    found = [Waypoint(0, start[arm.joints], 0.0)]
    for tick, place, turn, opening in plan:
        qpos = arm.solve(qpos, np.asarray(place), turn)
        left = float(np.linalg.norm(arm.pose(qpos)[0] - place))
        if left > NEAR_M:
            raise RuntimeError(
                f"the demonstrator's arm stays {1000 * left:.0f} mm from {np.round(place, 3).tolist()}"
            )
        found.append(Waypoint(tick, qpos[arm.joints], opening))
    return found


def at(path: list[Waypoint], tick: int) -> Floats:
    """Six joints and the gripper, between the waypoints around ``tick``, on a straight line in joint space."""
    ticks = [point.tick for point in path]
    values = np.array([[*point.joints, point.opening] for point in path])
    return np.array([np.interp(tick, ticks, column) for column in values.T])
