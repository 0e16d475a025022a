"""A training is in a stage from its first second to its last, fitting and decoding included."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from small_runs import settings
from support import write_dataset
from wamkit.data import Dataset
from wamkit.data.frame_reader import FrameReader
from wamkit.design import Design
from wamkit.progress import Display, Stage, open_stages, showing, stage
from wamkit.progress.display import Lines
from wamkit.substrates import PixelLatentConfig, VAEConfig
from wamkit.substrates.vae import VAE
from wamkit.training import TrainConfig, loop, start, train, validation
from wamkit.training.start import TrainingRun
from wamkit.training.watch import Watch
from wamkit.zoo import recipe


class Recorder(Display):
    """Names of all stages in the order in which they begin."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.totals: dict[str, tuple[int | None, int]] = {}

    def begin(self, stage: Stage) -> None:
        self.begun.append(stage.name)

    def update(self, stage: Stage) -> None:
        pass

    def end(self, stage: Stage) -> None:
        self.totals[stage.name] = (stage.total, stage.done)

    def say(self, text: str) -> None:
        pass


def with_codec(root: Path, out: Path) -> TrainConfig:
    """A training that decodes pictures, fits a codec by gradient descent, and holds an episode out."""
    joint = recipe("joint")
    codec = PixelLatentConfig(VAEConfig(features=4, patch=8, steps=5, batch_size=4))
    trunks = {name: dataclasses.replace(t, width=16, depth=1, heads=2) for name, t in joint.trunks.items()}  # type: ignore[call-arg]
    design = dataclasses.replace(joint, substrates={"video": codec}, width=16, trunks=trunks)
    return settings(root, out, design=design, held_out=1, evaluate_every=3)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages")
    write_dataset(folder / "data")
    return folder


def test_whatever_takes_time_is_inside_a_stage_of_its_own(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: dict[str, set[str]] = {}

    def watched(owner: Any, name: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            inside.setdefault(name, set()).add(open_stages()[-1].name)
            return function(*args, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (Dataset, "__init__"), (start, "identity"), (start, "newest_whole"), (start, "Design"), (VAE, "fit"),
        (VAE, "_posterior"), (FrameReader, "read"), (loop, "preview"), (TrainingRun, "loss"), (Watch, "look"),
        (validation, "save_pretrained"), (loop, "save_pretrained"), (TrainingRun, "restore"),
        (validation.Validation, "_losses"),
    ):  # fmt: skip
        watched(owner, name)
    recorder = Recorder()
    with showing(recorder):
        train(with_codec(root, tmp_path / "run"), progress=False)
        train(with_codec(root, tmp_path / "run"), progress=False)  # finished
    # Frames are decoded where they are first asked for, in the thread of the batches too.
    assert inside.pop("read") == {"decode scene", "decode gripper"}
    assert inside["_posterior"] >= {"codec steps", "fit substrate video"}
    assert all("train joint" not in names for names in inside.values())
    assert inside["fit"] == {"fit substrate video"}
    assert inside["_losses"] == {"held-out loss"}
    assert inside["save_pretrained"] == {"save best", "save checkpoint", "save model"}
    assert inside["loss"] == {"steps"}
    assert recorder.totals["steps"] == (6, 6)
    assert recorder.totals["codec steps"] == (5, 5)
    assert recorder.totals["held-out loss"][0] is not None
    assert recorder.begun[0] == "train joint"


def test_a_slow_part_is_heard_of_in_the_log(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time passes only inside the fitting of a part that reports nothing; the log has a line of it every 30 s."""
    now, file = [0.0], io.StringIO()
    lines = Lines(file, lambda: now[0])

    def slow(self: Design, *args: Any, **options: Any) -> None:
        with stage("fit slow part"):
            for _ in range(95):
                now[0] += 1
                lines.look()

    monkeypatch.setattr(Design, "fit", slow)
    with showing(lines):
        train(settings(root, tmp_path / "run"), progress=False)
    said = file.getvalue().splitlines()
    assert [line for line in said if "slow" in line] == [
        f"[{time}] fit slow part" for time in ("0:00:00", "0:00:30", "0:01:00", "0:01:30")
    ]
    names = [line.split("] ")[1] for line in said]
    assert names[:4] == [
        "look for checkpoints",
        "open dataset",
        "check the videos",
        "fingerprint of the data",
    ]
    assert names[-2:] == ["save checkpoint", "save model"]
    assert len(said) == len(set(said))  # one line per stage, however often it is repeated


def test_on_no_terminal_a_training_writes_plain_lines_to_stderr(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(root, tmp_path / "run"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "] steps\n" in err
    assert "\x1b" not in err
    train(settings(root, tmp_path / "quiet"), progress=False)
    assert capsys.readouterr() == ("", "")
