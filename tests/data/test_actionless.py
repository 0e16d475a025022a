"""Clips without actions (`pt.video-cotrain`): declared, stored beside demonstrations, and read as padding."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import ACTION, EXTRAS, OBSERVATION, episode
from test_stats import check_equal

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode, rebuild_stats
from wamkit.errors import DataError

LENGTHS = (7, 9, 5)
CLIP = 1  # the episode without actions
WINDOW = WindowSpec(observation=(0,), past_actions=2, horizon=3, future=(1,))


def written(root: Path, *clips: int, actionless: bool = True) -> Path:
    # Actions far from zero, so that zeros would show in the statistics; the limits would refuse zeros, too.
    action = replace(ACTION, low=(0.5, 0.5))
    with DatasetWriter(root, OBSERVATION, action, extras=EXTRAS, actionless=actionless) as writer:
        for number, frames in enumerate(LENGTHS):
            writer.add(recorded_episode(number, frames, number in clips))
    return root


def recorded_episode(number: int, frames: int, clip: bool = False) -> Episode:
    whole = episode(frames, number)
    assert whole.action is not None
    return replace(whole, action=None if clip else 0.75 + 0.25 * whole.action)


def edited(root: Path, column: str, change: dict[int, object]) -> Path:
    """Change values of a column of the only data file: row -> value. The dataset then passes for one of LeRobot."""
    (file,) = root.glob("data/*/*.parquet")
    table = pq.read_table(file)
    values = table[column].to_pylist()
    for row, value in change.items():
        values[row] = value
    field = table.schema.field(column)
    pq.write_table(
        table.set_column(table.column_names.index(column), field, pa.array(values, field.type)), file
    )
    info = root / "meta" / "info.json"
    content = json.loads(info.read_text())
    del content["wamkit"]
    info.write_text(json.dumps(content))
    return root


def test_windows_of_a_clip_have_no_action(tmp_path: Path) -> None:
    dataset = Dataset(written(tmp_path / "set", CLIP))
    assert dataset.info["features"]["has_action"] == {"dtype": "bool", "shape": [1], "names": None}
    starts = np.cumsum((0, *LENGTHS))
    clip = np.arange(starts[CLIP], starts[CLIP + 1])
    assert np.flatnonzero(~dataset.acted).tolist() == clip.tolist()
    assert not dataset.action[clip].any()
    batch = dataset.windows(np.array([3, starts[CLIP] + 3, starts[CLIP + 1] + 3]), WINDOW)
    assert batch.action_pad[1].all()
    assert not batch.action_pad[0].any()
    assert not batch.observation.pad.any()
    assert batch.future is not None
    assert not batch.future.pad.any()


def test_statistics_ignore_clips_and_a_rebuild_does_too(tmp_path: Path) -> None:
    root = written(tmp_path / "set", CLIP)
    known = [recorded_episode(n, t).action for n, t in enumerate(LENGTHS) if n != CLIP]
    values = np.concatenate([action for action in known if action is not None])
    check_equal(Dataset(root).stats["action"], values, (2,), len(values))
    assert Dataset(root).stats["observation.state"].count == sum(LENGTHS)
    before = (root / "meta" / "stats.json").read_text()
    rebuild_stats(root)
    assert json.loads((root / "meta" / "stats.json").read_text())["action"] == json.loads(before)["action"]
    check_equal(Dataset(root).stats["action"], values, (2,), len(values))
    stats = json.loads(before)
    stats["action"]["mean"] = [0.1, 0.1]
    (root / "meta" / "stats.json").write_text(json.dumps(stats))
    with pytest.raises(DataError, match="feature 'action'"):
        Dataset(root)


def test_a_clip_must_be_declared(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"episode 1: it has no actions, but .* `DatasetWriter\(.*=True\)`"):
        written(tmp_path / "set", CLIP, actionless=False)
    assert "has_action" not in Dataset(written(tmp_path / "plain", actionless=False)).info["features"]
    assert Dataset(written(tmp_path / "none")).acted.all()  # declared, and not made use of


def test_half_declared_is_refused_where_it_stands(tmp_path: Path) -> None:
    root, start = written(tmp_path / "set", CLIP), LENGTHS[0]
    edited(root, "has_action", {start + 2: True})
    with pytest.raises(
        DataError, match=r"episode 1, field 'has_action': frame 2 says True, the frames before"
    ):
        Dataset(root)
    edited_root = written(tmp_path / "other", CLIP)
    edited(edited_root, "action", {start + 3: [0.6, 0.6]})
    with pytest.raises(
        DataError, match=r"says that it has no actions, but the action of frame 3 is not zero"
    ):
        Dataset(edited_root)
    wrong = written(tmp_path / "wrong", CLIP)
    info = json.loads((wrong / "meta" / "info.json").read_text())
    info["features"]["has_action"]["dtype"] = "float32"
    (wrong / "meta" / "info.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="'has_action': must be bool of shape"):
        Dataset(wrong)


def test_changed_flags_do_not_pass_for_what_was_recorded(tmp_path: Path) -> None:
    """A clip of standing still would look like a clip without actions, and the reverse; the digest tells."""
    root = written(tmp_path / "set", CLIP)
    info = (root / "meta" / "info.json").read_text()
    edited(root, "has_action", dict.fromkeys(range(LENGTHS[0], LENGTHS[0] + LENGTHS[1]), True))
    (root / "meta" / "info.json").write_text(info)
    with pytest.raises(DataError):
        Dataset(root)


def test_a_dataset_of_clips_alone_can_be_read(tmp_path: Path) -> None:
    dataset = Dataset(written(tmp_path / "set", 0, 1, 2))
    assert not dataset.acted.any()
    assert dataset.stats["action"].max.tolist() == [0.0, 0.0]
    assert dataset.windows(np.array([2]), WINDOW).action_pad.all()
    assert dataset.milestones.tolist() == [n - 1 for n in np.cumsum(LENGTHS)]  # the ends alone
