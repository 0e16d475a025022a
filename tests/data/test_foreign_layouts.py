"""Datasets in the layouts of other programs are read as they are, written here without wamkit's writer."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from films import edit_info
from foreign import (
    EXTRAS,
    SCENE,
    STILL,
    WRIST,
    Take,
    encode,
    pictures,
    take,
    write_new,
    write_old,
    write_stats,
)

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, rebuild_stats
from wamkit.data.fingerprint import fingerprint
from wamkit.errors import DataError

NUMERIC = [name for name, (dtype, _) in EXTRAS.items() if dtype != "string"]
LENGTHS = (5, 3, 6, 4, 2)


def takes(cameras: Sequence[str] = (SCENE,), extras: Sequence[str] = ()) -> list[Take]:
    return [take(count, seed, cameras, extras) for seed, count in enumerate(LENGTHS)]


def check(root: Path, wanted: list[Take], extras: Sequence[str] = ()) -> Dataset:
    """Everything that a window holds is what was recorded."""
    data = Dataset(root, extras=tuple(extras))
    seen = data.windows(np.arange(data.num_frames), WindowSpec(horizon=1))
    assert data.num_episodes == len(wanted)
    for name in ("action", "observation.state"):
        truth = np.concatenate([one.columns[name] for one in wanted])
        got = seen.action if name == "action" else seen.observation.state
        np.testing.assert_array_equal(got[:, 0], truth)
        np.testing.assert_allclose(data.stats[name].mean, truth.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(data.stats[name].q99, np.quantile(truth, 0.99, axis=0), atol=1e-6)
    for name in extras:
        truth = np.concatenate([one.columns[name] for one in wanted])
        got = seen.observation.extras[name][:, 0].numpy()
        np.testing.assert_array_equal(got.reshape(truth.shape), truth)
        assert got.dtype == truth.dtype
    assert list(seen.observation.task) == [task for one in wanted for task in one.tasks]
    for key in wanted[0].pictures:
        truth = np.concatenate([one.pictures[key] for one in wanted]).astype(int)
        got = seen.observation.images[key.split(".")[-1]][:, 0].numpy().transpose(0, 2, 3, 1)
        assert got.shape == truth.shape
        # Neighbouring frames are 7 levels apart, so another frame would be seen.
        error = np.abs(got - truth).mean(axis=(1, 2, 3)).max()
        assert error == 0 if key == STILL else error < 3
    return data


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_v3_over_several_files_and_folders(tmp_path: Path, codec: str) -> None:
    wanted = (
        takes((SCENE,)) if codec == "libx264" else [take(n, i, (WRIST,)) for i, n in enumerate((4, 3, 5))]
    )
    root = write_new(tmp_path / "set", wanted, codec=codec)
    check(root, wanted)
    assert len(list(root.glob("data/*/*.parquet"))) == -(-len(wanted) // 2)


@pytest.mark.parametrize("cameras", [(), (SCENE, WRIST), (STILL,), (STILL, SCENE)], ids=str)
def test_v3_cameras_and_features_of_every_kind(tmp_path: Path, cameras: tuple[str, ...]) -> None:
    wanted = takes(cameras, tuple(EXTRAS))
    data = check(write_new(tmp_path / "set", wanted), wanted, NUMERIC)
    assert len(data.observation_spec.cameras) == len(cameras)
    assert set(data.extras) == set(NUMERIC)


@pytest.mark.parametrize("version", ["v2.1", "v2.0"])
@pytest.mark.parametrize("cameras", [(), (SCENE, WRIST), (STILL, SCENE)], ids=str)
def test_v2_is_read_by_the_same_class(tmp_path: Path, version: str, cameras: tuple[str, ...]) -> None:
    wanted = takes(cameras, tuple(EXTRAS))
    root = write_old(tmp_path / "set", wanted, version, chunks_size=2)
    data = check(root, wanted, NUMERIC)
    assert len(list(root.glob("data/chunk-*"))) == 3
    assert fingerprint(data) == fingerprint(Dataset(root))
    with pytest.raises(DataError, match="computed when it is opened"):
        rebuild_stats(root)


def test_grey_and_depth_cameras_are_left_out_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = takes((SCENE, WRIST))
    root = write_new(tmp_path / "set", wanted)
    edit_info(root, lambda info: info["features"][WRIST].update(info={"video.is_depth_map": True}))
    with caplog.at_level(logging.WARNING):
        data = Dataset(root)
    assert set(data.observation_spec.cameras) == {"scene"}
    assert "a depth map" in caplog.text
    edit_info(root, lambda info: info["features"][WRIST].update(info={}, shape=[64, 32, 1]))
    with caplog.at_level(logging.WARNING):
        assert set(Dataset(root).observation_spec.cameras) == {"scene"}
    assert "1 channel" in caplog.text


def test_a_cut_out_part_of_a_file_begins_where_it_begins(tmp_path: Path) -> None:
    """Episodes that were taken out leave pictures that belong to nobody; offsets then do not begin at 0."""
    wanted = takes()
    root = write_new(tmp_path / "set", wanted, per_file=5)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [rows[1], rows[4]]
    stop = 0
    for number, row in enumerate(kept):
        row |= {"episode_index": number, "dataset_from_index": stop, "dataset_to_index": stop + row["length"]}
        stop += row["length"]
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    owners = table.column("episode_index").to_numpy()
    table = table.filter(np.isin(owners, (1, 4)))
    place = table.column_names.index
    table = table.set_column(place("index"), "index", [np.arange(stop)])
    table = table.set_column(place("episode_index"), "episode_index", [np.repeat([0, 1], [3, 2])])
    pq.write_table(table, root / "data/chunk-000/file-000.parquet")
    pq.write_table(pq.read_table(path).from_pylist(kept), path)
    edit_info(root, lambda info: info.update(total_episodes=2, total_frames=stop))
    write_stats(root, [wanted[1], wanted[4]])
    assert [len(episode) for episode in check(root, [wanted[1], wanted[4]]).episodes] == [3, 2]


def test_the_first_episode_of_a_file_may_name_the_file_before(tmp_path: Path) -> None:
    """As the converter of lerobot 0.4.4 writes it; LeRobot itself reads all files together."""
    wanted = takes()
    root = write_new(tmp_path / "set", wanted, per_file=2, chunks_size=9)
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows[2::2]:
        row["data/file_index"] -= 1
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    check(root, wanted)
    (root / "data/chunk-000/file-000.parquet").rename(root / "data/chunk-000/spare")
    for number in (2, 1):  # as where the first episode alone is larger than a file may be
        (root / f"data/chunk-000/file-{number:03d}.parquet").rename(
            root / f"data/chunk-000/file-{number + 1:03d}.parquet"
        )
    (root / "data/chunk-000/spare").rename(root / "data/chunk-000/file-001.parquet")
    shifted = [0, 1, 1, 2, 2]
    for row, number in zip(rows, shifted, strict=True):
        row["data/file_index"] = number
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    check(root, wanted)
    rows[1]["data/file_index"] = 2  # not the first of its file: another fault
    pq.write_table(pq.read_table(path).from_pylist(rows), path)
    with pytest.raises(DataError, match="the file is missing"):
        Dataset(root)


MODALITY = {
    "state": {"arm": {"start": 0, "end": 2}, "gripper": {"start": 2, "end": 3}},
    "action": {"arm": {"start": 0, "end": 1}, "gripper": {"start": 1, "end": 2}},
    "video": {"ego": {"original_key": SCENE}},
    "annotation": {
        "human.action.task_description": {"original_key": "said"},
        "human.validity": {"original_key": "said"},
    },
}


def groot(root: Path) -> list[Take]:
    """A dataset whose instructions stand in an annotation and not in ``task_index``."""
    wanted = takes()
    for number, one in enumerate(wanted):
        one.columns["said"] = np.full((len(one), 1), 1 - number % 2)
    write_old(root, wanted, "v2.0")
    (root / "meta/modality.json").write_text(json.dumps(MODALITY))
    return wanted


def test_modality_names_parts_cameras_and_instructions(tmp_path: Path) -> None:
    wanted = groot(tmp_path / "set")
    data = Dataset(tmp_path / "set")
    assert data.observation_spec.state == ("arm_0", "arm_1", "gripper")
    assert data.action_spec.names == ("arm", "gripper")
    assert list(data.observation_spec.cameras) == ["ego"]
    seen = data.windows(np.arange(data.num_frames), WindowSpec(horizon=1)).observation
    said = [f"task {1 - i % 2}" for i, one in enumerate(wanted) for _ in range(len(one))]
    assert list(seen.task) == said != [task for one in wanted for task in one.tasks]
    truth = np.concatenate([one.pictures[SCENE] for one in wanted]).transpose(0, 3, 1, 2)
    assert np.abs(seen.images["ego"][:, 0].numpy().astype(int) - truth).mean() < 3


def test_the_helper_encodes_with_b_frames(tmp_path: Path) -> None:
    """Otherwise the tests of copying would say nothing of packets that are stored out of order."""
    import av

    encode(tmp_path / "a.mp4", pictures(30, (32, 48), 0), g="12", bf="3")
    with av.open(str(tmp_path / "a.mp4")) as source:
        times = [p.pts for p in source.demux(video=0) if p.size]
    assert times != sorted(times)
