"""Path of a hand that follows a target path under constraints (`pl.constraint-trajopt`; NovaFlow, Dream2Flow).

The path is the solution of a small constrained least-squares problem, found by sequential quadratic programming (Kraft
1988): near the target and smooth, no faster than the hand can move, inside its workspace, and outside of boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

from wamkit.config.ranges import Finite, NonNegative, Positive, Size
from wamkit.config.values import Config
from wamkit.errors import ConfigError

SLACK_M = 1e-6  # rounding by which a solution may miss a constraint

Corner = tuple[Finite, Finite, Finite]


@dataclass(frozen=True)
class Box(Config):
    """Box with edges along the axes of the world.

    Attributes:
        low: least x, y and z, metres.
        high: largest x, y and z, metres.
    """

    low: Corner = (-1.0, -1.0, -1.0)
    high: Corner = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if not all(low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(
                f"box: low {list(self.low)} must be below high {list(self.high)} in x, y and z."
            )

    def depth(self, points: np.ndarray) -> np.ndarray:
        """Depth (...) of points (..., 3) inside the box, metres; negative outside."""
        centre, half = self._shape()
        return np.asarray((half - np.abs(points - centre)).min(axis=-1))

    def slope(self, points: np.ndarray) -> np.ndarray:
        """Gradient (..., 3) of :meth:`depth`."""
        centre, half = self._shape()
        face = (half - np.abs(points - centre)).argmin(axis=-1)
        return np.asarray(-np.sign(points - centre) * np.eye(3)[face])

    def _shape(self) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.array(self.low), np.array(self.high)
        return (low + high) / 2, (high - low) / 2


@dataclass(frozen=True)
class FollowConfig(Config):
    """How a hand follows a target path, and what it must not do.

    Attributes:
        smooth: weight of the squared acceleration against the squared distance from the target.
        workspace: box that the hand stays in; None for no bound.
        keep_out: boxes that the hand stays out of.
        error_m: largest distance from the target, metres, of a path that counts as following it.
        rounds: largest number of rounds of the solver.
    """

    smooth: NonNegative = 0.01
    workspace: Box | None = None
    keep_out: tuple[Box, ...] = ()
    error_m: Positive = 0.02
    rounds: Size = 100

    @property
    def bounded(self) -> bool:
        """True when places in the world are constrained, so that the hand's own place must be known."""
        return self.workspace is not None or bool(self.keep_out)


@dataclass(frozen=True)
class Followed:
    """Solution of one problem.

    Attributes:
        path: positions (H, 3), metres; the nearest that was found where no path satisfies the constraints.
        feasible: true when every constraint holds.
        error_m: distance (H,) from the target.
    """

    path: np.ndarray
    feasible: bool
    error_m: np.ndarray


def cost(path: np.ndarray, start: np.ndarray, target: np.ndarray, smooth: float) -> tuple[float, np.ndarray]:
    """Squared distance from the target plus weighted squared acceleration, and its gradient.

    Args:
        path: positions (H * 3,), flat.
        start: position now (3,).
        target: positions to be followed (H, 3).
        smooth: weight of the acceleration.
    """
    steps = path.reshape(-1, 3)
    off = steps - target
    whole = np.concatenate((start[None], start[None], steps))  # at rest before the start
    bend = whole[2:] - 2 * whole[1:-1] + whole[:-2]
    gradient = 2 * off
    gradient += 2 * smooth * bend
    gradient[:-1] -= 4 * smooth * bend[1:]
    gradient[:-2] += 2 * smooth * bend[2:]
    return float(np.square(off).sum() + smooth * np.square(bend).sum()), gradient.ravel()


def follow_path(
    start: np.ndarray, target: np.ndarray, low: np.ndarray, high: np.ndarray, config: FollowConfig
) -> Followed:
    """Path near ``target`` under all constraints, or the nearest found with ``feasible`` false.

    Args:
        start: position now (3,), metres.
        target: positions to be followed (H, 3), metres.
        low: least displacement per step (3,), metres.
        high: largest displacement per step (3,), metres.
        config: weights and boxes.
    """
    count = len(target)
    moves = np.eye(count) - np.eye(count, k=-1)  # path -> displacements, without the start
    first = np.zeros((count, 3))
    first[0] = start
    linear = np.kron(moves, np.eye(3))

    def room(path: np.ndarray) -> np.ndarray:
        steps = path.reshape(-1, 3)
        step = moves @ steps - first
        parts = [(step - low).ravel(), (high - step).ravel()]
        if config.workspace is not None:
            parts += [(steps - config.workspace.low).ravel(), (config.workspace.high - steps).ravel()]
        parts += [-box.depth(steps) for box in config.keep_out]
        return np.concatenate(parts)

    def slopes(path: np.ndarray) -> np.ndarray:
        steps, same = path.reshape(-1, 3), np.eye(count * 3)
        parts = [linear, -linear]
        if config.workspace is not None:
            parts += [same, -same]
        for box in config.keep_out:
            parts.append(-(np.eye(count)[:, :, None] * box.slope(steps)[:, None, :]).reshape(count, -1))
        return np.concatenate(parts)

    begin = clipped(start, target, low, high)
    found = scipy.optimize.minimize(
        cost,
        begin.ravel(),
        (start, target, config.smooth),
        method="SLSQP",
        jac=True,
        constraints=scipy.optimize.NonlinearConstraint(room, 0.0, np.inf, jac=slopes),
        options={"maxiter": config.rounds, "ftol": 1e-12},
    )
    path = found.x.reshape(-1, 3)
    feasible = bool(np.isfinite(path).all() and (room(found.x) >= -SLACK_M).all())
    return Followed(path, feasible, np.linalg.norm(path - target, axis=1))


def clipped(start: np.ndarray, target: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Path (H, 3) that goes towards every target as far as one step allows; where the search begins."""
    at, path = start, []
    for wanted in target:
        at = at + np.clip(wanted - at, low, high)
        path.append(at)
    return np.stack(path)
