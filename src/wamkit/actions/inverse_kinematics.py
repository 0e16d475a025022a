"""End-effector poses -> joints of a robot model, with mink (`ar.motion-recovery`, survey eqs. 5, 20).

Every step is solved as quadratic programs in the joint velocities under the joint limits (differential inverse
kinematics; Zakka 2024), from the step before, so that the path does not jump between the arm's solutions.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from wamkit.errors import MissingExtraError, SpecError

if TYPE_CHECKING:
    import mujoco

SOLVER = "daqp"
ROTATION = 0.3  # cost of a radian, against 1 per metre
POSTURE = 1e-3  # cost of leaving the last posture, against 1 per metre: decides among equally good joints


def import_mink() -> Any:
    """``mink``; raises :class:`MissingExtraError` when it is not installed."""
    try:
        return importlib.import_module("mink")
    except ImportError as error:
        raise MissingExtraError("mink is not installed: pip install 'wamkit[kinematics]'.") from error


@dataclass(frozen=True)
class JointPath:
    """Joints that follow a path of poses, and what is left of it where the limits do not allow that.

    Attributes:
        joints: (T, nq), positions of all joints of the model, always within their limits.
        position_m: (T,), distance that is left to the wanted position.
        rotation_rad: (T,), angle that is left to the wanted rotation.
        reached: (T,), bool, False where more is left than the tolerances.
    """

    joints: np.ndarray
    position_m: np.ndarray
    rotation_rad: np.ndarray
    reached: np.ndarray

    def require_reached(self) -> JointPath:
        """Itself; raises :class:`SpecError` where a pose is out of reach, naming the first one."""
        if not self.reached.all():
            step = int(np.argmin(self.reached))
            raise SpecError(
                f"inverse kinematics: pose {step} of {len(self.joints)} is out of reach: {self.position_m[step]:.4f} m "
                f"and {self.rotation_rad[step]:.4f} rad are left within the joint limits. Move the task closer, "
                f"leave the rotation free, or raise the tolerances."
            )
        return self


def joint_path(
    model: mujoco.MjModel,
    frame: str,
    start: np.ndarray,
    places: np.ndarray,
    turns: np.ndarray | None = None,
    *,
    kind: Literal["site", "body", "geom"] = "site",
    tolerance_m: float = 1e-3,
    tolerance_rad: float = 1e-2,
    rounds: int = 100,
) -> JointPath:
    """Inverse kinematics along a path. What is out of reach is approached and marked, never passed over.

    Args:
        model: the robot.
        frame: name of the frame that is moved.
        start: (nq,), where the joints are now.
        places: (T, 3), wanted positions, metres, world frame.
        turns: (T, 3, 3), wanted rotations; None leaves them free.
        kind: what the frame is.
        tolerance_m: largest distance that counts as reached.
        tolerance_rad: largest angle that counts as reached.
        rounds: quadratic programs per step at most.

    Raises:
        SpecError: shapes do not fit, or ``start`` lies outside the joint limits.
    """
    mink = import_mink()
    steps = len(places)
    if places.shape != (steps, 3) or (turns is not None and turns.shape != (steps, 3, 3)):
        raise SpecError(
            f"inverse kinematics: places must be (T, 3) and turns (T, 3, 3), got {places.shape} and "
            f"{None if turns is None else turns.shape}"
        )
    _check_start(model, start)
    configuration = mink.Configuration(model, q=start)
    # The damping grows with what is left, so that a goal out of reach is approached in small steps.
    task = mink.FrameTask(frame, kind, 1.0, 0.0 if turns is None else ROTATION, lm_damping=0.1)
    tasks, limits = [task, mink.PostureTask(model, POSTURE)], [mink.ConfigurationLimit(model)]
    joints, left = np.empty((steps, model.nq)), np.zeros((steps, 2))
    for t in range(steps):
        tasks[1].set_target(configuration.q)
        best = np.inf
        for i in range(rounds + 1):
            now = configuration.get_transform_frame_to_world(frame, kind)
            turn = now.rotation() if turns is None else mink.SO3.from_matrix(turns[t])
            distance = float(np.linalg.norm(now.translation() - places[t]))
            angle = float(np.linalg.norm((now.rotation().inverse() @ turn).log()))
            if distance + ROTATION * angle < best:
                best, joints[t], left[t] = distance + ROTATION * angle, configuration.q, (distance, angle)
            if i == rounds or (distance <= 0.1 * tolerance_m and angle <= 0.1 * tolerance_rad):
                break
            task.set_target(mink.SE3.from_rotation_and_translation(turn, places[t]))
            velocity = mink.solve_ik(configuration, tasks, 1.0, SOLVER, limits=limits)
            configuration.update(_within(model, configuration.integrate(velocity, 1.0)))
        configuration.update(joints[t])
    reached = (left[:, 0] <= tolerance_m) & (left[:, 1] <= tolerance_rad)
    return JointPath(joints, left[:, 0], left[:, 1], reached)


def _limited(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Addresses, lower and upper limits of the limited joints with one degree of freedom (hinge 3, slide 2)."""
    limited = np.flatnonzero((model.jnt_limited > 0) & (model.jnt_type >= 2))
    return model.jnt_qposadr[limited], model.jnt_range[limited, 0], model.jnt_range[limited, 1]


def _within(model: mujoco.MjModel, joints: np.ndarray) -> np.ndarray:
    """The solver's rounding may pass a limit by a hair."""
    where, low, high = _limited(model)
    out = joints.copy()
    out[where] = out[where].clip(low, high)
    return out


def _check_start(model: mujoco.MjModel, start: np.ndarray) -> None:
    if start.shape != (model.nq,):
        raise SpecError(f"inverse kinematics: start must be ({model.nq},), got {start.shape}")
    where, low, high = _limited(model)
    outside = (start[where] < low - 1e-6) | (start[where] > high + 1e-6)
    if outside.any():
        k = int(np.argmax(outside))
        raise SpecError(
            f"inverse kinematics: the arm starts outside its limits: joint coordinate {where[k]} is "
            f"{start[where[k]]:.4f}, but must lie in [{low[k]:.4f}, {high[k]:.4f}]"
        )
