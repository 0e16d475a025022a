"""Changes that make a sound dataset of v2.1 an odd one: three episodes with a camera and a picture in the table."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from films import edit_info
from foreign import SCENE, STILL, encode, pictures, take, write_lines, write_old

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.conversion import convert_dataset
from wamkit.errors import DataError

TABLE = "data/chunk-000/episode_000001.parquet"
FILM = f"videos/chunk-000/{SCENE}/episode_000001.mp4"
LENGTHS = (3, 4, 5)
EPISODES, TASKS, STATS = "meta/episodes.jsonl", "meta/tasks.jsonl", "meta/episodes_stats.jsonl"
INFO, MODALITY = "meta/info.json", "meta/modality.json"


def write(root: Path) -> Path:
    """Three episodes of v2.1 with a camera, a picture in the table and an annotation."""
    takes = [take(n, seed, (SCENE, STILL), ("pose", "note")) for seed, n in enumerate(LENGTHS)]
    return write_old(root, takes)


def cell(column: str, row: int, value: Any, kind: pa.DataType | None = None) -> Callable[[Path], None]:
    """A change of one value of episode 1."""

    def change(root: Path) -> None:
        table = pq.read_table(root / TABLE)
        values = table.column(column).to_pylist()
        values[row] = value
        place = table.column_names.index(column)
        field = pa.array(values, kind or table.schema.field(column).type)
        pq.write_table(table.set_column(place, column, field), root / TABLE)

    return change


def line(name: str, number: int, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """A change of one line of a file in meta."""

    def edit(root: Path) -> None:
        rows = [json.loads(text) for text in (root / "meta" / name).read_text().splitlines()]
        change(rows[number])
        (root / "meta" / name).write_text("".join(json.dumps(row) + "\n" for row in rows if row))

    return edit


def info(**changes: Any) -> Callable[[Path], None]:
    return lambda root: edit_info(root, lambda content: content.update(changes))


def feature(key: str, **changes: Any) -> Callable[[Path], None]:
    return lambda root: edit_info(root, lambda content: content["features"][key].update(changes))


def modality(**content: Any) -> Callable[[Path], None]:
    return lambda root: (root / "meta/modality.json").write_text(json.dumps(content)) and None


def cut(name: str, part: float) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: int(len(data) * part)])

    return change


def film(frames: int, size: tuple[int, int] = (32, 48)) -> Callable[[Path], None]:
    return lambda root: encode(root / FILM, pictures(frames, size, 1))


def column_as(name: str, kind: pa.DataType, values: list[Any]) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        table = pq.read_table(root / TABLE)
        place = table.column_names.index(name)
        pq.write_table(table.set_column(place, name, pa.array(values, kind)), root / TABLE)

    return change


def read(root: Path) -> None:
    data = Dataset(root)
    data.windows(np.arange(data.num_frames), WindowSpec(horizon=1))


def refused(folder: Path, change: Callable[[Path], None], words: Sequence[str]) -> Path:
    """A dataset in ``folder`` that cannot be read after ``change``, with ``words``; nothing is written beside it."""
    root = write(folder / "set")
    change(root)
    with pytest.raises(DataError) as reading:
        read(root)
    with pytest.raises(DataError) as converting:
        convert_dataset(root, folder / "made", progress=False)
    for word in words:
        assert word in str(reading.value)
        assert word in str(converting.value)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == ["set"]
    return root


def replaced(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        text = (root / name).read_text(encoding="utf-8")
        assert old in text
        (root / name).write_text(text.replace(old, new), encoding="utf-8")

    return change


def everywhere(name: str, change: Callable[[pa.ChunkedArray], pa.Array]) -> Callable[[Path], None]:
    """A change of one column in all tables."""

    def edit(root: Path) -> None:
        for path in root.glob("data/*/*.parquet"):
            table = pq.read_table(path)
            place = table.column_names.index(name)
            pq.write_table(table.set_column(place, name, change(table.column(name))), path)

    return edit


def without(name: str) -> Callable[[Path], None]:
    return lambda root: pq.write_table(pq.read_table(root / TABLE).drop_columns([name]), root / TABLE)


def declared(name: str, **entries: Any) -> Callable[[Path], None]:
    return lambda root: edit_info(root, lambda content: content["features"].update({name: entries}))


def further(*values: Any, key: str = "note") -> Callable[[Path], None]:
    """Further entries of the three episodes."""

    def change(root: Path) -> None:
        rows = [json.loads(text) for text in (root / EPISODES).read_text().splitlines()]
        write_lines(root / EPISODES, [{**row, key: value} for row, value in zip(rows, values, strict=True)])

    return change


def turned(root: Path) -> None:
    """Container that asks for its pictures to be shown upside down: the matrix of its track header (ISO 14496-12)."""
    content = bytearray((root / FILM).read_bytes())
    matrix = content.index(b"tkhd") + 44
    content[matrix : matrix + 36] = struct.pack(
        ">9i", -0x10000, 0, 0, 0, -0x10000, 0, 48 << 16, 32 << 16, 1 << 30
    )
    (root / FILM).write_bytes(content)


def two_streams(root: Path) -> None:
    with av.open(str(root / FILM), "w") as output:
        streams = [output.add_stream("libx264", rate=30) for _ in range(2)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for image in pictures(4, (32, 48), 1):
            for stream in streams:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            output.mux(stream.encode())


def irregular(root: Path) -> None:
    """Pictures at times that are none of a rate."""
    with av.open(str(root / FILM), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
        for ms, image in zip((0, 50, 66, 100), pictures(4, (32, 48), 1), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = 90 * ms, Fraction(1, 90_000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def number_as(kind: pa.DataType) -> Callable[[pa.ChunkedArray], pa.Array]:
    return lambda column: pa.array([int(1e9 * value) for value in column.to_pylist()], kind)
