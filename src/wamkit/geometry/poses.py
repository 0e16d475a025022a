"""Delta and absolute forms of a trajectory (`ar.continuous-chunk`).

An action consists of a position (3), a rotation, and entries that are absolute in both forms (a gripper's opening).
Without a rotation, deltas of all entries before the gripper are summed (joints, or a position alone). What follows the
gripper, such as the padding of a view, does not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from wamkit.contract.specs import ActionSpec
from wamkit.errors import SpecError
from wamkit.geometry.rotations import SIZES, Form, parse_rotation, require_form, write

Frame = Literal["world", "body"]


@dataclass(frozen=True)
class PoseLayout:
    """Layout of an action's entries.

    Attributes:
        moving: number of leading entries that change by deltas: position and rotation, or joints.
        rotation: form of the rotation after the three position entries; None for joints or a position alone.
        frame: frame of a delta. ``world``: p' = p + d, R' = D R; ``body``: p' = p + R d, R' = R D.
    """

    moving: int
    rotation: Form | None = None
    frame: Frame = "world"

    def __post_init__(self) -> None:
        if self.rotation is not None and self.moving != 3 + SIZES[self.rotation]:
            raise SpecError(
                f"a pose with {self.rotation} has {3 + SIZES[self.rotation]} entries, but moving is {self.moving}"
            )

    @classmethod
    def of(cls, spec: ActionSpec) -> PoseLayout:
        """Return the layout of a robot's actions; raises :class:`SpecError` when the spec has too few entries."""
        if spec.frame not in ("world", "body"):
            raise SpecError(
                f"poses: frame {spec.frame!r} is neither 'world' nor 'body'; convert the actions first"
            )
        frame: Frame = "body" if spec.frame == "body" else "world"
        still = [i for i in range(spec.width) if i not in spec.arm]
        room = min(still, default=spec.width)
        if spec.rotation in ("none", "joint"):
            return cls(room, None, frame)
        form = require_form(spec.rotation)
        if room < 3 + SIZES[form]:
            raise SpecError(
                f"poses: rotation {form} needs {3 + SIZES[form]} entries before the gripper, "
                f"but the action has {room}: {', '.join(spec.names)}"
            )
        return cls(3 + SIZES[form], form, frame)

    def _check(self, start: np.ndarray, path: np.ndarray) -> None:
        if path.ndim != 2 or path.shape[1] < self.moving or start.shape != (self.moving,):
            raise SpecError(
                f"poses: need a start ({self.moving},) and a path (T, at least {self.moving}), "
                f"got {start.shape} and {path.shape}"
            )

    def to_absolute(self, start: np.ndarray, delta: np.ndarray) -> np.ndarray:
        """Integrate deltas to poses.

        Args:
            start: (moving,), first pose of the trajectory.
            delta: (T, A), change per tick; entries after ``moving`` are kept unchanged.

        Returns:
            (T, A), the pose after each tick.
        """
        self._check(start, delta)
        out = delta.astype(np.float64)
        if self.rotation is None:
            out[:, : self.moving] = start + np.cumsum(delta[:, : self.moving], axis=0)
            return out
        position, turn = start[:3].astype(np.float64), parse_rotation(start[None, 3:], self.rotation)
        steps = parse_rotation(delta[:, 3 : self.moving], self.rotation)
        turns = []
        for i, step in enumerate(delta[:, :3]):
            body = self.frame == "body"
            position = position + (turn.apply(step)[0] if body else step)
            turn = turn * steps[i] if body else steps[i] * turn
            out[i, :3] = position
            turns.append(turn)
        if turns:
            out[:, 3 : self.moving] = write(
                scipy.spatial.transform.Rotation.concatenate(turns), self.rotation
            )
        return out

    def to_delta(self, start: np.ndarray, absolute: np.ndarray) -> np.ndarray:
        """Invert :meth:`to_absolute`: poses (T, A) -> changes per tick (T, A)."""
        self._check(start, absolute)
        out = absolute.astype(np.float64)
        path = np.concatenate((start[None], out[:, : self.moving]))
        if self.rotation is None:
            out[:, : self.moving] = np.diff(path, axis=0)
            return out
        turns = parse_rotation(path[:, 3:], self.rotation)
        shift = np.diff(path[:, :3], axis=0)
        if len(shift):
            body = self.frame == "body"
            before, after = turns[:-1], turns[1:]
            out[:, :3] = before.inv().apply(shift) if body else shift
            out[:, 3 : self.moving] = write(
                before.inv() * after if body else after * before.inv(), self.rotation
            )
        return out
