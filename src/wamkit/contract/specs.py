"""Conventions as data: specs of observations and actions, compared before the first step.

A dataset, an environment and a design each carry an :class:`ObservationSpec` and an :class:`ActionSpec`.
:func:`require_same` raises an error that prints both sides when two of them disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

from wamkit.contract.values import label, labels, number, positive, whole
from wamkit.errors import SpecError, did_you_mean
from wamkit.storage.fingerprint import differing

Mode = Literal["delta", "absolute", "relative"]
Rotation = Literal["none", "euler_xyz", "axis_angle", "quaternion_wxyz", "rot6d", "joint"]
Gripper = Literal["none", "positive_closes", "negative_closes"]

# Name of the action stream in every design.
ACTION = "action"

# First part of the name of a column that a robot does not have: its view pads the width with it.
PADDING = "padding_"

# Name of an extra that no dataset stores, because it follows from the frame numbers and the episode's outcome:
# ticks since the start, ticks to the end, success (B, T, 3).
CLOCK = "episode_clock"

# Another one, which follows from the recorded actions: number of the task's next milestone, from 1, and the number of
# all its milestones (B, T, 2).
MILESTONES = "episode_milestones"

# Extras that no dataset stores -> their shape per step.
DERIVED: Mapping[str, tuple[int, ...]] = {CLOCK: (3,), MILESTONES: (2,)}


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

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            whole(getattr(self, name), f"CameraSpec: {name}", least=1)
        if whole(self.channels, "CameraSpec: channels") != 3:
            raise SpecError(
                f"CameraSpec: channels {self.channels}: pictures have 3, red, green and blue. Repeat a grey picture "
                f"three times; record depth as an extra."
            )
        low, high = whole(self.low, "CameraSpec: low"), whole(self.high, "CameraSpec: high")
        if not 0 <= low < high <= 255:
            raise SpecError(
                f"CameraSpec: low {low} and high {high}: pictures are uint8, so 0 <= low < high <= 255. Leave both out "
                f"for ordinary pictures."
            )


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

    def __post_init__(self) -> None:
        if not isinstance(self.cameras, Mapping):
            raise SpecError(
                f"ObservationSpec: cameras {self.cameras!r} must map a camera's name to its CameraSpec; {{}} for none"
            )
        for name, camera in self.cameras.items():
            label(name, "ObservationSpec: a camera's name")
            if "/" in name or "\\" in name or name in (".", ".."):
                raise SpecError(
                    f"ObservationSpec: camera {name!r}: the name is part of paths of video files; use a dot or an "
                    f"underscore for the slash"
                )
            if not isinstance(camera, CameraSpec):
                raise SpecError(
                    f"ObservationSpec: camera {name!r} is {camera!r}; give a CameraSpec(height, width)"
                )
        labels(self.state, "ObservationSpec: state")
        positive(self.rate_hz, "ObservationSpec: rate_hz")


@dataclass(frozen=True)
class ActionSpec:
    """Action of a robot in one control tick.

    Attributes:
        names: names of the entries, in order; their number is the action width A.
        low: smallest admissible value per entry.
        high: largest admissible value per entry.
        rate_hz: control ticks per second.
        mode: ``delta`` (change per tick), ``absolute``, or ``relative`` (to the state at "now" or to the action before;
            only a view makes these).
        frame: reference frame of translations and rotations.
        rotation: form of the rotation entries.
        gripper: sign of the entry that closes the gripper.
        gripper_entry: name of that entry; empty for the last one.
    """

    names: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    rate_hz: float
    mode: Mode = "delta"
    frame: str = "world"
    rotation: Rotation = "none"
    gripper: Gripper = "none"
    gripper_entry: str = ""

    def __post_init__(self) -> None:
        labels(self.names, "ActionSpec: names")
        if not self.names:
            raise SpecError("ActionSpec: no names. An action has at least one entry; name each of them.")
        for name in ("low", "high"):
            if not isinstance(getattr(self, name), tuple):
                raise SpecError(f"ActionSpec: {name} {getattr(self, name)!r} must be a tuple of numbers")
        if not len(self.names) == len(self.low) == len(self.high):
            raise SpecError(
                f"ActionSpec: names, low and high must have one entry per action dimension, "
                f"got {len(self.names)}, {len(self.low)} and {len(self.high)}"
            )
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            # Equal limits are those of an entry that a dataset never moves.
            if not (number(low) and number(high) and low <= high):
                raise SpecError(
                    f"ActionSpec: entry {name!r} has the limits {low!r} and {high!r}; they must be finite numbers, "
                    f"the lower one first. Without limits of the actuator, take the smallest and largest action."
                )
        positive(self.rate_hz, "ActionSpec: rate_hz")
        label(self.frame, "ActionSpec: frame")
        for name, words in (("mode", Mode), ("rotation", Rotation), ("gripper", Gripper)):
            value = getattr(self, name)
            if value not in get_args(words):
                raise SpecError(
                    f"ActionSpec: unknown {name} {value!r}. {did_you_mean(str(value), get_args(words))}"
                )
        if self.gripper_entry and self.gripper_entry not in self.names:
            raise SpecError(
                f"ActionSpec: gripper_entry: no entry {self.gripper_entry!r}. "
                f"{did_you_mean(self.gripper_entry, self.names)}"
            )

    @property
    def width(self) -> int:
        """Number of action dimensions A."""
        return len(self.names)

    @property
    def gripper_at(self) -> int | None:
        """Place of the gripper's entry; None without a gripper."""
        if self.gripper == "none":
            return None
        return self.names.index(self.gripper_entry) if self.gripper_entry else self.width - 1

    @property
    def arm(self) -> tuple[int, ...]:
        """Places of the entries that are neither the gripper's nor padding, ascending."""
        return tuple(
            i for i, name in enumerate(self.names) if i != self.gripper_at and not name.startswith(PADDING)
        )


