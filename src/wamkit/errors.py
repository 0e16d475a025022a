"""Errors that state the value, the place and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WamkitError(Exception):
    """Base of every error that wamkit raises on bad input."""


class ConfigError(WamkitError):
    """A configuration that cannot be built: unknown key, unknown part, or parts that do not fit together."""


class SpecError(WamkitError):
    """Two specs that must agree do not. The message prints both sides."""


class DataError(WamkitError):
    """A dataset that cannot be used. The message gives the file, the episode and the field."""


class TrainingError(WamkitError):
    """A training that cannot go on: a loss, a gradient or a weight that is not finite, or nothing that learns."""


class BusyError(WamkitError):
    """An output that another run is writing."""


class BudgetError(WamkitError):
    """A run-time budget that the design cannot honour."""


class MissingExtraError(WamkitError):
    """A missing optional dependency. The message gives the pip extra that installs it."""


LISTED = 12  # names that a message lists


def nearest(name: str, known: Iterable[str]) -> str:
    """Hint with the closest of ``known``, such as ``Did you mean 'joint'?``; empty when nothing is close."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"Did you mean {close[0]!r}?" if close else ""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Hint with the closest of ``known``, or the whole list when nothing is close."""
    options = sorted(known)
    listed = ", ".join(options[:LISTED]) or "none"
    more = f" and {len(options) - LISTED} more" if len(options) > LISTED else ""
    return nearest(name, options) or f"Known: {listed}{more}."


def reason(error: Exception) -> str:
    """First line of an error's message; its type where there is no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
