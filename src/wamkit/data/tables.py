"""Conversion between parquet columns and numpy arrays, with errors that name file, row and field."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.data import layout
from wamkit.errors import DataError, reason

COPY_AGAIN = "Copy the dataset again."
PANDAS_INDEX = "__index_level_0__"
TASK_NAMES = (PANDAS_INDEX, "task")  # the column of instructions, where there are other texts


class RowsError(DataError):
    """Values of a column in some rows are none that can be read.

    Args:
        before: message up to the number of the row.
        after: message behind it.
        rows: (K,) rows, ascending; the message names the first.
    """

    def __init__(self, before: str, after: str, rows: np.ndarray) -> None:
        self.before, self.after, self.rows = before, after, rows
        super().__init__(self.named(int(rows[0])))

    def named(self, row: int) -> str:
        """The message about one of the rows."""
        return f"{self.before}{row}{self.after}"


def column(values: np.ndarray) -> pa.Array:
    """Build an Arrow column of ``values`` (T, ...): scalars, fixed-size lists (T, D), or nested lists.

    LeRobot calls scalars ``Value``, vectors ``Sequence(length=D)``, and arrays with more axes ``Array2D`` to
    ``Array5D``, which are nested lists in the file.
    """
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 1:
        return flat
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    for axis in range(values.ndim - 1, 0, -1):
        lists = int(np.prod(values.shape[:axis]))
        offsets = np.arange(lists + 1, dtype=np.int32) * values.shape[axis]
        flat = pa.ListArray.from_arrays(pa.array(offsets), flat)
    return flat


def to_numpy(table: pa.Table, name: str, shape: tuple[int, ...], dtype: str, path: Path) -> np.ndarray:
    """Convert one column of ``table`` to an array (T, *shape).

    Numbers stored in another type are taken where nothing is lost but the rounding of floats.

    Args:
        table: table of T rows.
        name: name of the column.
        shape: shape of one frame's value, as ``info.json`` declares it; ``()`` for a scalar.
        dtype: numpy dtype that ``info.json`` declares.
        path: file that the table was read from, for messages.

    Raises:
        DataError: the column is missing, holds nulls, has another width in one row, or holds values that are no
            numbers of ``dtype``.
    """
    place = f"{path}, field {name!r}"
    if name not in table.column_names:
        raise DataError(f"{path}: the column {name!r}, which info.json declares, is missing. {COPY_AGAIN}")
    flat = _plain(table.column(name))
    lengths = (*shape, 1)  # of the lists at every depth; LeRobot stores the shape (1,) as a plain number
    rows, per_row = len(flat), 1
    for depth in range(len(lengths) + 1):
        if isinstance(flat, pa.ExtensionArray):
            flat = flat.storage
        if flat.null_count:
            cells = np.flatnonzero(flat.is_null().to_numpy(zero_copy_only=False))
            raise RowsError(f"{place}: null in row ", f". {COPY_AGAIN}", cells // per_row)
        if not _is_list(flat.type) or depth == len(lengths):
            break
        _check_widths(flat, lengths[depth], per_row, place, shape)
        per_row *= lengths[depth]
        flat = flat.flatten()
    if not _is_list(flat.type):
        _require_numbers(flat.type, np.dtype(dtype), place)
    if _is_list(flat.type) or per_row != int(np.prod(shape, dtype=np.int64)):
        raise DataError(
            f"{place}: {'nested lists' if _is_list(flat.type) else per_row} per frame, but info.json declares shape "
            f"{list(shape)}. The file belongs to another dataset, or info.json was edited. {COPY_AGAIN}"
        )
    return _as_dtype(flat, np.dtype(dtype), per_row, place).reshape(rows, *shape)


def frames(table: pa.Table, key: str, feature: Mapping[str, Any], path: Path) -> np.ndarray:
    """Convert a feature's column: vectors to (T, D) float32, even where D is 1; others with the shape [1] to (T,)."""
    shape = tuple(feature["shape"])
    vector = key in layout.VECTORS
    return to_numpy(
        table,
        key,
        () if shape == (1,) and not vector else shape,
        "float32" if vector else feature["dtype"],
        path,
    )


