"""Figures of a dataset that its owner wants to see before training: from states, actions and times, no picture.

Every figure has a closed form, and nothing is estimated from a sample.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wamkit.contract.types import WindowSpec
from wamkit.data import layout
from wamkit.data.contents import Contents
from wamkit.data.findings import summarise

STILL = 1e-3  # change of an entry between two ticks that counts as none, as a part of its range
BINS = 24
DELAY_S = 1.0  # longest delay that is looked for
CLEAR = 0.3  # least correlation at which a delay is said
POINTS = 32  # points of an episode's path that are compared
ALIKE = 0.01  # largest distance of two paths that count as one, in standard deviations of their entries
LENGTHS = 0.02  # largest difference of their lengths, as a part of the longer one
UNITS = re.compile(r"_(m|rad|deg|mm|s|n|nm)$")
CHANGE = re.compile(r"^(delta_|diff_|d_?)(?=.)")


@dataclass(frozen=True)
class Entry:
    """One entry of the state or action over all frames.

    Attributes:
        name: its name.
        low: smallest value.
        high: largest value.
        mean: mean.
        std: standard deviation.
        counts: number of values in :data:`BINS` bins of equal width from ``low`` to ``high``.
        moves: false where all values are one.
    """

    name: str
    low: float
    high: float
    mean: float
    std: float
    counts: tuple[int, ...]
    moves: bool


@dataclass(frozen=True)
class Delay:
    """Delay of the state behind the action.

    Attributes:
        action: entry of the action; ``speed`` for all together.
        state: entry of the state; ``speed`` for all together.
        ticks: delay at which the two correlate most; None where none does clearly.
        correlation: Pearson correlation there, over all episodes.
    """

    action: str
    state: str
    ticks: int | None
    correlation: float


@dataclass(frozen=True)
class Jitter:
    """Deviation of the time between two frames from the period, seconds: root mean square and largest."""

    rms_s: float
    largest_s: float


@dataclass(frozen=True)
class Duplicate:
    """Two episodes with nearly the same states and actions.

    Attributes:
        first: number of one episode.
        second: number of the other.
        distance: root mean square distance of their paths, in standard deviations of the entries.
    """

    first: int
    second: int
    distance: float


@dataclass(frozen=True)
class Windows:
    """Windows that a design would cut.

    Attributes:
        count: number of windows, one per frame.
        observation: share of observed steps that repeat the first frame, because the window begins before it.
        action: share of action steps outside their episode.
        future: share of future steps that repeat the last frame; None where no future is read at fixed ticks.
    """

    count: int
    observation: float
    action: float
    future: float | None


def entries(values: np.ndarray, names: Sequence[str]) -> tuple[Entry, ...]:
    """Range, moments and histogram of every entry of ``values`` (N, D)."""
    found = []
    for name, column in zip(names, values.T.astype(np.float64), strict=True):
        low, high = float(column.min()), float(column.max())
        counts, _ = np.histogram(column, BINS, (low, high))
        found.append(
            Entry(
                name,
                low,
                high,
                float(column.mean()),
                float(column.std()),
                tuple(int(n) for n in counts),
                high > low,
            )
        )
    return tuple(found)


def idle_share(state: np.ndarray, action: np.ndarray, lengths: Sequence[int]) -> float:
    """Share of ticks at which neither state nor action changes.

    Args:
        state: (N, S).
        action: (N, A).
        lengths: frames per episode; they sum to N.

    Returns:
        idle ticks as a part of all ticks that have one before them in their episode; 0 where there are none.
    """
    values = np.concatenate((state, action), axis=1).astype(np.float64)
    still = (np.abs(np.diff(values, axis=0)) <= STILL * np.ptp(values, axis=0)).all(axis=1)
    inside = np.ones(len(still), dtype=bool)
    inside[np.cumsum(lengths)[:-1] - 1] = False  # from one episode to the next
    return float(still[inside].mean()) if inside.any() else 0.0


def delays(
    state: np.ndarray,
    action: np.ndarray,
    lengths: Sequence[int],
    names: tuple[Sequence[str], Sequence[str]],
    rate_hz: float,
    relative: bool,
) -> tuple[Delay, ...]:
    """Delay of every entry of the state behind the entry of the action of its name; of the speeds where none match.

    Compared are the changes per tick: of the state, and of the action, or the action itself where it is a change.

    Args:
        state: (N, S).
        action: (N, A).
        lengths: frames per episode.
        names: names of the state's entries, and of the action's.
        rate_hz: ticks per second.
        relative: true where actions are changes.
    """
    if not state.shape[1]:
        return ()
    motions = []
    for s, a in zip(_split(state, lengths), _split(action, lengths), strict=True):
        if len(s) > 1:
            motions.append((np.diff(s, axis=0), a[:-1] if relative else np.diff(a, axis=0)))
    pairs = matched(names[0], names[1], relative)
    columns = [(names[1][a], names[0][s], [(m[:, s], n[:, a]) for m, n in motions]) for s, a in pairs]
    if not pairs:
        norms = [(np.linalg.norm(m, axis=1), np.linalg.norm(n, axis=1)) for m, n in motions]
        columns = [("speed", "speed", norms)]
    longest = min(round(DELAY_S * rate_hz), max(lengths, default=0) // 2)
    return tuple(Delay(a, s, *_best_lag(series, longest)) for a, s, series in columns)


def matched(state: Sequence[str], action: Sequence[str], relative: bool) -> list[tuple[int, int]]:
    """Entries (state, action) of one name; units at the end, and signs of a change in front, are passed over."""

    def stem(name: str, change: bool) -> str:
        bare = UNITS.sub("", name.lower())
        return CHANGE.sub("", bare) if change else bare

    places: dict[str, int] = {stem(name, False): i for i, name in reversed(list(enumerate(state)))}
    found = ((places.get(stem(name, relative)), i) for i, name in enumerate(action))
    return [(place, i) for place, i in found if place is not None]


def _best_lag(series: Sequence[tuple[np.ndarray, np.ndarray]], longest: int) -> tuple[int | None, float]:
    """Lag at which the first of two series follows the second most closely, and the correlation there."""
    best, ticks = 0.0, None
    for lag in range(longest + 1):
        kept = [(s[lag:], a[: len(a) - lag]) for s, a in series if len(s) > lag + 1]
        if not kept:
            break
        follows, leads = (np.concatenate([pair[i] for pair in kept]).astype(np.float64) for i in (0, 1))
        follows, leads = follows - follows.mean(), leads - leads.mean()
        norm = float(np.sqrt((follows @ follows) * (leads @ leads)))
        value = float(follows @ leads) / norm if norm > 0 else 0.0
        if value > best + 1e-9:
            best, ticks = value, lag
    return (ticks if best >= CLEAR else None), best


def jitter(times: np.ndarray, lengths: Sequence[int], rate_hz: float) -> Jitter:
    """Deviation of the time stamps ``times`` (N,), seconds, from steps of one period within the episodes."""
    steps = [np.diff(part.astype(np.float64)) - 1 / rate_hz for part in _split(times, lengths)]
    off = np.concatenate(steps) if steps else np.zeros(0)
    if not len(off):
        return Jitter(0.0, 0.0)
    return Jitter(float(np.sqrt(np.mean(off**2))), float(np.abs(off).max()))


def duplicates(state: np.ndarray, action: np.ndarray, lengths: Sequence[int]) -> tuple[Duplicate, ...]:
    """Pairs of episodes whose states (N, S) and actions (N, A) follow nearly the same path in nearly the same time."""
    values = np.concatenate((state, action), axis=1).astype(np.float64)
    values = values[:, np.ptp(values, axis=0) > 0]
    if not values.shape[1]:
        return ()
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    paths = np.stack([_path(part) for part in _split(values, lengths)])  # (E, POINTS * D)
    sizes = np.asarray(lengths)
    found = []
    for i in range(len(paths) - 1):
        rest = sizes[i + 1 :]
        near = np.flatnonzero(np.abs(rest - sizes[i]) <= LENGTHS * np.maximum(rest, sizes[i])) + i + 1
        distances = np.sqrt(np.mean((paths[near] - paths[i]) ** 2, axis=1))
        alike = distances <= ALIKE
        found += [
            Duplicate(i, int(j), float(distance))
            for j, distance in zip(near[alike], distances[alike], strict=True)
        ]
    return tuple(found)


def _path(values: np.ndarray) -> np.ndarray:
    """Values (T, D) at :data:`POINTS` times from the first to the last frame, linear between frames, flat."""
    at = np.linspace(0, len(values) - 1, POINTS)
    below = np.minimum(at.astype(int), max(len(values) - 2, 0))
    above = np.minimum(below + 1, len(values) - 1)
    part = (at - below)[:, None]
    return (values[below] * (1 - part) + values[above] * part).ravel()


def windows(lengths: Sequence[int], spec: WindowSpec) -> Windows:
    """Number of windows of a design, and the shares of their steps that are padding."""
    future = spec.future
    return Windows(
        count=sum(lengths),
        observation=_outside(lengths, spec.observation),
        action=_outside(lengths, range(-spec.past_actions, spec.horizon)),
        future=_outside(lengths, future) if future else None,
    )


def _outside(lengths: Sequence[int], offsets: Sequence[int]) -> float:
    """Share of the steps at ``offsets`` from every frame that lie outside the frame's episode."""
    out = sum(min(abs(offset), length) for offset, length in itertools.product(offsets, lengths))
    return out / (sum(lengths) * len(offsets))


