"""Checks of single values in specs and budgets; each says what was given and what is needed."""

from __future__ import annotations

import math
import numbers
from typing import Any

from wamkit.errors import SpecError, WamkitError


def number(value: Any) -> bool:
    """True for a finite real number; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: Any, what: str, least: int | None = None, error: type[WamkitError] = SpecError) -> int:
    """Return ``value`` if it is a whole number of at least ``least``; raise ``error`` otherwise."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise error(f"{what} {value!r} must be a whole number (int), not {type(value).__name__}")
    if least is not None and value < least:
        raise error(f"{what} {value} must be at least {least}")
    return int(value)


def positive(value: Any, what: str) -> float:
    """Return ``value`` if it is a finite number above zero; raise :class:`SpecError` otherwise."""
    if not number(value) or value <= 0:
        raise SpecError(f"{what} {value!r} must be a finite number above 0")
    return float(value)


def label(value: Any, what: str) -> str:
    """Return ``value`` if it is a text that can name something and be stored; raise :class:`SpecError` otherwise."""
    if not isinstance(value, str):
        raise SpecError(f"{what} {value!r} must be a text, not {type(value).__name__}")
    if not value.strip():
        raise SpecError(f"{what} {value!r} is empty; give it a name")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise SpecError(f"{what} {value!r} holds a character that no file can store; leave it out")
    return value


def labels(values: Any, what: str) -> None:
    """Raise :class:`SpecError` unless ``values`` is a tuple of names, each of them once."""
    if not isinstance(values, tuple):
        raise SpecError(f"{what} {values!r} must be a tuple of names, not {type(values).__name__}")
    for i, value in enumerate(values):
        label(value, f"{what}: entry {i}")
        if value in values[:i]:
            raise SpecError(
                f"{what}: {value!r} occurs twice, first at {values.index(value)}, then at {i}; rename one"
            )
