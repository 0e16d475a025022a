"""A training says what it reads and what that costs, before anything is fitted, and refuses what cannot be learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from small_runs import settings
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.frame_cache import CacheLimit
from wamkit.data.frame_reader import FrameReader
from wamkit.errors import ConfigError
from wamkit.progress import Display, Stage, showing
from wamkit.training import TrainConfig, train
from wamkit.views import ViewConfig
from wamkit.zoo import recipe


class Said(Display):
    """Lines that are said, and the stage that begins after each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.before: list[str] = []

    def begin(self, stage: Stage) -> None:
        if not self.lines:
            self.before.append(stage.name)

    def update(self, stage: Stage) -> None:
        pass

    def end(self, stage: Stage) -> None:
        pass

    def say(self, text: str) -> None:
        self.lines.append(text)


def record(root: Path, lengths: tuple[int, ...], still: tuple[int, ...] = ()) -> Path:
    names = ("a", "b")
    observation = ObservationSpec({"front": CameraSpec(24, 32)}, names, 10.0)
    action = ActionSpec(names, (-9.0,) * 2, (9.0,) * 2, 10.0, "absolute")
    rng = np.random.default_rng(0)
    with DatasetWriter(root / "data", observation, action) as writer:
        for ticks in lengths:
            path = rng.uniform(-1, 1, (ticks, 2)).astype(np.float32)
            path[:, list(still)] = 0.5
            frames = rng.integers(0, 255, (ticks, 24, 32, 3), dtype=np.uint8)
            writer.add(Episode({"front": frames}, path, path, "go"))
    return root


def run(root: Path, **changes: object) -> TrainConfig:
    config = settings(root, "run")
    return replace(config, design=replace(config.design, **changes), steps=1)  # type: ignore[arg-type]


def test_what_is_read_is_said_once_and_before_anything_is_fitted(tmp_path: Path) -> None:
    shown = Said()
    with showing(shown):
        train(run(record(tmp_path, (20,)), view=ViewConfig(most=16, relative="state")), progress=False)
    assert "build design" in shown.before
    assert "prepare weights" not in shown.before
    assert shown.lines == [
        "reads cameras: front: 24 x 32 -> 16 x 16 pixels (letterbox: the picture takes 12 x 16, the rest is black)",
        "reads state: a, b",
        "reads action: a, b",
        'reads action: relative to the state at "now": a, b',
        "reads rate: 10 Hz, as recorded",
        "predicts 16 actions, 1.6 s",
        "decoded frames: 0.0146 MiB of memory (bounded by image_memory_gb: 4 GiB)",
    ]


def test_where_decoded_frames_lie_is_said_with_the_option_that_bounds_it(tmp_path: Path) -> None:
    root = record(tmp_path, (20,)) / "data"
    tight = Dataset(root, image_memory_gb=1e-5).frames.describe()
    assert tight == (
        "0.0439 MiB, more than image_memory_gb allows: 0.0102 MiB are kept in memory, the rest is decoded each time"
    )
    cached = Dataset(root, cache=CacheLimit(1.0, tmp_path / "cache", from_pixels=0))
    text = cached.frames.describe()
    assert f"0.0439 MiB on the disk, in {tmp_path / 'cache'}" in text
    assert text.endswith("(bounded by frame_cache_gb); 0 of 20 frames are there")
    assert Dataset(root, view=ViewConfig(cameras={})).frames.describe() == "no pictures are read"


def test_episodes_of_one_frame_are_refused_before_a_picture_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(FrameReader, "each", decode)
    root = record(tmp_path, (1, 1, 1))
    config = replace(settings(root, "run"), design=recipe("joint"))
    with pytest.raises(ConfigError, match="have 1 to 1 ticks"):
        train(config, progress=False)


@pytest.mark.parametrize(
    ("still", "said"), [((1,), "nothing is learned of them: b"), ((0, 1), "no entry ever moves")]
)
def test_columns_that_never_move_are_said_with_their_value(
    still: tuple[int, ...], said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(run(record(tmp_path, (20,), still)), progress=False)
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("action: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "b (0.5)" in lines[0]