def _split(values: np.ndarray, lengths: Sequence[int]) -> list[np.ndarray]:
    """Values (N, ...) of every episode."""
    return np.split(values, np.cumsum(lengths)[:-1])


@dataclass(frozen=True)
class Survey:
    """Figures of a dataset.

    Attributes:
        lengths: frames per episode.
        tasks: instruction -> number of episodes.
        state: entries of the state.
        action: entries of the action.
        idle: share of ticks at which neither state nor action changes.
        delays: delay of the state behind the action.
        jitter: deviation of the time stamps.
        duplicates: near-duplicate episodes.
        successes: episodes that reached their goal, and those that record whether they did.
        rate_hz: frames per second.
    """

    lengths: tuple[int, ...]
    tasks: Mapping[str, int]
    state: tuple[Entry, ...]
    action: tuple[Entry, ...]
    idle: float
    delays: tuple[Delay, ...]
    jitter: Jitter
    duplicates: tuple[Duplicate, ...]
    successes: tuple[int, int]
    rate_hz: float

    @property
    def constant(self) -> list[str]:
        """Entries of state and action that never move."""
        groups = (("state", self.state), ("action", self.action))
        return [f"{group} {entry.name}" for group, found in groups for entry in found if not entry.moves]

    def to_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {**dataclasses.asdict(self), "constant": self.constant}


def survey(contents: Contents) -> Survey:
    """Figures of a sound dataset, without its pictures."""
    episodes, (observation, action) = contents.episodes, contents.specs
    summary = summarise(contents)
    lengths = [len(episode) for episode in episodes]
    acts = contents.column(layout.ACTION_KEY)
    states = np.zeros((len(acts), 0), np.float32)
    if layout.STATE_KEY in contents.features:
        states = contents.column(layout.STATE_KEY)
    names = (observation.state, action.names)
    relative = action.mode != "absolute"
    return Survey(
        lengths=tuple(lengths),
        tasks=summary.tasks,
        state=entries(states, observation.state),
        action=entries(acts, action.names),
        idle=idle_share(states, acts, lengths),
        delays=delays(states, acts, lengths, names, contents.fps, relative),
        jitter=jitter(contents.column("timestamp"), lengths, contents.fps),
        duplicates=duplicates(states, acts, lengths),
        successes=summary.successes,
        rate_hz=contents.fps,
    )
