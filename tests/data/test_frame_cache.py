"""Decoded frames on disk: what is read is what is decoded, whatever happens to the process, the disk or the data."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_seen import WINDOW, record

from wamkit.data import Dataset, frame_cache
from wamkit.data.frame_cache import ABOUT, GB, CacheLimit, cache_limit
from wamkit.views import ViewConfig

VIEW = ViewConfig(size=(12, 20))
INDEX = np.array([0, 7, 19, 20, 50, 7])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return record(tmp_path / "data")


@pytest.fixture
def limit(tmp_path: Path) -> CacheLimit:
    return CacheLimit(1.0, tmp_path / "cache", from_pixels=1)


def opened(root: Path, limit: CacheLimit, **fields: Any) -> Dataset:
    return Dataset(root, view=fields.get("view", VIEW), cache=limit)


def images(dataset: Dataset, index: np.ndarray = INDEX) -> list[torch.Tensor]:
    observation = dataset.windows(index, WINDOW).observation
    return [observation.images[name] for name in ("front", "wrist")]


def entries(limit: CacheLimit) -> list[Path]:
    return sorted(path.parent for path in limit.folder.glob(f"*/{ABOUT}"))


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_frames_come_back_before_while_and_after_it_is_filled(root: Path, limit: CacheLimit) -> None:
    expected = images(Dataset(root, view=VIEW))
    data = opened(root, limit)
    assert same(images(data), expected)
    cache = data.frames.cache
    assert cache is not None
    cache.wait()
    assert cache.done == cache.total == 2 * 51
    assert same(images(data), expected)
    everything = images(Dataset(root, view=VIEW), np.arange(51))
    assert same(images(data, np.arange(51)), everything)


def test_another_opening_decodes_nothing(
    root: Path, limit: CacheLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(root, limit)
    expected = images(first)
    assert first.frames.cache is not None
    first.frames.cache.wait()
    again = opened(root, limit)
    monkeypatch.setattr(frame_cache.FrameReader, "read", lambda *args: pytest.fail("decoded"))
    assert same(images(again), expected)
    assert len(entries(limit)) == 1


def test_a_killed_process_leaves_what_it_decoded(root: Path, limit: CacheLimit) -> None:
    program = f"""
import os, signal
from pathlib import Path
import numpy as np
from wamkit.data import Dataset
from wamkit.data.frame_cache import CacheLimit, FrameCache
from wamkit.views import ViewConfig
FrameCache.fill = lambda self: None
data = Dataset({str(root)!r}, view=ViewConfig(size=(12, 20)), cache=CacheLimit(1.0, Path({str(limit.folder)!r}), 1))
data.frames.take("front", np.arange(30))
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == -signal.SIGKILL
    data = opened(root, limit)
    assert data.frames.cache is not None
    assert data.frames.cache.done == 30
    everything = np.arange(51)
    assert same(images(data, everything), images(Dataset(root, view=VIEW), everything))


def test_two_processes_fill_one_entry(root: Path, limit: CacheLimit) -> None:
    program = f"""
from pathlib import Path
from wamkit.data import Dataset
from wamkit.data.frame_cache import CacheLimit
from wamkit.views import ViewConfig
data = Dataset({str(root)!r}, view=ViewConfig(size=(12, 20)), cache=CacheLimit(1.0, Path({str(limit.folder)!r}), 1))
data.frames.cache.wait()
"""
    both = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    data = opened(root, limit)
    assert data.frames.cache is not None
    assert data.frames.cache.done == 2 * 51
    everything = np.arange(51)
    assert same(images(data, everything), images(Dataset(root, view=VIEW), everything))


