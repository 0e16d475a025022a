"""Datasets pass between wamkit and lerobot==0.4.4 in both directions. Recipe: docs/interop_lerobot.md."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from foreign import EXTRAS as FOREIGN
from foreign import SCENE, STILL, WRIST, take, write_old
from recordings import EXTRAS, OBSERVATION, SMALL, pictures, record, varied

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, rebuild_stats
from wamkit.data.conversion import convert_dataset

PYTHON = os.environ.get("WAMKIT_LEROBOT_PYTHON", "")
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.lerobot,
    pytest.mark.skipif(not PYTHON, reason="WAMKIT_LEROBOT_PYTHON names no python with lerobot==0.4.4"),
]


def lerobot(scratch: Path, *arguments: str | Path) -> None:
    """Run ``lerobot_side.py`` in the other interpreter."""
    probe = [PYTHON, "-c", "from torchvision.io import VideoReader"]
    found = subprocess.run(probe, capture_output=True, check=False).returncode == 0
    paths = [] if found else [str(HERE / "lerobot_stub")]
    env = os.environ | {"HF_HOME": str(scratch / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(paths)}
    command = [PYTHON, str(HERE / "lerobot_side.py"), *map(str, arguments)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def test_lerobot_reads_what_wamkit_wrote(tmp_path: Path) -> None:
    episodes = varied([12, 1, 9, 12, 5, 12, 12])
    root = record(tmp_path / "set", episodes, SMALL)
    assert len(list(root.glob("data/*/*.parquet"))) > 1
    assert len(list(root.glob("videos/observation.images.scene/*/*.mp4"))) > 1
    lerobot(tmp_path, "read", root, tmp_path / "seen.npz")
    seen = dict(np.load(tmp_path / "seen.npz"))
    ours = Dataset(root, extras=tuple(EXTRAS))

    assert seen["total"].tolist() == [len(episodes), ours.num_frames]
    assert seen["tasks"].tolist() == list(ours.tasks)
    assert json.loads(str(seen["features"])) == sorted(ours.info["features"])
    assert seen["task"].tolist() == [e.task for e in episodes for _ in range(len(e))]
    np.testing.assert_array_equal(seen["item/action"], ours.action)
    np.testing.assert_array_equal(seen["item/observation.state"], ours.state)
    for name in EXTRAS:
        # LeRobot hands float64 out as float32.
        np.testing.assert_array_equal(seen[f"item/extra.{name}"], ours.extras[name].astype(np.float32))
    frames = ours.windows(np.arange(ours.num_frames), WindowSpec(horizon=1)).observation.images
    for name in OBSERVATION.cameras:
        theirs = seen[f"item/observation.images.{name}"] * 255
        # Two versions of FFmpeg round colours differently.
        assert np.abs(theirs - frames[name][:, 0].numpy()).max() <= 3
    for key, stats in ours.stats.items():
        np.testing.assert_allclose(seen[f"stats/{key}/mean"], stats.mean)
        np.testing.assert_allclose(seen[f"stats/{key}/q99"], stats.q99)

    batch = ours.windows(np.arange(ours.num_frames), WindowSpec(past_actions=3, horizon=3))
    columns = [0, 2, 3, 5]  # the offsets -3, -1, 0 and 2
    np.testing.assert_array_equal(seen["window/action"], batch.action[:, columns])
    np.testing.assert_array_equal(seen["window/pad"], batch.action_pad[:, columns])


def written_by_lerobot(tmp_path: Path, lengths: list[int]) -> dict[str, np.ndarray]:
    """Three episodes with two videos and a picture in the table, written to ``set``; returns what was recorded."""
    rng, total = np.random.default_rng(0), sum(lengths)
    arrays = {
        "episode": np.repeat(np.arange(3), lengths),
        "video": np.concatenate([pictures(t, 64, 96, i) for i, t in enumerate(lengths)]),
        "state": rng.normal(size=(total, 3)).astype(np.float32),
        "action": rng.uniform(-1, 1, (total, 2)).astype(np.float32),
        "reward": rng.normal(size=total).astype(np.float32),
        "task": np.repeat(["open the drawer", "press the button", "open the drawer"], lengths),
    }
    np.savez(tmp_path / "source.npz", **arrays)
    lerobot(tmp_path, "write", tmp_path / "set", tmp_path / "source.npz")
    return arrays


def test_wamkit_reads_what_lerobot_wrote(tmp_path: Path) -> None:
    arrays = written_by_lerobot(tmp_path, [7, 4, 11])
    total = len(arrays["episode"])
    data = Dataset(tmp_path / "set", extras=("next.reward",))

    assert (data.num_episodes, data.num_frames, data.fps) == (3, total, 30)
    assert data.observation_spec.state == ("x", "y", "z")
    assert data.action_spec.names == ("dx", "close")
    assert data.action_spec.frame == "unknown"
    batch = data.windows(np.arange(total), WindowSpec(horizon=1))
    assert list(batch.observation.task) == arrays["task"].tolist()
    np.testing.assert_array_equal(batch.action[:, 0], arrays["action"])
    np.testing.assert_array_equal(batch.observation.state[:, 0], arrays["state"])
    np.testing.assert_array_equal(batch.observation.extras["next.reward"][:, 0], arrays["reward"])
    np.testing.assert_allclose(data.stats["action"].mean, arrays["action"].mean(axis=0), rtol=1e-4)
    expected = {"front": arrays["video"], "side": arrays["video"][:, ::-1], "still": arrays["video"]}
    for name, truth in expected.items():
        got = batch.observation.images[name][:, 0].numpy().transpose(0, 2, 3, 1)
        error = np.abs(got.astype(int) - truth).mean(axis=(1, 2, 3))
        # LeRobot's default codec is AV1 at crf 30; consecutive frames differ by 5 levels.
        assert error.max() < (1e-9 if name == "still" else 2.5)


def require_same(one: Dataset, other: Dataset, frames: np.ndarray, there: np.ndarray, slack: int = 0) -> None:
    """Frames ``frames`` of one dataset are ``there`` in the other."""
    seen, found = one.windows(frames, WindowSpec(horizon=1)), other.windows(there, WindowSpec(horizon=1))
    np.testing.assert_array_equal(seen.action[:, 0], found.action[:, 0])
    np.testing.assert_array_equal(seen.observation.state, found.observation.state)
    assert seen.observation.task == found.observation.task
    for name, images in seen.observation.images.items():
        off = np.abs(images.numpy().astype(int) - found.observation.images[name].numpy())
        assert off.mean() <= slack, name


def test_wamkit_reads_what_lerobot_edited(tmp_path: Path) -> None:
    owner, root = written_by_lerobot(tmp_path, [6, 4, 8])["episode"], tmp_path / "set"
    lerobot(tmp_path, "edit", root, tmp_path / "edited")
    whole = Dataset(root)
    parts = {"deleted": [0, 2], "first": [0], "rest": [1, 2], "merged": [0, 1, 2], "less": [0, 1, 2]}
    for name, episodes in parts.items():
        data = Dataset(tmp_path / "edited" / name)
        frames = np.flatnonzero(np.isin(owner, episodes))
        assert data.num_frames == len(frames) * (2 if name == "merged" else 1)
        # Deleting and splitting encode the pictures again, with loss.
        require_same(
            whole, data, frames, np.arange(len(frames)), slack=0 if name in ("merged", "less") else 3
        )
    require_same(whole, Dataset(tmp_path / "edited/merged"), np.arange(18), np.arange(18, 36))


def test_lerobot_reads_what_wamkit_converted(tmp_path: Path) -> None:
    cameras, extras = (SCENE, WRIST, STILL), tuple(FOREIGN)
    takes = [take(n, seed, cameras, extras) for seed, n in enumerate((5, 7, 4))]
    write_old(tmp_path / "old", takes)
    new = convert_dataset(tmp_path / "old", tmp_path / "new", progress=False)
    lerobot(tmp_path, "read", tmp_path / "new", tmp_path / "seen.npz")
    seen = dict(np.load(tmp_path / "seen.npz"))
    assert seen["total"].tolist() == [3, 16]
    assert seen["tasks"].tolist() == list(new.tasks)
    assert seen["task"].tolist() == [task for one in takes for task in one.tasks]
    for name in takes[0].columns:
        truth = np.concatenate([one.columns[name] for one in takes])
        got = seen[f"item/{name}"].reshape(truth.shape)
        np.testing.assert_array_equal(got, truth.astype(got.dtype))
    frames = new.windows(np.arange(16), WindowSpec(horizon=1)).observation.images
    for key in cameras:
        theirs = seen[f"item/{key}"] * 255
        assert np.abs(theirs - frames[key.split(".")[-1]][:, 0].numpy()).max() <= 3


def test_lerobot_upgrades_what_wamkit_converted_to_v2_1(tmp_path: Path) -> None:
    """Its own converter takes our v2.1; what it makes of it is read, wrong data files included."""
    root, total = tmp_path / "set", len(written_by_lerobot(tmp_path, [6, 4, 8])["episode"])
    convert_dataset(root, tmp_path / "old", "v2.1", progress=False)
    lerobot(tmp_path, "upgrade", tmp_path / "old", tmp_path / "up")
    rebuild_stats(tmp_path / "up/set")  # it leaves out the quantiles
    made = Dataset(tmp_path / "up/set")
    assert len(list((tmp_path / "up/set").glob("data/*/*.parquet"))) > 1
    require_same(Dataset(root), made, np.arange(total), np.arange(total))
