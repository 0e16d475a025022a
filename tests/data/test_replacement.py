"""One recording at a time to a folder, and the old dataset or the new one whenever the process is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from recordings import ACTION, EXTRAS, OBSERVATION, episode, record, varied

from wamkit.data import Dataset, DatasetWriter
from wamkit.errors import BusyError, DataError

# Every operation on the file system of an overwriting recording is the last one of a process once. Processes are
# forked from one that has used no library with threads.
KILLS = """
import os, shutil, sys
from pathlib import Path
import numpy as np
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.errors import DataError
here, OPERATIONS = Path({here!r}), ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree")

def record(root, lengths, overwrite=False):
    specs = ObservationSpec({{}}, (), 10), ActionSpec(("x",), (-1,), (1,), 10)
    with DatasetWriter(root, *specs, overwrite=overwrite) as writer:
        for length in lengths:
            writer.add(Episode({{}}, np.zeros((length, 0), np.float32), np.zeros((length, 1), np.float32), "look"))

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def killed_at(root, number):
    seen = [0]
    def watch(event, arguments):
        if event in OPERATIONS and str(here) in str(arguments[0]):
            seen[0] += 1
            if seen[0] == number:
                os._exit(9)
    sys.addaudithook(watch)
    record(root, [4], overwrite=True)

def check(root):
    if root.exists():
        assert Dataset(root).num_frames in (3, 4)
    else:
        assert Dataset(root.with_name("set.replaced")).num_frames == 3
    try:  # without `overwrite`, the next recording only brings things in order
        record(root, [5])
        raise AssertionError("what was there was replaced unasked")
    except DataError as error:
        assert "exists" in str(error)
    assert Dataset(root).num_frames in (3, 4)
    if number % 4 == 0:
        record(root, [4, 4], overwrite=True)
        assert Dataset(root).num_frames == 8
        assert sorted(p.name for p in root.parent.iterdir()) == [".set.lock", "set"], list(root.parent.iterdir())

child(lambda: record(here / "base", [3]))
number, status = 0, 9
while status == 9:
    number += 1
    root = here / str(number) / "set"
    shutil.copytree(here / "base", root)
    (root / "README.md").write_text("mine")
    status = child(lambda: killed_at(root, number))
    assert status in (0, 9), (number, status)
    assert child(lambda: check(root)) == 0, number
print("killed", number - 1)
"""


def test_killed_at_every_step_of_a_replacement(tmp_path: Path) -> None:
    script = KILLS.format(here=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 15


def test_a_second_recording_is_refused_and_the_first_unharmed(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "set")
    with DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, extras=EXTRAS) as first:
        first.add(episode(4))
        for name in ("set", "link", "other/../set"):
            second = DatasetWriter(tmp_path / name, OBSERVATION, ACTION, extras=EXTRAS, overwrite=True)
            with pytest.raises(BusyError, match=r"is being written by process \d+"):
                second.__enter__()
        first.add(episode(5))
    assert Dataset(tmp_path / "set").num_frames == 9
    record(tmp_path / "set", varied([3]), overwrite=True)  # the claim ended with the recording
    with pytest.raises(DataError), DatasetWriter(tmp_path / "new", OBSERVATION, ACTION) as writer:
        writer.add(episode(4))  # has extras
    record(tmp_path / "new", varied([3]))


def test_a_link_is_followed(tmp_path: Path) -> None:
    root = record(tmp_path / "disk" / "set", varied([3]))
    (tmp_path / "set").symlink_to(root)
    record(tmp_path / "set", varied([4]), overwrite=True)
    assert (tmp_path / "set").is_symlink()
    assert Dataset(root).num_frames == 4


def test_places_that_cannot_be_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("...")
    monkeypatch.chdir(tmp_path)
    for root, words in (
        ("/", "root of the file system"),
        (".", "exists"),
        ("", "exists"),
        (file, "exists"),
        (file / "set", "is a file, not a folder"),
    ):
        with pytest.raises(DataError, match=words):
            record(Path(root), varied([3]))
    with pytest.raises(DataError, match="not a dataset"):
        record(file, varied([3]), overwrite=True)
    assert file.read_text() == "..."
    assert os.listdir(tmp_path) == ["file"]
    record(tmp_path / "deep" / "down" / "set", varied([3]))


@pytest.mark.parametrize("name", ["set.partial", "set.replaced"])
def test_what_is_not_ours_is_not_removed(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "thesis.tex").write_text("...")
    with pytest.raises(DataError, match=rf"{name} is in the way: .* Move it"):
        record(tmp_path / "set", varied([3]))
    folder.rename(tmp_path / "moved")
    record(tmp_path / "set", varied([3]))
    assert (tmp_path / "moved/thesis.tex").exists()


def test_a_failure_in_the_middle_of_replacing_keeps_the_old_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = record(tmp_path / "set", varied([3]))
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name == "set.partial":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        record(root, varied([4]), overwrite=True)
    monkeypatch.undo()
    assert Dataset(root).num_frames == 3
    assert sorted(os.listdir(tmp_path)) == [".set.lock", "set"]


def test_episodes_written_in_part_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DatasetWriter(tmp_path / "set", OBSERVATION, ACTION, extras=EXTRAS)
    with pytest.raises(DataError, match="inside `with DatasetWriter"):
        writer.add(episode(3))

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device")

    def half() -> None:
        with writer:
            write_half()

    def write_half() -> None:
        writer.add(episode(3))
        monkeypatch.setattr("wamkit.data.video.encode_video", full)
        with pytest.raises(OSError, match="No space left"):
            writer.add(episode(4))
        monkeypatch.undo()
        with pytest.raises(DataError, match="writing episode 1 was interrupted"):
            writer.add(episode(4))

    with pytest.raises(DataError, match="writing episode 1 was interrupted"):
        half()
    assert os.listdir(tmp_path) == [".set.lock"]
