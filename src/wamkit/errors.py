"""Errors that name the value, the place and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WamkitError(Exception):
    """Base of every error that wamkit raises on bad input."""


class ConfigError(WamkitError):
    """A configuration that cannot be built: unknown key, unknown part, parts that do not fit."""


class SpecError(WamkitError):
    """Two specs that have to agree do not. The message prints both sides."""


class DataError(WamkitError):
    """A dataset that cannot be used: the message names file, episode and field."""


class BudgetError(WamkitError):
    """A run-time budget that this design cannot honour."""


class MissingExtraError(WamkitError):
    """An optional dependency is not installed: the message names the pip extra."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint with the closest of ``known``, or the whole list when nothing is close."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(options) or 'none'}."
