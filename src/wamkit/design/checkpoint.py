"""Checkpoints: ``config.json``, ``model.safetensors`` and ``transforms.json``, written completely or not at all."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import snapshot_download

# HTTPError is the base of what the hub's client raises on the way, such as a refused connection.
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, HTTPError
from safetensors.torch import load_file, save_file

import wamkit
from wamkit.config import decode, encode
from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.design.config import DesignConfig
from wamkit.design.model import Design
from wamkit.errors import ConfigError, DataError, nearest, reason

CONFIG, MODEL, TRANSFORMS, TRAINING = "config.json", "model.safetensors", "transforms.json", "training.pt"
FILES = (CONFIG, MODEL, TRANSFORMS)
FACTS = ("design", "observation", "action", "extras")


def save_pretrained(design: Design, folder: Path, training: dict[str, Any] | None = None) -> None:
    """Write a checkpoint atomically: a reader sees the old folder or the new one, never a mixture.

    Args:
        design: source of weights, config, specs and statistics.
        folder: target folder; an existing checkpoint there is replaced.
        training: states of optimiser, average and random generators, for resuming.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    data = design.data
    config = {
        "design": encode(design.config),
        "observation": dataclasses.asdict(data.observation),
        "action": dataclasses.asdict(data.action),
        "extras": {name: list(shape) for name, shape in data.extras.items()},
        "versions": {"wamkit": wamkit.__version__, "torch": torch.__version__},
    }
    stats = {
        feature: {name: np.asarray(value).tolist() for name, value in values.items()}
        for feature, values in data.stats.items()
    }
    (partial / CONFIG).write_text(json.dumps(config, indent=2))
    (partial / TRANSFORMS).write_text(json.dumps(stats))
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in design.state_dict().items()}
    save_file(tensors, partial / MODEL)
    if training is not None:
        torch.save(training, partial / TRAINING)
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def find_checkpoint(name: str | Path) -> Path:
    """Folder of a checkpoint. A name that is no folder here but can be a hub id is downloaded from the hub.

    Raises:
        ConfigError: no such folder, and the hub does not have the name or cannot be reached; or an incomplete folder.
    """
    folder = Path(name)
    if not folder.exists():
        folder = download_checkpoint(str(name))
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise ConfigError(f"{folder} is not a checkpoint: {', '.join(missing)} missing")
    return folder


def download_checkpoint(name: str) -> Path:
    """Local copy of the checkpoint with the hub id ``name``.

    Raises:
        ConfigError: ``name`` cannot be a hub id, the hub does not have it, or the hub cannot be reached.
    """
    problem = f"no checkpoint at {name}"
    if not name.startswith((".", "/", "~")) and name.count("/") == 1:
        try:
            return Path(snapshot_download(name, allow_patterns=list(FILES)))
        except (HFValidationError, EntryNotFoundError, HTTPError, OSError) as error:
            problem += (
                f": there is no such folder, and the hub does not have it or is out of reach "
                f"({type(error).__name__}: {reason(error)})"
            )
    siblings = [str(path) for path in Path(name).parent.glob("*/") if not path.name.startswith(".")]
    hint = nearest(str(Path(name)), siblings)
    raise ConfigError(
        f"{problem}. {hint}{' ' if hint else ''}Give the folder that holds {', '.join(FILES)} (a training run writes "
        f"it as <out>/model), or a hub id such as owner/name."
    )


def checkpoint_digest(folder: Path) -> str:
    """SHA-256 over the files of a checkpoint, in hexadecimal digits. Equal digests mean the same policy."""
    total = hashlib.sha256()
    for name in FILES:
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_facts(folder: Path) -> dict[str, Any]:
    """Facts about a checkpoint as plain values: its ``design``, the data it was built for, and ``stats``.

    Raises:
        DataError: a field is missing.
    """
    config = json.loads((folder / CONFIG).read_text())
    for field in FACTS:
        if field not in config:
            raise DataError(
                f"{folder / CONFIG}: field {field!r} is missing; this is a checkpoint of an older version, or not a "
                f"checkpoint. Train it again, or use the version that wrote it."
            )
    stats = json.loads((folder / TRANSFORMS).read_text())
    return {**{field: config[field] for field in FACTS}, "stats": stats}


def read_data(facts: Mapping[str, Any], place: str) -> DataSpec:
    """Spec of the data that a checkpoint's design was built for.

    Args:
        facts: values that :func:`read_facts` returned.
        place: source of the facts, for the message.
    """
    return DataSpec(
        decode(ObservationSpec, facts["observation"], f"{place}, observation"),
        decode(ActionSpec, facts["action"], f"{place}, action"),
        {f: {n: np.asarray(v) for n, v in values.items()} for f, values in facts["stats"].items()},
        {name: tuple(shape) for name, shape in facts["extras"].items()},
    )


def read_design(facts: Mapping[str, Any], place: str) -> Design:
    """Build a checkpoint's design with random weights. The arguments are those of :func:`read_data`."""
    config = decode(DesignConfig, facts["design"], f"{place}, design")
    return Design(config, read_data(facts, place))


def load_weights(design: Design, folder: Path) -> None:
    """Load a checkpoint's weights into its own design; raises :class:`DataError` when they do not fit."""
    state = load_file(folder / MODEL)
    expected = design.state_dict()
    wrong = sorted(expected.keys() ^ state.keys())
    if wrong:
        version = json.loads((folder / CONFIG).read_text())["versions"]["wamkit"]
        raise DataError(
            f"{folder / MODEL} does not fit its config: {len(wrong)} tensors differ, first {wrong[0]!r}. "
            f"It was written by wamkit {version}, this is {wamkit.__version__}."
        )
    resize_buffers(design, state)
    design.load_state_dict(state)


def from_pretrained(name: str | Path, device: torch.device | str = "cpu") -> Design:
    """Load a design from a folder or a Hugging Face hub id.

    Raises:
        ConfigError: there is no such checkpoint, or its config does not fit this version.
        DataError: the weights do not fit the config.
    """
    folder = find_checkpoint(name)
    design = read_design(read_facts(folder), str(folder / CONFIG))
    load_weights(design, folder)
    return design.to(device).eval()


def resize_buffers(design: Design, state: dict[str, torch.Tensor]) -> None:
    """Give fitted buffers (such as a codec's mean) the shape that they were saved with."""
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        module = design.get_submodule(owner)
        if leaf in module._buffers:
            module.register_buffer(leaf, value.clone())
