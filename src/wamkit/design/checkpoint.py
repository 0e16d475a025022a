"""Checkpoints: ``config.json``, ``model.safetensors`` and ``transforms.json``, written completely or not at all.

The config holds a digest of every file, itself included, so that a checkpoint is read as it was written or refused.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

import wamkit
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec, Recorded
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.design.config import DesignConfig
from wamkit.design.model import Design
from wamkit.errors import ConfigError, DataError, nearest, reason
from wamkit.nn.devices import find_device
from wamkit.storage import read_json
from wamkit.storage.fingerprint import digest, file_digest
from wamkit.storage.space import writing

CONFIG, MODEL, TRANSFORMS, TRAINING, RUN = (
    "config.json", "model.safetensors", "transforms.json", "training.pt", "run.json",
)  # fmt: skip
FILES = (CONFIG, MODEL, TRANSFORMS)
FACTS = ("design", "observation", "action", "extras")
ROBOTS = "robots"  # name -> conventions of the robot before its view, where it changes something
DIGESTS = "digests"
HUB = "hf://"
COPY_AGAIN = "Copy the checkpoint again, or use another one."

log = logging.getLogger(__name__)


def save_pretrained(
    design: Design,
    folder: Path,
    training: dict[str, Any] | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint atomically: a reader sees the old folder or the new one, never a mixture.

    Args:
        design: source of weights, config, specs and statistics.
        folder: target folder; an existing checkpoint there is replaced.
        training: states of optimiser, average and random generators, for resuming.
        run: what the training was begun with, for comparison when it resumes.

    Raises:
        OSError: it cannot be written; on a full disk the error gives the bytes that it needs.
    """
    partial = _beside(folder, "partial")
    tensors = {k: v.detach().cpu().clone().contiguous() for k, v in design.state_dict().items()}
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(folder, bytes_of(tensors) + bytes_of(training)):
            _write_files(partial, design, tensors, training, run)
            _put_in_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # only there when writing failed, such as on a full disk


def bytes_of(values: Any) -> int:
    """Bytes of all tensors in nested mappings."""
    if isinstance(values, torch.Tensor):
        return values.nbytes
    return sum(map(bytes_of, values.values())) if isinstance(values, Mapping) else 0


def _write_files(
    partial: Path,
    design: Design,
    tensors: dict[str, torch.Tensor],
    training: dict[str, Any] | None,
    run: Mapping[str, Any] | None,
) -> None:
    """Write the files of a checkpoint into the new folder ``partial``."""
    partial.mkdir(parents=True)
    config, stats = config_of(design), stats_of(design)
    (partial / TRANSFORMS).write_text(json.dumps(stats), encoding="utf-8")
    save_file(tensors, partial / MODEL)
    if training is not None:
        torch.save(training, partial / TRAINING)
    if run is not None:
        (partial / RUN).write_text(json.dumps(run, indent=2), encoding="utf-8")
    digests = {CONFIG: _config_digest(config), **{p.name: file_digest(p) for p in sorted(partial.iterdir())}}
    text = json.dumps({**config, DIGESTS: digests}, indent=2)
    (partial / CONFIG).write_text(text, encoding="utf-8")
    for file in partial.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def _put_in_place(partial: Path, folder: Path) -> None:
    """Rename ``partial`` to ``folder``; a checkpoint that is there goes away when the new one is there."""
    if folder.exists():
        old = _beside(folder, "old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def config_of(design: Design) -> dict[str, Any]:
    """Content of a checkpoint's config file, without digests."""
    data = design.data
    config = {
        "design": encode(design.config),
        "observation": dataclasses.asdict(data.observation),
        "action": dataclasses.asdict(data.action),
        "extras": {name: list(shape) for name, shape in data.extras.items()},
        "versions": {"wamkit": wamkit.__version__, "torch": torch.__version__},
    }
    if data.robots:
        config[ROBOTS] = {name: dataclasses.asdict(robot) for name, robot in data.robots.items()}
    return config


def stats_of(design: Design) -> dict[str, dict[str, Any]]:
    """Statistics that a design was built with, as plain values."""
    return {
        feature: {name: np.asarray(value).tolist() for name, value in values.items()}
        for feature, values in design.data.stats.items()
    }


def settle(folder: Path) -> None:
    """Clear what a killed :func:`save_pretrained` left beside ``folder``; what it was replacing comes back."""
    old = _beside(folder, "old")
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_beside(folder, "partial"), ignore_errors=True)


def _beside(folder: Path, what: str) -> Path:
    """Hidden folder beside a checkpoint, for the time while it is written."""
    return folder.with_name(f".{folder.name}.{what}")


