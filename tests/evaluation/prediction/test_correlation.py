"""Correlation of prediction with success over checkpoints, on data whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from wamkit.errors import DataError
from wamkit.evaluation.prediction.concordance import concordance, concordance_angle, limit
from wamkit.evaluation.prediction.correlation import (
    CheckpointRecord,
    correlate,
    correlation,
    kendall_of,
    rank_interval,
    spearman_of,
)

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


def sampled(n: int, rho: float, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Spearman's and Kendall's coefficients of ``draws`` samples of ``n`` Gaussian pairs, without our functions."""
    rng = np.random.default_rng(seed)
    x, e = rng.normal(size=(2, draws, n))
    y = rho * x + math.sqrt(1 - rho**2) * e
    gap = x.argsort(1).argsort(1) - y.argsort(1).argsort(1)
    i, j = np.triu_indices(n, 1)
    tau = np.sign((x[:, i] - x[:, j]) * (y[:, i] - y[:, j])).mean(axis=1)
    return 1 - 6 * (gap**2).sum(axis=1) / (n * (n * n - 1)), tau


# (n, correlation) -> coverage of Spearman's and of Kendall's interval, measured with 20000 samples of another seed.
COVERAGE = {
    (5, 0.0): (0.985, 0.985), (5, 0.95): (0.978, 0.999), (5, 0.99): (0.952, 0.997),
    (6, 0.0): (0.966, 0.944), (6, 0.8): (0.980, 0.995), (6, 0.99): (0.911, 0.992),
    (8, 0.0): (0.962, 0.939), (8, 0.8): (0.939, 0.950), (8, 0.9): (0.946, 0.868), (8, 0.99): (0.879, 0.983),
    (10, 0.5): (0.958, 0.949), (10, 0.9): (0.945, 0.910), (10, 0.95): (0.941, 0.907),
    (15, 0.5): (0.959, 0.947), (15, 0.95): (0.940, 0.890), (15, 0.99): (0.823, 0.782),
}  # fmt: skip


@pytest.mark.parametrize(("n", "rho"), COVERAGE)
def test_the_coverage_of_rank_intervals_is_the_measured_one(n: int, rho: float) -> None:
    draws = 4000
    scales = (spearman_of, kendall_of)
    variances = (lambda r: (1 + r * r / 2) / (n - 3), lambda r: 0.437 / (n - 4))
    for values, scale, variance, told in zip(
        sampled(n, rho, draws, 7), scales, variances, COVERAGE[n, rho], strict=True
    ):
        truth, hits = scale(rho), 0
        for value, count in zip(*np.unique(values.round(12), return_counts=True), strict=True):
            found = rank_interval(float(value), n, variance(float(value)), scale)
            hits += int(count) * (found.low <= truth <= found.high)
        error = math.sqrt(told * (1 - told) * (1 / draws + 1 / 20000))
        assert abs(hits / draws - told) < 4 * error + 0.0005  # the table has three digits


@pytest.mark.parametrize("n", [4, 5, 8, 12])
def test_perfect_agreement_at_the_limit_is_as_rare_as_it_says(n: int) -> None:
    draws, rho = 20000, math.cos(concordance_angle(n))
    error = math.sqrt(0.025 * 0.975 / draws)
    for sign in (1, -1):
        spearman, tau = sampled(n, sign * rho, draws, n)
        assert abs((sign * tau > 1 - 1e-9).mean() - 0.025) < 4 * error
        assert ((spearman == sign) == (tau == sign)).all()
    assert (sampled(n, rho - 0.2, draws, n)[1] > 1 - 1e-9).mean() < 0.025 + 4 * error
    up, down = correlation("m", range(n), range(n)), correlation("m", range(n), range(n, 0, -1))
    assert up.kendall.low == pytest.approx(2 / math.pi * math.asin(rho))
    assert up.spearman.low == pytest.approx(6 / math.pi * math.asin(rho / 2))
    for one, two in ((up.kendall, down.kendall), (up.spearman, down.spearman)):
        assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
        assert one.high == 1.0


def test_concordance_has_its_closed_forms() -> None:
    for a in (0.1, 0.8, math.pi / 2, 2.5):
        assert concordance(2, a) == pytest.approx(1 - a / math.pi, abs=1e-5)
    for n in (3, 5, 7):
        assert concordance(n, math.pi / 2) == pytest.approx(1 / math.factorial(n), abs=1e-5)
    # The differences of neighbours are Gaussian: 3! times the probability that all four are positive.
    a = 0.7
    steps = np.array([[2.0, -1.0], [-1.0, 2.0]])
    covariance = np.kron([[1.0, math.cos(a)], [math.cos(a), 1.0]], steps)
    orthant = stats.multivariate_normal(cov=covariance).cdf(np.zeros(4), rng=np.random.default_rng(0))
    assert concordance(3, a) == pytest.approx(6 * orthant, abs=2e-4)
    values = [concordance(6, a) for a in (0.2, 0.6, 1.0, 2.0)]
    assert values == sorted(values, reverse=True)


def test_the_limit_falls_short_of_less_the_more_pairs() -> None:
    short = [concordance_angle(n) / limit(n) for n in (9, 10, 12, 14, 16)]
    assert short == sorted(short, reverse=True)
    assert short[-1] == pytest.approx(1.048, abs=0.001)
    assert concordance_angle(40) / limit(40) == short[-1]  # too wide, by no more than that
    draws = 20000
    perfect = (sampled(20, math.cos(concordance_angle(20)), draws, 3)[1] > 1 - 1e-9).mean()
    assert 0.02 - 4 * math.sqrt(0.02 * 0.98 / draws) < perfect < 0.025 + 4 * math.sqrt(0.025 * 0.975 / draws)


def test_ties_and_few_pairs_widen_the_interval_of_perfect_agreement() -> None:
    tied = correlation("m", [1, 1, 1, 2, 2, 3, 3], [0, 0, 0, 5, 5, 9, 9]).kendall
    assert tied.value == pytest.approx(1.0)
    assert tied.low == correlation("m", range(3), range(3)).kendall.low == pytest.approx(-0.5931, abs=1e-4)
    assert correlation("m", range(5), range(5)).kendall.low == pytest.approx(0.2289, abs=1e-4)
    line = correlation("m", range(6), range(6)).pearson
    assert (line.value, line.low, line.high) == pytest.approx((1.0, 1.0, 1.0))


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
    with pytest.raises(DataError, match="may appear once only"):
        correlate([*records(3), *records(1)])
    with pytest.raises(DataError, match="disagree on whether a lower 'epe' is better"):
        correlate([*records(3), CheckpointRecord("other", 0.5, {"epe": 3.0})])
    with pytest.raises(DataError, match="not finite"):
        correlation("m", [1, 2, math.nan], [1, 2, 3])
