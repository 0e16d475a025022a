"""Statistics against scipy and numpy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wamkit.errors import DataError
from wamkit.evaluation.report.statistics import (
    mean_rate,
    median_interval,
    percentile,
    rate_of,
    summarise,
    wilson,
)

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_agrees_with_scipy(counts: tuple[int, int]) -> None:
    successes, n = counts
    truth = binomtest(successes, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(successes, n) == pytest.approx((truth.low, truth.high), abs=1e-12)


@given(COUNTS)
def test_wilson_contains_the_rate_mirrors_and_narrows(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert wilson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    finer = wilson(4 * successes, 4 * n)
    assert finer[1] - finer[0] < high - low


def test_no_trials_says_nothing_and_impossible_counts_raise() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert rate_of(0, 0).rate is None
    with pytest.raises(DataError, match="successes=3, n=2"):
        wilson(3, 2)


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_mean_rate_is_unweighted_and_bracketed(counts: list[tuple[int, int]]) -> None:
    rates = [rate_of(*c) for c in counts]
    mean = mean_rate([*rates, rate_of(0, 0)])
    assert mean.rate == pytest.approx(np.mean([s / n for s, n in counts]))
    assert (mean.tasks, mean.n) == (len(counts), sum(n for _, n in counts))
    assert 0 <= mean.low <= mean.rate <= mean.high <= 1
    assert mean.high - mean.low <= max(r.high - r.low for r in rates) + 1e-12


def test_mean_rate_of_one_task_is_its_wilson_interval() -> None:
    one = rate_of(17, 20)
    mean = mean_rate([one])
    assert (mean.low, mean.high) == pytest.approx((one.low, one.high))
    assert mean_rate([]).rate is None


FLOATS = st.floats(-1e6, 1e6)


@given(st.lists(FLOATS, min_size=1, max_size=50), st.floats(0, 100))
def test_percentile_agrees_with_numpy(values: list[float], q: float) -> None:
    assert percentile(values, q) == pytest.approx(np.percentile(values, q), rel=1e-9, abs=1e-6)


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_summary_is_ordered(values: list[float]) -> None:
    s = summarise(values)
    assert s.n == len(values)
    assert s.min <= s.p50 <= s.p95 <= s.max
    assert s.mean == pytest.approx(np.mean(values), abs=1e-6)


def test_empty_samples() -> None:
    assert summarise([]).p50 is None
    with pytest.raises(DataError, match="at least one"):
        percentile([], 50)


def test_intervals_are_those_of_the_closed_forms_on_a_grid() -> None:
    """Written out here, so that reports written before keep their numbers whatever computes them."""
    z = 1.959963984540054
    for n in range(1, 61):
        for k in range(n + 1):
            p, z2 = k / n, z * z
            centre = (p + z2 / (2 * n)) / (1 + z2 / n)
            half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
            assert wilson(k, n) == pytest.approx((centre - half, centre + half), abs=1e-15)
        assert wilson(0, n)[0] == 0.0  # exactly: rounding must not leave 1e-17
        assert wilson(n, n)[1] == 1.0
        rank, below = 0, 1
        while 40 * below <= 2**n:
            rank += 1
            below += math.comb(n, rank)
        values = [float((7 * i) % n) for i in range(n)] if n % 7 else [float(i) for i in range(n)]
        ordered = sorted(values)
        assert median_interval(values) == ((ordered[rank - 1], ordered[n - rank]) if rank else None)
    assert median_interval([]) is None
