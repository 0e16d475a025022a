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

from wamkit.data import faults, layout
from wamkit.data.catalog import EPISODE_STATS as COMPARED
from wamkit.data.check import Part
from wamkit.data.stats import CHANGED, REBUILD, FeatureStats, as_numbers
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


def sums(values: np.ndarray, starts: np.ndarray) -> Sums:
    """Number, range and mean of ``values`` (N, D) in the groups that begin at ``starts`` (G,)."""
    count = np.diff(np.append(starts, len(values)))[:, None]
    return Sums(
        count=count,
        min=np.minimum.reduceat(values, starts),
        max=np.maximum.reduceat(values, starts),
        mean=np.add.reduceat(values.astype(np.float64), starts) / count,
    )


def episodes(part: Part, key: str, names: Sequence[str], stated: Mapping[str, np.ndarray]) -> None:
    """Report every episode whose frames are not those that its statistics describe.

    Args:
        part: the episodes of one data file, with values (T, D) of the feature.
        key: the feature.
        names: (D,) names of its entries.
        stated: statistic -> values (E, D) of all episodes, as far as the episode table has them.
    """
    for episode, values in part.each(key):
        if faults.known(key, ("value", "limits"), episode.index):
            continue  # their cause was reported
        own = {name: rows[episode.index][None] for name, rows in stated.items()}
        fault = difference(sums(values, np.zeros(1, dtype=int)), own)
        if fault is not None:
            faults.report(
                "changed",
                f"{part.path}, episode {episode.index}, feature {key!r}, entry {names[fault.entry]!r}: {fault}, which "
                f"the episode table has. {CHANGED}",
                file=part.path,
                episode=episode.index,
                feature=key,
            )


def whole(root: Path, key: str, names: Sequence[str], values: np.ndarray, stored: FeatureStats) -> None:
    """Report statistics of actions or states that are not those of the frames.

    Args:
        root: the dataset folder.
        key: the feature.
        names: (D,) names of its entries.
        values: (N, D), all finite; of actions, those of frames that have one.
        stored: statistics of the whole.
    """
    place = f"{root / layout.STATS}, feature {key!r}"
    if stored.count != len(values):
        raise DataError(
            f"{place}: 'count' is {stored.count}, but the dataset has {len(values)} such frames. {REBUILD}"
        )
    found = sums(values, np.zeros(1, dtype=int))
    fault = difference(found, {name: getattr(stored, name)[None] for name in COMPARED})
    fault = fault or _deviation(values, found, stored)
    if fault is not None:
        raise DataError(
            f"{place}, entry {names[fault.entry]!r}: {fault}, so the statistics are those of other data. {REBUILD}"
        )


def extra(root: Path, key: str, values: np.ndarray, stored: Mapping[str, Any]) -> None:
    """Compare range and mean of a further feature with its values, where ``stats.json`` has them per entry.

    Args:
        root: the dataset folder.
        key: the feature.
        values: (N, ...).
        stored: content of ``meta/stats.json``. Nothing reads the statistics of extras, so they may be missing.

    Raises:
        DataError: they are those of other values.
    """
    entry = stored.get(key)
    if not isinstance(entry, dict) or values.ndim > 2 or values.dtype.kind == "b":
        return
    found = sums(values.reshape(len(values), -1), np.zeros(1, dtype=int))
    stated = {name: as_numbers(entry[name]) for name in COMPARED if name in entry}
    if any(array is None or not np.isfinite(array).all() for array in stated.values()):
        return  # of values that are not all finite, or of no use to anybody
    known = {name: array[None] for name, array in stated.items() if array is not None}
    fault = difference(
        found, {name: array for name, array in known.items() if array.shape == found.min.shape}
    )
    if fault is not None:
        raise DataError(f"{root / layout.STATS}, feature {key!r}, entry {fault.entry}: {fault}. {CHANGED}")


@dataclass(frozen=True)
class Difference:
    """A statistic that is not that of the frames: which, of which group and entry, and both values."""

    name: str
    group: int
    entry: int
    found: float
    stored: float

    def __str__(self) -> str:
        return f"the frames have {self.name} {self.found:.9g}, not {self.stored:.9g}"


def difference(found: Sums, stored: Mapping[str, np.ndarray]) -> Difference | None:
    """First statistic in ``stored`` (name -> (G, D)) that is not that of the frames."""
    scale = _scale(found)
    for name, values in stored.items():
        wrong = ~(np.abs(values - getattr(found, name)) <= (MEAN if name == "mean" else ENDS) * scale)
        if wrong.any():
            group, entry = (int(i) for i in np.argwhere(wrong)[0])
            return Difference(name, group, entry, getattr(found, name)[group, entry], values[group, entry])
    return None


def _scale(found: Sums) -> np.ndarray:
    """Largest magnitude in every group (G, D)."""
    return np.maximum(np.abs(found.min), np.abs(found.max)).astype(np.float64)


def _deviation(values: np.ndarray, whole: Sums, stored: FeatureStats) -> Difference | None:
    """First standard deviation of ``values`` (N, D) that is not the stored one."""
    wide = values.astype(np.float64)
    variance = np.maximum(np.einsum("nd,nd->d", wide, wide) / len(wide) - whole.mean[0] ** 2, 0.0)
    wrong = ~(np.abs(stored.std**2 - variance) <= VARIANCE * _scale(whole)[0] ** 2)
    if not wrong.any():
        return None
    entry = int(np.argmax(wrong))
    return Difference("std", 0, entry, float(variance[entry] ** 0.5), stored.std[entry])