def check_data(
    observation: ObservationSpec, action: ActionSpec, extras: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise :class:`SpecError` unless these are specs, and every extra has a name and a shape."""
    for spec, cls in ((observation, ObservationSpec), (action, ActionSpec)):
        if not isinstance(spec, cls):
            raise SpecError(f"DataSpec: {spec!r} must be an {cls.__name__}")
    for name, shape in extras.items():
        label(name, "DataSpec: the name of an extra")
        if not isinstance(shape, tuple):
            raise SpecError(
                f"DataSpec: extra {name!r}: its shape {shape!r} must be a tuple, () for one value"
            )
        for side in shape:
            whole(side, f"DataSpec: extra {name!r}: a side of its shape", 1)


S = TypeVar("S", ObservationSpec, ActionSpec)

# Field of a spec -> fields of `wamkit.views.ViewConfig` that change it; of a camera, whether it exists and its size; of
# columns, how they differ. Of a field without an entry, such as the frame of the actions, no view makes another one.
VIEW_FIELDS: Mapping[str, tuple[str, ...]] = {
    "cameras": ("cameras",),
    "camera size": ("size", "most", "fit"),
    "state": ("state_names", "state_rotations", "state_width"),
    "state order": ("state",),
    "state more": ("state", "state_width"),
    "rate_hz": ("rate_hz", "every"),
    "names": ("action_names", "action_rotations", "action_width"),
    "names order": ("action",),
    "names more": ("action", "action_width"),
    "low": ("action_ranges",),
    "high": ("action_ranges",),
    "mode": ("relative",),
    "rotation": ("action_rotations",),
    "gripper": ("action_ranges",),
}

# Fields of an action spec that a view declares where a dataset does not say them.
DECLARED = ("mode", "frame", "rotation", "gripper", "low", "high")

# Frame of an action spec that was inferred from a recording. Its limits are the smallest and largest recorded action.
UNKNOWN_FRAME = "unknown"


def size_option(height: int, width: int, unit: int) -> str:
    """Way out where the sides of a camera's pictures, in pixels, must be multiples of ``unit``."""
    rows, columns = (-(-side // unit) * unit for side in (height, width))
    return f"Set `view.size` of the design to such multiples: `--design.view.size '[{rows}, {columns}]'`."


def require_same(
    ours: S, theirs: S, our_name: str, their_name: str, option: str = "--design.view of a training"
) -> None:
    """Raise :class:`SpecError` when two specs disagree, with both sides and the fields of a view that map them.

    The limits of two inferred action specs may differ: they are what two recordings reached, and no convention.

    Args:
        ours: spec of the thing that is about to run.
        theirs: spec of the thing it is to be connected to.
        our_name: name of the first one in the message, such as ``design 'joint'``.
        their_name: name of the second one in the message, such as ``environment 'drawer-open-v3'``.
        option: option that takes the view, in words.
    """
    refuse(disagreements(ours, theirs), our_name, their_name, option)


def require_same_robot(
    ours: tuple[ObservationSpec, ActionSpec],
    theirs: tuple[ObservationSpec, ActionSpec],
    our_name: str,
    their_name: str,
    option: str = "--design.view of a training",
) -> None:
    """Raise :class:`SpecError` when observations or actions disagree, with all lines at once.

    The arguments are those of :func:`require_same`, with two specs on each side.
    """
    lines = disagreements(ours[0], theirs[0]) + disagreements(ours[1], theirs[1])
    refuse(lines, our_name, their_name, option)


def refuse(lines: Sequence[str], our_name: str, their_name: str, option: str) -> None:
    """Raise :class:`SpecError` with the lines of :func:`disagreements`, if there are any."""
    if lines:
        listing = "\n  ".join(lines)
        raise SpecError(
            f"{our_name} and {their_name} do not agree ({our_name} first):\n  {listing}\n"
            f"A view maps one to the other by the fields named there ({option}). Where none is named, or the numbers "
            f"mean something else, use a dataset and an environment with the same conventions, or retrain."
        )


def disagreements(ours: S, theirs: S) -> list[str]:
    """Lines that name every field in which two specs differ, both values, and the fields of a view that change it."""
    mine, other = dataclasses.asdict(ours), dataclasses.asdict(theirs)
    lines = []
    if isinstance(ours, ObservationSpec) and isinstance(theirs, ObservationSpec):
        lines = _camera_lines(ours.cameras, theirs.cameras)
        del mine["cameras"], other["cameras"]
    elif isinstance(ours, ActionSpec) and mine["frame"] == other["frame"] == UNKNOWN_FRAME:
        for limit in ("low", "high"):
            del mine[limit], other[limit]
    for field, (a, b) in differing(mine, other).items():
        inferred = UNKNOWN_FRAME in (getattr(ours, "frame", ""), getattr(theirs, "frame", ""))
        lines.append(f"{field}: {a!r} against {b!r}{_mends(field, a, b, inferred)}")
    return lines


def _mends(field: str, a: object, b: object, inferred: bool) -> str:
    """Fields of a view that map one value of a field to the other; ``inferred`` where a dataset did not say it."""
    if isinstance(a, tuple) and isinstance(b, tuple) and field in ("state", "names"):
        if sorted(a) == sorted(b):
            return _fields(f"{field} order")
        return _fields(f"{field} more" if set(a) < set(b) or set(b) < set(a) else field)
    if inferred and field in DECLARED:
        return f" (view of the training: declare.{field})"
    # A view makes absolute actions relative, and turns the sign of a gripper that there is.
    if (field == "mode" and "delta" in (a, b)) or (field == "gripper" and "none" in (a, b)):
        return ""
    return _fields(field)


def _camera_lines(ours: Mapping[str, CameraSpec], theirs: Mapping[str, CameraSpec]) -> list[str]:
    """Lines for cameras that one side lacks, or whose pictures differ."""
    lines = []
    for name in dict.fromkeys([*ours, *theirs]):
        a, b = ours.get(name), theirs.get(name)
        if a is None or b is None:
            lines.append(f"cameras.{name}: {_words(a)} against {_words(b)}{_fields('cameras')}")
        elif (a.height, a.width) != (b.height, b.width):
            lines.append(f"cameras.{name}: {_words(a)} against {_words(b)}{_fields('camera size')}")
        elif a != b:
            lines.append(f"cameras.{name}: pixels of {a.low} to {a.high} against {b.low} to {b.high}")
    return lines


def _words(camera: CameraSpec | None) -> str:
    return "none" if camera is None else f"{camera.height} x {camera.width} pixels"


def _fields(field: str) -> str:
    """Fields of a view that change a field of a spec, in brackets; empty for none."""
    names = VIEW_FIELDS.get(field, ())
    return f" (view: {' or '.join(names)})" if names else ""
