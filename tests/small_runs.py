"""Trainings of a second, and faults of their files."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from wamkit.design import DesignConfig
from wamkit.encoders import StateConfig
from wamkit.training import OptimConfig, TrainConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEPS = 6
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


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same tensors, bit for bit."""
    a, b = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


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


def change(folder: Path, file: str, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Change a JSON file of a checkpoint as a checkpoint of an earlier version, which has no digests."""
    for name, what in (("config.json", lambda v: v.pop("digests", None)), (file, edit)):
        values = json.loads((folder / name).read_text())
        what(values)
        (folder / name).write_text(json.dumps(values))
