"""Means over windows with bootstrap intervals over episodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

RESAMPLES = 1000  # bootstrap resamples
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Mean over windows with an interval over episodes.

    Attributes:
        n: number of windows.
        episodes: number of episodes that the windows come from.
        mean: mean over windows, or None if there are none.
        low: lower end of the 95 % percentile-bootstrap interval over episodes; None with fewer than two episodes.
        high: upper end of the interval.
    """

    n: int
    episodes: int
    mean: float | None
    low: float | None
    high: float | None


def estimate(values: Values, episodes: NDArray[np.int64], seed: int = 0) -> Estimate:
    """Mean of ``values`` (N,) with a percentile bootstrap that resamples whole episodes; NaN is left out."""
    keep = np.isfinite(values)
    if not keep.any():
        return Estimate(0, 0, None, None, None)
    _, group = np.unique(episodes[keep], return_inverse=True)
    sums, counts = np.bincount(group, values[keep]), np.bincount(group).astype(float)
    mean, n = float(sums.sum() / counts.sum()), int(keep.sum())
    if len(sums) < 2:
        return Estimate(n, len(sums), mean, None, None)

    def pooled(total: Values, count: Values, axis: int = -1) -> Values:
        return np.asarray(total.sum(axis=axis) / count.sum(axis=axis))

    drawn = scipy.stats.bootstrap(
        (sums, counts),
        pooled,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    ends = drawn.confidence_interval
    return Estimate(n, len(sums), mean, float(ends.low), float(ends.high))


def estimates(values: Values, episodes: NDArray[np.int64], seed: int = 0) -> list[Estimate]:
    """:func:`estimate` of every column of ``values`` (N, K), with the same draws of episodes for all of them."""
    labels, group = np.unique(episodes, return_inverse=True)
    known = np.isfinite(values)
    sums, counts = np.zeros((2, len(labels), values.shape[1]))  # (E, K) each
    np.add.at(sums, group, np.where(known, values, 0.0))
    np.add.at(counts, group, known)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES)  # (R, E)
    with np.errstate(invalid="ignore"):
        means = sums.sum(axis=0) / counts.sum(axis=0)
        resampled = (drawn @ sums) / (drawn @ counts)  # (R, K); NaN where no drawn episode has a value
    found = []
    for k in range(values.shape[1]):
        n, held = int(counts[:, k].sum()), int((counts[:, k] > 0).sum())
        if not n:
            found.append(Estimate(0, 0, None, None, None))
        elif held < 2:
            found.append(Estimate(n, held, float(means[k]), None, None))
        else:
            low, high = np.nanquantile(resampled[:, k], (0.025, 0.975))
            found.append(Estimate(n, held, float(means[k]), float(low), float(high)))
    return found
