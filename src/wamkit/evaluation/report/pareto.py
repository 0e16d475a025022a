"""Which points no other point beats: at least as much success for at most the time, and better in one of the two."""

from __future__ import annotations

from collections.abc import Sequence

# (success rate, milliseconds); None where it was not measured.
RateAndLatency = tuple[float | None, float | None]


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether ``one`` (success, time) is as good as ``other`` in both and better in one."""
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def pareto_front(points: Sequence[RateAndLatency]) -> tuple[bool, ...]:
    """For each point whether it lies on the front; equal points do so together, unmeasured ones never do.

    Point estimates are compared: whether a difference is more than chance is for the intervals to say.
    """
    known = [(rate, ms) for rate, ms in points if rate is not None and ms is not None]
    return tuple(
        rate is not None and ms is not None and not any(dominates(other, (rate, ms)) for other in known)
        for rate, ms in points
    )
