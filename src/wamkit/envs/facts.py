"""What the simulator knows about gripper and task objects after every tick. No camera shows it, no policy gets it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wamkit.errors import ConfigError

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class Facts:
    """One control tick.

    Attributes:
        touching: whether a gripper touches a task object.
        moved_m: the longest way, metres, between where a point of a task object is and where it was at the last
            reading before the first contact; 0 until then, so that what falls or settles by itself does not count.
        gap_m: metres between the nearest gripper's centre and the centre of the nearest part of a task object.
    """

    touching: bool
    moved_m: float
    gap_m: float


class FactReader:
    """Reads :class:`Facts` of a MuJoCo scene: contacts and poses only, nothing is rendered or simulated.

    A part moves when its centre does or when it turns: four points stand for it, its centre and the three at the
    distance of its bounding sphere along its axes.

    Args:
        model: the scene.
        hands: bodies in the middle of the grippers.
        gripping: (nbody,) bool, the bodies whose contact counts.
        objects: (nbody,) bool, the bodies of the task; those that cannot move are left out.

    Raises:
        ConfigError: no part of the task can move.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        hands: Sequence[int],
        gripping: NDArray[np.bool_],
        objects: NDArray[np.bool_],
    ) -> None:
        movable = objects & (model.body_weldid != 0)
        self._hands = list(hands)
        self._gripping, self._task = gripping[model.geom_bodyid], movable[model.geom_bodyid]
        self._parts = np.flatnonzero(self._task)
        if not len(self._parts):
            raise ConfigError("FactReader: none of the scene's task objects can move; name their bodies.")
        self._radius = model.geom_rbound[self._parts][:, None, None]
        self._start, self._touched = np.zeros((len(self._parts), 4, 3)), False

    def begin(self, data: mujoco.MjData) -> None:
        """An episode begins. ``data`` must be forwarded."""
        self._start, self._touched = self._points(data), False

    def read(self, data: mujoco.MjData) -> Facts:
        """The facts of the present state, once per tick. ``data`` must be forwarded."""
        one, two = data.contact.geom[: data.ncon].T
        touching = (self._gripping[one] & self._task[two]) | (self._gripping[two] & self._task[one])
        points, hit = self._points(data), bool(touching.any())
        if not self._touched and not hit:
            self._start = points
        self._touched = self._touched or hit
        moved = np.linalg.norm(points - self._start, axis=-1).max()
        ways = data.geom_xpos[self._parts][:, None] - data.xpos[self._hands]
        return Facts(hit, float(moved), float(np.linalg.norm(ways, axis=-1).min()))

    def _points(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """(parts, 4, 3), metres, world frame."""
        centre = data.geom_xpos[self._parts][:, None]
        axes = data.geom_xmat[self._parts].reshape(-1, 3, 3).transpose(0, 2, 1)
        return np.concatenate([centre, centre + self._radius * axes], axis=1)
