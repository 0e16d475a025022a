"""Correlation of prediction with success over checkpoints, on data whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from wamkit.errors import DataError
from wamkit.evaluation.correlation import CheckpointRecord, correlate, correlation

ERRORS = frozenset({"epe"})


def records(n: int = 8) -> list[CheckpointRecord]:
    """PSNR rises with success but not in a line, the error falls with it, a third measure knows nothing."""
    return [
        CheckpointRecord(
            f"step {i}",
            i / n,
            {"psnr": math.exp(i), "epe": 1.0 / (1 + i), "noise": float((i * 5) % 7 % 3)},
            ERRORS,
        )
        for i in range(n)
    ]


def test_a_monotone_measure_has_rank_correlation_one_whichever_way_is_better() -> None:
    found = {c.measure: c for c in correlate(records())}
    for name in ("psnr", "epe"):
        assert found[name].spearman.value == pytest.approx(1.0)
        assert found[name].kendall.value == pytest.approx(1.0)
        assert found[name].n == 8
        assert 0.3 < found[name].kendall.low < 1.0 == found[name].kendall.high
    pearson = found["psnr"].pearson
    assert pearson.value is not None
    assert 0.3 < pearson.value < 0.9
    noise = found["noise"].spearman
    assert noise.low < 0 < noise.high


def test_kendall_counts_pairs_by_hand() -> None:
    """1 2 3 4 5 against 1 2 3 5 4: nine pairs agree, one does not; ranks differ by one twice."""
    found = correlation("m", [1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    assert found.kendall.value == pytest.approx((9 - 1) / 10)
    assert found.spearman.value == pytest.approx(1 - 6 * 2 / (5 * 24))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    truth, hits = 0.7, 0
    for _ in range(300):
        x, e = rng.normal(size=(2, 20))
        found = correlation("m", list(x), list(truth * x + math.sqrt(1 - truth**2) * e)).pearson
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 300 <= 0.98


def test_perfect_disagreement_mirrors_perfect_agreement() -> None:
    up, down = (correlation("m", range(7), [s * i for i in range(7)]) for s in (1, -1))
    for a, b in ((up.kendall, down.kendall), (up.spearman, down.spearman)):
        assert (a.low, a.high) == pytest.approx((-b.high, -b.low))


def test_too_few_or_constant_say_nothing() -> None:
    for x, y in (([1.0, 2.0], [1.0, 2.0]), ([1.0] * 6, list(range(6)))):
        found = correlation("m", x, y)
        assert found.spearman.value is None
        assert (found.spearman.low, found.spearman.high) == (-1.0, 1.0)
        assert "none [-1.00, 1.00]" in found.headline()
    four = correlation("m", range(4), range(4)).pearson
    assert (four.value, four.low, four.high) == (1.0, -1.0, 1.0)


def test_a_measure_enters_with_the_checkpoints_that_have_it() -> None:
    some = [*records(6), CheckpointRecord("other", 0.5, {"psnr": 3.0})]
    found = {c.measure: c.n for c in correlate(some)}
    assert found == {"psnr": 7, "epe": 6, "noise": 6}


def test_records_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(DataError, match="may come once"):
        correlate([*records(3), *records(1)])
    with pytest.raises(DataError, match="do not agree whether less of 'epe'"):
        correlate([*records(3), CheckpointRecord("other", 0.5, {"epe": 3.0})])
    with pytest.raises(DataError, match="not finite"):
        correlation("m", [1, 2, math.nan], [1, 2, 3])