def storable(text: object) -> TypeGuard[str]:
    """Whether a value is a text that a file can hold: JSON can name half a character, and UTF-8 cannot."""
    if not isinstance(text, str):
        return False
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """One array of the values themselves, not of places in a dictionary or in another array."""
    flat = _joined(column)
    if pa.types.is_dictionary(flat.type):
        flat = flat.dictionary_decode()
    views = pa.types.is_list_view(flat.type) or pa.types.is_large_list_view(flat.type)
    if views and not flat.null_count:
        offsets = np.cumsum([0, *flat.sizes.to_numpy()], dtype=np.int64)
        flat = pa.LargeListArray.from_arrays(pa.array(offsets), flat.flatten())
    return flat


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, in whichever form."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    flat = column.combine_chunks()
    if isinstance(flat, pa.ChunkedArray):  # combine_chunks of an empty column
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    return flat


def _check_widths(lists: pa.Array, width: int, per_row: int, place: str, shape: tuple[int, ...]) -> None:
    """Raise :class:`DataError` unless every list has ``width`` entries."""
    if pa.types.is_fixed_size_list(lists.type):
        bad = np.arange(len(lists) if lists.type.list_size != width else 0)
        found = lists.type.list_size
    else:
        sizes = np.diff(lists.offsets.to_numpy())
        bad = np.flatnonzero(sizes != width)
        found = int(sizes[bad[0]]) if len(bad) else width
    if len(bad):
        raise RowsError(
            f"{place}: {found} values per frame in row ",
            f", but info.json declares shape {list(shape)}. The file belongs to another dataset, or info.json was "
            f"edited. {COPY_AGAIN}",
            bad // per_row,
        )


def _require_numbers(kind: pa.DataType, dtype: np.dtype[Any], place: str) -> None:
    """Raise :class:`DataError` unless values of a type are such as ``dtype`` can hold."""
    if not (pa.types.is_boolean(kind) if dtype.kind == "b" else _is_number(kind)):
        raise DataError(f"{place}: holds values of type {kind}, but info.json implies {dtype}. {COPY_AGAIN}")


