"""Config of a view: how a design sees the data of a robot."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

from wamkit.config.ranges import Finite, Length, Positive, Room, Size, SomeWords, Word, Words
from wamkit.config.values import Config
from wamkit.contract.specs import DECLARED, UNKNOWN_FRAME, ActionSpec, Gripper, Rotation
from wamkit.errors import ConfigError
from wamkit.geometry.rotations import SIZES, Form

Fit = Literal["letterbox", "crop", "stretch"]
Reference = Literal["none", "state", "tick"]
Pair = Annotated[tuple[Finite, ...], Length(2)]


@dataclass(frozen=True)
class RotationView(Config):
    """Rotation in another form.

    Attributes:
        columns: recorded columns that hold the rotation, in the order of its form.
        recorded: form in which it is recorded.
        read: form in which the design sees it. Its columns are called ``<name>_0``, ``<name>_1`` and so on.
        name: first part of the new columns' names.
        against: recorded state columns, in the same form, that a relative action is composed with: the design sees
            the rotation from that state to the action, in the frame of that state. Empty for a rotation that stays
            absolute.
    """

    columns: SomeWords = ("rx", "ry", "rz")
    recorded: Form = "axis_angle"
    read: Form = "rot6d"
    name: Word = "rotation"
    against: Words = ()

    def __post_init__(self) -> None:
        for place, columns in (("columns", self.columns), ("against", self.against)):
            if len(columns) not in (
                {SIZES[self.recorded]} if place == "columns" else {0, SIZES[self.recorded]}
            ):
                raise ConfigError(
                    f"{place}: {list(columns)} are {len(columns)} columns, and the form {self.recorded!r} has "
                    f"{SIZES[self.recorded]}. Name one column per entry of the form."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that the design sees."""
        return tuple(f"{self.name}_{i}" for i in range(SIZES[self.read]))


@dataclass(frozen=True)
class RangeView(Config):
    """Affine change of one column's range; ends in the other order turn its sign.

    Attributes:
        recorded: two recorded values.
        read: values that the design sees for them.
    """

    recorded: Pair = (0.0, 1.0)
    read: Pair = (-1.0, 1.0)

    def __post_init__(self) -> None:
        for place, pair in (("recorded", self.recorded), ("read", self.read)):
            if len(pair) != 2 or pair[0] == pair[1]:
                raise ConfigError(f"{place}: {list(pair)} must be two different numbers.")


@dataclass(frozen=True)
class Declared(Config):
    """What the recorded actions are, where a dataset does not say it; null for what it says, or for what is inferred.

    A dataset that wamkit wrote says all of it, and a declaration that contradicts it is refused. Of any other, what is
    not declared counts as absolute, in an unknown frame, without rotation and gripper, within the recorded extremes.

    Attributes:
        mode: ``absolute``, or ``delta`` (change per recorded tick).
        frame: reference frame of translations and rotations, such as ``world``; with ``low`` and ``high``.
        rotation: form of the rotation entries.
        gripper: sign of the last entry that closes the gripper.
        low: smallest admissible value per recorded action column.
        high: largest admissible value per recorded action column.
    """

    mode: Literal["absolute", "delta"] | None = None
    frame: Word | None = None
    rotation: Rotation | None = None
    gripper: Gripper | None = None
    low: tuple[Finite, ...] | None = None
    high: tuple[Finite, ...] | None = None

    def of(self, action: ActionSpec) -> ActionSpec:
        """Action spec with what is declared; raises :class:`ConfigError` where the dataset says something else."""
        said = {name: value for name in DECLARED if (value := getattr(self, name)) is not None}
        for name, value in said.items():
            own = getattr(action, name)
            if action.frame != UNKNOWN_FRAME and value != own:  # inferred specs have no frame
                raise ConfigError(
                    f"view.declare.{name}: {value!r}, but the dataset says {own!r}. Leave it out of `view.declare`, "
                    f"which is for what a dataset does not say."
                )
            if name in ("low", "high"):
                self._check_limits(name, value, action)
        if (
            action.frame == UNKNOWN_FRAME
            and self.frame is not None
            and (self.low is None or self.high is None)
        ):
            raise ConfigError(
                "view.declare.frame: actions whose frame is known are compared with their limits, too, and a recording "
                "does not say those. Declare `low` and `high`, one per action column."
            )
        return dataclasses.replace(action, **said) if said else action

    def _check_limits(self, name: str, declared: tuple[float, ...], action: ActionSpec) -> None:
        """Raise :class:`ConfigError` unless there is a limit per column, and no recorded action lies beyond it."""
        if len(declared) != action.width:
            raise ConfigError(
                f"view.declare.{name}: {len(declared)} limits for the {action.width} columns {', '.join(action.names)}."
            )
        for column, limit, reached in zip(action.names, declared, getattr(action, name), strict=True):
            if (limit > reached) if name == "low" else (limit < reached):
                raise ConfigError(
                    f"view.declare.{name}: {limit:g} for {column!r}, but actions of {reached:g} were recorded. Correct "
                    f"the limit, or the recording."
                )


