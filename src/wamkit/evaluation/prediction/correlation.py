"""Whether what predicts well also succeeds: correlation over checkpoints or policies, with n and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from wamkit.errors import DataError
from wamkit.evaluation.prediction.concordance import concordance_angle
from wamkit.evaluation.report.statistics import Z95

LEAST = 3  # pairs, below which a coefficient says nothing
PERFECT = 1 - 1e-12


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient.

    Attributes:
        value: -1 to 1, or None with fewer than three pairs or where one side does not vary.
        low: lower end of the 95 % interval (-1 where none can be given: fewer than five pairs, unless all agree in
            rank).
        high: upper end of the 95 % interval.
    """

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """How a measure goes with success.

    Attributes:
        measure: which measure.
        n: pairs (checkpoints or policies).
        pearson: linear.
        spearman: of ranks.
        kendall: tau-b, of the order of pairs.
    """

    measure: str
    n: int
    pearson: Coefficient
    spearman: Coefficient
    kendall: Coefficient

    def headline(self) -> str:
        """One line, e.g. ``psnr: Spearman 0.90 [0.42, 0.99], ... n = 6``."""
        named = (("Pearson", self.pearson), ("Spearman", self.spearman), ("Kendall", self.kendall))
        parts = [
            f"{name} {'none' if c.value is None else f'{c.value:.2f}'} [{c.low:.2f}, {c.high:.2f}]"
            for name, c in named
        ]
        return f"{self.measure}: {', '.join(parts)}, n = {self.n}"


@dataclass(frozen=True)
class CheckpointRecord:
    """What is known of one checkpoint.

    Attributes:
        name: which checkpoint.
        success: rate of success, 0 to 1.
        measures: name -> value.
        lower_is_better: those of the measures that are errors. They enter with the sign turned, so that a positive
            coefficient always says "what predicts better succeeds more often".
    """

    name: str
    success: float
    measures: Mapping[str, float]
    lower_is_better: frozenset[str] = field(default_factory=frozenset)


def interval(value: float, n: int, variance: float) -> Coefficient:
    """Fisher's interval, ``tanh(atanh(r) +- z sqrt(variance))``; none where n is below five.

    Its limit at a perfect line is the point itself.
    """
    if n < 5:
        return Coefficient(value, -1.0, 1.0)
    if abs(value) >= PERFECT:
        end = math.copysign(1.0, value)
        return Coefficient(value, end, end)
    centre, half = math.atanh(value), Z95 * math.sqrt(variance)
    return Coefficient(value, math.tanh(centre - half), math.tanh(centre + half))


def rank_interval(value: float, n: int, variance: float, scale: Callable[[float], float]) -> Coefficient:
    """:func:`interval` of a rank coefficient; where the agreement is perfect, the test of it inverted.

    Perfect agreement of ranks has no finite transform. There the near end is the coefficient of the Gaussian copula
    under which ``n`` pairs agree so perfectly with probability 0.025
    (:func:`wamkit.evaluation.prediction.concordance.angle`), as Clopper and Pearson (1934) do for a rate of 1, and
    the far end is the end of the scale.

    Args:
        value: the coefficient of the sample.
        n: pairs; where it is perfect, different ranks, so that ties widen the interval.
        variance: of the transformed coefficient.
        scale: correlation of the Gaussian copula -> the coefficient of the population.
    """
    if abs(value) < PERFECT:
        return interval(value, n, variance)
    near = scale(math.cos(concordance_angle(n)))
    return Coefficient(value, near, 1.0) if value > 0 else Coefficient(value, -1.0, -near)


def spearman_of(rho: float) -> float:
    """Spearman's coefficient of a Gaussian copula with correlation ``rho`` (Pearson 1907)."""
    return 6 / math.pi * math.asin(rho / 2)


def kendall_of(rho: float) -> float:
    """Kendall's tau of a Gaussian copula with correlation ``rho`` (Greiner 1909)."""
    return 2 / math.pi * math.asin(rho)


def correlation(measure: str, x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson, Spearman and Kendall of pairs, each with a 95 % interval.

    Intervals are Fisher's, with the variance 1 / (n - 3) for Pearson, (1 + r^2 / 2) / (n - 3) for Spearman (Bonett
    and Wright 2000) and 0.437 / (n - 4) for Kendall (Fieller, Hartley and Pearson 1957). Where all ranks agree or all
    disagree, see :func:`rank_interval`.

    Measured coverage for Gaussian pairs with correlation 0 to 0.95 (20000 samples each of 5 to 20 pairs): Spearman 94
    to 99 %, Kendall 87 to 99.9 %. At 0.99 Spearman falls to 82 % and Kendall, from 15 pairs on, to 78 %: among nearly
    perfect rankings these intervals promise too much, Spearman's at its upper end, Kendall's at its lower end. What
    misses is Fisher's interval of imperfect agreement; that of perfect agreement misses in at most 2.5 % of samples.

    Raises:
        DataError: the lengths differ or a value is not finite.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise DataError(f"correlation of {measure!r}: {a.shape} values against {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError(f"correlation of {measure!r}: a value is not finite. Leave that checkpoint out.")
    n = len(a)
    if n < LEAST or np.ptp(a) == 0 or np.ptp(b) == 0:
        none = Coefficient(None, -1.0, 1.0)
        return Correlation(measure, n, none, none, none)
    ranks = min(len(np.unique(a)), len(np.unique(b)))
    r = float(stats.pearsonr(a, b).statistic)
    rho = float(stats.spearmanr(a, b).statistic)
    tau = float(stats.kendalltau(a, b).statistic)
    return Correlation(
        measure,
        n,
        interval(r, n, 1 / max(n - 3, 1)),
        rank_interval(
            rho, ranks if abs(rho) >= PERFECT else n, (1 + rho**2 / 2) / max(n - 3, 1), spearman_of
        ),
        rank_interval(tau, ranks if abs(tau) >= PERFECT else n, 0.437 / max(n - 4, 1), kendall_of),
    )


def correlate(records: Sequence[CheckpointRecord]) -> tuple[Correlation, ...]:
    """Every measure against success over checkpoints, in order of first appearance.

    A measure enters with the checkpoints that have it, and ``n`` says how many those are.

    Raises:
        DataError: two records call a measure better in different directions, or share a name.
    """
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        raise DataError(f"correlate: each checkpoint may come once, got {names}")
    found = []
    for measure in dict.fromkeys(m for record in records for m in record.measures):
        have = [record for record in records if measure in record.measures]
        lower = {measure in record.lower_is_better for record in have}
        if len(lower) > 1:
            raise DataError(f"correlate: the records do not agree whether less of {measure!r} is better")
        sign = -1.0 if lower == {True} else 1.0
        values = [sign * record.measures[measure] for record in have]
        found.append(correlation(measure, values, [record.success for record in have]))
    return tuple(found)
