"""Conventions as data: what an observation and an action are, compared before the first step.

A dataset, an environment and a design each carry an :class:`ObservationSpec` and an :class:`ActionSpec`.
:func:`require_same` raises with both sides printed when two of them disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeVar

from wamkit.config import differing
from wamkit.errors import SpecError

ACTION = "action"  # name of the action stream, in every design
CLOCK = (
    "episode_clock"  # an extra that is not stored: ticks since the start, ticks to the end, success (B, T, 3)
)


@dataclass(frozen=True)
class CameraSpec:
    """One camera.

    Attributes:
        height: rows, pixels.
        width: columns, pixels.
        channels: 3 (RGB).
        low: smallest stored value (0 for uint8 images).
        high: largest stored value (255 for uint8 images).
    """

    height: int
    width: int
    channels: int = 3
    low: int = 0
    high: int = 255


@dataclass(frozen=True)
class ObservationSpec:
    """What a robot sees.

    Attributes:
        cameras: camera name -> :class:`CameraSpec`. The name is the last part of the dataset key
            ``observation.images.<name>``.
        state: the names of the entries of ``observation.state``, in order, with units in the name's suffix
            where one applies (``eef_x_m``, ``gripper_open``).
        rate_hz: control ticks per second.
    """

    cameras: dict[str, CameraSpec]
    state: tuple[str, ...]
    rate_hz: float


@dataclass(frozen=True)
class ActionSpec:
    """What a robot does in one control tick.

    Attributes:
        names: the names of the entries, in order; their number is the action width A.
        low: smallest admissible value per entry.
        high: largest admissible value per entry.
        rate_hz: control ticks per second.
        mode: ``delta`` (change per tick) or ``absolute``.
        frame: the frame that translations and rotations are written in.
        rotation: form of the rotation entries.
        gripper: which sign closes the gripper.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float
    mode: Literal["delta", "absolute"] = "delta"
    frame: str = "world"
    rotation: Literal["none", "euler_xyz", "axis_angle", "quaternion_wxyz", "rot6d", "joint"] = "none"
    gripper: Literal["none", "positive_closes", "negative_closes"] = "none"

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.low) == len(self.high):
            raise SpecError(
                f"ActionSpec: names, low and high must have one entry per action dimension, "
                f"got {len(self.names)}, {len(self.low)} and {len(self.high)}"
            )

    @property
    def width(self) -> int:
        """Number of action dimensions A."""
        return len(self.names)


S = TypeVar("S", ObservationSpec, ActionSpec)


def require_same(ours: S, theirs: S, our_name: str, their_name: str) -> None:
    """Raise :class:`SpecError` when two specs disagree, with both sides printed.

    Args:
        ours: spec of the thing that is about to run.
        theirs: spec of the thing it is to be connected to.
        our_name: name of the first one in the message, such as ``design 'joint'``.
        their_name: name of the second one in the message, such as ``environment 'drawer-open-v3'``.
    """
    changed = differing(dataclasses.asdict(ours), dataclasses.asdict(theirs))
    if changed:
        listing = "\n  ".join(
            f"{field}: {mine!r} against {other!r}" for field, (mine, other) in changed.items()
        )
        raise SpecError(
            f"{our_name} and {their_name} do not agree ({our_name} first):\n  {listing}\n"
            f"Use a dataset and an environment with the same conventions, or retrain."
        )
