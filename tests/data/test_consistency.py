"""What a dataset says twice must agree, and the way out of every refusal leads out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import EXTRAS
from test_broken import DATA, EPISODES, check_refused, edit_column, edit_json, set_value

import wamkit.data
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.stats import vector_stats
from wamkit.errors import DataError

INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
SCENE = "observation.images.scene"


def foreign(root: Path) -> Path:
    """Make it a dataset that another program wrote."""
    edit_json(root / INFO, lambda info: info.pop("wamkit"))
    return root


def put(*path: str, value: Any) -> Callable[[Any], None]:
    """A change that sets one entry of nested objects."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def drop(*path: str) -> Callable[[Any], None]:
    """A change that removes one entry of nested objects."""

    def change(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


WRONG: list[tuple[str, Any]] = [
    *[("fps", v) for v in (None, "80", 0, -1, True, [], float("nan"), float("inf"), 1e300)],
    *[("features", v) for v in (None, [], "action", {}, {"action": None})],
    *[("total_episodes", v) for v in (None, "3", -3, 3.5, True, 4, 0)],
    *[("total_frames", v) for v in (None, "18", 17, 0)],
    *[("total_tasks", v) for v in (None, "2", 1)],
    *[
        ("data_path", v)
        for v in (None, 3, "", "data.parquet", "{chunk_index}/{episode_index}", "{chunk_index", "{}")
    ],
    ("data_path", "../set/data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"),
    ("data_path", "/data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"),
    ("data_path", "data/chunk-{chunk_index:03s}/file-{file_index:03d}.parquet"),
    ("data_path", "data/chunk-{chunk_index.real}/file-{file_index:03d}.parquet"),
    *[("video_path", v) for v in (None, 3, "videos/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4")],
    *[("codebase_version", v) for v in (None, 3, [], "v2.1", "v9")],
    *[("wamkit", v) for v in (None, [], "spec", {}, {"observation_spec": 1, "action_spec": 2})],
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=str)
def test_an_entry_of_info_that_cannot_be(recorded: Path, key: str, value: Any) -> None:
    edit_json(recorded / INFO, put(key, value=value))
    check_refused(recorded, "info.json", key)


FEATURE: list[tuple[tuple[str, ...], Any]] = [
    *[(("action", "dtype"), v) for v in (None, 3, "string", "language", "video")],
    *[
        (("action", "shape"), v)
        for v in (None, 2, "2", [], [2.0], ["2"], [-2], [0], [True], [2, 1], [3], {"n": 2})
    ],
    *[
        (("action", "names"), v)
        for v in (["a", "b", "c"], [None, "x"], [{}, {}], {"motors": ["a", "b", "c"]})
    ],
    *[(("observation.state", "shape"), v) for v in (None, [2])],
    *[((SCENE, "shape"), v) for v in (None, [16, 24], [16, 24, 4], [16, 24, 0], [24, 16, 3], [17, 24, 3])],
    ((SCENE, "names"), ["channels", "height", "width"]),
    ((SCENE, "info"), [1]),
    *[(("index", "dtype"), v) for v in ("float32", "string", None)],
    (("timestamp", "shape"), [2]),
    (("extra.depth", "shape"), [4, 7]),
    (("extra.depth", "dtype"), "text"),
]


@pytest.mark.parametrize("written", ["here", "elsewhere"])
@pytest.mark.parametrize(("path", "value"), FEATURE, ids=str)
def test_a_feature_that_cannot_be(recorded: Path, path: tuple[str, ...], value: Any, written: str) -> None:
    if written == "elsewhere":
        foreign(recorded)
    edit_json(recorded / INFO, put("features", *path, value=value))
    if written == "elsewhere" and value in ([16, 24], [16, 24, 4]):
        assert set(Dataset(recorded).observation_spec.cameras) == {
            "gripper"
        }  # no RGB camera: left out, with a warning
        return
    with pytest.raises(DataError) as caught:
        Dataset(recorded, extras=tuple(EXTRAS))
    assert path[0].split(".")[-1] in str(caught.value)
    assert str(recorded) in str(caught.value)


@pytest.mark.parametrize("key", ["dtype", "shape"])
def test_a_feature_without_an_entry(recorded: Path, key: str) -> None:
    edit_json(recorded / INFO, drop("features", "action", key))
    check_refused(recorded, INFO, "'action'", repr(key))


def test_a_key_given_twice(recorded: Path) -> None:
    text = (recorded / INFO).read_text().replace('"fps": 80', '"fps": 80, "fps": 40')
    (recorded / INFO).write_text(text)
    check_refused(recorded, INFO, "'fps'", "twice")


@pytest.mark.parametrize("key", ["observation.image.scene", "observation.rgb.scene", "scene"])
def test_two_cameras_of_one_name(recorded: Path, key: str) -> None:
    foreign(recorded)
    camera = json.loads((recorded / INFO).read_text())["features"][SCENE]
    edit_json(recorded / INFO, put("features", key, value=camera))
    check_refused(recorded, INFO, repr(SCENE), repr(key), "'scene'")
    edit_json(recorded / INFO, drop("features", key))  # the way out
    assert set(Dataset(recorded).observation_spec.cameras) == {"scene", "gripper"}


@pytest.mark.parametrize(
    "names", [None, ["actions"], {"motors": ["a", "b"]}, [["a", "b"]], {"x": "a", "y": "b"}], ids=str
)
def test_names_as_converters_write_them(recorded: Path, names: Any) -> None:
    edit_json(foreign(recorded) / INFO, put("features", "action", "names", value=names))
    expected = ("a", "b") if names and names != ["actions"] else ("action_0", "action_1")
    assert Dataset(recorded).action_spec.names == expected


CELLS: list[tuple[str, int, Any]] = [
    *[("length", 1, v) for v in (None, 8, -9)],
    *[("episode_index", 1, v) for v in (None, 0, 2)],
    *[("tasks", 1, v) for v in (None, [], [None], ["another"], ["task 0"])],
    *[(f"videos/{SCENE}/from_timestamp", 1, v) for v in (None, 0.0, float("nan"), 5 / 80 - 1 / 80, -1e30)],
    *[(f"videos/{SCENE}/to_timestamp", 1, v) for v in (None, 0.0, 1e30, 15 / 80)],
    *[(f"videos/{SCENE}/file_index", 1, v) for v in (None, 1, -1)],
    *[("data/file_index", 1, v) for v in (None, 1)],
    ("success", 0, False),
    ("stats/action/max", 1, [9.0, 9.0]),
]


@pytest.mark.parametrize(("column", "row", "value"), CELLS, ids=str)
def test_a_cell_of_the_episode_table_that_cannot_be(
    recorded: Path, column: str, row: int, value: Any
) -> None:
    foreign(recorded)
    edit_column(recorded / EPISODES, column, set_value(row, value))
    with pytest.raises(DataError) as caught:
        Dataset(recorded)
    assert str(recorded) in str(caught.value)


@pytest.mark.parametrize("kind", ["text", "fraction"])
@pytest.mark.parametrize("name", ["action", "task_index", "index", "timestamp"])
def test_a_column_of_another_type(recorded: Path, name: str, kind: str) -> None:
    table = pq.read_table(recorded / DATA)
    values = table.column(name).to_pylist()
    other = [str(v) for v in values] if kind == "text" else [np.add(v, 0.5).tolist() for v in values]
    place = table.column_names.index(name)
    pq.write_table(table.set_column(place, name, pa.array(other)), recorded / DATA)
    check_refused(recorded, name)


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint8(), pa.float64()], ids=str)
def test_another_type_that_holds_the_same_numbers_is_understood(recorded: Path, kind: pa.DataType) -> None:
    before = Dataset(recorded)
    table = pq.read_table(recorded / DATA)
    for name in ("index", "frame_index", "task_index"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(kind))
    pq.write_table(table, recorded / DATA)
    after = Dataset(recorded)
    spec = WindowSpec(horizon=1)
    index = np.arange(before.num_frames)
    assert after.windows(index, spec).observation.task == before.windows(index, spec).observation.task