def test_a_changed_dataset_has_another_entry_and_the_old_one_goes(root: Path, limit: CacheLimit) -> None:
    data = opened(root, limit)
    assert data.frames.cache is not None
    data.frames.cache.close()
    (before,) = entries(limit)
    video = next((root / "videos").rglob("*.mp4"))
    state = video.stat()
    os.utime(video, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    opened(root, limit)
    (after,) = entries(limit)
    assert before != after
    assert not before.exists()


def test_another_view_of_the_pictures_has_another_entry(root: Path, limit: CacheLimit) -> None:
    opened(root, limit)
    opened(root, limit, view=replace(VIEW, fit="crop"))
    assert len(entries(limit)) == 2
    opened(root, limit, view=replace(VIEW, relative="state"))  # the same pictures
    assert len(entries(limit)) == 2


def test_the_longest_unused_entry_makes_room(root: Path, limit: CacheLimit) -> None:
    sizes = [(12, 20), (12, 22), (12, 24)]
    room = replace(limit, gb=2.5 * 51 * 2 * 3 * 12 * 24 / GB)
    for order, size in enumerate(sizes):
        data = opened(root, room, view=ViewConfig(size=size))
        assert data.frames.cache is not None
        data.frames.cache.close()
        (path,) = [e for e in entries(room) if size_of(e) == size]
        os.utime(path / ABOUT, (order, order))
    assert [size_of(e) for e in entries(room)] == [
        s for e in entries(room) for s in sizes[1:] if s == size_of(e)
    ]
    assert len(entries(room)) == 2


def size_of(entry: Path) -> tuple[int, int]:
    import json

    _, rows, columns, _ = json.loads((entry / ABOUT).read_text())["view"]["front"]
    return rows, columns


def test_an_entry_in_use_stays(root: Path, limit: CacheLimit, caplog: pytest.LogCaptureFixture) -> None:
    room = replace(limit, gb=1.5 * 51 * 2 * 3 * 12 * 24 / GB)
    held = opened(root, room)
    other = opened(root, room, view=ViewConfig(size=(12, 22)))
    assert other.frames.cache is None
    assert "frame_cache_gb" in caplog.text
    assert same(images(held), images(Dataset(root, view=VIEW)))


def test_a_full_disk_is_said_and_nothing_is_left(
    root: Path, limit: CacheLimit, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(frame_cache.os, "posix_fallocate", full)
    data = opened(root, limit)
    assert data.frames.cache is None
    assert "No space left on device" in caplog.text
    assert "WAMKIT_CACHE" in caplog.text
    assert not entries(limit)
    assert same(images(data), images(Dataset(root, view=VIEW)))


def test_an_unfinished_entry_is_made_again(root: Path, limit: CacheLimit) -> None:
    data = opened(root, limit)
    assert data.frames.cache is not None
    data.frames.cache.close()
    (entry,) = entries(limit)
    (entry / ABOUT).unlink()
    (entry / "front.frames").write_bytes(b"half")
    assert same(images(opened(root, limit)), images(Dataset(root, view=VIEW)))


def test_damage_is_an_error_of_whoever_asks_for_it(
    root: Path, limit: CacheLimit, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(root / "meta/info.json", root / "meta/info.json.bak")
    data = opened(root, limit)
    cache = data.frames.cache
    assert cache is not None
    video = next((root / "videos/observation.images.front").rglob("*.mp4"))
    raw = bytearray(video.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    video.write_bytes(bytes(raw))
    with pytest.raises(Exception, match="not those that were recorded"):
        data.frames.take("front", np.array([0]))
    with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="not those that were recorded"):
        cache.wait()
    assert "the cache stays incomplete" in caplog.text


def test_small_datasets_and_a_limit_of_zero_are_not_cached(root: Path, limit: CacheLimit) -> None:
    assert opened(root, replace(limit, from_pixels=10**9)).frames.cache is None
    assert opened(root, replace(limit, gb=0.0)).frames.cache is None
    assert not limit.folder.exists()


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WAMKIT_CACHE", str(tmp_path / "here"))
    assert cache_limit(3.0).folder == tmp_path / "here" / "frames"
