"""Conventions as data: specs of observations and actions, compared before the first step.

A dataset, an environment and a design each carry an :class:`ObservationSpec` and an :class:`ActionSpec`.
:func:`require_same` raises an error that prints both sides when two of them disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, TypeVar

from wamkit.errors import SpecError
from wamkit.storage.fingerprint import differing

# Name of the action stream in every design.
ACTION = "action"

# Name of an extra that no dataset stores, because it follows from the frame numbers and the episode's outcome:
# ticks since the start, ticks to the end, success (B, T, 3).
CLOCK = "episode_clock"


@dataclass(frozen=True)
class CameraSpec:
    """One camera.

    Attributes:
        height: number of rows, in pixels.
        width: number of columns, in pixels.
        channels: number of channels, 3 for RGB.
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
    """Observation of a robot.

    Attributes:
        cameras: camera name -> :class:`CameraSpec`. The name is the last part of the dataset key
            ``observation.images.<name>``.
        state: names of the entries of ``observation.state``, in order, with the unit as a suffix where there is one
            (``eef_x_m``, ``gripper_open``).
        rate_hz: control ticks per second.
    """

    cameras: dict[str, CameraSpec]
    state: tuple[str, ...]
    rate_hz: float


@dataclass(frozen=True)
class ActionSpec:
    """Action of a robot in one control tick.

    Attributes:
        names: names of the entries, in order; their number is the action width A.
        low: smallest admissible value per entry.
        high: largest admissible value per entry.
        rate_hz: control ticks per second.
        mode: ``delta`` (change per tick) or ``absolute``.
        frame: reference frame of translations and rotations.
        rotation: form of the rotation entries.
        gripper: sign of the entry that closes the gripper.
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
