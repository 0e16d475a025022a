"""Exact statistics of a feature: moments, range and five quantiles.

Names and shapes are those of LeRobotDataset v3.0: vectors have one value per entry, (D,); images have one per
channel, (3, 1, 1), for pixels scaled to 0..1. LeRobot samples frames and estimates quantiles from histograms averaged
over episodes; here all values are used and quantiles are exact (linear interpolation, as in ``numpy.quantile``).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from wamkit.errors import DataError

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True)
class FeatureStats:
    """Statistics of one feature over all frames.

    Attributes:
        mean: mean; (D,) for vectors, (3, 1, 1) for images, (1, ..., 1) for extras with two or more axes.
        std: population standard deviation, same shape.
        min: smallest value, same shape.
        max: largest value, same shape.
        q01: quantile 0.01, same shape.
        q10: quantile 0.10, same shape.
        q50: median, same shape.
        q90: quantile 0.90, same shape.
        q99: quantile 0.99, same shape.
        count: number of frames.
    """

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray
    q01: np.ndarray
    q10: np.ndarray
    q50: np.ndarray
    q90: np.ndarray
    q99: np.ndarray
    count: int

    def to_json(self) -> dict[str, Any]:
        """Convert to the form of ``meta/stats.json``: nested lists, ``count`` as a list of one."""
        arrays = {
            f.name: getattr(self, f.name).tolist() for f in dataclasses.fields(self) if f.name != "count"
        }
        return {**arrays, "count": [self.count]}


REBUILD = "Recompute the file with wamkit.data.rebuild_stats(root)."
CHANGED = (
    "Copy the dataset again. Or, if the frames were changed on purpose, recompute all statistics with "
    "wamkit.data.rebuild_stats(root)."
)
SLACK = 1e-4  # LeRobot estimates in float32, and quantiles from histograms
STATISTICS = tuple(f.name for f in dataclasses.fields(FeatureStats))


def stats_from_json(
    values: Any, place: str, shape: tuple[int, ...], scale: tuple[float, float] | None = None
) -> FeatureStats:
    """Read one feature of ``meta/stats.json``.

    Args:
        values: statistic name -> nested lists.
        place: file and feature, for messages.
        shape: required shape of every statistic.
        scale: smallest and largest value that the feature can have; None for no limit.

    Raises:
        DataError: a statistic is missing, no number, not finite, of another shape, or contradicts another one.
    """
    if not isinstance(values, dict):
        raise DataError(f"{place}: expected an object of statistics, got {type(values).__name__}. {REBUILD}")
    missing = [name for name in STATISTICS if name not in values]
    if missing:
        raise DataError(
            f"{place}: statistic {missing[0]!r} is missing (all missing: {', '.join(missing)}). Statistics "
            f"are never guessed. {REBUILD}"
        )
    arrays = {name: _numbers(values[name], name, place) for name in STATISTICS}
    count = arrays.pop("count")
    for name, array in arrays.items():
        if array.shape != shape:
            raise DataError(
                f"{place}: statistic {name!r} has shape {list(array.shape)}, but info.json implies {list(shape)}: the "
                f"file belongs to another dataset, or info.json was edited. {REBUILD}"
            )
    if count.size != 1 or count.ravel()[0] < 1 or count.ravel()[0] % 1:
        raise DataError(
            f"{place}: 'count' must be one whole number from 1 up, got {values['count']!r}. {REBUILD}"
        )
    stats = FeatureStats(**arrays, count=int(count.ravel()[0]))
    _check_order(stats, place, scale)
    return stats


def _numbers(values: Any, name: str, place: str) -> np.ndarray:
    array = as_numbers(values)
    if array is None:
        raise DataError(
            f"{place}: statistic {name!r} must be numbers in lists, got {str(values)[:80]}. {REBUILD}"
        )
    if not np.isfinite(array).all():
        raise DataError(f"{place}: statistic {name!r} is not finite: {array.ravel().tolist()}. {REBUILD}")
    return array


def as_numbers(values: Any) -> np.ndarray | None:
    """Nested lists of a JSON file as an array of float64 with one axis or more; None where they hold anything else."""
    try:
        array = np.atleast_1d(np.asarray(values))
    except ValueError:  # lists of unequal lengths
        return None
    return array.astype(np.float64) if array.dtype.kind in "iuf" else None


def _check_order(stats: FeatureStats, place: str, scale: tuple[float, float] | None) -> None:
    """Raise :class:`DataError` unless the statistics are those of one set of numbers."""
    slack = SLACK * np.maximum(np.abs(stats.min), np.abs(stats.max)) + 1e-9
    steps = {name: getattr(stats, name) for name in ("min", *QUANTILES, "max")}
    ordered = [*itertools.pairwise(steps.items()), (("min", stats.min), ("mean", stats.mean))]
    ordered += [(("mean", stats.mean), ("max", stats.max)), (("0", np.zeros_like(slack)), ("std", stats.std))]
    ordered.append((("std", stats.std), ("max - min", stats.max - stats.min)))
    if scale is not None:
        low, high = (np.full_like(slack, bound) for bound in scale)
        ordered += [
            ((f"{scale[0]:g}", low), ("min", stats.min)),
            (("max", stats.max), (f"{scale[1]:g}", high)),
        ]
    for (low_name, below), (high_name, above) in ordered:
        wrong = below > above + slack
        if wrong.any():
            entry = int(np.argmax(wrong.ravel()))
            raise DataError(
                f"{place}, entry {entry}: {low_name} {below.ravel()[entry]:.9g} is above {high_name} "
                f"{above.ravel()[entry]:.9g}, which no data has. {REBUILD}"
            )


def vector_stats(values: np.ndarray) -> FeatureStats:
    """Compute the statistics of a tabular feature.

    Args:
        values: (T,) or (T, D) gives one value per entry. More axes, (T, ...), give one value for all entries
            together, of shape (1, ..., 1), because statistics per pixel would be as large as a frame.
    """
    count = len(values)
    flat = np.asarray(values, dtype=np.float64).reshape(count, -1)
    shape: tuple[int, ...] = (flat.shape[1],)
    if values.ndim > 2:
        flat, shape = flat.reshape(-1, 1), (1,) * (values.ndim - 1)
    quantiles = np.quantile(flat, list(QUANTILES.values()), axis=0)
    return FeatureStats(
        mean=flat.mean(axis=0).reshape(shape),
        std=flat.std(axis=0).reshape(shape),
        min=flat.min(axis=0).reshape(shape),
        max=flat.max(axis=0).reshape(shape),
        count=count,
        **{name: q.reshape(shape) for name, q in zip(QUANTILES, quantiles, strict=True)},
    )


def acted_frames(action: np.ndarray, acted: np.ndarray) -> np.ndarray:
    """Actions (M, A) that statistics are made of: those of frames that have one (``acted``, (N,) bool).

    Where no frame has one there is nothing to leave out: all (N, A), which are zero.
    """
    return action[acted] if acted.any() else action


class PixelCounts:
    """Counts of the 256 levels per channel, from which exact image statistics follow in constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), dtype=np.int64)
        self.frames = 0

    def add(self, images: np.ndarray) -> None:
        """Count the pixels of ``images`` (T, H, W, 3), uint8."""
        rows = np.ascontiguousarray(images).reshape(-1, *images.shape[2:])
        # Pillow counts bytes as they lie; numpy's bincount widens every one of them first and takes 8 times as long.
        self.counts += np.array(Image.fromarray(rows).histogram()).reshape(3, 256)
        self.frames += len(images)

    def merge(self, other: PixelCounts) -> None:
        """Add the counts of ``other``."""
        self.counts += other.counts
        self.frames += other.frames

    def stats(self) -> FeatureStats:
        """Compute statistics (3, 1, 1) of all pixels counted so far, scaled to 0..1."""
        levels = np.arange(256) / 255.0
        total = self.counts.sum(axis=1)
        mean = self.counts @ levels / total
        variance = (self.counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
        ends = np.cumsum(self.counts, axis=1)
        present = [np.flatnonzero(row) for row in self.counts]
        quantiles = {name: _count_quantile(ends, total, q) for name, q in QUANTILES.items()}
        return FeatureStats(
            mean=mean.reshape(3, 1, 1),
            std=np.sqrt(variance).reshape(3, 1, 1),
            min=np.array([row[0] / 255.0 for row in present]).reshape(3, 1, 1),
            max=np.array([row[-1] / 255.0 for row in present]).reshape(3, 1, 1),
            count=self.frames,
            **quantiles,
        )


def _count_quantile(ends: np.ndarray, total: np.ndarray, q: float) -> np.ndarray:
    """Compute a linearly interpolated quantile of counted levels; ``ends`` (3, 256) are cumulative counts."""
    out = np.empty((3, 1, 1))
    for channel in range(3):
        position = q * (total[channel] - 1)
        below = int(np.floor(position))
        # The k-th smallest pixel (from 0) has the first level whose cumulative count exceeds k.
        low, high = np.searchsorted(
            ends[channel], [below, min(below + 1, int(total[channel]) - 1)], side="right"
        )
        out[channel] = (low + (high - low) * (position - below)) / 255.0
    return out
