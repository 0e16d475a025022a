"""Further entries of episodes, which no layout knows: what of them another layout can hold."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from wamkit.data import layout
from wamkit.data.conversion.source import Source
from wamkit.errors import DataError, reason

# Columns of the episode table of v3.0, which are written anew.
OWN = ("episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index")
OWN_PREFIXES = ("data/", "videos/", "stats/", "meta/")


def require_storable(source: Source, version: str) -> None:
    """Raise :class:`DataError`, naming episode and entry, where the layout ``version`` has no place for an entry."""
    if version == layout.VERSION:
        types_of(source)
        return
    for entry in source.entries:
        for key, value in entry.further.items():
            try:
                json.dumps({key: value}, ensure_ascii=False).encode()
            except (TypeError, ValueError) as error:
                raise DataError(
                    f"{entry.place}, entry {key!r}: {value!r} cannot be written as JSON ({reason(error)}). Write it as "
                    f"a text or a number, or remove it."
                ) from error


def types_of(source: Source) -> dict[str, pa.DataType]:
    """Entry -> type of its column in the episode table of v3.0, which is one for all episodes."""
    keys = dict.fromkeys(key for entry in source.entries for key in entry.further)
    return {key: _type(source, key) for key in keys if key not in OWN and not key.startswith(OWN_PREFIXES)}


def _type(source: Source, key: str) -> pa.DataType:
    values = [entry.further.get(key) for entry in source.entries]
    try:
        kind = pa.array(values).type
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError) as error:
        number = next(k for k in range(len(values)) if not _fits(values[: k + 1]))
        raise DataError(
            f"{source.entries[number].place}, entry {key!r}: {values[number]!r} does not fit into one column with "
            f"those of the episodes before it ({reason(error)}), and v3.0 has no more. Write all with one type, or "
            f"remove them."
        ) from error
    if _hollow(kind):
        raise DataError(
            f"{source.entries[0].place}, entry {key!r}: holds objects without entries, for which v3.0 has no place. "
            f"Remove them."
        )
    return kind


def _fits(values: list[Any]) -> bool:
    try:
        pa.array(values)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError, TypeError):
        return False
    return True


def _hollow(kind: pa.DataType) -> bool:
    """Whether a type holds a struct without fields, which parquet cannot store."""
    if pa.types.is_struct(kind):
        return not kind.num_fields or any(_hollow(field.type) for field in kind)
    return pa.types.is_list(kind) and _hollow(kind.value_type)