def _as_dtype(flat: pa.Array, dtype: np.dtype[Any], per_row: int, place: str) -> np.ndarray:
    """Convert plain values to ``dtype``; floats may be rounded, everything else must keep its value."""
    stored = flat.to_numpy(zero_copy_only=False)
    if stored.dtype == dtype:
        return np.asarray(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(dtype)
        kept = values == stored
    if dtype.kind == "f" and stored.dtype.kind == "f":
        # Rounding is no loss; a number that is too large for the type is.
        kept = np.isfinite(values) | ~np.isfinite(stored)
    if not kept.all():
        bad = np.flatnonzero(~kept)
        raise RowsError(
            f"{place}: {stored[bad[0]]} in row ",
            f" does not fit into {dtype}, which info.json implies. {COPY_AGAIN}",
            bad // per_row,
        )
    return np.asarray(values)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


def read(path: Path, columns: Sequence[str] | Callable[[list[str]], Sequence[str]] | None = None) -> pa.Table:
    """Read a parquet file, and verify the checksums of its pages where it has some.

    Args:
        path: the file.
        columns: names of the columns, or what chooses them from all names; all columns by default.

    Raises:
        DataError: the file or one of ``columns`` is missing, or the file is cut off or damaged.
    """
    with _reading(path):
        file = parquet(path)
        known = file.schema_arrow.names
        wanted = list(columns(known) if callable(columns) else known if columns is None else columns)
        missing = sorted(set(wanted) - set(known))
        twice = [name for name in wanted if known.count(name) > 1]
        if missing:
            raise DataError(
                f"{path}: the column {missing[0]!r} is missing; the columns are {', '.join(known)}. {COPY_AGAIN}"
            )
        if twice:
            raise DataError(f"{path}: there are two columns {twice[0]!r}. {COPY_AGAIN}")
        table = file.read(columns=wanted)
        table.validate(full=True)
        return table


def schema(path: Path) -> pa.Schema:
    """Columns of a parquet file and their types; raises :class:`DataError` when it cannot be read."""
    with _reading(path):
        return parquet(path).schema_arrow


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Block that reads a parquet file; whatever goes wrong is a :class:`DataError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file is missing. {COPY_AGAIN}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, MemoryError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet, probably cut off or damaged ({reason(error)}). Copy it again."
        ) from error


def parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file; it must be closed, or forgotten.

    A path is handed on as bytes: as text, pyarrow takes a name with a colon for an address, and none but UTF-8.
    """
    return pq.ParquetFile(pa.OSFile(os.fsencode(path)), page_checksum_verification=True)


def numbered(folder: Path) -> list[Path]:
    """Parquet files of a folder's chunks in the order of their numbers, without hidden ones such as macOS leaves."""
    found = (path for path in folder.glob("*/*.parquet") if not path.name.startswith("."))

    def pieces(path: Path) -> list[str | int]:
        texts = re.split(r"([0-9]+)", path.relative_to(folder).as_posix())  # texts and numbers in turn
        return [int(text) if place % 2 else text for place, text in enumerate(texts)]

    return sorted(found, key=pieces)


def write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """Write ``meta/tasks.parquet``: the column ``task_index``, with the instructions as the pandas index."""
    table = pa.table(
        {"task_index": pa.array(range(len(tasks)), pa.int64()), PANDAS_INDEX: pa.array(tasks, pa.string())}
    )
    # LeRobot reads this file with pandas and looks tasks up by index; pandas finds the index by this metadata.
    fields = [("task_index", "task_index", "int64", "int64"), (None, PANDAS_INDEX, "unicode", "object")]
    metadata = {
        "index_columns": [PANDAS_INDEX],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            }
        ],
        "columns": [
            {"name": name, "field_name": field, "pandas_type": kind, "numpy_type": stored, "metadata": None}
            for name, field, kind, stored in fields
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = table.replace_schema_metadata({"pandas": json.dumps(metadata)})
    with pa.OSFile(os.fsencode(path), "wb") as sink:
        pq.write_table(table, sink, write_page_checksum=True)


def read_tasks(path: Path) -> tuple[str, ...]:
    """Read the instructions from ``meta/tasks.parquet``, ordered by task index.

    Raises:
        DataError: the file cannot be read, its task indices have gaps or come twice, or an instruction is missing.
    """
    table = read(path)
    texts = [field.name for field in table.schema if is_text(field.type)]
    texts = [name for name in texts if name in TASK_NAMES] or texts
    if "task_index" not in table.column_names or len(texts) != 1:
        raise DataError(
            f"{path}: must have the column 'task_index' and one column of instructions, but the columns are "
            f"{', '.join(f'{field.name} ({field.type})' for field in table.schema)}. {COPY_AGAIN}"
        )
    index = to_numpy(table, "task_index", (), "int64", path).tolist()
    tasks = table.column(texts[0]).to_pylist()
    if sorted(index) != list(range(len(index))):
        raise DataError(
            f"{path}, field 'task_index': must count from 0 without gaps, but starts {sorted(index)[:10]}. "
            f"{COPY_AGAIN}"
        )
    seen: set[str] = set()
    for row, task in enumerate(tasks):
        if task is None:
            raise DataError(
                f"{path}, row {row}: task {index[row]} has no instruction, but null. {COPY_AGAIN}"
            )
        if task in seen:
            raise DataError(f"{path}, row {row}: the task {task!r} is listed twice. {COPY_AGAIN}")
        seen.add(task)
    order = dict(zip(index, tasks, strict=True))
    return tuple(order[i] for i in range(len(order)))


class TableFile:
    """Parquet file that grows by one row group per episode.

    Attributes:
        rows: number of rows written so far.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(os.fsencode(path), "wb")
        self._writer = pq.ParquetWriter(self._sink, schema, compression="snappy", write_page_checksum=True)
        self.rows = 0

    @property
    def size(self) -> int:
        """Number of bytes written so far."""
        return int(self._sink.tell())

    def append(self, table: pa.Table) -> None:
        """Write ``table`` as further row groups."""
        self._writer.write_table(table)
        self.rows += table.num_rows

    def close(self) -> None:
        """Write the footer, without which the file cannot be read."""
        self._writer.close()
        self._sink.close()


def nested(value: np.ndarray | int) -> Any:
    """Convert a statistic to LeRobot's form in the episode table: nested lists, ``count`` as a list of one."""
    return np.atleast_1d(np.asarray(value)).tolist()
