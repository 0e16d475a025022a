"""Point tracks -> rigid motion -> end-effector actions; the estimator `motion_recovery` runs them in a design.

Motion recovery (`ar.motion-recovery`; AVDC): points of one rigid body move by one rotation and translation between
any two steps (Kabsch 1976). A large residual indicates articulated or mistracked points and raises an error instead
of becoming an action.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import scipy

from wamkit.contract.specs import ActionSpec
from wamkit.errors import SpecError
from wamkit.geometry.poses import PoseLayout
from wamkit.geometry.rotations import Form, parse_rotation, write

TRIALS = (
    300  # triples of points; with 40 % of the points lost, 99.9999 % of such runs meet three that are not
)
LINE = 1e-3  # extent across a line, as a share of that along it, below which points lie on the line


@dataclass(frozen=True)
class RigidPath:
    """Motion of a body relative to the first step.

    Attributes:
        rotation: rotations R_t (T, 3, 3) in x_t = R_t x_0 + p_t for every point of the body, world frame.
        translation: translations p_t (T, 3), metres.
        residual_m: root mean square residual (T,) of the rigid fit, metres.
        rigid: (T,) bool, False where the residual exceeds the tolerance or too few points move as one.
        turning: (T,) bool, False where the points lie on a line, so that the rotation about it is unknown.
        centre: (T, 3), mean of the points at the first step that move as one until the step.
    """

    rotation: np.ndarray
    translation: np.ndarray
    residual_m: np.ndarray
    rigid: np.ndarray
    turning: np.ndarray
    centre: np.ndarray

    def carried(self, position: np.ndarray, orientation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Poses (T, 3) and (T, 3, 3) of a gripper that holds the body, given its current pose.

        Raises:
            SpecError: a step is not rigid.
        """
        if not self.rigid.all():
            step = int(np.argmin(self.rigid))
            raise SpecError(
                f"motion recovery: step {step} is not one rigid motion (residual {self.residual_m[step]:.4f} m). The "
                f"object is articulated, or its points were lost. Track one of its parts, or raise tolerance_m."
            )
        return self.rotation @ position + self.translation, self.rotation @ orientation


