"""Held-out episodes are never learned from; their loss finds the best weights and moves no generator."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small_runs import STEPS, same_weights, settings
from support import write_dataset
from wamkit.contract.types import Losses, WindowSpec
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, from_pretrained
from wamkit.errors import ConfigError, TrainingError
from wamkit.training import train
from wamkit.training.held_out import Subset, complement, draw_held_out, held_out_of, sample_frames
from wamkit.training.resume import read_training
from wamkit.training.start import start
from wamkit.training.validation import TOTAL, Validation


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    write_dataset(folder / "data", episodes=5)
    train(settings(folder, "whole", held_out=0.4, evaluate_every=2), progress=False)
    return folder


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------------------------------- the draw


@given(st.integers(3, 60), st.floats(0.001, 0.5), st.floats(0.001, 0.5), st.integers(0, 9))
def test_a_larger_share_holds_out_more_of_the_same(episodes: int, one: float, two: float, seed: int) -> None:
    small, large = (set(draw_held_out(episodes, share, seed)) for share in sorted((one, two)))
    assert small <= large <= set(range(episodes))
    assert len(small) >= 1


@pytest.mark.parametrize(("held_out", "count"), [(0.0, 0), (0.1, 1), (0.25, 2), (1.0, 1), (7.0, 7)])
def test_a_share_or_a_number(held_out: float, count: int) -> None:
    drawn = draw_held_out(8, held_out, 0)
    assert len(drawn) == count
    assert drawn == tuple(sorted(set(drawn)))
    assert drawn == draw_held_out(8, held_out, 0)


def test_another_seed_draws_other_episodes() -> None:
    assert len({draw_held_out(50, 5, seed) for seed in range(8)}) == 8


@pytest.mark.parametrize(
    ("held_out", "said"), [(2.5, "neither a share"), (8.0, "leaves none"), (0.97, "at most 7")]
)
def test_what_cannot_be_held_out_is_refused(held_out: float, said: str) -> None:
    with pytest.raises(ConfigError, match=f"held_out: .*{said}"):
        draw_held_out(8, held_out, 0)


# -------------------------------------------------------------------------------------------------- never learned


def test_no_window_of_a_held_out_episode_is_ever_cut_for_learning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    windows = Dataset.windows

    def record(self: Dataset, index: np.ndarray, spec: WindowSpec) -> Any:
        cut.extend(index.tolist())
        return windows(self, index, spec)

    monkeypatch.setattr(Validation, "measure", lambda self: {TOTAL: 1.0})
    monkeypatch.setattr(Dataset, "windows", record)
    train(settings(root, tmp_path / "run", held_out=0.4, steps=40), progress=False)
    dataset = Dataset(root / "data")
    of_frame = np.repeat(np.arange(5), [len(e) for e in dataset.episodes])
    held_out = set(draw_held_out(5, 0.4, 0))
    assert {int(of_frame[i]) for i in cut} == set(range(5)) - held_out


def test_values_that_occur_in_held_out_episodes_alone_leave_no_trace(root: Path, tmp_path: Path) -> None:
    """The experiment: other actions and states in the held-out episodes, and the trained weights stay the same."""
    run = start(settings(root, tmp_path / "one", held_out=2))
    expected = train(settings(root, tmp_path / "one", held_out=2), progress=False)
    original = Dataset.__init__

    def changed(self: Dataset, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        for number in run.held_out:
            rows = slice(self.episodes[number].start, self.episodes[number].stop)
            self.action[rows] = -self.action[rows] * 0.5
            self.state[rows] += 100

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dataset, "__init__", changed)
        got = train(settings(root, tmp_path / "two", held_out=2), progress=False)
    assert same_weights(expected, got)
    assert (expected / "transforms.json").read_bytes() == (got / "transforms.json").read_bytes()
    assert log_of(tmp_path / "one")[-1] != log_of(tmp_path / "two")[-1]  # but their loss is another


def test_a_subset_cuts_the_windows_of_its_dataset(root: Path) -> None:
    dataset = Dataset(root / "data")
    subset, spec = Subset(dataset, (1, 3)), WindowSpec(horizon=4)
    frames = np.array([dataset.episodes[1].start, dataset.episodes[3].stop - 1])
    batch = subset.windows(np.array([0, subset.num_frames - 1]), spec)
    assert torch.equal(batch.action, dataset.windows(frames, spec).action)
    assert batch.index is not None
    assert batch.index.tolist() == frames.tolist()
    assert complement(dataset, ()) is dataset
    assert complement(dataset, (1, 3)).num_frames == dataset.num_frames - subset.num_frames


def test_without_held_out_episodes_a_run_is_what_it_was(root: Path, tmp_path: Path) -> None:
    """The default: the whole dataset, its statistics as they are, no further file, and no further line."""
    config = settings(root, tmp_path / "run", evaluate_every=1)
    assert config.held_out == 0
    train(config, progress=False)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "about.json", "checkpoints", "config.json", "data.json", "log.jsonl", "model",
    }  # fmt: skip
    assert len(log_of(tmp_path / "run")) == STEPS
    stats = data_spec(Dataset(root / "data")).stats["action"]
    assert (
        from_pretrained(tmp_path / "run/model").data.stats["action"]["mean"].tolist()
        == stats["mean"].tolist()
    )
    state = read_training(tmp_path / f"run/checkpoints/step-{STEPS:08d}")
    assert set(state) == {"step", "optimizer", "average", "generator", "cuda"}


# ------------------------------------------------------------------------------------------------------- its loss


def test_the_loss_is_that_of_the_averaged_weights_on_held_out_windows(root: Path) -> None:
    lines = [line for line in log_of(root / "whole") if TOTAL in line]
    assert [line["step"] for line in lines] == [2, 4, 6]
    dataset, model = Dataset(root / "data"), from_pretrained(root / "whole/model")
    subset = Subset(dataset, draw_held_out(5, 0.4, 0))
    frames = sample_frames(subset.num_frames, 512, 0)
    assert len(frames) == subset.num_frames  # few enough: every window counts once
    with torch.no_grad():
        losses = model.loss(subset.windows(frames, model.training_window))
    # One batch against several: padding makes their means differ a little.
    assert lines[-1]["held_out.action"] == pytest.approx(losses.terms["action"].item(), rel=0.05)


def test_measuring_moves_nothing_that_the_training_draws_from(root: Path, tmp_path: Path) -> None:
    often = train(settings(root, tmp_path / "often", held_out=0.4, evaluate_every=1), progress=False)
    assert same_weights(often, root / "whole/model")
    same = [line for line in log_of(tmp_path / "often") if TOTAL not in line]
    assert same == [line for line in log_of(root / "whole") if TOTAL not in line]
    twice = start(settings(root, root / "whole", held_out=0.4, evaluate_every=2))
    validation = Validation(twice, settings(root, "whole", held_out=0.4), None, None)  # type: ignore[arg-type]
    validation._watch = type("Quiet", (), {"look_aside": lambda *_: None})()
    assert validation.measure() == validation.measure()


def test_the_best_weights_are_kept_beside_the_last(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.5, 0.2, 0.4, 0.2])
    monkeypatch.setattr(Validation, "measure", lambda self: {TOTAL: next(values)})
    config = settings(root, tmp_path / "run", held_out=1, evaluate_every=2, steps=8)
    train(config, progress=False)
    assert not same_weights(tmp_path / "run/best", tmp_path / "run/model")
    shorter = settings(root, tmp_path / "four", held_out=1, evaluate_every=2, steps=8)

    class Stop(Exception):
        pass

    def stop(step: int, *_: Any) -> None:
        if step == 5:
            raise Stop

    values = iter([0.5, 0.2])
    with pytest.raises(Stop):
        train(shorter, hook=stop, progress=False)
    assert same_weights(tmp_path / "four/best", tmp_path / "run/best")  # those after step 4
    assert read_training(tmp_path / "run/checkpoints/step-00000008")["best"] == {"step": 4, "loss": 0.2}


@pytest.mark.parametrize("stopped", [1, 3, 5])
def test_a_resumed_run_ends_as_one_that_never_stopped(stopped: int, root: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, *_: Any) -> None:
        if step == stopped:
            raise Stop

    config = settings(root, tmp_path / "run", held_out=0.4, evaluate_every=2)
    with pytest.raises(Stop):
        train(config, hook=stop, progress=False)
    train(config, progress=False)
    for folder in ("model", "best"):
        assert same_weights(tmp_path / "run" / folder, root / "whole" / folder)
    assert log_of(tmp_path / "run") == log_of(root / "whole")


def test_a_best_folder_that_was_removed_is_written_again(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/best")
    shutil.rmtree(tmp_path / "run/model")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000006")
    train(settings(root, tmp_path / "run", held_out=0.4, evaluate_every=2), progress=False)
    assert same_weights(tmp_path / "run/best", root / "whole/best")


def test_a_held_out_loss_that_is_not_finite_names_its_batch(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Design.loss

    def broken(self: Design, batch: Any, weights: Any = None) -> Losses:
        losses = loss(self, batch, weights)
        if self.training:
            return losses
        return Losses(losses.total * math.nan, {n: t * math.nan for n, t in losses.terms.items()})

    monkeypatch.setattr(Design, "loss", broken)
    (number,) = draw_held_out(5, 1, 0)
    with pytest.raises(
        TrainingError, match=rf"step 4, held out: .*'action' is nan.*episode {number} frame"
    ) as raised:
        train(settings(root, tmp_path / "run", held_out=1, evaluate_every=4), progress=False)
    assert "step-00000002" in str(raised.value)
    assert not (tmp_path / "run/best").exists()


# ---------------------------------------------------------------------------------------------- what is remembered


def test_what_was_held_out_is_found_from_every_checkpoint_of_the_run(root: Path, tmp_path: Path) -> None:
    dataset, drawn = Dataset(root / "data"), draw_held_out(5, 0.4, 0)
    for folder in ("model", "best", "checkpoints/step-00000004"):
        assert held_out_of(root / "whole" / folder, dataset) == drawn
    write_dataset(tmp_path / "data", episodes=6)
    assert held_out_of(root / "whole/model", Dataset(tmp_path / "data")) == ()
    assert held_out_of(tmp_path, dataset) == ()


def test_another_number_of_held_out_episodes_is_another_run(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"held_out: 0\.4 there, 2\.0 here"):
        train(settings(root, "whole", held_out=2.0, evaluate_every=2), progress=False)


def test_a_run_of_a_version_without_these_options_goes_on(root: Path, tmp_path: Path) -> None:
    train(settings(root, tmp_path / "run"), progress=False)
    shutil.rmtree(tmp_path / "run/model")
    for folder in (tmp_path / "run/checkpoints").glob("step-*"):
        for file in ("run.json", "config.json"):
            values = json.loads((folder / file).read_text())
            values.pop("digests", None)
            if file == "run.json":
                for name in ("held_out", "evaluate_every"):
                    del values["config"][name]
            (folder / file).write_text(json.dumps(values))
    train(settings(root, tmp_path / "run"), progress=False)
    with pytest.raises(ConfigError, match=r"held_out: 0\.0 there, 1 here"):
        train(settings(root, tmp_path / "run", held_out=1), progress=False)
