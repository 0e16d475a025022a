"""Motion recovery: predicted point tracks -> rigid motion -> end-effector commands (`ar.motion-recovery`; AVDC).

Points that move as one rigid body have, between any two steps, one rotation and translation that carries them over
(Kabsch 1976). What such a motion leaves unexplained tells articulated or mistracked points, and is an error rather
than an action.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from wamkit.actions.poses import PoseLayout
from wamkit.contract.specs import ActionSpec
from wamkit.errors import SpecError
from wamkit.geometry.rotations import Form, parse_rotation, write


@dataclass(frozen=True)
class RigidPath:
    """Motion of a body relative to the first step.

    Attributes:
        rotation: (T, 3, 3), x_t = R_t x_0 + p_t for every point of the body, world frame.
        translation: (T, 3), metres.
        residual_m: (T,), root mean square of what the rigid motion leaves unexplained.
        rigid: (T,), bool, False where the residual exceeds the tolerance or too few points are visible.
    """

    rotation: np.ndarray
    translation: np.ndarray
    residual_m: np.ndarray
    rigid: np.ndarray

    def carried(self, position: np.ndarray, orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Poses of a gripper that holds the body: (T, 3) and (T, 3, 3), from where it is now.

        Raises:
            SpecError: a step is not rigid.
        """
        if not self.rigid.all():
            step = int(np.argmin(self.rigid))
            raise SpecError(
                f"motion recovery: step {step} is not one rigid motion (residual {self.residual_m[step]:.4f} m). The "
                f"object is articulated, or its points were lost; track one of its parts, or raise tolerance_m."
            )
        return self.rotation @ position + self.translation, self.rotation @ orientation


def fit(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Least-squares rigid motion (Kabsch 1976): (K, 3) -> (K, 3), at least 3 points.

    Returns:
        R (3, 3), p (3,) with target = R source + p, and the root mean square residual.
    """
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - centre).T @ (target - goal))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])  # a reflection is no motion
    rotation = vt.T @ mirror @ u.T
    translation = goal - rotation @ centre
    error = target - (source @ rotation.T + translation)
    return rotation, translation, float(np.sqrt(np.square(error).sum(axis=1).mean()))


def rigid_path(
    tracks: np.ndarray, visible: np.ndarray | None = None, tolerance_m: float = 0.005
) -> RigidPath:
    """Fit a rigid motion to every step.

    Args:
        tracks: (T, K, 3), world positions in metres; the first step is "now".
        visible: (T, K) bool; a point is used at a step where it is visible both there and at the first.
        tolerance_m: largest root mean square residual of a rigid body.

    Raises:
        SpecError: the shapes do not fit.
    """
    if tracks.ndim != 3 or tracks.shape[2] != 3 or not tracks.shape[0]:
        raise SpecError(f"rigid_path: tracks must be (T, K, 3) with T at least 1, got {tracks.shape}")
    seen = np.ones(tracks.shape[:2], dtype=bool) if visible is None else visible
    if seen.shape != tracks.shape[:2]:
        raise SpecError(f"rigid_path: visible must be {tracks.shape[:2]}, got {seen.shape}")
    steps = len(tracks)
    rotation, translation = np.tile(np.eye(3), (steps, 1, 1)), np.zeros((steps, 3))
    residual = np.full(steps, np.inf)
    for t in range(steps):
        use = seen[0] & seen[t]
        if use.sum() >= 3:
            rotation[t], translation[t], residual[t] = fit(tracks[0, use], tracks[t, use])
    return RigidPath(rotation, translation, residual, residual <= tolerance_m)


def commands(
    path: RigidPath, position: np.ndarray, orientation: np.ndarray, spec: ActionSpec, grip: float = 0.0
) -> np.ndarray:
    """Actions of a gripper that holds the body, so that it moves along.

    A step that exceeds the limits of the spec is spread over several ticks: the path is kept, its speed is not.

    Args:
        path: motion of the held body.
        position: (3,), where the gripper is now, metres.
        orientation: (3, 3), how it is turned now.
        spec: delta actions: position, rotation in any form (or none), and maybe a gripper behind them.
        grip: the gripper's entry.

    Returns:
        (ticks, A), actions within the limits; none where the body does not move.

    Raises:
        SpecError: a step is not rigid, the actions are not deltas, or the limits leave out zero.
    """
    layout = PoseLayout.of(spec)
    if spec.mode != "delta" or spec.rotation == "joint" or (layout.rotation is None and layout.moving != 3):
        raise SpecError(
            "commands: needs delta actions of an end effector, position first; joints need IK before"
        )
    places, turns = path.carried(position, orientation)
    turn_form = layout.rotation
    parts = [places] if turn_form is None else [places, write(Rotation.from_matrix(turns), turn_form)]
    return follow(np.concatenate(parts, axis=1), spec, grip)


def follow(poses: np.ndarray, spec: ActionSpec, grip: float = 0.0) -> np.ndarray:
    """Delta actions along a path of poses or joints, slower than the path where the limits of the spec ask for it.

    Args:
        poses: (T, moving), where to be step by step; the first is now.
        spec: delta actions, laid out as :class:`PoseLayout` says.
        grip: the entries behind the moving ones.

    Returns:
        (ticks, A), actions within the limits; none where nothing moves.

    Raises:
        SpecError: the actions are not deltas, the path does not fit them, or the limits leave out zero.
    """
    layout = PoseLayout.of(spec)
    if spec.mode != "delta" or poses.ndim != 2 or poses.shape[1] != layout.moving:
        raise SpecError(
            f"follow: needs delta actions and a path (T, {layout.moving}), got {spec.mode} actions and {poses.shape}"
        )
    low, high = np.array(spec.low), np.array(spec.high)
    moved: list[np.ndarray] = []
    for before, after in itertools.pairwise(poses):
        moved += _spread(layout, before, after, low[: layout.moving], high[: layout.moving])
    out = np.full((len(moved), spec.width), grip)
    if moved:
        out[:, : layout.moving] = np.stack(moved)
    return out


def _spread(
    layout: PoseLayout,
    before: np.ndarray,
    after: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    most: int = 1000,
) -> list[np.ndarray]:
    """Deltas within the limits that lead from one pose to the next, in as few equal ticks as possible."""
    if np.allclose(before, after, atol=1e-9):
        return []
    for ticks in range(1, most + 1):
        share = np.linspace(0, 1, ticks + 1)[1:, None]
        middle = before + share * (after - before)
        if layout.rotation is not None:
            middle[:, 3:] = _interpolate(before[3:], after[3:], share[:, 0], layout.rotation)
        delta = layout.to_delta(before, middle)
        if (delta >= low - 1e-9).all() and (delta <= high + 1e-9).all():
            return list(delta)
    raise SpecError(
        f"commands: limits {low.tolist()} to {high.tolist()} do not reach the next pose in {most} ticks"
    )


def _interpolate(start: np.ndarray, stop: np.ndarray, share: np.ndarray, form: Form) -> np.ndarray:
    """Rotations (T, n) at the shares (T,) of a turn at constant speed from ``start`` (n,) to ``stop`` (n,)."""
    first, last = parse_rotation(np.stack((start, stop)), form)
    turn = (last * first.inv()).as_rotvec()
    return write(Rotation.from_rotvec(share[:, None] * turn) * first, form)
