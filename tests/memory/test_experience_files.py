"""Stores of experiences on disk: read as they were written, or refused with the file and the way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wamkit.errors import ConfigError, DataError
from wamkit.memory import Experience, ExperienceStore


@pytest.fixture
def store(tmp_path: Path) -> Path:
    experiences = ExperienceStore()
    for i in range(2):
        experiences.add(Experience(f"task{i}", torch.ones(3) + i, {"weight": torch.full((2, 3), float(i))}))
    experiences.save(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("name", ["store.json", "00000.safetensors", "00001.safetensors"])
@pytest.mark.parametrize("fault", ["cut", "empty", "delete", "junk"])
def test_a_broken_file_is_named(name: str, fault: str, store: Path) -> None:
    file = store / name
    content = {"cut": file.read_bytes()[: file.stat().st_size // 2], "empty": b"", "junk": b"\xff" * 100}
    file.unlink()
    if fault != "delete":
        file.write_bytes(content[fault])
    with pytest.raises(DataError, match=rf"{name}: .*Copy the store again") as raised:
        ExperienceStore.load(store)
    assert str(store) in str(raised.value)


def test_contents_that_are_no_store_are_named(store: Path) -> None:
    (store / "store.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(DataError, match="not a list of names"):
        ExperienceStore.load(store)
    (store / "store.json").write_text(json.dumps(["task0", "task0"]))
    with pytest.raises(DataError, match=r"00001\.safetensors: experience 'task0' is stored already"):
        ExperienceStore.load(store)
    (store / "store.json").write_text(json.dumps(["task0"]))
    for tensors, message in (
        ({"x": torch.ones(3)}, "holds no 'context'"),
        ({"context": torch.zeros(3)}, "finite"),
    ):
        save_file(tensors, store / "00000.safetensors")
        with pytest.raises(DataError, match=rf"00000\.safetensors: .*{message}"):
            ExperienceStore.load(store)


def test_an_experience_of_another_architecture_is_refused_in_our_words(store: Path) -> None:
    experiences = ExperienceStore.load(store)
    assert experiences.warm_start(nn.Linear(3, 2, bias=False), torch.ones(3)) is not None
    with pytest.raises(ConfigError, match="does not fit the module: size mismatch for weight"):
        experiences.warm_start(nn.Linear(4, 2, bias=False), torch.ones(3))