def fit(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Fit a rigid motion from points (K, 3) to points (K, 3) by least squares (Kabsch 1976), K at least 3.

    Returns:
        R (3, 3), p (3,) with target = R source + p, and the root mean square residual.
    """
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - centre).T @ (target - goal))
    mirror = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])  # excludes reflections
    rotation = vt.T @ mirror @ u.T
    translation = goal - rotation @ centre
    error = target - (source @ rotation.T + translation)
    return rotation, translation, float(np.sqrt(np.square(error).sum(axis=1).mean()))


def agreeing(source: np.ndarray, target: np.ndarray, tolerance_m: float) -> np.ndarray:
    """Find the largest set of points that one rigid motion carries (RANSAC; Fischler & Bolles 1981).

    Motions are fitted to triples of points, all of them where there are few, and the one that carries most points
    wins, then the one with the smaller error. The same points always give the same answer.

    Args:
        source: points (K, 3), K at least 3.
        target: the same points later, (K, 3).
        tolerance_m: largest distance between a carried point and its target.

    Returns:
        (K,) bool.
    """
    count = len(source)
    if math.comb(count, 3) <= TRIALS:
        triples = np.array(list(itertools.combinations(range(count), 3)))
    else:
        draws = np.random.default_rng(0).random((TRIALS, count))
        triples = np.argpartition(draws, 3, axis=1)[:, :3]
    rotation, translation = _fit_each(source[triples], target[triples])
    error = np.linalg.norm(target - (source @ rotation.transpose(0, 2, 1) + translation[:, None]), axis=2)
    inside = error <= tolerance_m
    # Errors inside are below the tolerance, so that their sum decides between equal numbers of points only.
    merit = inside.sum(axis=1) - (error * inside).sum(axis=1) / (count * max(tolerance_m, 1e-12) + 1e-12)
    return np.asarray(inside[np.argmax(merit)])


def _fit_each(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a rigid motion to each of M sets of points (M, K, 3), as :func:`fit` does: (M, 3, 3) and (M, 3)."""
    centre, goal = source.mean(axis=1), target.mean(axis=1)
    u, _, vt = np.linalg.svd((source - centre[:, None]).transpose(0, 2, 1) @ (target - goal[:, None]))
    v, ut = vt.transpose(0, 2, 1), u.transpose(0, 2, 1)
    mirror = np.tile(np.eye(3), (len(source), 1, 1))
    mirror[:, 2, 2] = np.sign(np.linalg.det(v @ ut))
    rotation = v @ mirror @ ut
    return rotation, goal - np.einsum("mij,mj->mi", rotation, centre)


def rigid_path(
    tracks: np.ndarray, visible: np.ndarray | None = None, tolerance_m: float = 0.005, share: float = 1.0
) -> RigidPath:
    """Fit a rigid motion to every step.

    Args:
        tracks: (T, K, 3), world positions in metres; the first step is "now".
        visible: (T, K) bool; a point is used at steps where it is visible, if it is visible at the first step too.
        tolerance_m: largest root mean square residual of a rigid body.
        share: least share of the visible points that must move as one. 1 fits all of them by least squares; below 1
            the largest set that agrees within the tolerance is fitted, and the others are left out as lost.

    Raises:
        SpecError: the shapes do not fit.
    """
    if tracks.ndim != 3 or tracks.shape[2] != 3 or not tracks.shape[0]:
        raise SpecError(f"rigid_path: tracks must be (T, K, 3) with T at least 1, got {tracks.shape}")
    mask = np.ones(tracks.shape[:2], dtype=bool) if visible is None else visible
    if mask.shape != tracks.shape[:2]:
        raise SpecError(f"rigid_path: visible must be {tracks.shape[:2]}, got {mask.shape}")
    steps = len(tracks)
    rotation, translation = np.tile(np.eye(3), (steps, 1, 1)), np.zeros((steps, 3))
    residual, centre = np.full(steps, np.inf), np.zeros((steps, 3))
    enough, turning = np.zeros(steps, dtype=bool), np.zeros(steps, dtype=bool)
    for t in range(steps):
        seen = np.flatnonzero(mask[0] & mask[t])
        if len(seen) < 3:
            continue
        use = seen if share >= 1 else seen[agreeing(tracks[0, seen], tracks[t, seen], tolerance_m)]
        enough[t] = len(use) >= max(3, share * len(seen))
        if len(use) >= 3:
            rotation[t], translation[t], residual[t] = fit(tracks[0, use], tracks[t, use])
            centre[t] = tracks[0, use].mean(axis=0)
            spread = np.linalg.svd(tracks[0, use] - centre[t], compute_uv=False)
            turning[t] = spread[1] > LINE * max(spread[0], np.finfo(float).tiny)
    rigid = (residual <= tolerance_m) & enough
    return RigidPath(rotation, translation, residual, rigid, turning, centre)


def commands(
    path: RigidPath, position: np.ndarray, orientation: np.ndarray, spec: ActionSpec, grip: float = 0.0
) -> np.ndarray:
    """Compute actions of a gripper that moves a held body along a path.

    A step that exceeds the limits of the spec is spread over several ticks, which keeps the path but not its speed.

    Args:
        path: motion of the held body.
        position: (3,), current position of the gripper, metres.
        orientation: (3, 3), current rotation of the gripper.
        spec: delta actions: position, rotation in any form (or none), and optionally a gripper after them.
        grip: value of the gripper's entry.

    Returns:
        (ticks, A), actions within the limits; no ticks where the body does not move.

    Raises:
        SpecError: a step is not rigid, the actions are not deltas, or the limits leave out zero.
    """
    layout = PoseLayout.of(spec)
    if spec.mode != "delta" or spec.rotation == "joint" or (layout.rotation is None and layout.moving != 3):
        raise SpecError(
            "commands: needs delta actions of an end effector, position first; joints need IK first"
        )
    positions, rotations = path.carried(position, orientation)
    parts = [positions]
    if layout.rotation is not None:
        parts.append(write(scipy.spatial.transform.Rotation.from_matrix(rotations), layout.rotation))
    return follow(np.concatenate(parts, axis=1), spec, grip)


def follow(poses: np.ndarray, spec: ActionSpec, grip: float = 0.0) -> np.ndarray:
    """Compute delta actions along a path of poses or joints, slowed down where the limits of the spec require it.

    Args:
        poses: (T, moving), pose of every step, starting with the current one.
        spec: delta actions in the layout of :class:`PoseLayout`.
        grip: value of the entries after the moving ones.

    Returns:
        (ticks, A), actions within the limits; no ticks where nothing moves.

    Raises:
        SpecError: the actions are not deltas, the path does not fit them, or the limits leave out zero.
    """
    layout = PoseLayout.of(spec)
    if spec.mode != "delta" or poses.ndim != 2 or poses.shape[1] != layout.moving:
        raise SpecError(
            f"follow: needs delta actions and a path (T, {layout.moving}), got {spec.mode} actions and {poses.shape}"
        )
    low, high = np.array(spec.low), np.array(spec.high)
    deltas: list[np.ndarray] = []
    for before, after in itertools.pairwise(poses):
        deltas += _spread(layout, before, after, low[: layout.moving], high[: layout.moving])
    out = np.full((len(deltas), spec.width), grip)
    if deltas:
        out[:, : layout.moving] = np.stack(deltas)
    return out


def _spread(
    layout: PoseLayout,
    before: np.ndarray,
    after: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    most: int = 1000,
) -> list[np.ndarray]:
    """Split the motion from one pose to the next into as few equal deltas within the limits as possible."""
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
    return write(scipy.spatial.transform.Rotation.from_rotvec(share[:, None] * turn) * first, form)
