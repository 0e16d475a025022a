"""More odd datasets of other programs: each is refused by file, episode, frame and feature, also as fields.

The names are the rows of the table in docs/formats.md.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from films import edit_info
from foreign import SCENE, STILL, encode, pictures
from odd import (
    EPISODES,
    FILM,
    INFO,
    LENGTHS,
    MODALITY,
    STATS,
    TABLE,
    cell,
    column_as,
    declared,
    everywhere,
    feature,
    film,
    further,
    info,
    irregular,
    line,
    modality,
    number_as,
    refused,
    replaced,
    turned,
    two_streams,
    without,
)  # fmt: skip

from wamkit.data import Dataset
from wamkit.data.findings import check_dataset

Place = tuple[str, int | None, int | None, str | None]

# name -> change, words of the message, and place of the first fault
REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], Place]] = {
    "half a character in a task": (
        replaced(EPISODES, '"task 1"', '"\\ud800"'),
        ("line 2", "episode 1", "'tasks'"),
        (EPISODES, 1, None, None),
    ),
    "key twice in a line": (
        replaced(EPISODES, '"length": 4', '"length": 9, "length": 4'),
        ("line 2", "'length' is given twice"),
        (EPISODES, None, None, None),
    ),
    "length beyond all numbers": (
        line("episodes.jsonl", 1, lambda row: row.update(length=10**40)),
        ("episodes.jsonl", "episode 1", "'length'"),
        (EPISODES, 1, None, None),
    ),
    "more frames declared than there are": (
        info(total_frames=13),
        ("episodes.jsonl", "12 frames", "total_frames 13"),
        (INFO, None, None, None),
    ),
    "no number of frames declared": (
        lambda root: edit_info(root, lambda content: content.pop("total_frames")),
        ("info.json", "'total_frames'"),
        (INFO, None, None, None),
    ),
    "outcome that is neither true nor false": (
        further("yes", "no", "yes", key="success"),
        ("line 1", "episode 0", "'yes'"),
        (EPISODES, 0, None, None),
    ),
    "statistics of another shape": (
        line("episodes_stats.jsonl", 1, lambda row: row["stats"]["action"].update(max=[1.0])),
        ("line 2", "'action'", "'max' must be 2 numbers"),
        (STATS, 1, None, "action"),
    ),
    "statistics that are not numbers": (
        line("episodes_stats.jsonl", 1, lambda row: row["stats"]["action"].update(max=[float("nan")] * 2)),
        (TABLE, "episode 1", "'action'", "nan"),
        (TABLE, 1, None, "action"),
    ),
    "no episodes_stats.jsonl": (
        lambda root: (root / STATS).unlink(),
        ("episodes_stats.jsonl", "no such file"),
        (STATS, None, None, None),
    ),
    "version without its v": (
        info(codebase_version="2.1"),
        ("info.json", "'2.1'", "write 'v2.1'"),
        (INFO, None, None, None),
    ),
    "version of the future": (
        info(codebase_version="v3.1"),
        ("info.json", "v3.1", "Update wamkit"),
        (INFO, None, None, None),
    ),
    "rate beyond all numbers": (info(fps=10**400), ("info.json", "'fps'"), (INFO, None, None, None)),
    "path of a billion characters": (
        info(data_path="data/{episode_chunk:03d}/{episode_index:>99999999999}.parquet"),
        ("info.json", "'data_path'", "cannot be filled in"),
        (INFO, None, None, None),
    ),
    "names that are true and false": (
        feature("action", names=[True, False]),
        ("info.json", "'action'", "'names'"),
        (INFO, None, None, "action"),
    ),
    "name twice": (
        feature("action", names=["a", "a"]),
        ("info.json", "'a' occurs twice"),
        (INFO, None, None, None),
    ),
    "character in a feature's name that no file can store": (
        declared("a\0b", dtype="video", shape=[20, 24, 3]),
        ("info.json", "'a\\x00b'"),
        (INFO, None, None, None),
    ),
    "channels that the shape does not have": (
        feature(SCENE, shape=[3, 32, 48]),
        ("info.json", SCENE, "48 channels"),
        (INFO, None, None, SCENE),
    ),
    "camera without a column": (
        declared("observation.images.top", dtype="image", shape=[20, 24, 3], names=None),
        ("episode_000000.parquet", "'observation.images.top'", "is missing"),
        ("data/chunk-000/episode_000000.parquet", 0, None, "observation.images.top"),
    ),
    "camera that a later table lacks": (
        without(STILL),
        (TABLE, STILL, "is missing"),
        (TABLE, 1, None, STILL),
    ),
    "pictures that are only named": (
        everywhere(STILL, lambda cells: pa.array([{"path": cell["path"]} for cell in cells.to_pylist()])),
        ("episode_000000.parquet", STILL, "paths of picture files"),
        ("data/chunk-000/episode_000000.parquet", 0, None, STILL),
    ),
    "pictures as nested lists": (
        column_as(STILL, pa.list_(pa.uint8()), [[1, 2]] * 4),
        (TABLE, STILL, "uint8"),
        (TABLE, 1, None, STILL),
    ),
    "state in named fields": (
        column_as("observation.state", pa.struct([("x", pa.float32())]), [{"x": 1.0}] * 4),
        (TABLE, "'observation.state'", "struct"),
        (TABLE, 1, None, "observation.state"),
    ),
    "state as decimals": (
        column_as("observation.state", pa.list_(pa.decimal128(9, 3)), [[1, 2, 3]] * 4),
        (TABLE, "'observation.state'", "decimal"),
        (TABLE, 1, None, "observation.state"),
    ),
    "null among the entries of an action": (
        cell("action", 2, [0.0, None], pa.list_(pa.float32())),
        (TABLE, "'action'", "null in row 2"),
        (TABLE, 1, 2, "action"),
    ),
    "number that float32 cannot hold": (
        column_as("action", pa.list_(pa.int64()), [[0, 0], [0, 2**24 + 1], [0, 0], [0, 0]]),
        (TABLE, "'action'", "16777217 in row 1"),
        (TABLE, 1, 1, "action"),
    ),
    "infinite state": (
        cell("observation.state", 2, [0.0, float("inf"), 0.0]),
        (TABLE, "episode 1", "'observation.state'", "frame 2", "'y' is inf"),
        (TABLE, 1, 2, "observation.state"),
    ),
    "time in milliseconds": (
        everywhere("timestamp", lambda t: pa.array([1000 * v for v in t.to_pylist()], pa.float32())),
        ("episode 0", "'timestamp'", "frame 1"),
        ("data/chunk-000/episode_000000.parquet", 0, 1, "timestamp"),
    ),
    "time that begins at an offset": (
        everywhere("timestamp", lambda t: pa.array([5 + v for v in t.to_pylist()], pa.float32())),
        ("episode 0", "'timestamp'", "frame 0"),
        ("data/chunk-000/episode_000000.parquet", 0, 0, "timestamp"),
    ),
    "time of day": (
        everywhere("timestamp", number_as(pa.timestamp("ns"))),
        ("episode_000000.parquet", "'timestamp'", "timestamp[ns]"),
        ("data/chunk-000/episode_000000.parquet", 0, None, "timestamp"),
    ),
    "index of the dataset it was cut out of": (
        column_as("index", pa.int64(), [90, 91, 92, 93]),
        (TABLE, "episode 1", "'index'", "frame 0"),
        (TABLE, 1, 0, "index"),
    ),
    "tables of two episodes swapped": (
        lambda root: [
            os.replace(root / TABLE, root / "kept"),
            os.replace(root / TABLE.replace("1.p", "2.p"), root / TABLE),
            os.replace(root / "kept", root / TABLE.replace("1.p", "2.p")),
        ],
        (TABLE, "holds 5 frames", "declares 4"),
        (TABLE, 1, None, None),
    ),
    "table that is a pointer of git-lfs": (
        lambda root: (root / TABLE).write_text("version https://git-lfs.github.com/spec/v1\n"),
        (TABLE, "cannot be read as parquet"),
        (TABLE, 1, None, None),
    ),
    "video that is a folder": (
        lambda root: [(root / FILM).unlink(), (root / FILM).mkdir()],
        (FILM, "episode 1", "cannot be read as a video"),
        (FILM, 1, None, SCENE),
    ),
    "link that leads nowhere": (
        lambda root: [(root / FILM).unlink(), (root / FILM).symlink_to("/nowhere/a.mp4")],
        (FILM, "episode 1", "missing"),
        (FILM, 1, None, SCENE),
    ),
    "rate of a video's container": (
        lambda root: encode(root / FILM, pictures(4, (32, 48), 1), fps=15),
        (FILM, "episode 1", "15.0000 pictures per second"),
        (FILM, 1, None, SCENE),
    ),
    "video as long as two episodes": (
        film(13),
        (FILM, "9 pictures", "belong to no episode"),
        (FILM, 1, None, SCENE),
    ),
    "two video streams in a file": (
        two_streams,
        (FILM, "episode 1", "2 video streams"),
        (FILM, 1, None, SCENE),
    ),
    "modality of a feature without a width": (
        lambda root: [
            feature("note", shape=["a"])(root),
            modality(state={"x": {"original_key": "note"}})(root),
        ],
        ("modality.json", "state 'x'", "0 entries"),
        (MODALITY, None, None, None),
    ),
}
# Found when the pictures are read, not when the dataset is opened.
LATER: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], Place]] = {
    "null in place of a picture": (
        cell(STILL, 2, None),
        (TABLE, "episode 1", "frame 2", STILL),
        (TABLE, 1, 2, STILL),
    ),
    "video to be shown turned": (turned, ("episode 1", FILM, "turned"), (FILM, 1, 0, SCENE)),
    "pictures of a video at uneven times": (irregular, (FILM, "episode 1", "frame 1"), (FILM, 1, 1, SCENE)),
}


@pytest.mark.parametrize("name", [*REFUSED, *LATER])
def test_is_refused_with_its_place_and_nothing_is_converted(tmp_path: Path, name: str) -> None:
    change, words, place = {**REFUSED, **LATER}[name]
    root = refused(tmp_path, change, words)
    first = check_dataset(root, decode=True).faults[0]
    assert (first.file, first.episode, first.frame, first.feature) == place
    if name in LATER:
        assert Dataset(root).num_frames == sum(LENGTHS)


def test_the_page_has_a_row_for_every_name() -> None:
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")}
    assert {*REFUSED, *LATER} <= rows
