"""Where a training starts: fresh weights, a checkpoint's, or its own newest checkpoint."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wamkit.config import encode
from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import require_same
from wamkit.contract.types import Batch, Losses
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.design.checkpoint import (
    MODEL,
    TRAINING,
    find_checkpoint,
    from_pretrained,
    read_data,
    read_facts,
    resize_buffers,
)
from wamkit.errors import ConfigError
from wamkit.training.config import TrainConfig
from wamkit.training.distill import Distillation, DistillConfig
from wamkit.training.selection import Selection, select


def inherit(data: DataSpec, name: str) -> DataSpec:
    """A dataset as a design sees it that starts from the checkpoint ``name``: with that checkpoint's statistics.

    Its weights know values as they were normalised for them, whatever the new dataset's statistics are.

    Raises:
        SpecError: the conventions of the two differ.
    """
    theirs = read_data(read_facts(find_checkpoint(name)), f"checkpoint {name}")
    require_same(theirs.observation, data.observation, f"checkpoint {name}", "the dataset")
    require_same(theirs.action, data.action, f"checkpoint {name}", "the dataset")
    return dataclasses.replace(data, stats={**data.stats, **theirs.stats})


def initialise(design: Design, name: str, fresh: Sequence[str] = ()) -> None:
    """Take over the weights (codecs included) of a checkpoint.

    Args:
        design: built for :func:`inherit`'s data.
        name: checkpoint folder or hub id.
        fresh: patterns of :func:`wamkit.training.selection.select`: exactly the tensors that the checkpoint lacks.
            They stay as they were built.

    Raises:
        ConfigError: the checkpoint lacks something else, has something more, or a shape differs.
    """
    source, ours = from_pretrained(name).state_dict(), design.state_dict()
    declared = select(ours, fresh, "fresh")
    for wrong, problem in (
        (source.keys() - ours.keys(), "is in the checkpoint and not in `design`"),
        (declared & source.keys(), "is in the checkpoint, so it cannot be `fresh`"),
        (ours.keys() - source.keys() - declared, "is in `design` and not in the checkpoint"),
    ):
        if wrong:
            raise ConfigError(
                f"pretrained {name}: its parts differ from `design`: {min(wrong)!r} {problem} ({len(wrong)} tensors "
                f"in all). Name in `fresh` what the checkpoint lacks and nothing else, or start without `pretrained`."
            )
    parameters = dict(design.named_parameters(remove_duplicate=False))
    for key, value in source.items():
        if key in parameters and value.shape != ours[key].shape:
            raise ConfigError(
                f"pretrained {name}: {key!r} has the shape {tuple(value.shape)} there and {tuple(ours[key].shape)} in "
                f"`design`. Give the part the sizes that it was trained with."
            )
    resize_buffers(design, source)
    design.load_state_dict(source, strict=False)


@dataclass
class TrainingRun:
    """A training under way: its data, weights, average, optimiser and step; and the teacher, if any."""

    design: Design
    dataset: Dataset
    selection: Selection
    average: AveragedModel
    optimizer: torch.optim.AdamW
    step: int = 0
    distillation: Distillation | None = None

    def loss(self, batch: Batch) -> Losses:
        """What is minimised; raises :class:`ConfigError` when nothing that may learn has a part in it."""
        self.selection.train_mode(self.design)
        losses = (
            self.design.loss(batch)
            if self.distillation is None
            else self.distillation.loss(self.design, batch)
        )
        if not losses.total.requires_grad:
            raise ConfigError(
                "optim.only: no loss depends on what it names. Name a part that a loss reaches."
            )
        return losses

    def after_step(self) -> None:
        """Moving averages follow their encoders; a student keeps its teacher's."""
        if self.distillation is None:
            self.selection.after_step(self.design)

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint as if the run had never stopped."""
        training = torch.load(folder / TRAINING, map_location="cpu", weights_only=True)
        weights = load_file(folder / MODEL)
        for design in (self.design, self.average.module):
            assert isinstance(design, Design)
            resize_buffers(design, weights)
        self.design.load_state_dict(weights)
        self.average.load_state_dict(training["average"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.step = training["step"]
        torch.set_rng_state(training["generator"])
        if training["cuda"]:
            torch.cuda.set_rng_state_all(training["cuda"])


def latest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = [p for p in (out / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", p.name)]
    return max(found, default=None)


def start(config: TrainConfig) -> TrainingRun:
    """A fresh run, or the newest checkpoint of ``config.out`` when there is one for the same config."""
    dataset = Dataset(config.dataset)
    torch.manual_seed(config.seed)
    written = json.dumps(encode(config), indent=2, default=str)
    path = config.out / "config.json"
    folder = latest_checkpoint(config.out)
    if folder is not None and path.read_text() != written:
        raise ConfigError(
            f"{config.out} holds a run with another config ({path}). Choose another `out`, or remove the folder."
        )
    config.out.mkdir(parents=True, exist_ok=True)
    path.write_text(written)
    data = data_spec(dataset)
    if config.pretrained is not None:
        data = inherit(data, config.pretrained if folder is None else str(folder))
    design = Design(config.design, data)
    dataset = dataset.with_extras(design.extras)
    if folder is None or config.distill is not None:
        prepare_weights(design, config, dataset)
    design.to(config.device)
    distillation = None
    if config.distill is not None:
        distillation = start_distillation(config.distill, config.pretrained, design)
    selection = Selection(design, config.optim.only)
    average = AveragedModel(design, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema))
    run = TrainingRun(
        design, dataset, selection, average, config.optim.build(design), distillation=distillation
    )
    if folder is not None:
        run.restore(folder)
    return run


def prepare_weights(design: Design, config: TrainConfig, dataset: Dataset) -> None:
    """Weights and codecs of a design that has not been trained yet: fitted, those of ``pretrained``, or both."""
    if config.fresh and config.pretrained is None:
        raise ConfigError(
            f"fresh: {list(config.fresh)}, but nothing comes from a checkpoint; name one in `pretrained`"
        )
    if config.pretrained is None:
        design.fit(dataset, config.seed)
        return
    initialise(design, config.pretrained, config.fresh)
    if config.fresh:
        names = select(design.state_dict(), config.fresh, "fresh")
        parts = {"action" if name.startswith("action.") else ".".join(name.split(".")[:2]) for name in names}
        design.fit(dataset, config.seed, parts)
        initialise(design, config.pretrained, config.fresh)  # a part that is fresh in part was fitted whole


def start_distillation(config: DistillConfig, pretrained: str | None, design: Design) -> Distillation:
    """The objective of a run whose design holds the teacher's weights already."""
    if pretrained is None:
        raise ConfigError("distill: there is no teacher; name its checkpoint in `pretrained`")
    return Distillation(config, design)
