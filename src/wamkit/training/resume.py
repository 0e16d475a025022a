"""Resuming: which checkpoint of a run is whole, and whether it was begun with the same data and the same config."""

from __future__ import annotations

import json
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wamkit.config import encode
from wamkit.data.mixture import Recordings, marks
from wamkit.design import Design
from wamkit.design.checkpoint import (
    FILES,
    MODEL,
    RUN,
    TRAINING,
    checkpoint_digest,
    find_checkpoint,
    read_tensors,
    settle,
    verify,
)
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, DataError, reason
from wamkit.storage import read_json, require_same, write_atomically
from wamkit.storage.documents import write_document
from wamkit.storage.fingerprint import ALGORITHM
from wamkit.storage.provenance import versions
from wamkit.training.config import SourceConfig, TrainConfig

log = logging.getLogger(__name__)

CONFIG, DATA, LOG, CHECKPOINTS, MODEL_FOLDER = "config.json", "data.json", "log.jsonl", "checkpoints", "model"
BEST_FOLDER, ABOUT = "best", "about.json"
ABOUT_FORMAT = "wamkit-run-1"

# Options that say where something is, how it is held in memory or who is told: what a run computes does not depend on
# them.
PLACES = ("dataset", "out", "pretrained", "image_memory_gb", "frame_cache_gb", "writers")
STATE = ("step", "optimizer", "average", "generator", "cuda")
ANOTHER = "Choose another `out`"
BEGIN_ANEW = f"{ANOTHER}, or remove the folder to train from the beginning."
FOREIGN = {
    "meta/info.json": "a dataset",
    MODEL: "a checkpoint",
    "report.json": "an evaluation",
    "journal.jsonl": "an evaluation",
    "sweep.json": "a sweep",
    "prediction.json": "a prediction",
}


@dataclass(frozen=True)
class Saved:
    """A whole checkpoint of a run.

    Attributes:
        folder: its folder.
        training: what a resumed run needs besides the weights.
    """

    folder: Path
    training: Mapping[str, Any]


def check_out(out: Path) -> None:
    """Raise :class:`ConfigError` when ``out`` is no folder of a training but something else."""
    if out.exists() and not out.is_dir():
        raise ConfigError(f"out: {out} is a file. {ANOTHER}.")
    if any((out / name).exists() for name in (CHECKPOINTS, MODEL_FOLDER, LOG)):
        return
    for name, what in FOREIGN.items():
        if (out / name).exists():
            raise ConfigError(f"out: {out} holds {what} ({name}). {ANOTHER}, such as {out / 'train'}.")


def clear_leftovers(out: Path) -> None:
    """Clear what a killed run left half-written."""
    for folder in (out, out / CHECKPOINTS):
        for path in [*folder.glob(".*.partial"), *folder.glob(".*.old")]:
            settle(path.with_name(path.name.removeprefix(".").rpartition(".")[0]))
        for path in folder.glob(".*.part"):
            path.unlink()


