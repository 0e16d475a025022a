"""Correlation of measures with success over checkpoints or policies, with sample sizes and intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy

from wamkit.errors import DataError
from wamkit.evaluation.prediction.concordance import concordance_angle
from wamkit.evaluation.report.statistics import Z95

LEAST = 3  # fewest pairs for which a coefficient is computed
PERFECT = 1 - 1e-12


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient.

    Attributes:
        value: coefficient between -1 and 1; None with fewer than three pairs or where one variable is constant.
        low: lower end of the 95 % interval; -1 where no interval can be given (fewer than five pairs, unless all of
            them agree in rank).
        high: upper end of the 95 % interval; 1 where no interval can be given.
    """

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class Correlation:
    """Correlation of one measure with success.

    Attributes:
        measure: name of the measure.
        n: number of pairs (checkpoints or policies).
        pearson: linear correlation coefficient.
        spearman: rank correlation coefficient.
        kendall: tau-b, the rank correlation of pair orderings.
    """

    measure: str
    n: int
    pearson: Coefficient
    spearman: Coefficient
    kendall: Coefficient

    def headline(self) -> str:
        """Summary in one line, e.g. ``psnr: Spearman 0.90 [0.42, 0.99], ... n = 6``."""
        coefficients = (("Pearson", self.pearson), ("Spearman", self.spearman), ("Kendall", self.kendall))
        parts = [
            f"{name} {'none' if c.value is None else f'{c.value:.2f}'} [{c.low:.2f}, {c.high:.2f}]"
            for name, c in coefficients
        ]
        return f"{self.measure}: {', '.join(parts)}, n = {self.n}"


@dataclass(frozen=True)
class CheckpointRecord:
    """Success rate and measures of one checkpoint.

    Attributes:
        name: name of the checkpoint.
        success: success rate, 0 to 1.
        measures: measure -> value.
        lower_is_better: names of the measures that are errors. Their sign is flipped, so that a positive coefficient
            always means "better predictions, more success".
    """

    name: str
    success: float
    measures: Mapping[str, float]
    lower_is_better: frozenset[str] = field(default_factory=frozenset)


def interval(value: float, n: int, variance: float) -> Coefficient:
    """Fisher interval ``tanh(atanh(r) +- z sqrt(variance))``; [-1, 1] where n is below five.

    In the limit of a perfect correlation it shrinks to the point itself.
    """
    if n < 5:
        return Coefficient(value, -1.0, 1.0)
    if abs(value) >= PERFECT:
        end = math.copysign(1.0, value)
        return Coefficient(value, end, end)
    centre, half = math.atanh(value), Z95 * math.sqrt(variance)
    return Coefficient(value, math.tanh(centre - half), math.tanh(centre + half))


def rank_interval(value: float, n: int, variance: float, scale: Callable[[float], float]) -> Coefficient:
    """Interval of a rank coefficient: :func:`interval`, or an inverted exact test where the ranks agree perfectly.

    Perfect rank agreement has no finite Fisher transform. One end is then the coefficient of the Gaussian copula
    under which ``n`` pairs agree perfectly with probability 0.025
    (:func:`wamkit.evaluation.prediction.concordance.concordance_angle`), as Clopper and Pearson (1934) do for a rate
    of 1; the other end is 1 or -1.

    Args:
        value: coefficient of the sample.
        n: number of pairs; for perfect agreement the number of distinct ranks, so that ties widen the interval.
        variance: variance of the transformed coefficient.
        scale: maps the correlation of a Gaussian copula to the population coefficient.
    """
    if abs(value) < PERFECT:
        return interval(value, n, variance)
    near = scale(math.cos(concordance_angle(n)))
    return Coefficient(value, near, 1.0) if value > 0 else Coefficient(value, -1.0, -near)


def spearman_of(rho: float) -> float:
    """Spearman coefficient of a Gaussian copula with correlation ``rho`` (Pearson 1907)."""
    return 6 / math.pi * math.asin(rho / 2)


def kendall_of(rho: float) -> float:
    """Kendall's tau of a Gaussian copula with correlation ``rho`` (Greiner 1909)."""
    return 2 / math.pi * math.asin(rho)


def correlation(measure: str, x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson, Spearman and Kendall coefficients, each with a 95 % interval.

    The intervals are Fisher's, with variance 1 / (n - 3) for Pearson, (1 + r^2 / 2) / (n - 3) for Spearman (Bonett
    and Wright 2000) and 0.437 / (n - 4) for Kendall (Fieller, Hartley and Pearson 1957). Perfect agreement or
    disagreement of the ranks is handled by :func:`rank_interval`.

    Measured coverage for Gaussian pairs with correlation 0 to 0.95 (20000 samples each of 5 to 20 pairs): Spearman 94
    to 99 %, Kendall 87 to 99.9 %. At correlation 0.99 Spearman drops to 82 % and Kendall, from 15 pairs on, to 78 %:
    for nearly perfect rankings the intervals are too narrow, Spearman's at the upper end, Kendall's at the lower end.
    The misses come from Fisher's interval for imperfect agreement; the one for perfect agreement misses in at most
    2.5 % of samples.

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
        undefined = Coefficient(None, -1.0, 1.0)
        return Correlation(measure, n, undefined, undefined, undefined)
    ranks = min(len(np.unique(a)), len(np.unique(b)))
    r = float(scipy.stats.pearsonr(a, b).statistic)
    rho = float(scipy.stats.spearmanr(a, b).statistic)
    tau = float(scipy.stats.kendalltau(a, b).statistic)
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
    """Correlate every measure with success over checkpoints, in order of first appearance.

    Each measure is correlated over the checkpoints that report it; ``n`` is their number.

    Raises:
        DataError: two records share a name, or disagree on whether lower is better.
    """
    names = [record.name for record in records]
    if len(set(names)) < len(names):
        raise DataError(f"correlate: each checkpoint may appear once only, got {names}")
    correlations = []
    for measure in dict.fromkeys(m for record in records for m in record.measures):
        measured = [record for record in records if measure in record.measures]
        lower = {measure in record.lower_is_better for record in measured}
        if len(lower) > 1:
            raise DataError(f"correlate: the records disagree on whether a lower {measure!r} is better")
        sign = -1.0 if lower == {True} else 1.0
        values = [sign * record.measures[measure] for record in measured]
        correlations.append(correlation(measure, values, [record.success for record in measured]))
    return tuple(correlations)