def test_one_row_of_another_width_with_the_right_total(recorded: Path) -> None:
    def move(rows: list[Any]) -> None:
        rows[3], rows[4] = rows[3] + rows[4][:1], rows[4][1:]

    edit_column(recorded / DATA, "action", move)
    check_refused(recorded, DATA, "'action'", "row 3", "3 values")


@pytest.mark.parametrize("rows", [[0, 0], [0, 2], [1, 1], [0]])
def test_task_indices_with_gaps(recorded: Path, rows: list[int]) -> None:
    texts = [f"task {i}" for i in range(len(rows))]
    pq.write_table(pa.table({"task_index": rows, "task": texts}), recorded / TASKS)
    check_refused(recorded, "task")


def test_a_task_that_is_null_or_listed_twice(recorded: Path) -> None:
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["task 0", None]}), recorded / TASKS)
    check_refused(recorded, TASKS, "row 1", "null")
    pq.write_table(pa.table({"task_index": [0, 1], "task": ["task 0", "task 0"]}), recorded / TASKS)
    check_refused(recorded, TASKS, "row 1", "twice")


def test_tasks_in_another_order_are_not_those_of_their_episodes(recorded: Path) -> None:
    pq.write_table(pa.table({"task_index": [1, 0], "task": ["task 0", "task 1"]}), recorded / TASKS)
    check_refused(recorded, DATA, "episode 0", "'task 1'", "frame 0")


@pytest.mark.parametrize("written", ["here", "elsewhere"])
@pytest.mark.parametrize("key", ["action", "observation.state"])
@pytest.mark.parametrize("name", ["mean", "std", "min", "max", "count"])
@pytest.mark.parametrize("factor", [0.1, 1.1, -1.0])
def test_stale_statistics_are_refused_and_repaired(
    recorded: Path, key: str, name: str, factor: float, written: str
) -> None:
    if written == "elsewhere":
        foreign(recorded)
    before = Dataset(recorded).stats[key]

    def scale(stats: Any) -> None:
        values = np.array(stats[key][name]) * factor
        stats[key][name] = np.round(values).astype(int).tolist() if name == "count" else values.tolist()

    edit_json(recorded / STATS, scale)
    check_refused(recorded, STATS, repr(key), "wamkit.data.rebuild_stats(root)")
    wamkit.data.rebuild_stats(recorded)
    np.testing.assert_allclose(getattr(Dataset(recorded).stats[key], name), getattr(before, name))


