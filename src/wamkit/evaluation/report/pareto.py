"""Pareto front of success against time."""

from __future__ import annotations

from collections.abc import Sequence

# (success rate, milliseconds); None if it was not measured.
RateAndLatency = tuple[float | None, float | None]


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return true if ``one`` (success, time) is as good as ``other`` in both and better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def pareto_front(points: Sequence[RateAndLatency]) -> tuple[bool, ...]:
    """Mark the points on the front. Equal points lie on it together, unmeasured ones never do.

    Point estimates are compared; the intervals say if a difference exceeds chance.
    """
    measured = [(rate, ms) for rate, ms in points if rate is not None and ms is not None]
    return tuple(
        rate is not None and ms is not None and not any(dominates(other, (rate, ms)) for other in measured)
        for rate, ms in points
    )
