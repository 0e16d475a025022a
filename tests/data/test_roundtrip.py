import dataclasses
import json
import tempfile
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import ACTION, EXTRAS, OBSERVATION, SMALL, episode, record, varied

from wamkit.contract.specs import ActionSpec
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, DatasetWriter, Storage
from wamkit.data.video import Coding, encode_video, frame_rate
from wamkit.data.video_file import VideoFile
from wamkit.errors import SpecError

LENGTHS = st.lists(st.integers(1, 14), min_size=1, max_size=5)


FRAME = WindowSpec(horizon=1)
"""Each frame alone."""


@settings(max_examples=12, deadline=None)
@given(LENGTHS, st.integers(1, 6))
def test_what_was_recorded_comes_back(lengths: list[int], gop: int) -> None:
    episodes = varied(lengths)
    with tempfile.TemporaryDirectory() as folder:
        data = Dataset(record(Path(folder) / "set", episodes, Storage(gop=gop)), extras=tuple(EXTRAS))
        batch = data.windows(np.arange(data.num_frames), FRAME)
    assert (data.num_episodes, data.num_frames) == (len(lengths), sum(lengths))
    assert (data.observation_spec, data.action_spec, data.fps) == (OBSERVATION, ACTION, 80)
    np.testing.assert_array_equal(batch.action[:, 0], np.concatenate([e.action for e in episodes]))
    np.testing.assert_array_equal(batch.observation.state[:, 0], np.concatenate([e.state for e in episodes]))
    for name in EXTRAS:
        expected = np.concatenate([e.extras[name] for e in episodes])
        np.testing.assert_array_equal(batch.observation.extras[name][:, 0], expected)
    for name in OBSERVATION.cameras:
        got = batch.observation.images[name][:, 0].numpy().transpose(0, 2, 3, 1).astype(int)
        expected = np.concatenate([e.images[name] for e in episodes])
        # Neighbouring frames differ by 5 levels and episodes by 37, so that a frame out of place is seen.
        assert np.abs(got - expected).mean(axis=(1, 2, 3)).max() < 2.0
    assert list(batch.observation.task) == [e.task for e in episodes for _ in range(len(e))]
    assert [e.success for e in data.episodes] == [e.success for e in episodes]


def test_files_roll_over_by_size(tmp_path: Path) -> None:
    episodes = varied([12] * 9)
    root = record(tmp_path / "set", episodes, SMALL)
    tables = sorted(root.glob("data/*/*.parquet"))
    videos = sorted(root.glob("videos/observation.images.scene/*/*.mp4"))
    assert len(tables) > 2
    assert len(videos) > 2
    assert (root / "data/chunk-001/file-000.parquet").is_file()  # two files fill a chunk
    assert any(len(pq.read_table(p)["episode_index"].unique()) > 1 for p in tables)
    data = Dataset(root)
    assert len({e.data for e in data.episodes}) == len(tables)
    assert any(span.start_s > 0 for e in data.episodes for span in e.videos.values())
    batch = data.windows(np.arange(data.num_frames), FRAME)
    expected = np.concatenate([e.images["scene"] for e in episodes]).transpose(0, 3, 1, 2).astype(int)
    assert np.abs(batch.observation.images["scene"][:, 0].numpy() - expected).mean(axis=(1, 2, 3)).max() < 2.0


def test_little_memory_gives_the_same_images(recorded: Path) -> None:
    whole, short = Dataset(recorded), Dataset(recorded, image_memory_gb=1e-6)
    assert whole.frames.in_memory
    assert not short.frames.in_memory
    index = np.array([17, 0, 6, 17, 4, 5])
    spec = WindowSpec(observation=(-3, 0), future=(2,), goal=True, horizon=2)
    one, other = whole.windows(index, spec), short.windows(index, spec)
    for name in OBSERVATION.cameras:
        assert one.observation.images[name].equal(other.observation.images[name])
        assert one.future is not None
        assert other.future is not None
        assert one.future.images[name].equal(other.future.images[name])