def _config_digest(config: Mapping[str, Any]) -> str:
    """Digest of a checkpoint's config without its digests; the order of its keys counts, as it does in a design."""
    return digest(json.dumps({k: v for k, v in config.items() if k != DIGESTS}).encode())


def find_checkpoint(name: str | Path) -> Path:
    """Folder of a checkpoint. A name that is no folder here but can be a hub id is downloaded from the hub.

    A name below a folder that exists here is never asked of the hub: it is a mistyped path. ``hf://owner/name`` is
    always a hub id.

    Raises:
        ConfigError: no such folder, and the hub does not have the name or cannot be reached; or an incomplete folder.
    """
    folder = Path(name)
    if not folder.exists():
        before = _beside(folder, "old") if folder.name else folder
        if before.is_dir():
            log.warning(
                "%s: missing, because a run was killed while replacing it; reading %s", folder, before
            )
            folder = before
        else:
            folder = download_checkpoint(str(name))
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        inner = folder / "model"
        hint = f". Did you mean {str(inner)!r}?" if (inner / CONFIG).is_file() else ""
        raise ConfigError(f"{folder} is not a checkpoint: {', '.join(missing)} missing{hint}")
    return folder


def download_checkpoint(name: str) -> Path:
    """Local copy of the checkpoint with the hub id ``name``.

    Raises:
        ConfigError: ``name`` cannot be a hub id, the hub does not have it, or the hub cannot be reached.
    """
    # HTTPError is the base of what the hub's client raises on the way, such as a refused connection.
    from huggingface_hub.errors import EntryNotFoundError, HTTPError

    problem, path, way_out = f"no checkpoint at {name}", Path(name), "a hub id such as owner/name"
    owner = path.parent
    if name.startswith(HUB) or (name[:1] not in (".", "/", "~") and name.count("/") == 1):
        if owner.is_dir():
            problem += f": there is no such folder in {owner}"
            way_out = f"{HUB}{name} for the hub's repository of this name"
        else:
            try:
                return Path(
                    huggingface_hub.snapshot_download(name.removeprefix(HUB), allow_patterns=list(FILES))
                )
            except (EntryNotFoundError, HTTPError, OSError, ValueError, RuntimeError) as error:
                problem += (
                    f": there is no such folder, and the hub does not have it or is out of reach "
                    f"({type(error).__name__}: {reason(error)})"
                )
    siblings = [str(p) for p in owner.glob("*/") if not p.name.startswith(".")] if owner.is_dir() else []
    hint = nearest(str(path), siblings)
    raise ConfigError(
        f"{problem}. {hint}{' ' if hint else ''}Give the folder that holds {', '.join(FILES)} (a training run writes "
        f"it as <out>/model), or {way_out}."
    )


def checkpoint_digest(folder: Path, files: Sequence[str] = FILES) -> str:
    """SHA-256 over the files of a checkpoint, in hexadecimal digits. Equal digests mean the same policy."""
    total = hashlib.sha256()
    for name in files:
        with (folder / name).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_config(folder: Path) -> dict[str, Any]:
    """Content of a checkpoint's config file; raises :class:`DataError` when it is unreadable or lacks a field."""
    path = folder / CONFIG
    config = read_json(path, COPY_AGAIN)
    for field in FACTS:
        if field not in config:
            raise DataError(
                f"{path}: field {field!r} is missing; this is a checkpoint of an older version, or not a "
                f"checkpoint. Train it again, or use the version that wrote it."
            )
        if not isinstance(config[field], dict):
            raise DataError(f"{path}: field {field!r} is {config[field]!r}, not an object. {COPY_AGAIN}")
    return config


def read_facts(folder: Path) -> dict[str, Any]:
    """Facts about a checkpoint as plain values: its ``design``, the data it was built for, and ``stats``.

    Raises:
        DataError: a file is unreadable, or a field is missing.
    """
    config = read_config(folder)
    stats = read_json(folder / TRANSFORMS, COPY_AGAIN)
    return {**{field: config[field] for field in FACTS}, ROBOTS: config.get(ROBOTS, {}), "stats": stats}


def verify(folder: Path) -> None:
    """Raise :class:`DataError` unless every file of a checkpoint is the one that was written.

    A checkpoint of an earlier version has no digests and passes.
    """
    config = read_config(folder)
    digests = config.get(DIGESTS)
    if digests is None:
        return
    if not isinstance(digests, dict) or not set(FILES) <= digests.keys():
        raise DataError(f"{folder / CONFIG}: field {DIGESTS!r} must name {', '.join(FILES)}. {COPY_AGAIN}")
    for name, written in digests.items():
        now = _config_digest(config) if name == CONFIG else file_digest(folder / name)
        if now != written:
            raise DataError(
                f"{folder / name}: not as it was written: its digest differs from that in {CONFIG}. {COPY_AGAIN} If "
                f"you changed the file yourself, remove the field {DIGESTS!r} from {folder / CONFIG}."
            )


