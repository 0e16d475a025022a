"""Writers: every figure of the log goes to each of them, and what is missing is said before any work."""

from __future__ import annotations

import errno
import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from small_runs import STEPS, same_weights, settings
from support import write_dataset
from wamkit.errors import ConfigError, MissingExtraError
from wamkit.training import train, writers
from wamkit.training.writers import TRACKERS, Tracker, require_writers


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("writers")
    write_dataset(folder / "data")
    train(settings(folder, "whole", held_out=1, evaluate_every=3), progress=False)
    return folder


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


class Fake(Tracker):
    """A writer that remembers what it was told."""

    module = "json"
    opened: ClassVar[list[Fake]] = []

    def __init__(self, out: Path, step: int, config: Mapping[str, Any]) -> None:
        self.step, self.config, self.lines, self.closed = step, config, [], False
        Fake.opened.append(self)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.append({"step": step, **values})

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    monkeypatch.setattr(writers, "TRACKERS", {**TRACKERS, "fake": Fake})
    monkeypatch.setattr(Fake, "opened", [])
    return Fake.opened


class Stop(Exception):
    pass


def stop_after(step: int) -> Any:
    def hook(now: int, *_: Any) -> None:
        if now == step:
            raise Stop

    return hook


def test_a_writer_gets_every_line_of_the_log_and_is_closed(
    root: Path, tmp_path: Path, fakes: list[Fake]
) -> None:
    config = settings(root, tmp_path / "run", held_out=1, evaluate_every=3, writers=("fake",))
    with pytest.raises(Stop):
        train(config, hook=stop_after(5), progress=False)
    train(config, progress=False)
    first, second = fakes
    assert (first.step, second.step) == (0, 4)  # the checkpoint that it goes on from
    assert first.closed
    assert second.closed
    whole = log_of(root / "whole")
    assert (
        [line for line in first.lines if line["step"] <= 4] + second.lines
        == whole
        == log_of(tmp_path / "run")
    )
    assert second.config["steps"] == STEPS
    assert same_weights(tmp_path / "run/model", root / "whole/model")  # who is told changes nothing


def test_a_resumed_run_may_tell_others(root: Path, tmp_path: Path, fakes: list[Fake]) -> None:
    with pytest.raises(Stop):
        train(settings(root, tmp_path / "run"), hook=stop_after(3), progress=False)
    train(settings(root, tmp_path / "run", writers=("fake",)), progress=False)
    assert [line["step"] for line in fakes[0].lines] == [3, 4, 5, 6]


def test_a_writer_that_cannot_be_closed_after_a_fault_does_not_hide_it(
    root: Path, tmp_path: Path, fakes: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Fake, *_: Any) -> None:
        raise OSError(errno.ENOSPC, "first" if _ else "second", "events")

    monkeypatch.setattr(Fake, "write", full)
    monkeypatch.setattr(Fake, "close", full)
    with pytest.raises(OSError, match="first"):
        train(settings(root, tmp_path / "run", writers=("fake",)), progress=False)
    monkeypatch.setattr(Fake, "write", lambda *_: None)
    with pytest.raises(OSError, match="second"):
        train(settings(root, tmp_path / "run", writers=("fake",)), progress=False)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # of its own thread, told again
def test_tensorboard_on_a_full_disk_is_named(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def hook(now: int, *_: Any) -> None:
        if now == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1400, before[1]))

    config = settings(root, tmp_path / "run", writers=("tensorboard",), steps=40, checkpoint_every=0)
    try:
        with pytest.raises(OSError, match="bytes needed") as raised:
            train(config, hook=hook, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert raised.value.filename == str(tmp_path / "run/tensorboard")
    assert train(config, progress=False) == tmp_path / "run/model"


def test_unknown_writers_and_missing_packages_are_refused_before_any_work(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"unknown writer 'tensorbord'\. Did you mean 'tensorboard'"):
        train(settings(root, tmp_path / "run", writers=("tensorbord",)), progress=False)
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
        with pytest.raises(MissingExtraError, match=rf"pip install 'wamkit\[{name}\]'"):
            train(settings(root, tmp_path / "run", writers=(name,)), progress=False)
    assert not (tmp_path / "run").exists()


def test_every_writer_is_an_extra_of_its_name() -> None:
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text().partition("optional-dependencies]")[2]
    for name in TRACKERS:
        assert f'\n{name} = ["{TRACKERS[name].module}"' in extras


def test_tensorboard_shows_what_the_log_says(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = settings(root, tmp_path / "run", held_out=1, evaluate_every=3, writers=("tensorboard",))
    with pytest.raises(Stop):
        train(config, hook=stop_after(5), progress=False)
    train(config, progress=False)
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"action", "held_out", "held_out/action"}
    found = [(e.step, round(e.value, 5)) for e in events.Scalars("action")]
    assert found == [
        (e["step"], pytest.approx(e["action"], abs=1e-5)) for e in log_of(root / "whole") if "action" in e
    ]
    assert [e.step for e in events.Scalars("held_out")] == [3, 6]


def test_weights_and_biases_offline(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(settings(root, tmp_path / "run", writers=("wandb",)), progress=False)
    (file,) = (tmp_path / "run/wandb").glob("offline-run-*/*.wandb")
    assert file.stat().st_size > 0
    assert json.loads((tmp_path / "run/wandb.json").read_text())["id"] in file.name


def test_weights_and_biases_are_told_by_its_interface(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the package would be asked to do, where it is not installed."""
    told: list[tuple[str, Any]] = []

    class Run:
        def log(self, values: Mapping[str, float], step: int) -> None:
            told.append(("log", {"step": step, **values}))

        def finish(self) -> None:
            told.append(("finish", None))

    def init(**options: Any) -> Run:
        told.append(("init", options))
        return Run()

    fake = ModuleType("wandb")
    fake.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = settings(root, tmp_path / "run", held_out=1, evaluate_every=3, writers=("wandb",))
    with pytest.raises(Stop):
        train(config, hook=stop_after(5), progress=False)
    train(config, progress=False)
    begun = [options for what, options in told if what == "init"]
    assert begun[0]["id"] == begun[1]["id"]  # a resumed run goes on in the same run there
    assert begun[0]["config"]["batch_size"] == 8
    assert [line for what, line in told if what == "log"][-3:] == log_of(root / "whole")[-3:]
    assert [what for what, _ in told].count("finish") == 2
    require_writers(("wandb",))
