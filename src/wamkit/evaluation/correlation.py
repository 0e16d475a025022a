"""Whether what predicts well also succeeds: correlation over checkpoints or policies, with n and intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from wamkit.errors import DataError
from wamkit.evaluation.statistics import Z95

LEAST = 3  # pairs, below which a coefficient says nothing


@dataclass(frozen=True)
class Coefficient:
    """A correlation coefficient.

    Attributes:
        value: -1 to 1, or None with fewer than three pairs or where one side does not vary.
        low: lower end of the 95 % interval (-1 where none can be given: fewer than five pairs).
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


def interval(value: float, n: int, variance: float, least: float = 0.0) -> Coefficient:
    """Fisher's interval, ``tanh(atanh(r) +- z sqrt(variance))``; none where n is below five.

    Perfect agreement of ranks has no finite transform. There the far end is the end of the scale, and the near one is
    that of two neighbours swapped, which costs ``least``.
    """
    if n < 5:
        return Coefficient(value, -1.0, 1.0)
    value = max(-1.0, min(1.0, value))
    perfect = abs(value) >= 1 - 1e-12
    centre = math.atanh(math.copysign(1 - max(least, 1e-12), value) if perfect else value)
    half = Z95 * math.sqrt(variance)
    low, high = math.tanh(centre - half), math.tanh(centre + half)
    if perfect:
        low, high = (low, 1.0) if value > 0 else (-1.0, high)
    return Coefficient(value, low, high)


def correlation(measure: str, x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson, Spearman and Kendall of pairs, each with a 95 % interval.

    Intervals are Fisher's, with the variance 1 / (n - 3) for Pearson, (1 + r^2 / 2) / (n - 3) for Spearman (Bonett
    and Wright 2000) and 0.437 / (n - 4) for Kendall (Fieller, Hartley and Pearson 1957).

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
    r = float(stats.pearsonr(a, b).statistic)
    rho = float(stats.spearmanr(a, b).statistic)
    tau = float(stats.kendalltau(a, b).statistic)
    return Correlation(
        measure,
        n,
        interval(r, n, 1 / max(n - 3, 1)),
        interval(rho, n, (1 + rho**2 / 2) / max(n - 3, 1), 12 / (n * (n * n - 1))),
        interval(tau, n, 0.437 / max(n - 4, 1), 4 / (n * (n - 1))),
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
