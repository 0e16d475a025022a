"""Scripted demonstrator for ALOHA's cube transfer: gripper waypoints, joint positions by inverse kinematics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wamkit.envs.base import OutOfReachError, ScriptedExpert
from wamkit.geometry.kinematics import Accuracy, EndEffector

if TYPE_CHECKING:
    import mujoco

Floats = NDArray[np.float64]
# Tick, position (3,) and rotation of the gripper's frame, opening of the gripper.
ArmTarget = tuple[int, Floats, Rotation, float]
ROUNDS = 200
REACH_M = 0.15  # from the gripper's frame to the middle between its finger tips
MEET = np.array([0.0, 0.5, 0.28])  # handover point between the arms
PITCH_DEG = 60.0  # of the picking gripper, below the horizon
TOLERANCE_M = 0.005  # largest accepted position error of a waypoint; the cube and the fingers are wider


class ArmKinematics:
    """Forward and inverse kinematics of one arm.

    Args:
        model: MuJoCo model of both arms.
        arm: ``left`` or ``right``.
    """

    def __init__(self, model: mujoco.MjModel, arm: str) -> None:
        self._gripper = EndEffector(model, f"vx300s_{arm}/gripper_link", "body")
        self.joints = slice(0, 6) if arm == "left" else slice(8, 14)
        # The fingers, the other arm and the cube stay in place.
        self._moving = np.zeros(model.nv)
        self._moving[self.joints] = 1.0

    def pose(self, qpos: Floats) -> tuple[Floats, Rotation]:
        """Position (3,) in metres and rotation of the gripper's frame (x points out of the fingers), world frame."""
        return self._gripper.pose(qpos)

    def solve(self, qpos: Floats, position: Floats, rotation: Rotation) -> Floats:
        """Positions of all joints that bring this arm's gripper as close to a pose as its limits allow.

        Args:
            qpos: joint positions to start from.
            position: (3,), of the gripper's frame, metres, world frame.
            rotation: of the gripper's frame, world frame.
        """
        accuracy = Accuracy(rounds=ROUNDS)
        return self._gripper.solve(qpos, position, rotation.as_matrix(), accuracy, self._moving).joints


@dataclass(frozen=True)
class Waypoint:
    """Target of one arm at a tick.

    Attributes:
        tick: control tick.
        joints: (6,), joint positions, radians.
        opening: opening of the gripper, 0 closed, 1 open.
    """

    tick: int
    joints: Floats
    opening: float


def pitched(degrees: float, yaw: float) -> Rotation:
    """Rotation of a gripper that points ``degrees`` below the horizon, towards ``yaw`` (radians; 0 is +x)."""
    return Rotation.from_euler("z", yaw) * Rotation.from_euler("y", degrees, degrees=True)


def tip_at(point: Floats, rotation: Rotation) -> Floats:
    """Position of the gripper's frame that puts the middle between its finger tips at ``point``."""
    return point - rotation.apply([REACH_M, 0.0, 0.0])


def offset(point: Floats, x: float, y: float, z: float) -> Floats:
    """``point`` moved along the world's axes, metres."""
    return point + np.array([x, y, z])


def transfer(model: mujoco.MjModel, data: mujoco.MjData) -> ScriptedExpert:
    """Plan the demonstration of the episode whose initial state is ``data``.

    Raises:
        OutOfReachError: an arm cannot reach a waypoint.
    """
    start = np.asarray(data.qpos).copy()
    cube = start[16:19].copy()
    cube[2] = 0.02  # height at rest: an episode drops the cube from slightly above the table
    right = right_path(ArmKinematics(model, "right"), start, cube)
    left = left_path(ArmKinematics(model, "left"), start)
    tick = -1

    def act() -> NDArray[np.float32]:
        nonlocal tick
        tick += 1
        return np.concatenate([at(left, tick), at(right, tick)]).astype(np.float32)

    return act


def right_path(arm: ArmKinematics, start: Floats, cube: Floats) -> list[Waypoint]:
    """Path of the right arm: above the cube, down, close, lift, to the handover point, open, retreat."""
    base = np.array([0.469, 0.5])
    yaw = np.arctan2(*(cube[:2] - base)[::-1])
    picking, level = pitched(PITCH_DEG, yaw), pitched(0.0, np.pi)
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
    """Path of the left arm: to the handover point, close, retreat.

    Its gripper is rolled by 90 degrees so that the fingers of the two hands do not collide.
    """
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


def solved(arm: ArmKinematics, start: Floats, plan: Sequence[ArmTarget]) -> list[Waypoint]:
    """Waypoints in joint space, each solved from the previous one.

    Raises:
        OutOfReachError: the arm ends more than :data:`TOLERANCE_M` away from a target.
    """
    qpos = start
    path = [Waypoint(0, start[arm.joints], 0.0)]
    for tick, position, rotation, opening in plan:
        qpos = arm.solve(qpos, position, rotation)
        error_m = float(np.linalg.norm(arm.pose(qpos)[0] - position))
        if error_m > TOLERANCE_M:
            raise OutOfReachError(
                f"the demonstrator's arm stays {1000 * error_m:.0f} mm from {np.round(position, 3).tolist()}"
            )
        path.append(Waypoint(tick, qpos[arm.joints], opening))
    return path


def at(path: list[Waypoint], tick: int) -> Floats:
    """Joint positions and gripper opening at ``tick``, (7,), interpolated linearly between the waypoints."""
    ticks = [point.tick for point in path]
    values = np.array([[*point.joints, point.opening] for point in path])
    return np.array([np.interp(tick, ticks, column) for column in values.T])
