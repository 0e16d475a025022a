"""Odd datasets of other programs that are read rightly, and what a conversion makes of them.

The names are the rows of the table in docs/formats.md.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from films import edit_info
from foreign import SCENE, STILL, encode, join, pictures, take, write_new
from odd import (
    EPISODES,
    FILM,
    INFO,
    LENGTHS,
    STATS,
    TABLE,
    TASKS,
    cell,
    declared,
    everywhere,
    feature,
    further,
    read,
    without,
    write,
)  # fmt: skip

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.conversion import convert_dataset
from wamkit.data.findings import check_dataset
from wamkit.errors import DataError

TABLES = "meta/episodes/chunk-000/file-000.parquet"

# Read as meant, but a conversion to v3.0 has no place for it.
KEPT: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "further entries of types that do not fit together": (
        further(1, "two", 3),
        ("episode_000001", "'note'", "'two'"),
    ),
    "further entries without content": (further({}, {}, {}), ("episode_000000", "'note'", "without entries")),
    "further entry beyond 64 bits": (further(1, 10**25, 1), ("episode_000001", "'note'")),
    "extra that a table lacks": (without("pose"), (TABLE, "'pose'", "is missing")),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_has_no_place_is_told_before_anything_is_written(tmp_path: Path, name: str) -> None:
    change, words = KEPT[name]
    root = write(tmp_path / "set")
    change(root)
    read(root)
    with pytest.raises(DataError) as caught:
        convert_dataset(root, tmp_path / "made", progress=False)
    for word in words:
        assert word in str(caught.value)
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["set"]


def marked(root: Path) -> None:
    for name in (INFO, EPISODES, TASKS, STATS):
        (root / name).write_bytes(b"\xef\xbb\xbf" + (root / name).read_bytes())


def linked(root: Path) -> None:
    """As the cache of a hub lays it out: every file is a link to one named by its content."""
    blobs = root.parent / ".blobs"
    blobs.mkdir()
    for number, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        os.replace(path, blobs / f"{number:040x}")
        path.symlink_to(os.path.relpath(blobs / f"{number:040x}", path.parent))


def sliced(column: pa.ChunkedArray) -> pa.Array:
    """Lists that lie in another order in memory than in the column."""
    values = np.array(column.to_pylist(), dtype=np.float32)
    starts = pa.array(np.arange(len(values))[::-1] * 3, pa.int32())
    sizes = pa.array([3] * len(values), pa.int32())
    return pa.ListViewArray.from_arrays(starts, sizes, pa.array(values[::-1].ravel()))


READ: dict[str, Callable[[Path], Any]] = {
    "byte order marks": marked,
    "old Macintosh line ends": lambda root: (root / EPISODES).write_bytes(
        (root / EPISODES).read_bytes().replace(b"\n", b"\r")
    ),
    "outcomes as 1 and 0": further(1, 0, None, key="success"),
    "further entries of numbers of two kinds": further(1, 2.5, None),
    "names of entries with their places": feature("action", names={"close": 1, "dx": 0}),
    "no splits and no robot": lambda root: edit_info(
        root, lambda content: [content.pop(key) for key in ("splits", "robot_type")]
    ),
    "lists in views": everywhere("observation.state", sliced),
    "indices as other numbers, and in lists of one": lambda root: [
        everywhere("frame_index", lambda c: c.cast(pa.uint8()))(root),
        everywhere("episode_index", lambda c: c.cast(pa.float64()))(root),
        everywhere("index", lambda c: pa.array([[v] for v in c.to_pylist()]))(root),
    ],
    "texts in a dictionary": everywhere("note", lambda c: c.dictionary_encode()),
    "states in 64 bits": everywhere(
        "observation.state", lambda c: pa.array(c.to_pylist(), pa.list_(pa.float64()))
    ),
    "other compression, and a row group per frame": lambda root: [
        pq.write_table(pq.read_table(path), path, compression="brotli", row_group_size=1)
        for path in root.glob("data/*/*.parquet")
    ],
    "times off by a twentieth of a frame": everywhere(
        "timestamp",
        lambda c: pa.array([v + 0.0016 * (k % 2) for k, v in enumerate(c.to_pylist())], pa.float32()),
    ),
    "pictures as bytes alone": everywhere(
        STILL, lambda c: pa.array([cell["bytes"] for cell in c.to_pylist()])
    ),
    "links to the files": linked,
    "NaN and null in an extra": lambda root: [
        cell("pose", 1, [float("nan"), 0.0])(root),
        cell("note", 1, None)(root),
    ],
}


@pytest.mark.parametrize("name", READ)
def test_is_read_and_converted_rightly(tmp_path: Path, name: str) -> None:
    root = write(tmp_path / "set")
    wanted = Dataset(root).windows(np.arange(12), WindowSpec(horizon=1))
    names = Dataset(root).action_spec.names
    READ[name](root)
    made = convert_dataset(root, tmp_path / "made", progress=False)
    assert check_dataset(root, decode=True).faults == ()
    for data in (Dataset(root), made):
        seen = data.windows(np.arange(12), WindowSpec(horizon=1))
        np.testing.assert_array_equal(seen.action, wanted.action)
        np.testing.assert_array_equal(seen.observation.state, wanted.observation.state)
        assert seen.observation.task == wanted.observation.task
        assert data.action_spec.names == names
        for camera, images in wanted.observation.images.items():
            np.testing.assert_array_equal(seen.observation.images[camera], images)


@pytest.mark.parametrize(
    "task", ["pick\u2028it\x85up", "two\nlines\r\n\tand a tab", "", 'say "hi"', "拿起 🥄 ünï"]
)
def test_any_text_is_an_instruction_and_survives_both_ways(tmp_path: Path, task: str) -> None:
    root = write_new(tmp_path / "set", [take(n, k, task=task or "x") for k, n in enumerate((3, 4))])
    if not task:  # the writer takes an empty text for none
        rows = pq.read_table(root / TABLES).to_pylist()
        pq.write_table(pa.Table.from_pylist([{**row, "tasks": [""]} for row in rows]), root / TABLES)
        pq.write_table(pa.table({"task_index": [0], "task": [""]}), root / "meta/tasks.parquet")
    old = convert_dataset(root, tmp_path / "old", "v2.1", progress=False)
    new = convert_dataset(tmp_path / "old", tmp_path / "new", progress=False)
    assert Dataset(root).tasks == old.tasks == new.tasks == (task,)


def test_further_entries_and_outcomes_survive_both_ways(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    further(1, 2.5, None)(root)
    further(1, 0, None, key="success")(root)
    further({"a": [1, None]}, {"a": []}, None, key="nested")(root)
    new = convert_dataset(root, tmp_path / "new", progress=False)
    old = convert_dataset(tmp_path / "new", tmp_path / "old", "v2.1", progress=False)
    assert [episode.success for episode in old.episodes] == [True, False, None]
    assert [episode.success for episode in new.episodes] == [True, False, None]
    rows = [json.loads(text) for text in (tmp_path / "old" / EPISODES).read_text().splitlines()]
    assert [row["note"] for row in rows] == [1, 2.5, None]
    assert [row["nested"] for row in rows] == [{"a": [1, None]}, {"a": []}, None]


@pytest.mark.parametrize("said", [0, -1, None, "1000", True, 2.5])
def test_number_of_files_per_folder_that_v3_does_not_need(tmp_path: Path, said: Any) -> None:
    root = write_new(tmp_path / "set", [take(n, k) for k, n in enumerate((3, 4))])
    edit_info(root, lambda content: content.update(chunks_size=said))
    assert convert_dataset(root, tmp_path / "old", "v2.1", progress=False).num_frames == 7


@pytest.mark.parametrize("value", [b"\xff", pa.scalar(0, pa.timestamp("s")).as_py()])
def test_further_entries_that_json_cannot_hold(tmp_path: Path, value: Any) -> None:
    root = write_new(tmp_path / "set", [take(n, k) for k, n in enumerate((3, 4))])
    rows = pq.read_table(root / TABLES).to_pylist()
    pq.write_table(pa.Table.from_pylist([{**row, "note": value} for row in rows]), root / TABLES)
    with pytest.raises(DataError, match=r"episode 0, entry 'note': .*cannot be written as JSON"):
        convert_dataset(root, tmp_path / "old", "v2.1", progress=False)
    assert not list(tmp_path.glob("old*"))


def test_tasks_in_a_dictionary_and_beside_other_texts(tmp_path: Path) -> None:
    root = write_new(tmp_path / "set", [take(n, k) for k, n in enumerate((3, 4))])
    path = root / "meta/tasks.parquet"
    table = pq.read_table(path)
    coded = table.set_column(1, "task", table.column(1).dictionary_encode())
    pq.write_table(coded.append_column("kind", pa.array(["a", "b"])), path)
    assert Dataset(root).tasks == ("task 0", "task 1")


def test_files_of_the_episode_table_are_read_by_number_and_hidden_ones_are_not(tmp_path: Path) -> None:
    root = write_new(tmp_path / "set", [take(n, k) for k, n in enumerate(LENGTHS)])
    table = pq.read_table(root / TABLES)
    (root / TABLES).unlink()
    for number, rows in ((999, table.slice(0, 2)), (1000, table.slice(2))):  # as texts, 1000 comes first
        pq.write_table(rows, root / f"meta/episodes/chunk-000/file-{number}.parquet")
    for folder in ("meta/episodes", "data"):  # as macOS leaves them on foreign disks
        (root / folder / "chunk-000/._file-000.parquet").write_bytes(b"Mac OS X")
    assert [len(episode) for episode in Dataset(root).episodes] == list(LENGTHS)


@pytest.mark.parametrize("named", ["a:b", "a b%03d", "ünï ☃", "p[x]*?", os.fsdecode(b"x\xff"), "a\nb"])
def test_any_folder_name_also_as_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    write_new(tmp_path / "plain", [take(3, 0, (SCENE, STILL))]).rename(tmp_path / named)
    monkeypatch.chdir(tmp_path)
    read(Path(named))
    assert convert_dataset(named, Path(named + "2"), "v2.1", progress=False).num_frames == 3


def test_the_folder_that_was_meant_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "all/set")
    for path in (root / "meta", root / INFO):
        with pytest.raises(DataError) as caught:
            Dataset(path)
        assert f"inside the dataset {root}:" in str(caught.value)
        with pytest.raises(DataError, match=r"is not a LeRobotDataset|is one file of a dataset"):
            convert_dataset(path, tmp_path / "made", progress=False)
    with pytest.raises(DataError, match=f"holds the dataset {root}"):
        Dataset(tmp_path / "all")
    with pytest.raises(DataError, match="'~' was not replaced"):
        Dataset("~/nothing")


def test_a_video_that_cannot_be_copied_is_encoded_where_that_is_asked_for(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    with av.open(str(root / FILM), "w", options={"movflags": "negative_cts_offsets"}) as output:
        stream = output.add_stream("libx264", rate=30, options={"bf": "3", "crf": "20"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for image in pictures(4, (32, 48), 1):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    with pytest.raises(DataError, match=r"episode 1.*times of decoding.*--reencode"):
        convert_dataset(root, tmp_path / "made", progress=False)
    made = convert_dataset(root, tmp_path / "made", reencode=True, progress=False)
    seen, wanted = (data.frames.all("scene").astype(int) for data in (made, Dataset(root)))
    assert np.abs(seen - wanted).mean() < 2


def test_a_declared_column_that_nobody_reads_is_a_fault_and_no_obstacle(tmp_path: Path) -> None:
    root = write(tmp_path / "set")
    declared("next.reward", dtype="float32", shape=[1], names=None)(root)
    assert Dataset(root).num_frames == 12
    found = check_dataset(root).faults
    assert [(fault.kind, fault.episode, fault.feature) for fault in found] == [
        ("column", episode, "next.reward") for episode in range(3)
    ]


def test_v3_rate_of_a_shared_container_and_pictures_of_no_episode(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write_new(tmp_path / "set", [take(n, k) for k, n in enumerate((3, 4))])
    path = root / f"videos/{SCENE}/chunk-000/file-000.mp4"
    encode(path, np.concatenate([pictures(n, (32, 48), k) for k, n in enumerate((3, 4))]), fps=15)
    with pytest.raises(DataError, match=r"15\.0000 pictures per second"):
        Dataset(root)
    films = [tmp_path / f"{k}.mp4" for k in range(3)]
    for k, n in enumerate((3, 4, 5)):
        encode(films[k], pictures(n, (32, 48), k))
    join(films, path)
    with caplog.at_level(logging.WARNING):
        assert Dataset(root).num_frames == 7  # an episode that was taken out of the table
    assert "5 pictures belong to no episode" in caplog.text


def test_the_page_has_a_row_for_every_name() -> None:
    page = (Path(__file__).parents[2] / "docs/formats.md").read_text(encoding="utf-8")
    rows = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")}
    assert {*KEPT, *READ} <= rows
