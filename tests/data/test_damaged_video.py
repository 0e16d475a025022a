"""No flipped bit, lost byte or swapped file of a recorded dataset's videos is read as other pictures."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from films import FILM, edit_info, foreign_set, seen
from recordings import record, varied

from wamkit.data import Dataset
from wamkit.errors import DataError

VIDEO = "videos/observation.images.{}/chunk-000/file-000.mp4"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    av.logging.set_level(None)


def images(root: Path, memory: float) -> list[np.ndarray]:
    data = Dataset(root, image_memory_gb=memory)
    return [data.frames.take(name, np.arange(data.num_frames)) for name in data.observation_spec.cameras]


@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_damaged_bytes(recorded: Path, memory: float) -> None:
    true = images(recorded, memory)
    rng = np.random.default_rng(0)
    for number in range(40):
        path = recorded / VIDEO.format(["scene", "gripper"][number % 2])
        whole = path.read_bytes()
        damaged = bytearray(whole)
        at = int(rng.integers(len(whole)))
        if number % 4 == 3:
            del damaged[at : at + int(rng.integers(1, 50))]
        else:
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            got = images(recorded, memory)
        except DataError:
            pass
        else:
            assert all(np.array_equal(a, b) for a, b in zip(got, true, strict=True)), f"{number}: byte {at}"
        path.write_bytes(whole)


def test_a_video_of_another_dataset_is_refused_and_the_advice_leads_out(tmp_path: Path) -> None:
    one = record(tmp_path / "one", varied([5, 9]))
    other = record(tmp_path / "other", varied([9, 5]))
    shutil.copy(other / VIDEO.format("scene"), one / VIDEO.format("scene"))
    with pytest.raises(
        DataError, match=r"episode 0 to 1, camera 'scene'.*not those that were recorded.*remove 'videos'"
    ):
        images(one, 4.0)
    edit_info(one, lambda info: info["wamkit"].pop("videos"))
    assert len(images(one, 4.0)) == 2
    edit_info(one, lambda info: info["wamkit"].update(videos=["a"]))
    with pytest.raises(DataError, match="'videos' must map"):
        Dataset(one)


def test_every_video_has_its_digest(recorded: Path) -> None:
    stored = json.loads((recorded / "meta/info.json").read_text(encoding="utf-8"))["wamkit"]["videos"]
    assert sorted(stored) == sorted(
        p.relative_to(recorded).as_posix() for p in recorded.glob("videos/*/*/*.mp4")
    )


def test_a_turned_video_is_refused(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [4, 5], 10)
    whole = (root / FILM).read_bytes()
    # The display matrix of the track header: a quarter turn.
    at = whole.index(b"tkhd") + 4 + 40
    quarter = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 0x40000000], ">i4").tobytes()
    assert whole[at : at + 4] == (65536).to_bytes(4, "big")
    (root / FILM).write_bytes(whole[:at] + quarter + whole[at + 36 :])
    with pytest.raises(DataError, match=r"episode 0, camera 'scene', frame 0.*turned by -?90 degrees"):
        seen(root)


def test_damage_of_foreign_videos_that_the_decoder_knows_is_refused(tmp_path: Path) -> None:
    root = foreign_set(tmp_path / "set", [12, 12], 10)
    with av.open(str(root / FILM)) as source:
        places = [(p.pos, p.size) for p in source.demux(video=0) if p.size]
    whole = (root / FILM).read_bytes()
    for position, size in places:
        damaged = whole[:position] + bytes(size) + whole[position + size :]
        (root / FILM).write_bytes(damaged)
        with pytest.raises(DataError, match=r"frame \d+.*cannot be decoded.*damaged"):
            seen(root)
    os.truncate(root / FILM, len(whole) // 2)
    with pytest.raises(DataError):
        seen(root)