@pytest.mark.parametrize("name", ["mean", "std", "q10", "max"])
@pytest.mark.parametrize(
    "value", [None, "0", [], [["a"]], [[1.0]], [[[0.1]], [[0.1]]], [[[9.0]]] * 3], ids=str
)
def test_statistics_of_a_camera_that_cannot_be(recorded: Path, name: str, value: Any) -> None:
    edit_json(foreign(recorded) / STATS, put(SCENE, name, value=value))
    check_refused(recorded, STATS, SCENE, "wamkit.data.rebuild_stats(root)")
    wamkit.data.rebuild_stats(recorded)
    Dataset(recorded)


def test_frames_changed_on_purpose_are_accepted_by_rebuilding(recorded: Path) -> None:
    """The way out of a message that blames the frames: statistics of episodes and digests follow."""
    edit_column(recorded / DATA, "action", lambda rows: [[0.5 * a, b] for a, b in rows])
    check_refused(recorded, DATA, "episode 0", "'action'", "'dx'", "wamkit.data.rebuild_stats(root)")
    wamkit.data.rebuild_stats(recorded)
    data = Dataset(recorded)
    for name in ("mean", "q01", "max"):
        np.testing.assert_allclose(
            getattr(data.stats["action"], name), getattr(vector_stats(data.action), name)
        )


def test_another_video_is_refused_and_accepted_by_rebuilding(recorded: Path) -> None:
    path = recorded / "videos" / SCENE / "chunk-000/file-000.mp4"
    path.write_bytes(path.read_bytes() + b"\0\0\0\x08free")  # an empty box behind the film: the same pictures
    data = Dataset(recorded)
    with pytest.raises(DataError, match=r"not those that were recorded.*rebuild_stats\(root\)"):
        data.windows(np.array([0]), WindowSpec())
    wamkit.data.rebuild_stats(recorded)
    Dataset(recorded).windows(np.array([0]), WindowSpec())


def test_specs_changed_since_they_were_recorded(recorded: Path) -> None:
    edit_json(recorded / INFO, put("wamkit", "action_spec", "high", value=[5, 5]))
    check_refused(recorded, INFO, "'digest'")
    edit_json(recorded / INFO, drop("wamkit", "digest"))  # the way out
    assert Dataset(recorded).action_spec.high == (5, 5)


def test_actions_beyond_the_limits_of_their_spec(recorded: Path) -> None:
    edit_json(recorded / INFO, put("wamkit", "action_spec", "high", value=[0.01, 1]))
    edit_json(recorded / INFO, drop("wamkit", "digest"))
    check_refused(recorded, DATA, "episode", "frame", "'dx'", "limits")


OTHERS = {
    "language": ({"dtype": "language", "shape": [1], "names": None}, [[{"role": "user"}]] * 18),
    "points": ({"dtype": "float32", "shape": [-1, 3]}, [[0.0] * 3 * (k % 3 + 1) for k in range(18)]),
    "next.reward": ({"dtype": "float32", "shape": [1]}, [None if k == 5 else 0.0 for k in range(18)]),
    "nan": ({"dtype": "float32", "shape": [1]}, [float("nan")] * 18),
    "plain": ({"dtype": "int64", "shape": [1]}, list(range(18))),
}


@pytest.mark.parametrize("name", OTHERS)
def test_rebuilding_passes_over_what_training_does_not_need(
    recorded: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = Dataset(foreign(recorded)).stats
    feature, values = OTHERS[name]
    edit_json(recorded / INFO, put("features", name, value=feature))
    pq.write_table(pq.read_table(recorded / DATA).append_column(name, pa.array(values)), recorded / DATA)
    (recorded / STATS).unlink()
    with caplog.at_level(logging.WARNING):
        stats = wamkit.data.rebuild_stats(recorded)
    assert (name in stats) == (name == "plain") == (name not in caplog.text)
    for key in ("action", "observation.state"):
        np.testing.assert_array_equal(Dataset(recorded).stats[key].q99, before[key].q99)
    assert not list((recorded / "meta").glob("*part*"))


def test_a_robot_without_proprioception_has_an_empty_state(recorded: Path) -> None:
    edit_json(foreign(recorded) / INFO, drop("features", "observation.state"))
    data = Dataset(recorded)
    assert data.observation_spec.state == ()
    assert data.state.shape == (18, 0)
    assert data.windows(np.array([0, 7]), WindowSpec((-1, 0))).observation.state.shape == (2, 2, 0)
    assert "observation.state" not in wamkit.data.rebuild_stats(recorded)
