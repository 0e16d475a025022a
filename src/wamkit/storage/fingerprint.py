"""Fingerprints: what a result was made of, stored beside it, and compared before anything is added to it.

A fingerprint is a mapping of plain values, nested where that helps the reader: a config field by field, a dataset part
by part, a file by its :func:`digest`. Its names are the words of the refusal, so they are words of the user.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wamkit.errors import ConfigError, DataError, reason

ALGORITHM = "sha256:"
LISTED = 8  # differences that a message names one by one
LONGEST = 200  # characters of one of them


def digest(*parts: bytes | memoryview) -> str:
    """Digest of bytes, in the form that :func:`differences` knows as one: people are not shown its digits."""
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return ALGORITHM + total.hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's content; raises :class:`DataError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return ALGORITHM + hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}). Copy it again.") from error


def is_digest(value: Any) -> bool:
    """Return true for what :func:`digest` made."""
    return isinstance(value, str) and value.startswith(ALGORITHM)


def differing(there: Any, here: Any, place: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted key -> the two values, wherever two nested mappings of plain values differ.

    A missing entry counts as None.
    """
    if isinstance(there, Mapping) and isinstance(here, Mapping):
        pairs: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys([*there, *here]):
            pairs.update(differing(there.get(name), here.get(name), f"{place}.{name}".lstrip(".")))
        return pairs
    return {} if there == here else {place: (there, here)}


def differences(there: Any, here: Any) -> list[str]:
    """Lines ``name: value there, value here`` for everything in which two nested mappings of plain values differ.

    Of what is stored as digests, a line says only that it differs.
    """
    return [
        f"{place} differ" if is_digest(a) and is_digest(b) else f"{place}: {a!r} there, {b!r} here"
        for place, (a, b) in differing(there, here).items()
    ]


def require_same(stored: Mapping[str, Any], now: Mapping[str, Any], what: str, way_out: str) -> None:
    """Refuse to go on with a result that was begun with something else.

    Args:
        stored: fingerprint that was stored when the result was begun, as read from JSON.
        now: fingerprint of what is to go on with it; it is brought into the form that JSON gives it.
        what: beginning of the message up to the differences, such as ``runs/a holds a run with another config``.
        way_out: sentence that says what the user can do.

    Raises:
        ConfigError: they differ; the message names every field, with both values.
    """
    changed = differences(stored, json.loads(json.dumps(now, default=str)))
    if changed:
        raise ConfigError(f"{what}: {listing(changed)}. {way_out}")


def listing(lines: Iterable[str]) -> str:
    """Lines in one, the first few of them where there are many, and the beginnings of long ones."""
    every = list(lines)
    shown = [line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..." for line in every[:LISTED]]
    return "; ".join(shown) + (f"; and {len(every) - LISTED} more" if len(every) > LISTED else "")
