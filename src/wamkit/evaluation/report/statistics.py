"""Small-sample statistics for reports: a rate never travels without its n and its interval."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import scipy

from wamkit.errors import DataError

CONFIDENCE = 0.95  # confidence level of all intervals
# Half width of the central 95 % of the standard normal distribution.
Z95 = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Rate:
    """A proportion.

    Attributes:
        n: trials.
        successes: number of successes.
        rate: successes / n, or None when n is 0.
        low: lower end of the 95 % interval (0 when n is 0).
        high: upper end of the 95 % interval (1 when n is 0).
    """

    n: int
    successes: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True)
class MeanRate:
    """Unweighted mean of the rates of several tasks.

    Attributes:
        tasks: number of tasks with n > 0.
        n: trials over all tasks.
        rate: mean of the tasks' rates, or None when no task has a trial.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
    """

    tasks: int
    n: int
    rate: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """Difference of two proportions measured on the same trials.

    Attributes:
        n: pairs.
        difference: first rate minus second, or None without a pair.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
    """

    n: int
    difference: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """Percentiles of a sample. All None when n is 0.

    Attributes:
        n: sample size.
        mean: arithmetic mean.
        p50: median.
        p95: 95th percentile (linear interpolation).
        min: smallest value.
        max: largest value.
    """

    n: int
    mean: float | None
    p50: float | None
    p95: float | None
    min: float | None
    max: float | None


@functools.cache
def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson score interval (95 %) of a binomial proportion (Wilson 1927), without continuity correction.

    Without a trial it is the whole range, 0 to 1. The results are cached: tables ask for the same counts many times.

    Raises:
        DataError: not ``0 <= successes <= n``.
    """
    if not 0 <= successes <= n:
        raise DataError(f"wilson: needs 0 <= successes <= n, got successes={successes}, n={n}.")
    if n == 0:
        return 0.0, 1.0
    interval = scipy.stats.binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def rate_of(successes: int, n: int) -> Rate:
    """The rate with its Wilson 95 % interval."""
    low, high = wilson(successes, n)
    return Rate(n=n, successes=successes, rate=successes / n if n else None, low=low, high=high)


def mean_rate(rates: Sequence[Rate]) -> MeanRate:
    """Unweighted mean over tasks, with the interval recovered from the tasks' Wilson intervals.

    Method of variance estimates recovery (Zou and Donner 2008): the distances from each rate to its limits
    add in squares. Tasks without a trial are left out, and ``tasks`` says how many entered.
    """
    known = [(r.rate, r.low, r.high) for r in rates if r.rate is not None]
    n = sum(r.n for r in rates)
    if not known:
        return MeanRate(tasks=0, n=n, rate=None, low=0.0, high=1.0)
    count = len(known)
    mean = sum(rate for rate, _, _ in known) / count
    down = math.sqrt(sum((rate - low) ** 2 for rate, low, _ in known)) / count
    up = math.sqrt(sum((high - rate) ** 2 for rate, _, high in known)) / count
    return MeanRate(tasks=count, n=n, rate=mean, low=max(0.0, mean - down), high=min(1.0, mean + up))


def paired_difference(pairs: Sequence[tuple[bool, bool]]) -> Difference:
    """Difference of two proportions on the same trials, with Newcombe's interval for paired data.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: the limits of both Wilson intervals, joined by the correlation of the pairs, which is
    corrected for continuity. Without correlation it is his interval for independent samples.

    Args:
        pairs: (first, second) success of each trial.
    """
    n = len(pairs)
    if not n:
        return Difference(0, None, -1.0, 1.0)
    both = sum(a and b for a, b in pairs)
    first, second = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    neither = n - both - first - second
    one, two = rate_of(both + first, n), rate_of(both + second, n)
    p, q = (both + first) / n, (both + second) / n
    product = (both + first) * (second + neither) * (both + second) * (first + neither)
    excess = float(both * neither - first * second)
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = excess / math.sqrt(product) if product else 0.0
    below_p, above_p, below_q, above_q = p - one.low, one.high - p, q - two.low, two.high - q
    low = math.sqrt(max(below_p**2 - 2 * phi * below_p * above_q + above_q**2, 0.0))
    high = math.sqrt(max(above_p**2 - 2 * phi * above_p * below_q + below_q**2, 0.0))
    return Difference(n, p - q, max(-1.0, p - q - low), min(1.0, p - q + high))


def percentile(values: Sequence[float], q: float) -> float:
    """The q-th percentile, 0 <= q <= 100, linear between the two nearest order statistics.

    Raises:
        DataError: no values, or q out of range.
    """
    if not values or not 0 <= q <= 100:
        raise DataError(f"percentile: needs at least one value and 0 <= q <= 100, got {len(values)}, q={q}.")
    return float(np.percentile(values, q))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Distribution-free 95 % interval of the median, between two order statistics; None below 6 values.

    The k-th smallest and the k-th largest value enclose the median with probability ``1 - 2 P(Bin(n, 1/2) < k)``; k is
    the largest one for which that is at least 95 % (Conover, Practical Nonparametric Statistics, section 3.2).
    """
    if not values:
        return None
    test: Any = scipy.stats.quantile_test(values, p=0.5)  # the stubs call its interval a number
    interval = test.confidence_interval(CONFIDENCE)
    return None if math.isnan(interval.low) else (float(interval.low), float(interval.high))


def summarise(values: Sequence[float]) -> Summary:
    """Size, mean, median, 95th percentile and extremes of a sample."""
    if not values:
        return Summary(n=0, mean=None, p50=None, p95=None, min=None, max=None)
    return Summary(
        n=len(values),
        mean=math.fsum(values) / len(values),
        p50=percentile(values, 50),
        p95=percentile(values, 95),
        min=min(values),
        max=max(values),
    )
