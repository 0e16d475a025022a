"""Resuming: broken checkpoints are passed over, other data and configs refused by name, a finished run stays."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from support import write_dataset
from wamkit.data import Dataset
from wamkit.data.fingerprint import fingerprint
from wamkit.design import DesignConfig, from_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import BusyError, ConfigError, DataError, WamkitError
from wamkit.storage import claim
from wamkit.training import OptimConfig, TrainConfig, train
from wamkit.training.resume import latest_checkpoint, read_training
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEPS = 6
WIDE = {"type": "transformer", "width": 32, "depth": 1, "heads": 2}
FILES = ("config.json", "transforms.json", "model.safetensors", "training.pt", "run.json")


def tiny() -> DesignConfig:
    config = recipe("regression")
    trunks = {"main": TransformerConfig(width=16, depth=1, heads=2)}
    return dataclasses.replace(config, width=16, trunks=trunks, encoders={"state": StateConfig()})


def settings(root: Path, out: Path | str, **changes: Any) -> TrainConfig:
    base = TrainConfig(
        dataset=root / "data",
        out=root / out,
        design=tiny(),
        optim=OptimConfig(warmup=2, ema=0.5),
        steps=STEPS,
        batch_size=8,
        checkpoint_every=2,
        log_every=1,
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resuming")
    write_dataset(folder / "data")
    train(settings(folder, "whole"), progress=False)
    return folder


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Path:
    """A copy of the whole run, which is still to write its model."""
    shutil.copytree(root / "whole", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    return tmp_path / "run"


def same_weights(one: Path, other: Path) -> None:
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(bytes(content))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def delete(file: Path) -> None:
    file.unlink()


def double(file: Path) -> None:
    file.write_bytes(file.read_bytes() * 2)


def swap(file: Path) -> None:
    """Take the file of the checkpoint before."""
    older = sorted(file.parent.parent.glob("step-*"))[0]
    shutil.copy(older / file.name, file)


# ------------------------------------------------------------------------------------------- broken checkpoints


@pytest.mark.parametrize("fault", [cut, flip, empty, delete, double, swap])
@pytest.mark.parametrize("name", FILES)
def test_a_broken_newest_checkpoint_falls_back_to_the_one_before(
    name: str, fault: Callable[[Path], None], root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = run / "checkpoints" / f"step-{STEPS:08d}"
    before = (newest / name).read_bytes()
    fault(newest / name)
    same = (newest / name).exists() and (newest / name).read_bytes() == before
    train(settings(root, run), progress=False)
    said = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    assert len(said) == (0 if same else 1)
    assert all(str(newest) in line for line in said)
    same_weights(run / "model", root / "whole/model")
    same_weights(newest, root / f"whole/checkpoints/step-{STEPS:08d}")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line) for line in (root / "whole/log.jsonl").read_text().splitlines()]


def test_broken_checkpoints_down_to_the_first_whole_one(root: Path, run: Path) -> None:
    cut(run / "checkpoints/step-00000006/training.pt")
    flip(run / "checkpoints/step-00000004/model.safetensors")
    (run / "checkpoints/step-00000099").mkdir()
    (run / "checkpoints/step-banana").mkdir()
    (run / "checkpoints/step-00000007").touch()
    train(settings(root, run), progress=False)
    same_weights(run / "model", root / "whole/model")


def test_with_no_whole_checkpoint_the_way_out_leads_out(root: Path, run: Path) -> None:
    for folder in (run / "checkpoints").glob("step-*"):
        empty(folder / "training.pt")
    with pytest.raises(
        DataError, match=r"no checkpoint is whole.* Remove .*checkpoints to train from the"
    ) as raised:
        train(settings(root, run), progress=False)
    assert "step-00000006/training.pt" in str(raised.value)
    shutil.rmtree(run / "checkpoints")
    train(settings(root, run), progress=False)
    same_weights(run / "model", root / "whole/model")


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(root: Path, run: Path) -> None:
    newest = run / "checkpoints/step-00000006"
    shutil.rmtree(newest)
    shutil.copytree(run / "checkpoints/step-00000002", newest)
    with pytest.raises(DataError, match="it is of step 2, not of step-00000006"):
        read_training(newest)
    train(settings(root, run), progress=False)
    same_weights(run / "model", root / "whole/model")


def test_a_checkpoint_with_broken_weights_of_an_earlier_version_is_passed_over(root: Path, run: Path) -> None:
    newest = run / "checkpoints/step-00000006"
    values = json.loads((newest / "config.json").read_text())
    del values["digests"]
    (newest / "config.json").write_text(json.dumps(values))
    tensors = load_file(newest / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, newest / "model.safetensors")
    train(settings(root, run), progress=False)
    same_weights(run / "model", root / "whole/model")


def test_a_run_killed_between_the_two_renames_gets_its_checkpoint_back(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run / "checkpoints"
    (folder / "step-00000006").rename(folder / ".step-00000006.old")
    (folder / ".step-00000006.partial").mkdir()
    (folder / ".step-00000004.partial").mkdir()
    train(settings(root, run), progress=False)
    assert not list(folder.glob(".*"))
    assert {path.name for path in folder.iterdir()} == {"step-00000002", "step-00000004", "step-00000006"}
    same_weights(run / "model", root / "whole/model")
    (run / "model").rename(run / ".model.old")
    assert from_pretrained(run / "model").config == tiny()
    assert "killed while replacing it" in caplog.text


def test_broken_lines_of_the_log_are_dropped_and_said(
    root: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (run / "log.jsonl").read_bytes().splitlines()
    (run / "log.jsonl").write_bytes(
        b"\n".join([lines[0], b"\xff\xfe{", b"[1]", b"{}", *lines[1:], b'{"step": 7, "a'])
    )
    shutil.rmtree(run / "checkpoints/step-00000006")
    train(settings(root, run), progress=False)
    assert (run / "log.jsonl").read_text() == (root / "whole/log.jsonl").read_text()
    assert "3 lines cannot be read and are dropped" in caplog.text


# ------------------------------------------------------------------------------------------ reading a checkpoint


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_model_is_read_rightly_or_refused(seed: int, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "model")
    rng = np.random.default_rng(seed)
    file = tmp_path / "model" / FILES[rng.integers(3)]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
    file.write_bytes(bytes(content))
    try:
        design = from_pretrained(tmp_path / "model")
    except WamkitError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert str(file) in refusal
        return
    right = from_pretrained(root / "whole/model")
    assert design.config == right.config
    assert design.data.action == right.data.action
    for name, value in right.state_dict().items():
        assert torch.equal(value, design.state_dict()[name])


@pytest.mark.parametrize("fault", [cut, empty, double])
@pytest.mark.parametrize("name", FILES[:3])
def test_a_broken_file_is_named_with_the_way_out(
    name: str, fault: Callable[[Path], None], root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "model")
    fault(tmp_path / "model" / name)
    with pytest.raises(DataError, match=rf"{name}: .* (Copy the checkpoint again|Use an earlier)"):
        from_pretrained(tmp_path / "model")


def change(folder: Path, file: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a checkpoint as a checkpoint of an earlier version, which has no digests."""
    for name, what in (("config.json", lambda v: v.pop("digests", None)), (file, edit)):
        values = json.loads((folder / name).read_text())
        what(values)
        (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        (
            "config.json",
            lambda v: v["design"].update(width=32, trunks={"main": WIDE}),
            "has the shape .* but the config asks for",
        ),
        ("config.json", lambda v: v.update(design=3), "field 'design' is 3, not an object"),
        ("config.json", lambda v: v.update(extras={"a": "b"}), "not shapes"),
        ("transforms.json", lambda v: v["action"]["std"].append(1), "'std' has 5 values for 4 entries"),
        ("transforms.json", lambda v: v["action"].update(std=[float("nan")] * 4), "'std' is not finite"),
        ("transforms.json", lambda v: v["action"].update(std=["a"] * 4), "'std' is not made of numbers"),
        ("transforms.json", lambda v: v.update(action=5), "not numbers"),
        ("transforms.json", lambda v: v["action"].update(std=[[1], [1, 2]]), "not numbers"),
    ],
)
def test_an_old_checkpoint_that_contradicts_itself_is_refused(
    file: str, edit: Callable[[dict[str, Any]], Any], message: str, root: Path, tmp_path: Path
) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "model")
    change(tmp_path / "model", file, edit)
    with pytest.raises(DataError, match=message):
        from_pretrained(tmp_path / "model")


def test_an_old_checkpoint_without_digests_still_loads(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "model")
    change(tmp_path / "model", "config.json", lambda v: None)
    assert from_pretrained(tmp_path / "model").config == tiny()


@pytest.mark.parametrize("what", ["missing", "additional", "nan"])
def test_tensors_that_do_not_fit_are_named(what: str, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "whole/model", tmp_path / "model")
    change(tmp_path / "model", "config.json", lambda v: None)
    tensors = load_file(tmp_path / "model/model.safetensors")
    name = sorted(tensors)[0]
    if what == "missing":
        del tensors[name]
    elif what == "additional":
        tensors["other"] = torch.zeros(1)
    else:
        tensors[name][...] = float("inf")
    save_file(tensors, tmp_path / "model/model.safetensors")
    with pytest.raises(
        DataError, match="not finite" if what == "nan" else "does not fit its config: 1 tensors differ"
    ):
        from_pretrained(tmp_path / "model")


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
    same_weights(run / "model", root / "whole/model")


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
    same_weights(run / "model", root / "whole/model")


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