def read_data(facts: Mapping[str, Any], place: str) -> DataSpec:
    """Spec of the data that a checkpoint's design was built for.

    Args:
        facts: values that :func:`read_facts` returned.
        place: source of the facts, for the message.

    Raises:
        ConfigError: the specs cannot be decoded.
        DataError: a statistic is not made of finite numbers, or has not one per entry.
    """
    observation = decode(ObservationSpec, facts["observation"], f"{place}, observation")
    action = decode(ActionSpec, facts["action"], f"{place}, action")
    widths = {"action": action.width, "observation.state": len(observation.state)}
    stats = {
        feature: _statistics(values, f"{place}, statistics of {feature!r}", widths.get(feature))
        for feature, values in facts["stats"].items()
    }
    try:
        extras = {name: tuple(int(n) for n in shape) for name, shape in facts["extras"].items()}
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}, extras: not shapes: {facts['extras']}. {COPY_AGAIN}") from error
    robots = {
        name: decode(Recorded, robot, f"{place}, {ROBOTS}.{name}")
        for name, robot in facts.get(ROBOTS, {}).items()
    }
    return DataSpec(observation, action, stats, extras, robots)


def _statistics(values: Any, place: str, width: int | None) -> dict[str, np.ndarray]:
    """Statistics of one feature: name -> values, one per entry where ``width`` says how many there are."""
    try:
        found = {name: np.asarray(value) for name, value in values.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{place}: not numbers ({error}). {COPY_AGAIN}") from error
    for name, array in found.items():
        if array.dtype.kind not in "iuf":
            raise DataError(f"{place}: {name!r} is not made of numbers. {COPY_AGAIN}")
        if not np.isfinite(array).all():
            raise DataError(f"{place}: {name!r} is not finite: {array.ravel().tolist()}. {COPY_AGAIN}")
        if width is not None and name != "count" and array.size != width:
            raise DataError(f"{place}: {name!r} has {array.size} values for {width} entries. {COPY_AGAIN}")
    return found


def read_design(facts: Mapping[str, Any], place: str) -> Design:
    """Build a checkpoint's design with random weights. The arguments are those of :func:`read_data`."""
    config = decode(DesignConfig, facts["design"], f"{place}, design")
    return Design(config, read_data(facts, place))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a file of weights; raises :class:`DataError` when it is unreadable or a number in it is not finite."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}). {COPY_AGAIN}") from error
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(
                f"{path}: {name!r} holds numbers that are not finite, so nothing can be computed with it. Use an "
                f"earlier checkpoint, or train again."
            )
    return state


def read_weights(design: Design, folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a checkpoint for ``design``, which has the same config.

    Raises:
        DataError: the file is unreadable, does not fit the design, or holds a number that is not finite.
    """
    state, expected = read_tensors(folder / MODEL), design.state_dict()
    names = sorted(expected.keys() ^ state.keys())
    problem = f"{len(names)} tensors differ, first {names[0]!r}" if names else ""
    # Buffers are fitted to data, so their shapes come from the file; those of parameters come from the config.
    for name, _ in design.named_parameters(remove_duplicate=False):
        if not problem and state[name].shape != expected[name].shape:
            there, here = tuple(state[name].shape), tuple(expected[name].shape)
            problem = f"{name!r} has the shape {there}, but the config asks for {here}"
    if problem:
        version = read_config(folder).get("versions", {}).get("wamkit", "of an unknown version")
        raise DataError(
            f"{folder / MODEL} does not fit its config: {problem}. It was written by wamkit {version}, this is "
            f"{wamkit.__version__}. {COPY_AGAIN}"
        )
    return state


def load_weights(design: Design, folder: Path) -> None:
    """Load a checkpoint's weights into its own design; raises :class:`DataError` when they do not fit."""
    state = read_weights(design, folder)
    resize_buffers(design, state)
    design.load_state_dict(state)


def from_pretrained(name: str | Path, device: torch.device | str = "cpu") -> Design:
    """Load a design from a folder or a Hugging Face hub id.

    Raises:
        ConfigError: there is no such checkpoint, or its config does not fit this version.
        DataError: a file is broken or was changed, or the weights do not fit the config.
    """
    folder = find_checkpoint(name)
    facts = read_facts(folder)
    verify(folder)
    design = read_design(facts, str(folder / CONFIG))
    load_weights(design, folder)
    return design.to(find_device(str(device))).eval()


def resize_buffers(design: Design, state: dict[str, torch.Tensor]) -> None:
    """Give fitted buffers (such as a codec's mean) the shape that they were saved with."""
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        module = design.get_submodule(owner)
        if leaf in module._buffers:
            module.register_buffer(leaf, value.clone())