def test_layout_is_version_3(recorded: Path) -> None:
    info = json.loads((recorded / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": ["dx", "close"]}
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"], info["fps"]) == (3, 18, 2, 80)
    table = pq.read_table(recorded / "meta/episodes/chunk-000/file-000.parquet")
    assert table["dataset_from_index"].to_pylist() == [0, 5, 14]
    assert table["dataset_to_index"].to_pylist() == [5, 14, 18]
    starts = table["videos/observation.images.scene/from_timestamp"].to_pylist()
    assert starts == pytest.approx([0, 5 / 80, 14 / 80])
    columns = set(pq.read_table(recorded / "data/chunk-000/file-000.parquet").column_names)
    assert {"observation.state", "action", "timestamp", "frame_index", "episode_index", "index"} < columns
    assert "task_index" in columns
    pandas_note = json.loads(pq.read_schema(recorded / "meta/tasks.parquet").metadata[b"pandas"])
    assert pandas_note["index_columns"] == ["__index_level_0__"]


def test_key_frames_are_close_together(tmp_path: Path) -> None:
    root = record(tmp_path / "set", varied([5, 30, 4]), Storage(gop=4))
    with av.open(str(root / "videos/observation.images.scene/chunk-000/file-000.mp4")) as source:
        packets = [p for p in source.demux(video=0) if p.pts is not None]
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    assert {0, 5, 35} <= set(keys)  # every episode starts with one
    assert max(np.diff([*keys, len(packets)])) <= 4


@pytest.mark.parametrize("rate", [80, 30, 12.5, 29.97])
def test_pictures_are_found_by_number(tmp_path: Path, rate: float) -> None:
    images = np.repeat(np.arange(0, 200, 8, dtype=np.uint8)[:, None, None, None], 3, axis=3)
    images = np.broadcast_to(images, (25, 16, 16, 3)).copy()
    path = tmp_path / "a.mp4"
    path.write_bytes(encode_video(images, Coding(frame_rate(rate), gop=4)))
    file = VideoFile(path, "here")
    np.testing.assert_allclose(file.times, np.arange(25) / float(frame_rate(rate)), atol=1e-4)
    for number in (7, 8, 9, 3, 24, 0, 23, 22, 4, 24):
        assert round(file.picture(number, lambda: "here").mean() / 8) == number
    file.close()
    assert round(file.picture(11, lambda: "here").mean() / 8) == 11


def test_a_fractional_rate_and_a_single_entry(tmp_path: Path) -> None:
    observation = dataclasses.replace(OBSERVATION, rate_hz=12.5, state=("x_m",))
    action = ActionSpec(names=("dx",), low=(-1,), high=(1,), rate_hz=12.5)
    item = dataclasses.replace(episode(6), extras={})
    item = dataclasses.replace(item, state=item.state[:, :1], action=item.action[:, :1])
    with DatasetWriter(tmp_path / "set", observation, action) as writer:
        writer.add(item)
    data = Dataset(tmp_path / "set")
    assert data.fps == 12.5
    batch = data.windows(np.arange(6), WindowSpec(horizon=1))
    assert batch.action.shape == (6, 1, 1)
    np.testing.assert_array_equal(batch.observation.state[:, 0], item.state)


def test_fingerprint_tells_datasets_apart(tmp_path: Path) -> None:
    same = [Dataset(record(tmp_path / name, varied([3, 4]))).fingerprint() for name in "ab"]
    other = Dataset(record(tmp_path / "c", varied([3, 5]))).fingerprint()
    assert same[0] == same[1] != other


def test_specs_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    slow = dataclasses.replace(OBSERVATION, rate_hz=40)
    with pytest.raises(SpecError, match="40 Hz"):
        DatasetWriter(tmp_path / "set", slow, ACTION)
    with pytest.raises(SpecError, match="cannot be a dataset key"):
        DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, extras={"image_depth": ((), "float32")})
    with pytest.raises(SpecError, match=r"Did you mean 'yuv4\d\dp'"):
        DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, storage=Storage(pixel_format="yuv422p"))
