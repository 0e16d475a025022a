"""Conversion between parquet columns and numpy arrays, with errors that name file, row and field."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.errors import DataError

PANDAS_INDEX = "__index_level_0__"


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

    Args:
        table: table of T rows.
        name: name of the column.
        shape: shape of one frame's value, as ``info.json`` declares it; ``()`` for a scalar.
        dtype: numpy dtype that ``info.json`` declares.
        path: file that the table was read from, for messages.

    Raises:
        DataError: the column is missing, holds nulls, or has another width.
    """
    if name not in table.column_names:
        raise DataError(f"{path}: the column {name!r}, which info.json declares, is missing")
    flat = table.column(name).combine_chunks()
    if isinstance(flat, pa.ChunkedArray):  # combine_chunks of an empty column
        flat = pa.concat_arrays(flat.chunks) if flat.num_chunks else pa.array([], flat.type)
    rows = len(flat)
    while True:
        if isinstance(flat, pa.ExtensionArray):
            flat = flat.storage
        if flat.null_count:
            row = int(np.argmax(flat.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{path}, field {name!r}: null at position {row}. Copy the dataset again.")
        if not _is_list(flat.type):
            break
        flat = flat.flatten()
    size = int(np.prod(shape, dtype=np.int64))
    if len(flat) != rows * size:
        width = f"{len(flat) / max(rows, 1):g}"
        raise DataError(
            f"{path}, field {name!r}: {width} values per frame, but info.json declares shape {list(shape)}. "
            f"The file belongs to another dataset, or info.json was edited."
        )
    return flat.to_numpy(zero_copy_only=False).astype(dtype, copy=False).reshape(rows, *shape)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a parquet file.

    Raises:
        DataError: the file or one of ``columns`` is missing, or the file is cut off.
    """
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        missing = set(columns or ()) - set(file.schema_arrow.names)
        if missing:
            raise DataError(
                f"{path}: the column {min(missing)!r} is missing; the columns are "
                f"{', '.join(file.schema_arrow.names)}. Copy the dataset again."
            )
        return file.read(columns=list(columns) if columns is not None else None)
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file is missing. Copy the dataset again.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet, probably cut off ({error}). Copy it again."
        ) from error


def names(path: Path) -> list[str]:
    """Return the column names of a parquet file; raises :class:`DataError` when it cannot be read."""
    try:
        return list(pq.read_schema(path).names)
    except FileNotFoundError as error:
        raise DataError(f"{path}: the file is missing. Copy the dataset again.") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as parquet, probably cut off ({error}). Copy it again."
        ) from error


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
    pq.write_table(table, path, write_page_checksum=True)


def read_tasks(path: Path) -> tuple[str, ...]:
    """Read the instructions from ``meta/tasks.parquet``, ordered by task index.

    Raises:
        DataError: the file cannot be read, or its task indices have gaps.
    """
    table = read(path)
    texts = [f.name for f in table.schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise DataError(
            f"{path}: must have the column 'task_index' and one column of instructions, but the columns are "
            f"{table.column_names}. Copy the dataset again."
        )
    order: dict[int, str] = dict(
        zip(table.column("task_index").to_pylist(), table.column(texts[0]).to_pylist(), strict=True)
    )
    if sorted(order) != list(range(len(order))):
        raise DataError(
            f"{path}, field 'task_index': must count from 0 without gaps, but starts {sorted(order)[:10]}. "
            f"Copy the dataset again."
        )
    return tuple(order[i] for i in range(len(order)))


class TableFile:
    """Parquet file that grows by one row group per episode.

    Attributes:
        rows: number of rows written so far.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sink = pa.OSFile(str(path), "wb")
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