def placeless(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A config as plain values, without the places of what it reads: that is known by its content."""
    kept = {key: value for key, value in plain.items() if key not in PLACES}
    if kept.get("imagined"):
        kept["imagined"] = {**kept["imagined"], "world": None}
    return kept


def identity(config: TrainConfig, dataset: Recordings) -> dict[str, Any]:
    """What a run is begun with, as plain values: its config, and fingerprints of everything that it reads."""
    plain = placeless(encode(config))
    made: dict[str, Any] = {"config": plain, "data": marks(dataset), "pretrained": None}
    if config.imagined is not None and config.imagined.world is not None:
        # It is read again at every start, so it has to be there.
        made["world"] = {"files": ALGORITHM + checkpoint_digest(find_checkpoint(config.imagined.world))}
    if config.pretrained is not None:
        made["pretrained"] = {"files": None}
        # A resumed run has the weights already, so it may have lost the place they came from.
        if config.distill is not None or Path(config.pretrained).exists():
            folder = find_checkpoint(config.pretrained)
            made["pretrained"] = {"files": ALGORITHM + checkpoint_digest(folder)}
    return dict(json.loads(json.dumps(made, default=str)))


def require_same_run(folder: Path | None, out: Path, now: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` unless the run in ``out`` was begun with the same config and the same data.

    Args:
        folder: checkpoint to go on from; None when only the final model is left.
        out: folder of the run.
        now: :func:`identity` of the run that is to go on.
    """
    if folder is not None and (folder / RUN).is_file():
        stored = read_json(folder / RUN, BEGIN_ANEW)
    else:
        stored = {"config": read_json(out / CONFIG, BEGIN_ANEW)}
        stored["config"] = placeless(stored["config"])
        if (out / DATA).is_file():
            stored.update(read_json(out / DATA, BEGIN_ANEW))
        else:
            log.warning(
                "%s: written by an earlier version, which did not store what data it was trained on", out
            )
            stored.update({key: now[key] for key in ("data", "pretrained")})
    # Options that have come since count as their defaults, with which a run is what it was before.
    stored["config"] = {**_defaults(), **stored["config"]}
    if isinstance(stored["config"].get("mixture"), dict):
        plain, sources = encode(SourceConfig()), stored["config"]["mixture"]
        stored["config"]["mixture"] = {name: {**plain, **source} for name, source in sources.items()}
    if isinstance(stored["config"].get("design"), dict):
        plain, design = encode(DesignConfig()), stored["config"]["design"]
        seen = design.get("view") if isinstance(design.get("view"), dict) else {}
        stored["config"]["design"] = {**plain, **design, "view": {**plain["view"], **seen}}
    here = dict(now)
    if stored.get("pretrained") and here["pretrained"] and here["pretrained"]["files"] is None:
        here["pretrained"] = stored["pretrained"]
    for part, what in (
        ("config", "config"),
        ("data", "dataset"),
        ("pretrained", "`pretrained` checkpoint"),
        ("world", "world model"),
    ):
        whole = part in ("pretrained", "world")
        require_same(
            {part: stored.get(part)} if whole else stored.get(part) or {},
            {part: here.get(part)} if whole else here[part],
            f"{out} holds a run with another {what} ({out / CONFIG if part == 'config' else out / DATA})",
            f"{ANOTHER}, or remove the folder. To train on from its weights, name them in `pretrained`.",
        )


def _defaults() -> dict[str, Any]:
    """Options outside the design, with their defaults."""
    plain = {key: value for key, value in encode(TrainConfig()).items() if key not in (*PLACES, "design")}
    return dict(json.loads(json.dumps(plain, default=str)))


def write_about(out: Path, design: Design, held_out: Sequence[int]) -> None:
    """Write what a run trains, and with which versions, for pages and people."""
    facts = {
        key: value
        for key, value in design.describe().items()
        if key in ("name", "tuple", "formula", "is_wam")
    }
    about = {**facts, "versions": versions(), "held_out": list(held_out)}
    write_document(out / ABOUT, {"format": ABOUT_FORMAT, **about})


def write_identity(out: Path, now: Mapping[str, Any], config: TrainConfig) -> None:
    """Write the config of a run and the fingerprints of what it reads."""
    write_atomically(out / CONFIG, json.dumps(encode(config), indent=2, default=str).encode())
    made = {key: value for key, value in now.items() if key != "config"}
    write_atomically(out / DATA, json.dumps(made, indent=2).encode())


def checkpoints(out: Path) -> list[Path]:
    """Checkpoint folders of a run, newest first."""
    found = {
        int(path.name.removeprefix("step-")): path
        for path in (out / CHECKPOINTS).glob("step-*")
        if re.fullmatch(r"step-[0-9]+", path.name) and path.is_dir()
    }
    return [found[step] for step in sorted(found, reverse=True)]


def latest_checkpoint(out: Path) -> Path | None:
    """Newest checkpoint of a run, or None."""
    return next(iter(checkpoints(out)), None)


def newest_whole(out: Path) -> Saved | None:
    """Newest checkpoint that can be read as it was written; None when there is none at all.

    Raises:
        DataError: there are checkpoints, and all of them are broken.
    """
    problems: list[str] = []
    for folder in checkpoints(out):
        try:
            saved = Saved(folder, read_training(folder))
        except DataError as error:
            problems.append(str(error))
            log.warning("%s is broken and is passed over for the one before it: %s", folder, error)
        else:
            return saved
    if problems:
        raise DataError(
            f"{out / CHECKPOINTS}: no checkpoint is whole. The newest: {problems[0]} Remove {out / CHECKPOINTS} to "
            f"train from the beginning, or choose another `out`."
        )
    return None


def read_training(folder: Path) -> dict[str, Any]:
    """Check a checkpoint of a run as a whole, and read its training state.

    Raises:
        DataError: a file is missing or broken, was changed, or belongs to another step.
    """
    for name in (*FILES, TRAINING):
        if not (folder / name).is_file():
            raise DataError(f"{folder / name}: no such file. Remove {folder}.")
    verify(folder)
    read_tensors(folder / MODEL)
    path = folder / TRAINING
    try:
        training = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({reason(error)}). Remove {folder}.") from error
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not a training state ({reason(error)}). Remove {folder}.") from error
    missing = [key for key in STATE if not isinstance(training, dict) or key not in training]
    if missing:
        raise DataError(f"{path}: {missing[0]!r} is missing. Remove {folder}.")
    if training["step"] != int(folder.name.removeprefix("step-")):
        raise DataError(f"{path}: it is of step {training['step']}, not of {folder.name}. Remove {folder}.")
    for name, value in named_tensors({key: training[key] for key in ("average", "optimizer")}):
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise DataError(f"{path}: {name} holds numbers that are not finite. Remove {folder}.")
    return dict(training)


def named_tensors(values: Any, place: str = "") -> list[tuple[str, Tensor]]:
    """Tensors inside nested mappings, with dotted names."""
    if isinstance(values, Tensor):
        return [(place, values)]
    if isinstance(values, Mapping):
        found = (named_tensors(v, f"{place}.{k}".lstrip(".")) for k, v in values.items())
        return [entry for entries in found for entry in entries]
    return []


def model_is_whole(out: Path) -> bool:
    """Whether the final model is there and as it was written; a broken one is said."""
    folder = out / MODEL_FOLDER
    if not folder.exists():
        return False
    try:
        verify(find_checkpoint(folder))
        read_tensors(folder / MODEL)
    except (ConfigError, DataError) as error:
        log.warning("the finished model is broken: %s", error)
        return False
    return True


def read_log(path: Path, step: int) -> list[str]:
    """Log lines up to ``step``; those that cannot be read are dropped, and their number is said.

    A killed run may have written lines after its last checkpoint: those steps are run again.
    """
    lines = path.read_bytes().decode("utf-8", "replace").splitlines() if path.exists() else []
    steps = [_step_of(line) for line in lines]
    lost = sum(found is None for found in steps[:-1])  # a killed run may leave a torn last line
    if lost:
        log.warning("%s: %d lines cannot be read and are dropped", path, lost)
    return [line for line, found in zip(lines, steps, strict=True) if found is not None and found <= step]


def _step_of(line: str) -> int | None:
    """Step of a log line, or None for a line that is none."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    step = values.get("step") if isinstance(values, dict) else None
    return step if isinstance(step, int) else None
