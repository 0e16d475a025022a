"""Odd and broken datasets of other programs: each is refused by file, episode, frame and feature, or read rightly.

The names are the rows of the table in docs/formats.md.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign import SCENE, STILL, WRIST, encode, pictures, take, write_new
from odd import (
    FILM,
    LENGTHS,
    TABLE,
    cell,
    column_as,
    cut,
    feature,
    film,
    info,
    line,
    modality,
    refused,
    write,
)

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.conversion import convert_dataset
from wamkit.errors import DataError

REFUSED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "mp4 cut off": (cut(FILM, 0.6), ("episode_000001.mp4", "contains no video stream")),
    "mp4 missing": (lambda r: (r / FILM).unlink(), ("episode_000001.mp4", "missing")),
    "parquet cut off": (cut(TABLE, 0.7), ("episode_000001.parquet", "cut off")),
    "parquet missing": (lambda r: (r / TABLE).unlink(), ("episode_000001.parquet", "missing")),
    "fps of another recording": (info(fps=15), ("episode 0", "'timestamp'", "frame 1")),
    "hole in episodes.jsonl": (
        line("episodes.jsonl", 1, dict.clear),
        ("episodes.jsonl", "line 2", "episode 2", "episode 1 is missing"),
    ),
    "episode index twice": (
        line("episodes.jsonl", 2, lambda row: row.update(episode_index=1)),
        ("episodes.jsonl", "line 3", "episode 1 is listed twice"),
    ),
    "line of episodes.jsonl cut off": (
        cut("meta/episodes.jsonl", 0.9),
        ("episodes.jsonl", "line 3", "cut off"),
    ),
    "no instruction in episodes.jsonl": (
        line("episodes.jsonl", 1, lambda row: row.update(tasks=[])),
        ("episodes.jsonl", "line 2", "episode 1", "'tasks'"),
    ),
    "length is no number": (
        line("episodes.jsonl", 1, lambda row: row.update(length="4")),
        ("episodes.jsonl", "line 2", "episode 1", "'length'"),
    ),
    "hole in tasks.jsonl": (
        line("tasks.jsonl", 1, lambda row: row.update(task_index=4)),
        ("tasks.jsonl", "line 2", "task 1 is missing"),
    ),
    "task listed twice": (
        line("tasks.jsonl", 1, lambda row: row.update(task="task 0")),
        ("tasks.jsonl", "line 2", "'task 0'"),
    ),
    "task index unknown": (cell("task_index", 2, 7), (TABLE, "episode 1", "'task_index'", "frame 2")),
    "task of another episode": (cell("task_index", 2, 0), (TABLE, "episode 1", "'task_index'", "frame 2")),
    "length that the table does not have": (
        line("episodes.jsonl", 1, lambda row: row.update(length=5)),
        ("13 frames", "total_frames 12"),
    ),
    "table shorter than the episode": (
        lambda r: pq.write_table(pq.read_table(r / TABLE).slice(0, 3), r / TABLE),
        (TABLE, "holds 3 frames", "declares 4"),
    ),
    "video shorter than the episode": (film(3), (FILM, "episode 1", "1 frames too few")),
    "video longer than the episode": (film(5), (FILM, "1 pictures", "belong to no episode")),
    "video of another size": (film(4, (48, 32)), (FILM, "episode 1", "48x32")),
    "NaN in action": (
        cell("action", 2, [0.0, float("nan")]),
        (TABLE, "episode 1", "'action'", "frame 2", "'close' is nan"),
    ),
    "null in state": (cell("observation.state", 1, None), (TABLE, "'observation.state'", "null in row 1")),
    "values of another type": (
        column_as("action", pa.list_(pa.string()), [["a", "b"]] * 4),
        (TABLE, "'action'", "string"),
    ),
    "lists of unequal lengths": (
        column_as("action", pa.list_(pa.float32()), [[0, 0], [0, 0], [0], [0, 0]]),
        (TABLE, "'action'", "1 values per frame in row 2"),
    ),
    "time that runs backwards": (cell("timestamp", 2, 0.0), (TABLE, "episode 1", "'timestamp'", "frame 2")),
    "frame index twice": (cell("frame_index", 2, 1), (TABLE, "episode 1", "'frame_index'", "frame 2")),
    "frames of another episode": (
        cell("episode_index", 0, 0),
        (TABLE, "episode 1", "'episode_index'", "frame 0"),
    ),
    "version that nobody reads": (info(codebase_version="v1.6"), ("info.json", "v1.6", "Convert it to v2.1")),
    "version that does not fit the paths": (
        info(codebase_version="v3.0"),
        ("info.json", "'data_path'", "v3.0"),
    ),
    "no number of episodes per folder": (info(chunks_size=None), ("info.json", "'chunks_size'")),
    "absolute path": (
        info(data_path="/etc/{episode_chunk:03d}/{episode_index:06d}.parquet"),
        ("info.json", "'data_path'", "leads out"),
    ),
    "path out of the folder": (
        info(video_path="../{episode_chunk:03d}/{video_key}/{episode_index:06d}.mp4"),
        ("info.json", "'video_path'", "leads out"),
    ),
    "statistics of other frames": (
        line("episodes_stats.jsonl", 1, lambda row: row["stats"]["action"].update(max=[9.0, 9.0])),
        ("episode 1", "'action'", "max", "9"),
    ),
    "hole in episodes_stats.jsonl": (
        line("episodes_stats.jsonl", 0, dict.clear),
        ("episodes_stats.jsonl", "line 1", "episode 0 is missing"),
    ),
    "unknown modality": (modality(smell={"nose": {}}), ("modality.json", "'smell'")),
    "modality range outside the columns": (
        modality(state={"arm": {"start": 1, "end": 4}}),
        ("modality.json", "state 'arm'", "from 1 to 4", "3 entries"),
    ),
    "modality ranges that overlap": (
        modality(action={"a": {"start": 0, "end": 2}, "b": {"start": 1, "end": 2}}),
        ("modality.json", "action 'b'", "another part"),
    ),
    "modality of no feature": (
        modality(video={"ego": {"original_key": "observation.images.ego"}}),
        ("modality.json", "video 'ego'", "'observation.images.ego'"),
    ),
    "instruction that is no index": (
        modality(annotation={"human.task_description": {"original_key": "note"}}),
        ("modality.json", "'note' is string"),
    ),
}
# Found when the pictures are read, not when the dataset is opened: opening decodes nothing.
PICTURES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "PNG damaged": (
        cell(STILL, 2, {"bytes": b"\x89PNG\r\n\x1a\n0000", "path": "a.png"}),
        (TABLE, "episode 1", "frame 2", STILL),
    ),
    "PNG outside the table": (
        cell(STILL, 2, {"bytes": None, "path": "a.png"}),
        (TABLE, "episode 1", "frame 2", "'a.png'"),
    ),
}


@pytest.mark.parametrize("name", [*REFUSED, *PICTURES])
def test_is_refused_by_place_and_nothing_is_converted(tmp_path: Path, name: str) -> None:
    change, words = {**REFUSED, **PICTURES}[name]
    refused(tmp_path, change, words)


def lines_in_another_order(root: Path) -> None:
    for name in ("episodes.jsonl", "tasks.jsonl", "episodes_stats.jsonl"):
        rows = (root / "meta" / name).read_text().splitlines()
        (root / "meta" / name).write_bytes("\r\n\r\n".join([*rows[1:], rows[0], ""]).encode())


READ: dict[str, Callable[[Path], Any]] = {
    "lines in another order, empty lines, Windows line ends": lines_in_another_order,
    "no names of entries": feature("action", names=None),
    "names of entries in groups": feature("action", names={"motors": ["dx", "close"]}),
    "lists of another kind": column_as(
        "observation.state",
        pa.large_list(pa.float32()),
        take(4, 1, (SCENE,)).columns["observation.state"].tolist(),
    ),
    "video with B-frames and one key frame": lambda root: encode(
        root / FILM, pictures(4, (32, 48), 1), g="99", bf="3"
    ),
    "a column that info.json does not declare": lambda root: [
        pq.write_table(pq.read_table(path).append_column("more", pa.nulls(n, pa.int8())), path)
        for path, n in zip(sorted(root.glob("data/*/*")), LENGTHS, strict=True)
    ],
    "statistics without a feature": line("episodes_stats.jsonl", 1, lambda row: row["stats"].pop("action")),
}


@pytest.mark.parametrize("name", READ)
def test_is_read_rightly(tmp_path: Path, name: str) -> None:
    root = write(tmp_path / "set")
    plain = Dataset(root)
    READ[name](root)
    odd = Dataset(root)
    made = convert_dataset(root, tmp_path / "made", progress=False)
    wanted = plain.windows(np.arange(12), WindowSpec(horizon=1))
    for data in (odd, made):
        seen = data.windows(np.arange(12), WindowSpec(horizon=1))
        np.testing.assert_array_equal(seen.action, wanted.action)
        np.testing.assert_array_equal(seen.observation.state, wanted.observation.state)
        assert seen.observation.task == wanted.observation.task
        for camera, images in wanted.observation.images.items():
            off = np.abs(seen.observation.images[camera].numpy().astype(int) - images.numpy())
            assert off.mean() < 3, camera


def test_two_cameras_of_one_name_are_refused(tmp_path: Path) -> None:
    root = write_new(tmp_path / "set", [take(3, 0, (SCENE, WRIST))])
    names = {"ego": {"original_key": SCENE}, "scene": {"original_key": WRIST}}
    (root / "meta/modality.json").write_text(json.dumps({"video": names}))
    assert set(Dataset(root).observation_spec.cameras) == {"ego", "scene"}
    (root / "meta/modality.json").write_text(json.dumps({"video": {"wrist": {"original_key": SCENE}}}))
    with pytest.raises(DataError, match="both cameras of the name 'wrist'"):
        Dataset(root)


def test_the_page_has_a_row_for_every_name() -> None:
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")}
    assert {*REFUSED, *PICTURES, *READ} <= rows
