"""Numbers with their n and interval as short text, for pages and terminals."""

from __future__ import annotations

from wamkit.evaluation.report.scores import Score
from wamkit.evaluation.report.statistics import Difference


def percent(score: Score) -> str:
    """``62 % [47, 75], 25 of 40``, errors apart."""
    broken = f", {score.statuses['error']} broke" if score.statuses["error"] else ""
    if score.rate is None:
        return f"no scored episode{broken}"
    low, high = (100 * bound for bound in score.wilson_95)
    return f"{100 * score.rate:.0f} % [{low:.0f},\N{NO-BREAK SPACE}{high:.0f}], {score.successes} of {score.n}{broken}"


def points(difference: Difference) -> str:
    """``−20 [−34, −5], n = 40``, percentage points."""
    if difference.difference is None:
        return "no pair"
    return f"{span(difference)}, n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{difference.n}"


def span(difference: Difference) -> str:
    """``−20 [−34, −5]``, percentage points."""
    if difference.difference is None:
        return "no pair"
    numbers = (difference.difference, difference.low, difference.high)
    value, low, high = (signed(100 * number) for number in numbers)
    return f"{value} [{low},\N{NO-BREAK SPACE}{high}]"


def signed(value: float) -> str:
    """A whole number with its sign, a true minus, and no sign at zero."""
    whole = round(value)
    return f"{whole:+d}".replace("-", "−") if whole else "0"
