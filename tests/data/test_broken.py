"""Every way in which a dataset can be broken ends in an error that names file, episode and field."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wamkit.data import Dataset
from wamkit.errors import DataError

DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.gripper/chunk-000/file-000.mp4"


def cut(path: Path, keep: float) -> None:
    os.truncate(path, int(path.stat().st_size * keep))


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_column(path: Path, name: str, change: Callable[[list[Any]], list[Any] | None]) -> None:
    table = pq.read_table(path)
    values = table[name].to_pylist()
    values = change(values) or values
    kind = table.schema.field(name).type
    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(kind.value_type)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(values, kind)), path)


def set_value(row: int, value: Any, entry: int | None = None) -> Callable[[list[Any]], None]:
    def change(values: list[Any]) -> None:
        if entry is None:
            values[row] = value
        else:
            values[row][entry] = value

    return change


def remux(path: Path, keep: int, **options: str) -> None:
    """Copy a video without its frames from number ``keep`` on."""
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        with av.open(str(path) + ".mp4", "w", options=options) as target:
            out = target.add_stream_from_template(stream)
            packets = [p for p in source.demux(stream) if p.dts is not None]
            for packet in packets[:keep]:
                packet.stream = out
                target.mux(packet)
    os.replace(str(path) + ".mp4", path)


def check_refused(root: Path, *words: str) -> None:
    """Opening fails, and the message has all of ``words``."""
    with pytest.raises(DataError) as caught:
        Dataset(root)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("path", [DATA, EPISODES, "meta/tasks.parquet"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_truncated_parquet(recorded: Path, path: str, keep: float) -> None:
    cut(recorded / path, keep)
    check_refused(recorded, path, "cut off")


@pytest.mark.parametrize("path", [DATA, VIDEO, "meta/tasks.parquet", "meta/info.json", "meta/stats.json"])
def test_missing_file(recorded: Path, path: str) -> None:
    (recorded / path).unlink()
    check_refused(recorded, path)


def test_missing_episode_table(recorded: Path) -> None:
    (recorded / EPISODES).unlink()
    check_refused(recorded, "meta/episodes")


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.95])
def test_truncated_video(recorded: Path, keep: float) -> None:
    cut(recorded / VIDEO, keep)
    check_refused(recorded, VIDEO, "cut off")


def test_truncated_video_with_its_index_in_front(recorded: Path) -> None:
    remux(recorded / VIDEO, 18, movflags="faststart")
    Dataset(recorded)  # whole, it is fine
    cut(recorded / VIDEO, 0.8)
    check_refused(recorded, VIDEO, "episode", "gripper")


@pytest.mark.parametrize(("keep", "episode"), [(17, 2), (13, 1), (3, 0)])
def test_video_shorter_than_its_table(recorded: Path, keep: int, episode: int) -> None:
    remux(recorded / VIDEO, keep)
    check_refused(recorded, VIDEO, f"episode {episode}", "gripper", "too few")


def test_video_of_another_size(recorded: Path) -> None:
    os.replace(recorded / VIDEO.replace("gripper", "scene"), recorded / VIDEO)
    scene = recorded / VIDEO.replace("gripper", "scene")
    scene.parent.mkdir(exist_ok=True)
    scene.write_bytes((recorded / VIDEO).read_bytes())
    check_refused(recorded, VIDEO, "16x24", "gripper")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("field", "entry", "name"), [("action", 1, "close"), ("observation.state", 2, "z_m")]
)
def test_value_that_is_not_finite(recorded: Path, value: float, field: str, entry: int, name: str) -> None:
    edit_column(recorded / DATA, field, set_value(8, value, entry))
    check_refused(recorded, DATA, "episode 1", field, "frame 3", name)


def test_value_that_is_null(recorded: Path) -> None:
    edit_column(recorded / DATA, "action", set_value(8, None, 0))
    check_refused(recorded, DATA, "action", "null")


def test_action_of_another_width(recorded: Path) -> None:
    edit_column(recorded / DATA, "action", lambda rows: [[*row, 0.0] for row in rows])
    check_refused(recorded, DATA, "'action'", "3 values per frame", "[2]")


def test_info_of_another_width(recorded: Path) -> None:
    def widen(info: Any) -> None:
        info["features"]["action"]["shape"] = [3]

    edit_json(recorded / "meta/info.json", widen)
    check_refused(recorded, "meta/info.json", "'action'", "[3]", "2 entries")


def test_foreign_info_of_another_width(recorded: Path) -> None:
    def widen(info: Any) -> None:
        del info["wamkit"]
        info["features"]["action"].update(shape=[3], names=["a", "b", "c"])

    edit_json(recorded / "meta/info.json", widen)
    check_refused(recorded, "action", "3")


@pytest.mark.parametrize("key", ["action", "observation.state", "observation.images.scene"])
def test_missing_feature_statistics(recorded: Path, key: str) -> None:
    edit_json(recorded / "meta/stats.json", lambda stats: stats.pop(key))
    check_refused(recorded, "meta/stats.json", repr(key), "rebuild_stats")


@pytest.mark.parametrize("name", ["std", "q01", "q99", "count"])
def test_missing_statistic(recorded: Path, name: str) -> None:
    edit_json(recorded / "meta/stats.json", lambda stats: stats["action"].pop(name))
    check_refused(recorded, "meta/stats.json", "'action'", repr(name), "rebuild_stats")


@pytest.mark.parametrize(
    ("version", "way_out"),
    [("v1.6", "Convert it to v2.1"), ("v4.0", "Update"), (None, "Update")],
)
def test_other_versions(recorded: Path, version: str | None, way_out: str) -> None:
    edit_json(recorded / "meta/info.json", lambda info: info.update(codebase_version=version))
    check_refused(recorded, "meta/info.json", repr(version), way_out)


@pytest.mark.parametrize(
    ("column", "row", "value", "words"),
    [
        ("dataset_to_index", 1, 13, ("episode 1", "dataset_to_index 13")),
        ("dataset_from_index", 2, 13, ("episode 2", "dataset_from_index 13")),
        ("length", 0, 4, ("episode 0", "length 4")),
        ("episode_index", 1, 5, ("episode 5",)),
    ],
)
def test_episode_table_that_does_not_add_up(
    recorded: Path, column: str, row: int, value: int, words: tuple[str, ...]
) -> None:
    edit_column(recorded / EPISODES, column, set_value(row, value))
    check_refused(recorded, EPISODES, *words)


def test_episode_table_against_info(recorded: Path) -> None:
    edit_json(recorded / "meta/info.json", lambda info: info.update(total_frames=19))
    check_refused(recorded, "meta/episodes", "18 frames", "19")


@pytest.mark.parametrize(
    ("column", "value"), [("index", 3), ("episode_index", 2), ("frame_index", 0), ("timestamp", 1.0)]
)
def test_data_against_the_episode_table(recorded: Path, column: str, value: float) -> None:
    edit_column(recorded / DATA, column, set_value(7, value))
    check_refused(recorded, DATA, "episode 1", repr(column), "frame 2")


def test_data_with_rows_missing(recorded: Path) -> None:
    pq.write_table(pq.read_table(recorded / DATA).slice(0, 17), recorded / DATA)
    check_refused(recorded, DATA, "17 frames", "18")


def test_unknown_task(recorded: Path) -> None:
    edit_column(recorded / DATA, "task_index", set_value(16, 2))
    check_refused(recorded, DATA, "episode 2", "task_index", "frame 2")


def test_missing_column(recorded: Path) -> None:
    pq.write_table(pq.read_table(recorded / DATA).drop_columns(["action"]), recorded / DATA)
    check_refused(recorded, DATA, "'action'", "missing")


def test_spec_with_an_unknown_key(recorded: Path) -> None:
    edit_json(recorded / "meta/info.json", lambda info: info["wamkit"]["action_spec"].update(colour="red"))
    check_refused(recorded, "meta/info.json", "wamkit", "colour")


def test_no_dataset_at_all(tmp_path: Path) -> None:
    check_refused(tmp_path / "nothing", "nothing", "meta/info.json")


def test_foreign_dataset_gets_inferred_specs(recorded: Path) -> None:
    ours = Dataset(recorded)
    edit_json(recorded / "meta/info.json", lambda info: info.pop("wamkit"))
    data = Dataset(recorded, extras=("depth", "next.success"))
    assert data.observation_spec == ours.observation_spec
    assert data.action_spec.names == ("dx", "close")
    assert (data.action_spec.mode, data.action_spec.frame) == ("absolute", "unknown")
    np.testing.assert_allclose(data.action_spec.high, ours.action.max(axis=0))
    assert data.extras["next.success"].tolist() == [False] * 4 + [True] + [False] * 12 + [True]
