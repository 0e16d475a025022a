"""Columns of a state or an action as a design sees them, and the way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from wamkit.contract.data import Scaling
from wamkit.contract.specs import PADDING
from wamkit.errors import ConfigError, did_you_mean
from wamkit.geometry.rotations import SIZES, Form, convert, parse_rotation, rotates, write
from wamkit.views.config import RangeView, Reference, RotationView


@dataclass(frozen=True)
class Piece:
    """Neighbouring columns that are changed together.

    Attributes:
        source: places of the recorded columns.
        names: names of the columns that the design sees.
        rotation: change of the form of a rotation; None for a plain column.
        scale: factor on a plain column.
        shift: summand of a plain column, after the factor.
        against: places of the recorded state columns that the action is relative to; empty for an absolute one.
    """

    source: tuple[int, ...]
    names: tuple[str, ...]
    rotation: tuple[Form, Form] | None = None
    scale: float = 1.0
    shift: float = 0.0
    against: tuple[int, ...] = ()

    @property
    def plain(self) -> bool:
        """True for a column that is seen as it is recorded."""
        return self.rotation is None and (self.scale, self.shift) == (1.0, 0.0) and not self.against


class Columns:
    """Recorded columns -> those that a design sees, and back.

    Args:
        recorded: names of the recorded columns.
        chosen: columns that are read, in order; None for all.
        rotations: rotations in other forms.
        ranges: column -> change of its range.
        width: number of columns after padding; 0 for no padding.
        place: field of the view, for messages.
        against: action column -> place of the state column that it is relative to.
        turned: name of a rotation -> places of the state columns that it is composed with.
        reference: what relative columns are relative to.
        scaling: change of all columns, after every other; None for none.
        renamed: recorded column -> name under which it is read; others keep theirs.

    Attributes:
        recorded: names of the recorded columns.
        names: names of the columns that the design sees, padding included.
        real: number of these that are no padding.
        pieces: changes, in the order of the columns that the design sees.

    Raises:
        ConfigError: a column is unknown or named twice, or the width is too small.
    """

    def __init__(
        self,
        recorded: Sequence[str],
        chosen: Sequence[str] | None,
        rotations: Sequence[RotationView],
        ranges: Mapping[str, RangeView],
        width: int,
        place: str,
        against: Mapping[str, int] = {},
        turned: Mapping[str, tuple[int, ...]] = {},
        reference: Reference = "none",
        scaling: Scaling | None = None,
        renamed: Mapping[str, str] = {},
    ) -> None:
        self.recorded = tuple(recorded)
        self._place, self._reference, self._renamed = place, reference, renamed
        read = self.recorded if chosen is None else tuple(chosen)
        for name in (*read, *ranges, *renamed, *(c for r in rotations for c in r.columns)):
            self._find(name)
        self.pieces = tuple(self._pieces(read, rotations, ranges, against, turned))
        names = [name for piece in self.pieces for name in piece.names]
        self.real = len(names)
        if width and width < self.real:
            raise ConfigError(
                f"view.{place}_width: {width} is less than the {self.real} columns that are read. Choose more."
            )
        if scaling is not None and len(scaling.shift) != self.real:
            raise ConfigError(
                f"view.{place}: {self.real} columns are read, but their scaling is of {len(scaling.shift)}. It belongs "
                f"to another view."
            )
        self._scale = np.array(scaling.scale if scaling else [1.0] * self.real)
        self._shift = np.array(scaling.shift if scaling else [0.0] * self.real)
        names += [f"{PADDING}{i}" for i in range(self.real, width)]
        twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
        if twice is not None:
            raise ConfigError(
                f"view.{place}: two columns are called {twice!r}. Give one another name, in `view.{place}_names` or in "
                f"`name` of its rotation."
            )
        self.names = tuple(names)

    @property
    def same(self) -> bool:
        """True where the columns are seen as they are recorded."""
        plain = (self._scale == 1).all() and not self._shift.any()
        return bool(plain) and self.names == self.recorded and all(piece.plain for piece in self.pieces)

    @property
    def read(self) -> tuple[int, ...]:
        """Places of the recorded columns that are read, ascending."""
        return tuple(sorted(i for piece in self.pieces for i in piece.source))

    @property
    def whole(self) -> bool:
        """True if every recorded column is read, so that there is a way back."""
        return self.read == tuple(range(len(self.recorded)))

    def see(self, values: np.ndarray, state: np.ndarray | None = None, past: int = 0) -> np.ndarray:
        """Change recorded values (..., T, D) to what the design sees, (..., T, D'), in double precision.

        Args:
            values: recorded values; of actions, the first ``past`` lie before "now".
            state: recorded state at "now" (..., S), needed where columns are relative.
            past: P, number of actions before "now".
        """
        values = np.asarray(values, np.float64)
        parts = [self._see(piece, values[..., list(piece.source)], state, past) for piece in self.pieces]
        padding = np.zeros((*values.shape[:-1], len(self.names) - self.real))
        real = np.concatenate((*parts, padding[..., :0]), axis=-1)
        return np.concatenate(((real - self._shift) / self._scale, padding), axis=-1)

    def back(self, seen: np.ndarray, state: np.ndarray | None = None, partly: bool = False) -> np.ndarray:
        """Change values (..., T, D') that a design gave, the first at "now", to recorded ones (..., T, D).

        Args:
            seen: values.
            state: recorded state at "now" (..., S), needed where columns are relative.
            partly: true to leave columns that are not read as NaN.

        Raises:
            ConfigError: a recorded column is not read, so its value is not known.
        """
        if not partly:
            self.require_whole()
        seen = np.asarray(seen, np.float64)[..., : self.real] * self._scale + self._shift
        out = np.full((*seen.shape[:-1], len(self.recorded)), np.nan)
        first = 0
        for piece in self.pieces:
            part = seen[..., first : first + len(piece.names)]
            out[..., list(piece.source)] = self._back(piece, part, state)
            first += len(piece.names)
        return out

    def no_rotation(self, values: np.ndarray) -> tuple[int, str] | None:
        """First row of recorded values (N, D) that is no rotation as its form says, and its columns; None for none."""
        for piece in self.pieces:
            if piece.rotation is not None:
                wrong = np.flatnonzero(
                    ~rotates(values[:, list(piece.source)].astype(np.float64), piece.rotation[0])
                )
                if len(wrong):
                    names = ", ".join(self.recorded[i] for i in piece.source)
                    return int(wrong[0]), f"{names} ({piece.rotation[0]})"
        return None

    @property
    def still(self) -> np.ndarray:
        """Recorded values (D,) that stand in where there are none: zeros, and rotations by nothing."""
        out = np.zeros(len(self.recorded))
        for piece in self.pieces:
            if piece.rotation is not None:
                out[list(piece.source)] = write(
                    scipy.spatial.transform.Rotation.identity(1), piece.rotation[0]
                )[0]
        return out

    def require_whole(self) -> None:
        """Raise :class:`ConfigError` unless every recorded column is read."""
        if not self.whole:
            read = {i for piece in self.pieces for i in piece.source}
            missing = [name for i, name in enumerate(self.recorded) if i not in read]
            raise ConfigError(
                f"view.{self._place}: the robot also needs {', '.join(missing)}, which this design does not give. Add "
                f"these columns to `view.{self._place}` and train again, or test the design on recordings only."
            )

    def limits(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Limits of the columns that the design sees, from those of the recorded ones, (D',) each.

        A relative column reaches from one end of its recorded range to the other, both ways.
        """
        lows, highs = [], []
        for piece in self.pieces:
            if piece.rotation is not None:
                reach = np.pi if SIZES[piece.rotation[1]] == 3 else 1.0
                pair = np.full(len(piece.names), -reach), np.full(len(piece.names), reach)
            else:
                least, most = low[list(piece.source)], high[list(piece.source)]
                if piece.against:
                    least, most = least - most, most - least
                ends = least * piece.scale + piece.shift, most * piece.scale + piece.shift
                pair = np.minimum(*ends), np.maximum(*ends)
            lows.append(pair[0])
            highs.append(pair[1])
        padding = np.zeros(len(self.names) - self.real)
        low, high = ((np.concatenate(ends) - self._shift) / self._scale for ends in (lows, highs))
        return np.concatenate((low, padding)), np.concatenate((high, padding))

    def _find(self, name: str) -> int:
        if name not in self.recorded:
            raise ConfigError(
                f"view.{self._place}: no recorded column {name!r}. {did_you_mean(name, self.recorded)}"
            )
        return self.recorded.index(name)

    def _pieces(
        self,
        read: Sequence[str],
        rotations: Sequence[RotationView],
        ranges: Mapping[str, RangeView],
        against: Mapping[str, int],
        turned: Mapping[str, tuple[int, ...]],
    ) -> list[Piece]:
        owner = {column: rotation for rotation in rotations for column in rotation.columns}
        pieces = []
        for name in read:
            if name in owner:
                rotation = owner[name]
                self._check_rotation(rotation, read, ranges, owner)
                if name == rotation.columns[0]:  # the rotation stands where its first column stands
                    places = tuple(self._find(column) for column in rotation.columns)
                    forms = rotation.recorded, rotation.read
                    pieces.append(Piece(places, rotation.names, forms, against=turned.get(rotation.name, ())))
                continue
            scale, shift = 1.0, 0.0
            if name in ranges:
                (a, b), (c, d) = ranges[name].recorded, ranges[name].read
                scale, shift = (d - c) / (b - a), c - a * (d - c) / (b - a)
            states = (against[name],) if name in against else ()
            if states and shift:  # a difference has no origin
                shift = 0.0
            names = (self._renamed.get(name, name),)
            pieces.append(Piece((self._find(name),), names, None, scale, shift, states))
        return pieces

    def _check_rotation(
        self,
        rotation: RotationView,
        read: Sequence[str],
        ranges: Mapping[str, RangeView],
        owner: Mapping[str, RotationView],
    ) -> None:
        place = f"view.{self._place}_rotations"
        for column in rotation.columns:
            if column not in read:
                raise ConfigError(
                    f"{place}: column {column!r} of the rotation {rotation.name!r} is not read."
                )
            if column in self._renamed:
                raise ConfigError(
                    f"view.{self._place}_names: column {column!r} is an entry of a rotation, whose columns are called "
                    f"{', '.join(rotation.names)}. Set `name` of that rotation."
                )
            if column in ranges:
                raise ConfigError(f"{place}: column {column!r} is an entry of a rotation and has no range.")
            if owner[column] is not rotation:
                raise ConfigError(f"{place}: column {column!r} belongs to two rotations.")

    def _see(self, piece: Piece, values: np.ndarray, state: np.ndarray | None, past: int) -> np.ndarray:
        if piece.rotation is not None:
            return self._see_rotation(piece, piece.rotation, values, state, past)
        if piece.against:
            values = values - self._before(values, self._at(piece, state), past)
        return values * piece.scale + piece.shift

    def _back(self, piece: Piece, part: np.ndarray, state: np.ndarray | None) -> np.ndarray:
        if piece.rotation is not None:
            return self._back_rotation(piece, piece.rotation, part, state)
        values = (part - piece.shift) / piece.scale
        if not piece.against:
            return values
        if self._reference == "tick":
            values = np.cumsum(values, axis=-2)
        return values + self._at(piece, state)[..., None, :]

    def _before(self, values: np.ndarray, now: np.ndarray, past: int) -> np.ndarray:
        """What each action (..., T, n) is relative to, given the state ``now`` (..., n)."""
        if self._reference == "state":
            return np.broadcast_to(now[..., None, :], values.shape).copy()
        before = np.concatenate(
            (values[..., :1, :], values[..., :-1, :]), axis=-2
        )  # the first one stands still
        if past < before.shape[-2]:
            before[..., past, :] = now
        return before

    def _see_rotation(
        self, piece: Piece, forms: tuple[Form, Form], values: np.ndarray, state: np.ndarray | None, past: int
    ) -> np.ndarray:
        if not piece.against:
            return convert(values, *forms)
        before = self._before(values, self._at(piece, state), past)
        size = SIZES[forms[0]]
        turn = parse_rotation(before.reshape(-1, size), forms[0]).inv() * parse_rotation(
            values.reshape(-1, size), forms[0]
        )
        return write(turn, forms[1]).reshape(*values.shape[:-1], -1)

    def _back_rotation(
        self, piece: Piece, forms: tuple[Form, Form], part: np.ndarray, state: np.ndarray | None
    ) -> np.ndarray:
        if not piece.against:
            return convert(part, forms[1], forms[0])
        size, steps = SIZES[forms[1]], part.shape[-2]
        flat = part.reshape(-1, steps, size)
        at = parse_rotation(self._at(piece, state).reshape(-1, SIZES[forms[0]]), forms[0])
        out = np.empty((len(flat), steps, SIZES[forms[0]]))
        now = at
        for step in range(steps):
            now = (at if self._reference == "state" else now) * parse_rotation(flat[:, step], forms[1])
            out[:, step] = write(now, forms[0])
        return out.reshape(*part.shape[:-1], -1)

    def _at(self, piece: Piece, state: np.ndarray | None) -> np.ndarray:
        """State columns (..., n) at "now" that a piece is relative to."""
        assert state is not None, "relative columns need the state"
        return np.asarray(state, np.float64)[..., list(piece.against)]
