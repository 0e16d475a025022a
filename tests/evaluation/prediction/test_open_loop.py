"""Open-loop errors: closed forms, the trivial policies beside them, and what the verb measures and draws."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import CHROMIUM, fits_a_phone, read

from small_runs import settings, tiny
from support import write_dataset
from wamkit import api
from wamkit.cli import main
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec
from wamkit.design import Design, Factor, FutureConfig, save_pretrained
from wamkit.errors import DataError, SpecError
from wamkit.evaluation.output.open_loop_page import render_prediction
from wamkit.evaluation.prediction import replay
from wamkit.evaluation.prediction.estimates import estimate, estimates
from wamkit.evaluation.prediction.open_loop import OpenLoop
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.evaluation.prediction.replay import measure_open_loop, predict_actions
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig
from wamkit.training import train
from wamkit.training.held_out import draw_held_out

SLOPE = 0.01


def ramps(root: Path, lengths: tuple[int, ...] = (30, 21, 40)) -> Dataset:
    """Episodes of one action that grows by :data:`SLOPE` per tick and one that is always 0.5."""
    seen = ObservationSpec({}, ("s",), 10.0)
    acts = ActionSpec(("ramp", "still"), (-1.0, -1.0), (1.0, 1.0), 10.0, mode="absolute")
    with DatasetWriter(root / "data", seen, acts) as writer:
        for ticks in lengths:
            ramp = np.arange(ticks, dtype=np.float32) * SLOPE
            action = np.stack((ramp, np.full(ticks, 0.5, np.float32)), axis=1)
            writer.add(Episode({}, ramp[:, None], action, "go"))
    return Dataset(root / "data")


def policy(dataset: Dataset) -> Design:
    return Design(tiny(), data_spec(dataset)).eval()


def measured(design: Design, dataset: Dataset, **changes: Any) -> OpenLoop:
    options = {"windows": 4, "batch_size": 5, "budget": Budget(), "seed": 0, "drawn": 2}
    return measure_open_loop(design, dataset, **{**options, **changes})


def oracle(offset: float) -> Callable[..., Any]:
    """A policy that does what was recorded, off by ``offset``."""

    def act(design: Design, dataset: Dataset, index: np.ndarray, *_: Any) -> np.ndarray:
        return replay.recorded_chunks(design, dataset, index)[0] + offset

    return act


# --------------------------------------------------------------------------------------------------- closed forms


def test_errors_of_policy_and_trivial_policies_are_those_of_the_closed_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ramps(tmp_path)
    design = policy(dataset)
    monkeypatch.setattr(replay, "predict_actions", oracle(0.03))
    found = measured(design, dataset)
    assert found.columns == ("ramp", "still")
    assert found.episodes == (0, 1, 2)
    assert found.windows == 12
    for row in found.rows:
        assert row.model.mean == pytest.approx(0.03, abs=1e-6)
        assert row.model.low == pytest.approx(row.model.high)
    for row in found.of_steps("ramp"):
        assert row.step is not None
        assert row.repeat.mean == pytest.approx(
            SLOPE * row.step, abs=1e-6
        )  # held, it falls behind tick by tick
        assert row.over_repeat.mean == pytest.approx(SLOPE * row.step - 0.03, abs=1e-6)
        assert row.model.n == 12
        assert row.repeat.n == 9  # the first window of every episode has no action before it
    steps = design.config.horizon
    whole, still = found.of_chunk()
    assert whole.repeat.mean == pytest.approx(SLOPE * (steps + 1) / 2, abs=1e-6)
    assert (still.repeat.mean, still.mean.mean) == (pytest.approx(0.0), pytest.approx(0.0, abs=1e-6))
    average = float(dataset.action[:, 0].mean())
    index, _ = replay.spread_windows(dataset, 4, steps - 1, True)
    truth = replay.recorded_chunks(design, dataset, index)[0][..., 0]
    assert whole.mean.mean == pytest.approx(np.abs(truth - average).mean(), abs=1e-6)
    assert "in 1 of 2 action entries" in found.headline()  # beside a constant nobody is better


def test_a_policy_that_is_worse_than_both_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ramps(tmp_path)
    monkeypatch.setattr(replay, "predict_actions", oracle(0.5))
    assert "in 0 of 2 action entries" in measured(policy(dataset), dataset).headline()


def test_steps_beyond_the_end_of_an_episode_count_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ramps(tmp_path, (5, 6))  # shorter than the horizon
    design = policy(dataset)
    assert design.config.horizon > 6
    monkeypatch.setattr(replay, "predict_actions", oracle(0.1))
    found = measured(design, dataset)
    counts = [row.model.n for row in found.of_steps("ramp")]
    assert counts[0] == found.windows
    assert counts[5:] == [counts[5]] + [0] * (len(counts) - 6)
    assert counts[5] == 1  # the first window of the longer one
    assert found.of_chunk()[0].model.mean == pytest.approx(0.1, abs=1e-6)
    assert [len(chunk.actions) for chunk in found.traces[0].chunks] == [5]


def test_many_columns_are_estimated_as_one_is() -> None:
    rng = np.random.default_rng(0)
    episodes = np.repeat(np.arange(20), 8)
    values = rng.normal(size=(160, 3)) + rng.normal(size=20)[episodes][:, None]
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 2] = np.nan
    values[:4, 2] = 1.0
    for k, found in enumerate(estimates(values, episodes)):
        one = estimate(values[:, k], episodes)
        assert (found.n, found.episodes) == (one.n, one.episodes)
        assert found.mean == pytest.approx(one.mean)
        if one.low is None:
            assert found.low is None
        else:
            assert found.low == pytest.approx(one.low, abs=0.05)
            assert found.high == pytest.approx(one.high, abs=0.05)
    assert estimates(np.full((4, 1), np.nan), np.arange(4))[0].mean is None


# ------------------------------------------------------------------------------------------------------- policies


def test_actions_are_those_of_the_policy_whatever_is_in_the_batch(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "data"))
    design = Design(tiny(), data_spec(dataset)).eval()
    index = np.array([3, 40, 60])
    together = predict_actions(design, dataset, index, Budget(), 0)
    alone = np.concatenate(
        [predict_actions(design, dataset, index[i : i + 1], Budget(), 0) for i in range(3)]
    )
    np.testing.assert_allclose(together, alone, atol=1e-5)
    seen = dataset.windows(index, design.window).observation
    forecast, _ = design.forecast(seen, design.initial_state(3), Budget(), [1, 2, 3])
    np.testing.assert_allclose(together, forecast.action.numpy(), atol=1e-5)  # a regression draws no noise


@pytest.mark.parametrize("name", ["rollout", "chunk_causal"])
def test_policies_with_goals_or_a_memory_are_measured(name: str, tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "data", episodes=4))
    design = Design(api.recipe(name), data_spec(dataset))
    design.fit(dataset, 0)
    found = measured(design.eval(), dataset.with_extras(design.extras), windows=2, drawn=1)
    assert all(row.model.mean is not None for row in found.of_chunk())


def test_a_trace_follows_the_episode_chunk_by_chunk(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path / "data"))
    design = Design(tiny(), data_spec(dataset)).eval()
    first, last = measured(design, dataset).traces
    assert (first.episode, last.episode) == (0, 2)
    episode, horizon = dataset.episodes[2], design.config.horizon
    np.testing.assert_allclose(last.recorded, dataset.action[episode.start : episode.stop], rtol=1e-5)
    assert [c.tick for c in last.chunks] == list(range(0, len(episode), horizon))
    assert sum(len(c.actions) for c in last.chunks) == len(episode)
    assert measured(design, dataset, drawn=0).traces == ()
    assert [t.episode for t in measured(design, dataset, drawn=9, episodes=[2, 0]).traces] == [2, 0]


# ------------------------------------------------------------------------------------------------------- the verb


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    write_dataset(folder / "data", episodes=4)
    train(settings(folder, "run", held_out=2), progress=False)
    return folder


def predict(root: Path, out: Path, *options: str) -> int:
    where = ["--checkpoint", str(root / "run/model"), "--dataset", str(root / "data"), "--out", str(out)]
    return main(["predict", *where, "--prediction.windows", "2", *options])


def test_a_policy_without_futures_is_measured_on_what_its_run_held_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    found = Prediction.load(tmp_path / "out/prediction.json")
    assert found.open_loop is not None
    assert found.open_loop.episodes == draw_held_out(4, 2, 0)
    assert found.rows == ()
    assert "measured on what was held out from training: 2 of 4 episodes" in printed
    assert found.open_loop.headline() in printed
    page = (tmp_path / "out/prediction.html").read_text()
    shown = "".join(read(page).text)
    assert found.open_loop.headline() in shown
    for number in found.open_loop.episodes:
        assert f"Episode {number}: recorded against predicted" in shown
    assert "Futures against" not in shown
    assert "http" not in "".join(read(page).addresses)  # self-contained


def test_json_is_all_that_is_printed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(root, tmp_path / "out", "--json", "--prediction.episodes", "[1, 0]") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["open_loop"]["episodes"] == [1, 0]
    assert {row["column"] for row in printed["open_loop"]["rows"]} == {"dx", "dy", "dz", "grip"}
    assert "the checkpoint was trained on" in printed["measured_on"]


def test_what_cannot_be_measured_is_refused_by_name(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(root, tmp_path / "out", "--prediction.episodes", "[7]") == 2
    assert "has no episode 7, only 0 to 3" in capsys.readouterr().err
    assert predict(root, tmp_path / "out", "--prediction.open_loop", "false") == 2
    assert "predicts no future, and its actions are not to be measured" in capsys.readouterr().err
    ramps(tmp_path)
    config = api.PredictConfig(str(root / "run/model"), tmp_path / "data", tmp_path / "out")
    with pytest.raises(SpecError):
        api.predict(config, progress=False)
    assert not (tmp_path / "out/prediction.json").exists()


def test_a_dataset_without_actions_measures_futures_alone_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    joint = Dataset(write_dataset(tmp_path / "acted", episodes=2, length=40))
    base = tiny()
    video = {"video": PixelLatentConfig(PatchPCAConfig(patch=16, features=8))}
    factors = (Factor(("future",), (), next(iter(base.estimators))), *base.factors)
    small = replace(base, substrates=video, futures={"future": FutureConfig("video", (8,))}, factors=factors)
    design = Design(small, data_spec(joint))
    design.fit(joint, 0)
    save_pretrained(design, tmp_path / "model")
    with DatasetWriter(
        tmp_path / "clips", joint.observation_spec, joint.action_spec, actionless=True
    ) as writer:
        for episode in joint.episodes:
            rows = slice(episode.start, episode.stop)
            images = {
                c: joint.frames.all(c)[rows].transpose(0, 2, 3, 1) for c in joint.observation_spec.cameras
            }
            writer.add(
                Episode(
                    {c: np.ascontiguousarray(v) for c, v in images.items()}, joint.state[rows], None, "go"
                )
            )
    settings_ = api.PredictConfig(str(tmp_path / "model"), tmp_path / "clips", tmp_path / "out")
    with caplog.at_level(logging.WARNING):
        found = api.predict(settings_, progress=False)
    assert "recorded without actions" in caplog.text
    assert found.open_loop is None
    assert found.rows
    with pytest.raises(DataError, match="no episode with actions"):
        measured(design.eval(), Dataset(tmp_path / "clips"))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_the_page_fits_a_phone(root: Path, tmp_path: Path) -> None:
    config = api.PredictConfig(str(root / "run/model"), root / "data", tmp_path / "out")
    assert fits_a_phone(render_prediction(api.predict(config, progress=False)), tmp_path)