@dataclass(frozen=True)
class ViewConfig(Config):
    """How a design sees a robot's data; the default shows them as they are recorded.

    Columns are chosen first; then actions become relative, rotations change their form, ranges are mapped, and the
    width is padded. Acting takes the same way back.

    Attributes:
        cameras: name that the design reads -> recorded camera; null for all, under their own names.
        size: rows and columns of every picture, whatever ``most`` and ``multiple`` say; empty for those of the
            recording.
        most: rows or columns above which a picture is brought to a square of this side; 0 for no limit.
        multiple: number that must divide the sides of a picture; one with other sides is brought to the square of
            ``most`` as well. 1 for any sides.
        fit: how another shape is met: ``letterbox`` keeps the whole picture between black bars, ``crop`` keeps its
            middle, ``stretch`` distorts it. Pixels are averaged over the area that they cover.
        state: recorded columns of the state, in the order in which they are read; null for all.
        action: recorded columns of the action, in the order in which they are read; null for all. When acting, every
            column of the robot is needed, so a design that reads fewer can be trained and tested on recordings only.
        every: one recorded tick of so many is read.
        rate_hz: ticks per second that are read, each the nearest recorded one; null for the recorded rate. Not with
            ``every``.
        relative: what absolute actions are relative to: ``none``, the ``state`` at "now", or the action one ``tick``
            before (the state at "now" for the first).
        relative_columns: recorded action column -> recorded state column that it is relative to; empty for all action
            columns that a state column shares its name with.
        state_rotations: rotations of the state in other forms.
        action_rotations: rotations of the action in other forms.
        state_ranges: recorded state column -> change of its range.
        action_ranges: recorded action column -> change of its range, such as that of a gripper.
        state_names: recorded state column -> name under which the design reads it; others keep theirs. All other fields
            name columns as they are recorded.
        action_names: recorded action column -> name under which the design reads it.
        state_width: number of state columns after padding, which nothing reads; 0 for none.
        action_width: number of action columns after padding, which nothing reads or learns; 0 for none.
        points: recorded extra of pixel coordinates (..., 2), x and y -> recorded camera in whose picture they lie. They
            follow where the picture's size changes, as maps (``depth.<camera>``) and the lens (``camera.<camera>``) do.
        unmoved: recorded extras that are called ``kind.<camera>`` and do not lie in that camera's picture.
        declare: what a dataset does not say of its actions.
    """

    cameras: dict[str, Word] | None = None
    size: tuple[Size, ...] = ()
    most: Room = 0
    multiple: Size = 1
    fit: Fit = "letterbox"
    state: Words | None = None
    action: SomeWords | None = None
    every: Size = 1
    rate_hz: Positive | None = None
    relative: Reference = "none"
    relative_columns: dict[str, Word] = field(default_factory=dict)
    state_rotations: tuple[RotationView, ...] = ()
    action_rotations: tuple[RotationView, ...] = ()
    state_ranges: dict[str, RangeView] = field(default_factory=dict)
    action_ranges: dict[str, RangeView] = field(default_factory=dict)
    state_names: dict[str, Word] = field(default_factory=dict)
    action_names: dict[str, Word] = field(default_factory=dict)
    state_width: Room = 0
    action_width: Room = 0
    points: dict[str, Word] = field(default_factory=dict)
    unmoved: Words = ()
    declare: Declared = field(default_factory=Declared)

    def __post_init__(self) -> None:
        if len(self.size) not in (0, 2):
            raise ConfigError(f"size: {list(self.size)} must be rows and columns, or empty.")
        if not self.size and self.multiple > 1 and (self.most == 0 or self.most % self.multiple):
            raise ConfigError(
                f"multiple {self.multiple}: pictures of other sides are brought to a square of most = {self.most}, "
                f"which must be a multiple of it. Set `most` to {max(1, self.most // self.multiple) * self.multiple}, "
                f"or `multiple` to 1."
            )
        if self.every != 1 and self.rate_hz is not None:
            raise ConfigError(f"every {self.every} and rate_hz {self.rate_hz}: choose one of the two.")
        if self.relative == "none" and self.relative_columns:
            raise ConfigError("relative_columns: nothing is relative. Set `relative` to state or tick.")
        if self.relative == "none" and any(rotation.against for rotation in self.action_rotations):
            raise ConfigError("action_rotations: `against` needs `relative` set to state or tick.")
        if any(rotation.against for rotation in self.state_rotations):
            raise ConfigError("state_rotations: `against` is for actions; leave it out.")

    def recorded_extra(self, name: str) -> str:
        """Name under which an extra that a design reads is recorded: one of a camera is renamed with it."""
        kind, dot, last = name.rpartition(".")
        renamed = dot and name not in self.unmoved and last in (self.cameras or {})
        return f"{kind}.{(self.cameras or {})[last]}" if renamed else name
