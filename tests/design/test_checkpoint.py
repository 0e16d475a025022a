"""Names of checkpoints: a folder, a hub id, or an error that names both readings and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from wamkit.design import checkpoint
from wamkit.design.checkpoint import find_checkpoint
from wamkit.errors import ConfigError
from wamkit.verbs.load import load


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two runs, and a hub that is out of reach."""
    (tmp_path / "here/runs/model").mkdir(parents=True)
    (tmp_path / "here/runs/other").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def unreachable(name: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError("Cannot reach the hub.\nMore lines follow.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    return tmp_path / "here/runs"


@pytest.mark.parametrize("read", [find_checkpoint, load])
def test_a_mistyped_folder_that_could_be_a_hub_id_is_a_missing_folder(
    read: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    with pytest.raises(ConfigError) as raised:
        read("runs/modle")
    message = str(raised.value)
    assert (
        "no checkpoint at runs/modle: there is no such folder in runs. Did you mean 'runs/model'?" in message
    )
    assert "hf://runs/modle for the hub's repository of this name" in message


def test_a_hub_id_that_is_said_to_be_one_is_asked_of_the_hub_whatever_lies_here() -> None:
    with pytest.raises(ConfigError) as raised:
        find_checkpoint("hf://runs/modle")
    message = str(raised.value)
    assert "there is no such folder, and the hub does not have it or is out of reach" in message
    assert "(LocalEntryNotFoundError: Cannot reach the hub.)" in message
    assert "More lines" not in message


def test_a_run_instead_of_its_model_is_pointed_to_the_model(runs: Path) -> None:
    (runs / "model/model").mkdir()
    (runs / "model/model/config.json").touch()
    with pytest.raises(ConfigError, match=r"Did you mean 'runs/model/model'\?"):
        find_checkpoint("runs/model")


def test_a_name_like_nothing_here_has_no_hint() -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint at a/b: there is no such folder") as raised:
        find_checkpoint("a/b")
    assert "Did you mean" not in str(raised.value)


def test_an_impossible_hub_id_is_the_hubs_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=r"\(HFValidationError: Repo id must use"):
        find_checkpoint("-a/b..")


@pytest.mark.parametrize("name", ["../x/y", "./walks", "x/y/z", "model", "~/model"])
def test_what_can_only_be_a_path_never_reaches_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    (tmp_path / "empty/inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty/inner")
    with pytest.raises(
        ConfigError, match=rf"no checkpoint at {name}\. Give the folder that holds config\.json"
    ):
        find_checkpoint(name)


def test_the_nearest_sibling_is_offered_for_paths_too() -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint at \./runs/othr\. Did you mean 'runs/other'\?"):
        find_checkpoint("./runs/othr")


def test_a_folder_without_the_files_is_not_a_checkpoint() -> None:
    with pytest.raises(ConfigError, match=r"runs/model is not a checkpoint: config\.json, .* missing"):
        find_checkpoint("runs/model")


def test_what_the_hub_delivers_is_read(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in checkpoint.FILES:
        (runs / "model" / file).touch()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, allow_patterns: str(runs / "model"))
    assert find_checkpoint("owner/name") == runs / "model"
    assert find_checkpoint("hf://runs/name") == runs / "model"
    assert find_checkpoint("runs/model") == Path("runs/model")


def test_offline_the_command_line_ends_with_the_error_alone(runs: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "wamkit.cli", "inspect", "runs/modle"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=runs.parent, env=environment)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "no checkpoint at runs/modle" in " ".join(done.stderr.split())
