"""Library function, not a part that a config names: end-effector poses -> joint path (`ar.motion-recovery`).

Every pose is solved from the joints of the pose before (:mod:`wamkit.geometry.kinematics`), so that the path does not
jump between the arm's solutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from wamkit.errors import SpecError
from wamkit.geometry.kinematics import DEFAULT_ACCURACY, Accuracy, EndEffector, joint_limits

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class JointPath:
    """Joints that follow a path of poses, and the error that remains where the joint limits are in the way.

    Attributes:
        joints: (T, nq), positions of all joints of the model, always within their limits.
        position_m: (T,), remaining distance to the target position, metres.
        rotation_rad: (T,), remaining angle to the target rotation, radians.
        reached: (T,), bool, False where an error exceeds the tolerances.
    """

    joints: np.ndarray
    position_m: np.ndarray
    rotation_rad: np.ndarray
    reached: np.ndarray

    def require_reached(self) -> JointPath:
        """Return the path itself; raises :class:`SpecError` naming the first pose out of reach."""
        if not self.reached.all():
            step = int(np.argmin(self.reached))
            raise SpecError(
                f"inverse kinematics: pose {step} of {len(self.joints)} is out of reach: {self.position_m[step]:.4f} m "
                f"and {self.rotation_rad[step]:.4f} rad remain within the joint limits. Move the task closer, "
                f"leave the rotation free, or raise the tolerances."
            )
        return self


def joint_path(
    effector: EndEffector,
    start: np.ndarray,
    positions: np.ndarray,
    rotations: np.ndarray | None = None,
    accuracy: Accuracy = DEFAULT_ACCURACY,
) -> JointPath:
    """Solve inverse kinematics along a path. Poses out of reach are approached and marked, never passed over.

    Args:
        effector: the frame to move.
        start: (nq,), current joint positions.
        positions: (T, 3), target positions, metres, world frame.
        rotations: (T, 3, 3), target rotations; None leaves them free.
        accuracy: tolerances, and the number of rounds per pose.

    Raises:
        SpecError: shapes do not fit, or ``start`` lies outside the joint limits.
    """
    steps = len(positions)
    if positions.shape != (steps, 3) or (rotations is not None and rotations.shape != (steps, 3, 3)):
        raise SpecError(
            f"inverse kinematics: positions must be (T, 3) and rotations (T, 3, 3), got {positions.shape} and "
            f"{None if rotations is None else rotations.shape}"
        )
    _check_start(effector.model, start)
    joints, errors = np.empty((steps, effector.model.nq)), np.zeros((steps, 2))
    previous = start
    for t, position in enumerate(positions):
        rotation = None if rotations is None else rotations[t]
        solution = effector.solve(previous, position, rotation, accuracy)
        previous = joints[t] = solution.joints
        errors[t] = solution.position_m, solution.rotation_rad
    reached = (errors[:, 0] <= accuracy.position_m) & (errors[:, 1] <= accuracy.rotation_rad)
    return JointPath(joints, errors[:, 0], errors[:, 1], reached)


def _check_start(model: mujoco.MjModel, start: np.ndarray) -> None:
    if start.shape != (model.nq,):
        raise SpecError(f"inverse kinematics: start must be ({model.nq},), got {start.shape}")
    address, low, high = joint_limits(model)
    outside = (start[address] < low - 1e-6) | (start[address] > high + 1e-6)
    if outside.any():
        k = int(np.argmax(outside))
        raise SpecError(
            f"inverse kinematics: the arm starts outside its limits: joint coordinate {address[k]} is "
            f"{start[address[k]]:.4f}, but must lie in [{low[k]:.4f}, {high[k]:.4f}]"
        )
