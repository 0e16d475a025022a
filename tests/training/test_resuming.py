"""Resuming: broken checkpoints are passed over, and read rightly or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from small_runs import (
    FILES,
    STEPS,
    change,
    cut,
    delete,
    double,
    empty,
    flip,
    same_weights,
    settings,
    swap,
    tiny,
)
from wamkit.design import from_pretrained
from wamkit.errors import DataError, WamkitError
from wamkit.training import train
from wamkit.training.resume import read_training

WIDE = {"type": "transformer", "width": 32, "depth": 1, "heads": 2}


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
    assert same_weights(run / "model", root / "whole/model")
    assert same_weights(newest, root / f"whole/checkpoints/step-{STEPS:08d}")
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line) for line in (root / "whole/log.jsonl").read_text().splitlines()]


def test_broken_checkpoints_down_to_the_first_whole_one(root: Path, run: Path) -> None:
    cut(run / "checkpoints/step-00000006/training.pt")
    flip(run / "checkpoints/step-00000004/model.safetensors")
    (run / "checkpoints/step-00000099").mkdir()
    (run / "checkpoints/step-banana").mkdir()
    (run / "checkpoints/step-00000007").touch()
    train(settings(root, run), progress=False)
    assert same_weights(run / "model", root / "whole/model")


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
    assert same_weights(run / "model", root / "whole/model")


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(root: Path, run: Path) -> None:
    newest = run / "checkpoints/step-00000006"
    shutil.rmtree(newest)
    shutil.copytree(run / "checkpoints/step-00000002", newest)
    with pytest.raises(DataError, match="it is of step 2, not of step-00000006"):
        read_training(newest)
    train(settings(root, run), progress=False)
    assert same_weights(run / "model", root / "whole/model")


def test_a_checkpoint_with_broken_weights_of_an_earlier_version_is_passed_over(root: Path, run: Path) -> None:
    newest = run / "checkpoints/step-00000006"
    values = json.loads((newest / "config.json").read_text())
    del values["digests"]
    (newest / "config.json").write_text(json.dumps(values))
    tensors = load_file(newest / "model.safetensors")
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, newest / "model.safetensors")
    train(settings(root, run), progress=False)
    assert same_weights(run / "model", root / "whole/model")


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
    assert same_weights(run / "model", root / "whole/model")
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
