"""JSON documents on disk: written whole or not at all, and checked when they are read."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import draccus

from wamkit.errors import DataError

T = TypeVar("T")


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, atomically.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def read_document(path: Path, form: str, what: str) -> dict[str, Any]:
    """The plain values of a document without its field ``format``.

    Args:
        path: the file.
        form: what its field ``format`` must be.
        what: what it should be, for the message.

    Raises:
        DataError: it cannot be read, or is another document or of another version.
    """
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a readable {what} ({error}).") from error
    if not isinstance(raw, dict) or raw.pop("format", None) != form:
        raise DataError(f"{path}: field 'format' must be {form!r}; this is no {what} of this version.")
    return raw


def decode_document(cls: type[T], raw: Mapping[str, Any], path: Path) -> T:
    """Plain values -> a dataclass; raises :class:`DataError` when a field is missing, unknown or of another type."""
    try:
        return draccus.decode(cls, raw)
    except (draccus.utils.DecodingError, TypeError) as error:
        raise DataError(f"{path}: {error}") from error


def agree(one: Any, other: Any) -> bool:
    """Return true if two results are equal up to rounding: floats to 9 digits, everything else exactly.

    A result that another version of a numeric library computed differs in the last bits.
    """
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in dataclasses.fields(one) if field.compare]
        return type(one) is type(other) and all(agree(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` so that a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)
