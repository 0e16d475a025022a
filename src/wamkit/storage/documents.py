"""Text and JSON on disk: written whole or not at all, read as UTF-8 whatever the locale, and checked when read."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import draccus

from wamkit.errors import DataError, reason
from wamkit.storage.space import writing

T = TypeVar("T")
DIGEST = "digest"  # field of a document: what its other fields say, as 32 hexadecimal digits


def read_text(path: Path, way_out: str) -> str:
    """Read a text file, with or without a byte order mark.

    Args:
        path: the file.
        way_out: sentence that says what the user can do when it cannot be read.

    Raises:
        DataError: there is no such file, it is not readable, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file. {way_out}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {way_out}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file (byte {error.start} is not UTF-8). {way_out}") from error


def read_json(path: Path, way_out: str) -> dict[str, Any]:
    """Read a JSON file of ours whose outermost value is an object; the arguments are those of :func:`read_text`.

    Raises:
        DataError: it cannot be read, is not JSON, gives a key twice, or holds another value.
    """
    try:
        values = json.loads(read_text(path, way_out), object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}). {way_out}") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(values).__name__}. {way_out}")
    return values


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Object of a JSON text; a key given twice is an error, because one of its values would be lost."""
    values = dict(pairs)
    if len(values) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} is given twice")
    return values


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values as JSON, atomically, with a digest of them as the last field.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no word for.
    """
    plain = json.loads(json.dumps(content, allow_nan=False))
    plain[DIGEST] = _digest(plain)
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def require_unchanged(content: dict[str, Any], path: Path, way_out: str) -> None:
    """Raise :class:`DataError` unless a document is as it was written; its digest is taken out.

    A document without a digest is of an older version, and is left to the checks of its content.
    """
    digest = content.pop(DIGEST, None)
    if digest is not None and digest != _digest(content):
        raise DataError(
            f"{path}: was changed since it was written: its content is not that of its digest. {way_out}"
        )


def read_document(path: Path, form: str, what: str) -> dict[str, Any]:
    """The plain values of a document without its field ``format``.

    Args:
        path: the file.
        form: what its field ``format`` must be.
        what: what it should be, for the message.

    Raises:
        DataError: it cannot be read, or is another document or of another version.
    """
    way_out = f"Make the {what} again, or name another file."
    raw = read_json(path, way_out)
    require_unchanged(raw, path, way_out)
    if raw.pop("format", None) != form:
        raise DataError(
            f"{path}: field 'format' must be {form!r}; this is no {what} of this version. {way_out}"
        )
    return raw


def decode_document(cls: type[T], raw: Mapping[str, Any], path: Path) -> T:
    """Plain values -> a dataclass; raises :class:`DataError` when a field is missing, unknown or of another type."""
    try:
        return draccus.decode(cls, raw)
    except (draccus.utils.ParsingError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: {reason(error)}. Make it again, or name another file.") from error


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
    """Write ``content`` so that a reader sees the old file or the whole new one, never a part.

    What processes of this machine that were killed have left of ``path`` is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
    mine = f".{path.name}.{machine}-"
    for left in path.parent.glob(f"{glob.escape(mine)}*.part"):
        number = left.name[len(mine) : -len(".part")]
        if number.isdecimal() and not _runs(int(number)):
            left.unlink(missing_ok=True)
    part = path.with_name(f"{mine}{os.getpid()}.part")
    try:
        with writing(path, len(content)):
            with part.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)  # only there when writing failed, such as on a full disk


def _runs(process: int) -> bool:
    """Return true if there is a process of this number on this machine."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's
    return True
