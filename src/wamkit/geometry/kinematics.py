"""Inverse kinematics of one frame of a MuJoCo model, with mink (survey eqs. 5, 20).

A pose is approached in rounds. Every round solves a quadratic program in the joint velocities under the joint limits
(differential inverse kinematics; Zakka 2024), so that an unreachable pose is approached, not passed over.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import scipy

from wamkit.errors import MissingExtraError

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

if TYPE_CHECKING:
    import mujoco

SOLVER = "daqp"
RADIAN_COST = 0.3  # against 1 per metre
POSTURE_COST = 1e-3  # of leaving the initial posture, against 1 per metre: decides among equally good joints


def import_mink() -> Any:
    """Import ``mink``; raises :class:`MissingExtraError` when it is not installed."""
    try:
        return importlib.import_module("mink")
    except ImportError as error:
        raise MissingExtraError("mink is not installed: pip install 'wamkit[kinematics]'.") from error


@dataclass(frozen=True)
class Accuracy:
    """Accuracy and effort of inverse kinematics.

    Attributes:
        position_m: largest remaining distance that counts as reached, metres; iteration stops at a tenth of it.
        rotation_rad: largest remaining angle that counts as reached, radians; iteration stops at a tenth of it.
        rounds: maximum number of quadratic programs per pose.
    """

    position_m: float = 1e-3
    rotation_rad: float = 1e-2
    rounds: int = 100


DEFAULT_ACCURACY = Accuracy()


@dataclass(frozen=True)
class JointSolution:
    """Joints that bring a frame as close to a pose as their limits allow.

    Attributes:
        joints: (nq,), positions of all joints of the model, within their limits.
        position_m: remaining distance to the target position, metres.
        rotation_rad: remaining angle to the target rotation, radians; 0 where the rotation is free.
    """

    joints: np.ndarray
    position_m: float
    rotation_rad: float


@final
class EndEffector:
    """A frame of a robot model that inverse kinematics moves.

    Args:
        model: the robot.
        frame: name of the frame.
        kind: type of the frame.

    Raises:
        MissingExtraError: mink is not installed.
    """

    def __init__(
        self, model: mujoco.MjModel, frame: str, kind: Literal["site", "body", "geom"] = "site"
    ) -> None:
        self._mink = import_mink()
        self.model, self.frame, self.kind = model, frame, kind

    def pose(self, joints: np.ndarray) -> tuple[np.ndarray, Rotation]:
        """Position (3,) in metres and rotation of the frame in the world, for joints (nq,)."""
        configuration = self._mink.Configuration(self.model, q=joints)
        pose = configuration.get_transform_frame_to_world(self.frame, self.kind)
        return pose.translation(), scipy.spatial.transform.Rotation.from_matrix(pose.rotation().as_matrix())

    def solve(
        self,
        start: np.ndarray,
        position: np.ndarray,
        rotation: np.ndarray | None = None,
        accuracy: Accuracy = DEFAULT_ACCURACY,
        moving: np.ndarray | None = None,
    ) -> JointSolution:
        """Find joints for a pose; the best of all rounds is returned, whether it reaches the pose or not.

        Args:
            start: (nq,), initial joint positions.
            position: (3,), target position, metres, world frame.
            rotation: (3, 3), target rotation; None leaves it free.
            accuracy: stopping rule.
            moving: (nv,), 1 for velocities that may change, 0 for those that stay at zero; None moves all.
        """
        mink = self._mink
        configuration = mink.Configuration(self.model, q=start.copy())
        # The damping grows with the error, so that an unreachable pose is approached in small steps.
        task = mink.FrameTask(
            self.frame, self.kind, 1.0, 0.0 if rotation is None else RADIAN_COST, lm_damping=0.1
        )
        posture = mink.PostureTask(self.model, POSTURE_COST)
        posture.set_target(configuration.q)
        limits = [mink.ConfigurationLimit(self.model)]
        best, solution = np.inf, JointSolution(start, np.inf, np.inf)
        for i in range(accuracy.rounds + 1):
            now = configuration.get_transform_frame_to_world(self.frame, self.kind)
            turn = now.rotation() if rotation is None else mink.SO3.from_matrix(rotation)
            distance = float(np.linalg.norm(now.translation() - position))
            angle = float(np.linalg.norm((now.rotation().inverse() @ turn).log()))
            if distance + RADIAN_COST * angle < best:
                best = distance + RADIAN_COST * angle
                solution = JointSolution(np.array(configuration.q), distance, angle)
            near = distance <= 0.1 * accuracy.position_m and angle <= 0.1 * accuracy.rotation_rad
            if near or i == accuracy.rounds:
                break
            task.set_target(mink.SE3.from_rotation_and_translation(turn, position))
            velocity = mink.solve_ik(configuration, [task, posture], 1.0, SOLVER, limits=limits)
            if moving is not None:
                velocity = velocity * moving
            configuration.update(_within(self.model, configuration.integrate(velocity, 1.0)))
        return solution


def joint_limits(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Addresses, lower and upper limits of the limited joints with one degree of freedom (hinge 3, slide 2)."""
    limited = np.flatnonzero((model.jnt_limited > 0) & (model.jnt_type >= 2))
    return model.jnt_qposadr[limited], model.jnt_range[limited, 0], model.jnt_range[limited, 1]


def _within(model: mujoco.MjModel, joints: np.ndarray) -> np.ndarray:
    """Joints clipped to their limits, which the solver's rounding may exceed slightly."""
    address, low, high = joint_limits(model)
    out = joints.copy()
    out[address] = out[address].clip(low, high)
    return out
