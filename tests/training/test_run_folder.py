"""The folder of a run: other data and configs are refused by name, a finished run and what is no run stay."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from small_runs import STEPS, change, cut, empty, same_weights, settings
from support import write_dataset
from wamkit.data import Dataset
from wamkit.data.fingerprint import fingerprint
from wamkit.errors import BusyError, ConfigError, DataError
from wamkit.storage import claim
from wamkit.training import train
from wamkit.training.resume import latest_checkpoint

# --------------------------------------------------------------------------------------- other data, other config


def test_other_demonstrations_at_the_same_path_are_refused_by_name(
    root: Path, run: Path, tmp_path: Path
) -> None:
    write_dataset(tmp_path / "data", episodes=4)
    shutil.rmtree(run / "checkpoints/step-00000006")
    with pytest.raises(
        ConfigError, match=r"another dataset .*episodes: 3 there, 4 here.*action values differ"
    ):
        train(settings(root, run, dataset=tmp_path / "data"), progress=False)


def test_a_moved_dataset_and_a_moved_run_go_on(root: Path, run: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data", tmp_path / "moved")
    shutil.rmtree(run / "checkpoints/step-00000006")
    train(settings(root, run, dataset=tmp_path / "moved"), progress=False)
    assert same_weights(run / "model", root / "whole/model")


@pytest.mark.parametrize("part", ["action", "video", "task"])
def test_the_fingerprint_sees_every_part(part: str, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "data", tmp_path / "data")
    one = Dataset(tmp_path / "data")
    before = fingerprint(one)
    assert before == fingerprint(Dataset(root / "data"))
    json.dumps(before)
    if part == "action":
        one.action[3, 0] = np.nextafter(one.action[3, 0], 9, dtype=np.float32)
    elif part == "video":
        file = sorted((tmp_path / "data/videos").rglob("*.mp4"))[0]
        file.write_bytes(file.read_bytes() + b"\0")
    else:
        one._task_index[5] = 1 - one._task_index[5]
    after = fingerprint(one)
    names = {"action": "action values", "video": "pictures", "task": "tasks"}
    assert {key for key in before if before[key] != after[key]} == {names[part]}


def test_a_missing_config_beside_whole_checkpoints_is_written_again(root: Path, run: Path) -> None:
    (run / "config.json").unlink()
    empty(run / "data.json")
    train(settings(root, run), progress=False)
    assert json.loads((run / "config.json").read_text())["steps"] == STEPS
    (run / "config.json").unlink()
    with pytest.raises(ConfigError, match="seed: 0 there, 1 here"):
        train(settings(root, run, seed=1), progress=False)


def test_runs_of_an_earlier_version_go_on_and_say_what_they_do_not_know(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run / "data.json").unlink()
    for folder in (run / "checkpoints").glob("step-*"):
        (folder / "run.json").unlink()
        change(folder, "config.json", lambda v: None)
    train(settings(root, run), progress=False)
    assert "did not store what data" in caplog.text
    with pytest.raises(ConfigError, match="batch_size: 8 there, 4 here"):
        train(settings(root, run, batch_size=4), progress=False)
    (run / "config.json").unlink()
    with pytest.raises(DataError, match=r"config\.json: no such file"):
        train(settings(root, run), progress=False)


def test_another_pretrained_checkpoint_under_the_same_name_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "start")
    config = settings(root, tmp_path / "run", pretrained=str(tmp_path / "start"))
    train(config, progress=False)
    shutil.rmtree(tmp_path / "start")
    train(config, progress=False)  # a resumed run has its weights already
    train(settings(root, tmp_path / "other", seed=3), progress=False)
    shutil.copytree(tmp_path / "other/model", tmp_path / "start")
    with pytest.raises(ConfigError, match=r"another `pretrained` checkpoint .*pretrained\.files differ"):
        train(config, progress=False)


# ------------------------------------------------------------------------------------------------ the whole `out`


def test_a_finished_run_stays_as_it_is_and_says_so(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(settings(root, run), progress=False)
    before = {path: path.stat().st_mtime_ns for path in (run / "model").iterdir()}
    caplog.clear()
    train(settings(root, run), progress=False)
    assert "is finished" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (run / "model").iterdir()} == before
    cut(run / "model/model.safetensors")
    train(settings(root, run), progress=False)
    assert "the finished model is broken" in caplog.text
    assert same_weights(run / "model", root / "whole/model")


def test_a_finished_model_without_checkpoints_is_not_replaced(root: Path, run: Path) -> None:
    train(settings(root, run), progress=False)
    shutil.rmtree(run / "checkpoints")
    before = {path: path.stat().st_mtime_ns for path in (run / "model").iterdir()}
    train(settings(root, run), progress=False)
    assert {path: path.stat().st_mtime_ns for path in (run / "model").iterdir()} == before
    with pytest.raises(ConfigError, match="seed: 0 there, 1 here"):
        train(settings(root, run, seed=1), progress=False)


@pytest.mark.parametrize("what", ["file", "dataset", "checkpoint", "evaluation"])
def test_an_out_that_holds_something_else_is_refused_before_any_work(
    what: str, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "evaluation":
        out.mkdir()
        (out / "report.json").write_text("{}")
    else:
        shutil.copytree(root / ("data" if what == "dataset" else "whole/model"), out)
    before = {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()}
    with pytest.raises(
        ConfigError, match=rf"out is a {what}" if what == "file" else rf"out holds an? {what}"
    ):
        train(settings(root, out), progress=False)
    assert {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()} == before


def test_two_trainings_into_one_folder_are_one_too_many(root: Path, tmp_path: Path) -> None:
    with claim(tmp_path / "out"), pytest.raises(BusyError, match="out is being written by"):
        train(settings(root, tmp_path / "out"), progress=False)
    assert latest_checkpoint(tmp_path / "out") is None
