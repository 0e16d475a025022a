import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from recordings import ACTION, EXTRAS, OBSERVATION, episode, record, varied

from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.errors import DataError


def broken(**changes: object) -> Episode:
    return dataclasses.replace(episode(6), **changes)  # type: ignore[arg-type]


def with_value(array: np.ndarray, frame: int, entry: int, value: float) -> np.ndarray:
    array = array.copy()
    array[frame, entry] = value
    return array


def beside(folder: Path) -> list[str]:
    """What lies in ``folder``, without the file whose lock stands for the dataset."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".set.lock")


GOOD = episode(6)
BAD = {
    "nan": (broken(action=with_value(GOOD.action, 2, 1, np.nan)), ("'action'", "frame 2", "'close'", "nan")),
    "inf": (broken(state=with_value(GOOD.state, 5, 0, np.inf)), ("observation.state", "frame 5", "'x_m'")),
    "limits": (broken(action=with_value(GOOD.action, 3, 0, 1.5)), ("frame 3", "'dx'", "1.5", "[-1, 1]")),
    "width": (broken(action=GOOD.action[:, :1]), ("'action'", "(6, 1)", "(6, 2)")),
    "length": (broken(state=GOOD.state[:5]), ("observation.state", "(5, 3)", "(6, 3)")),
    "dtype": (broken(action=GOOD.action.astype(np.float64)), ("'action'", "float64", "float32")),
    "camera": (broken(images={"scene": GOOD.images["scene"]}), ("camera", "gripper")),
    "image": (
        broken(images=GOOD.images | {"scene": GOOD.images["gripper"]}),
        ("observation.images.scene", "(6, 16, 24, 3)"),
    ),
    "extra": (broken(extras={}), ("extra", "contact", "depth")),
    "task": (broken(task=""), ("task",)),
    "empty": (
        Episode({}, np.zeros((0, 3), np.float32), np.zeros((0, 2), np.float32), "open the drawer"),
        ("no frame",),
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_episodes_are_refused_and_nothing_is_left(tmp_path: Path, kind: str) -> None:
    item, words = BAD[kind]
    with pytest.raises(DataError) as caught:
        record(tmp_path / "set", [episode(4), item])
    for word in ("episode 1", *words):
        assert word in str(caught.value)
    assert beside(tmp_path) == []


def test_actions_at_the_limits_are_accepted(tmp_path: Path) -> None:
    narrow = dataclasses.replace(ACTION, low=(-0.1, -0.1), high=(0.1, 0.1))
    item = broken(action=np.full((6, 2), 0.1, dtype=np.float32))  # float32(0.1) > 0.1
    with DatasetWriter(tmp_path / "set", OBSERVATION, narrow, extras=EXTRAS) as writer:
        writer.add(item)
    assert Dataset(tmp_path / "set").num_frames == 6


def test_existing_folders(tmp_path: Path) -> None:
    root = record(tmp_path / "set", varied([3]))
    with pytest.raises(DataError, match="overwrite=True"):
        record(root, varied([4]))
    record(root, varied([4]), overwrite=True)
    assert Dataset(root).num_frames == 4
    assert beside(tmp_path) == ["set"]

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").write_text("...")
    with pytest.raises(DataError, match="not a dataset"):
        record(precious, varied([3]), overwrite=True)
    assert (precious / "thesis.tex").exists()


def test_a_failed_overwrite_keeps_the_old_dataset(tmp_path: Path) -> None:
    root = record(tmp_path / "set", varied([3]))
    with pytest.raises(DataError):
        record(root, [BAD["nan"][0]], overwrite=True)
    assert Dataset(root).num_frames == 3


def test_no_episode_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no episode"):
        record(tmp_path / "set", [])
    assert beside(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from recordings import ACTION, EXTRAS, OBSERVATION, varied
from wamkit.data import DatasetWriter
with DatasetWriter(Path({root!r}), OBSERVATION, ACTION, extras=EXTRAS) as writer:
    for item in varied([5, 6, 7]):
        writer.add(item)
    {end}
"""
WHILE_FINISHING = "writer._stats = lambda: os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", WHILE_FINISHING])
def test_a_killed_recording_does_not_look_complete(tmp_path: Path, end: str) -> None:
    root = tmp_path / "set"
    script = KILLED.format(folder=str(Path(__file__).parent), root=str(root), end=end)
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not root.exists()
    assert (tmp_path / "set.partial").is_dir()
    with pytest.raises(DataError, match="interrupted recording"):
        Dataset(root)
    with pytest.raises(DataError):
        Dataset(tmp_path / "set.partial")
    record(root, varied([5, 6, 7]))  # recording again starts afresh
    assert Dataset(root).num_frames == 18
    assert beside(tmp_path) == ["set"]
