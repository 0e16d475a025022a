"""Privileged facts about gripper and task objects at every tick, for reports; policies never receive them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.values import number
from wamkit.errors import ConfigError, SpecError

if TYPE_CHECKING:
    import mujoco


@dataclass(frozen=True)
class Facts:
    """Facts of one control tick.

    Attributes:
        touching: true if a gripper touches a task object.
        moved_m: largest displacement of a point of a task object since the last reading before the first contact,
            metres; 0 until then, so that objects that fall or settle on their own do not count.
        gap_m: distance between a gripper's centre and the centre of a part of a task object, metres, minimum over
            grippers and parts.
    """

    touching: bool
    moved_m: float
    gap_m: float

    def values(self) -> NDArray[np.float32]:
        """The fields in their order, (3,); contact is 1 or 0."""
        return np.array([self.touching, self.moved_m, self.gap_m], np.float32)

    def __post_init__(self) -> None:
        if not isinstance(self.touching, bool | np.bool_):
            raise SpecError(f"Facts: touching {self.touching!r} must be True or False")
        for name in ("moved_m", "gap_m"):
            if not number(getattr(self, name)):
                raise SpecError(f"Facts: {name} {getattr(self, name)!r} must be a finite number of metres")


class FactReader:
    """Reads :class:`Facts` of a MuJoCo scene from contacts and poses, without rendering or simulating.

    Each part (geom) of a task object is represented by four points, so that rotation counts as motion: its centre and
    the three points at the radius of its bounding sphere along its axes.

    Args:
        model: MuJoCo model of the scene.
        hands: ids of the bodies at the centres of the grippers.
        gripping: (nbody,) bool, bodies whose contact with an object counts.
        objects: (nbody,) bool, bodies of the task; those that cannot move are ignored.

    Raises:
        ConfigError: no body of the task can move.
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
            raise ConfigError(
                "FactReader: none of the bodies passed as task objects can move; pass the movable ones."
            )
        self._radius = model.geom_rbound[self._parts][:, None, None]
        self._start, self._touched = np.zeros((len(self._parts), 4, 3)), False

    def begin(self, data: mujoco.MjData) -> None:
        """Begin an episode. ``data`` must be forwarded."""
        self._start, self._touched = self._points(data), False

    def read(self, data: mujoco.MjData) -> Facts:
        """Facts of the current state; call once per tick. ``data`` must be forwarded."""
        first, second = data.contact.geom[: data.ncon].T
        contacts = (self._gripping[first] & self._task[second]) | (self._gripping[second] & self._task[first])
        points, touching = self._points(data), bool(contacts.any())
        if not self._touched and not touching:
            self._start = points
        self._touched = self._touched or touching
        moved = np.linalg.norm(points - self._start, axis=-1).max()
        gaps = data.geom_xpos[self._parts][:, None] - data.xpos[self._hands]
        return Facts(touching, float(moved), float(np.linalg.norm(gaps, axis=-1).min()))

    def _points(self, data: mujoco.MjData) -> NDArray[np.float64]:
        """Four points of every part, (parts, 4, 3), metres, world frame."""
        centre = data.geom_xpos[self._parts][:, None]
        axes = data.geom_xmat[self._parts].reshape(-1, 3, 3).transpose(0, 2, 1)
        return np.concatenate([centre, centre + self._radius * axes], axis=1)
