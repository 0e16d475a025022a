"""Statistics against the frames they describe: of every episode, of the whole, and of extras.

LeRobot 0.4.4 computes statistics of an episode in float32 and combines them: ranges are exact, means and deviations
carry float32 rounding, and quantiles are averages of estimates, which say little about the quantiles of the whole. So
those are not compared; in a dataset of wamkit they have a digest (:mod:`wamkit.data.seals`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.data import layout
from wamkit.data.catalog import EPISODE_STATS as COMPARED
from wamkit.data.catalog import EpisodeRow
from wamkit.data.layout import entry_names
from wamkit.data.stats import CHANGED, REBUILD, FeatureStats, acted_frames, as_numbers
from wamkit.errors import DataError

# How far a statistic may lie from that of the frames, in units of the largest magnitude, the variance of its square.
ENDS, MEAN, VARIANCE = 1e-5, 1e-3, 1e-5


@dataclass(frozen=True)
class Sums:
    """Number, range and mean of groups of frames: (G, 1), and (G, D) each."""

    count: np.ndarray
    min: np.ndarray
    max: np.ndarray
    mean: np.ndarray

    def whole(self) -> Sums:
        """The same over all groups together, (1, D)."""
        return Sums(
            count=self.count.sum(keepdims=True),
            min=self.min.min(axis=0, keepdims=True),
            max=self.max.max(axis=0, keepdims=True),
            mean=(self.count / self.count.sum()).T @ self.mean,
        )


def sums(values: np.ndarray, starts: np.ndarray) -> Sums:
    """Number, range and mean of ``values`` (N, D) in the groups that begin at ``starts`` (G,)."""
    count = np.diff(np.append(starts, len(values)))[:, None]
    return Sums(
        count=count,
        min=np.minimum.reduceat(values, starts),
        max=np.maximum.reduceat(values, starts),
        mean=np.add.reduceat(values.astype(np.float64), starts) / count,
    )


def vectors(
    root: Path,
    info: Mapping[str, Any],
    rows: Sequence[EpisodeRow],
    arrays: Mapping[str, np.ndarray],
    stats: Mapping[str, FeatureStats],
    per_episode: Mapping[str, Mapping[str, np.ndarray]],
    acted: np.ndarray,
) -> None:
    """Compare the statistics of actions and states with the frames.

    Args:
        root: the dataset folder.
        info: content of ``meta/info.json``.
        rows: the episodes.
        arrays: feature key -> values (N, D), all finite.
        stats: feature key -> statistics of the whole.
        per_episode: feature key -> statistic -> values (E, D), as far as the episode table has them.
        acted: (N,) bool, frames with an action; statistics of the whole leave out the actions of the others.

    Raises:
        DataError: they are those of other frames.
    """
    starts = np.array([row.start for row in rows])
    for key, values in arrays.items():
        names = entry_names(info["features"][key], "entry")
        groups = sums(values, starts)
        fault = difference(groups, per_episode.get(key, {}))
        if fault is not None:
            row = rows[fault.group]
            raise DataError(
                f"{row.data}, episode {row.index}, feature {key!r}, entry {names[fault.entry]!r}: {fault}, which the "
                f"episode table has. {CHANGED}"
            )
        whole, stored = groups.whole(), stats[key]
        if key == layout.ACTION_KEY and not acted.all():
            values = acted_frames(values, acted)
            whole = sums(values, np.zeros(1, dtype=int))
        place = f"{root / layout.STATS}, feature {key!r}"
        if stored.count != len(values):
            raise DataError(
                f"{place}: 'count' is {stored.count}, but the dataset has {len(values)} such frames. {REBUILD}"
            )
        fault = difference(whole, {name: getattr(stored, name)[None] for name in COMPARED})
        fault = fault or _deviation(values, whole, stored)
        if fault is not None:
            raise DataError(
                f"{place}, entry {names[fault.entry]!r}: {fault}, so the statistics are those of other data. {REBUILD}"
            )


def extras(root: Path, arrays: Mapping[str, np.ndarray], stored: Mapping[str, Any]) -> None:
    """Compare range and mean of further features with their values, where ``stats.json`` has them per entry.

    Args:
        root: the dataset folder.
        arrays: feature key -> values (N, ...).
        stored: content of ``meta/stats.json``. Nothing reads the statistics of extras, so they may be missing.

    Raises:
        DataError: they are those of other values.
    """
    for key, values in arrays.items():
        entry = stored.get(key)
        if not isinstance(entry, dict) or values.ndim > 2 or values.dtype.kind == "b":
            continue
        found = sums(values.reshape(len(values), -1), np.zeros(1, dtype=int))
        stated = {name: as_numbers(entry[name]) for name in COMPARED if name in entry}
        if any(array is None or not np.isfinite(array).all() for array in stated.values()):
            continue  # of values that are not all finite, or of no use to anybody
        known = {name: array[None] for name, array in stated.items() if array is not None}
        fault = difference(
            found, {name: array for name, array in known.items() if array.shape == found.min.shape}
        )
        if fault is not None:
            raise DataError(
                f"{root / layout.STATS}, feature {key!r}, entry {fault.entry}: {fault}. {CHANGED}"
            )


@dataclass(frozen=True)
class Fault:
    """A statistic that is not that of the frames: which, of which group and entry, and both values."""

    name: str
    group: int
    entry: int
    found: float
    stored: float

    def __str__(self) -> str:
        return f"the frames have {self.name} {self.found:.9g}, not {self.stored:.9g}"


def difference(found: Sums, stored: Mapping[str, np.ndarray]) -> Fault | None:
    """First statistic in ``stored`` (name -> (G, D)) that is not that of the frames."""
    scale = _scale(found)
    for name, values in stored.items():
        wrong = ~(np.abs(values - getattr(found, name)) <= (MEAN if name == "mean" else ENDS) * scale)
        if wrong.any():
            group, entry = (int(i) for i in np.argwhere(wrong)[0])
            return Fault(name, group, entry, getattr(found, name)[group, entry], values[group, entry])
    return None


def _scale(found: Sums) -> np.ndarray:
    """Largest magnitude in every group (G, D)."""
    return np.maximum(np.abs(found.min), np.abs(found.max)).astype(np.float64)


def _deviation(values: np.ndarray, whole: Sums, stored: FeatureStats) -> Fault | None:
    """First standard deviation of ``values`` (N, D) that is not the stored one."""
    wide = values.astype(np.float64)
    variance = np.maximum(np.einsum("nd,nd->d", wide, wide) / len(wide) - whole.mean[0] ** 2, 0.0)
    wrong = ~(np.abs(stored.std**2 - variance) <= VARIANCE * _scale(whole)[0] ** 2)
    if not wrong.any():
        return None
    entry = int(np.argmax(wrong))
    return Fault("std", 0, entry, float(variance[entry] ** 0.5), stored.std[entry])
