"""The training loop: one screen, resumable bit for bit."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wamkit.config import encode
from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import CLOCK
from wamkit.contract.types import Batch, Losses, to_device
from wamkit.data import Batches, Dataset
from wamkit.data.layout import EXTRA_PREFIX
from wamkit.design import Design
from wamkit.design.checkpoint import MODEL, TRAINING, resize_buffers, save_pretrained
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError
from wamkit.training.balance import Ramp, check_ramps, gradient_norms, weights_at
from wamkit.training.distill import Distillation, DistillConfig
from wamkit.training.optim import OptimConfig
from wamkit.training.selection import Selection, select
from wamkit.training.start import inherit, initialise

Hook = Callable[[int, Design, Losses], None]


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        dataset: folder of a LeRobotDataset v3.0.
        out: folder of the run: ``model/`` (final weights), ``checkpoints/``, ``log.jsonl``, ``config.json``.
        design: what to train.
        optim: optimiser and schedule.
        pretrained: checkpoint folder or hub id to start from, instead of random weights. Its statistics come along.
        fresh: names, or beginnings of names up to a dot (``encoders.teacher``), of all that ``design`` has and
            ``pretrained`` lacks.
        distill: compress ``pretrained`` into few steps, instead of training on the demonstrations.
        steps: optimiser steps.
        batch_size: windows per step.
        seed: of the weights, the batches and the noise.
        checkpoint_every: steps between checkpoints, besides the one at the end; 0 writes only that.
        log_every: steps between log lines.
        ramps: stream -> factor on the weight of its loss, over the steps.
        gradient_norms: log how hard each loss pulls on the trunks (``grad.<stream>``), at the price of one more
            backward pass per loss in every logged step.
        device: torch device.
        threads: torch threads; 1 is fastest where processes share the cores.
    """

    dataset: Path = Path("runs/demo/data")
    out: Path = Path("runs/train")
    design: DesignConfig = field(default_factory=DesignConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    pretrained: str | None = None
    fresh: tuple[str, ...] = ()
    distill: DistillConfig | None = None
    steps: int = 2000
    batch_size: int = 32
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 20
    ramps: dict[str, Ramp] = field(default_factory=dict)
    gradient_norms: bool = False
    device: str = "cpu"
    threads: int = 1


@dataclass
class Run:
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


def data_spec(dataset: Dataset) -> DataSpec:
    """What a design needs to know of a dataset."""
    stats = {name: dataclasses.asdict(values) for name, values in dataset.stats.items()}
    extras = {
        key.removeprefix(EXTRA_PREFIX): tuple(feature["shape"])
        for key, feature in dataset.info["features"].items()
        if key.startswith(EXTRA_PREFIX)
    }
    return DataSpec(dataset.observation_spec, dataset.action_spec, stats, {**extras, CLOCK: (3,)})


def latest_checkpoint(out: Path) -> Path | None:
    """The newest whole checkpoint of a run, or None."""
    found = [p for p in (out / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d+", p.name)]
    return max(found, default=None)


def start(config: TrainConfig) -> Run:
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
        prepare(design, config, dataset)
    design.to(config.device)
    distillation = None
    if config.distill is not None:
        distillation = start_distillation(config.distill, config.pretrained, design)
    selection = Selection(design, config.optim.only)
    average = AveragedModel(design, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema))
    run = Run(design, dataset, selection, average, config.optim.build(design), distillation=distillation)
    if folder is not None:
        run.restore(folder)
    return run


def prepare(design: Design, config: TrainConfig, dataset: Dataset) -> None:
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


def trim_log(path: Path, step: int) -> None:
    """Drop what a killed run logged after its last checkpoint: those steps are run again."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))


def train(config: TrainConfig, hook: Hook | None = None, progress: bool = True) -> Path:
    """Train a design, resuming where a killed run stopped; returns the folder of the final checkpoint."""
    torch.set_num_threads(config.threads)
    run = start(config)
    check_ramps(config.ramps, run.design.streams)
    trim_log(config.out / "log.jsonl", run.step)
    batches = Batches(run.dataset, run.design.training_window, config.batch_size, config.seed, run.step)
    bar = Progress(
        TextColumn("train {task.fields[name]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"), disable=not progress,
    )  # fmt: skip
    with batches, bar, (config.out / "log.jsonl").open("a", buffering=1) as log:
        task = bar.add_task("", name=config.design.name, loss="", total=config.steps, completed=run.step)
        while run.step < config.steps:
            for group in run.optimizer.param_groups:
                group["lr"] = config.optim.rate(run.step, config.steps)
            run.design.weights.update(weights_at(run.step, config.ramps, config.design.loss_weights))
            losses = run.loss(to_device(next(batches), config.device))
            logged = (run.step + 1) % config.log_every == 0
            pulls = (
                gradient_norms(losses, run.design.trunks.parameters())
                if logged and config.gradient_norms
                else {}
            )
            run.optimizer.zero_grad()
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(run.design.parameters(), config.optim.clip)
            run.optimizer.step()
            run.after_step()
            run.average.update_parameters(run.design)
            run.step += 1
            if hook is not None:
                hook(run.step, run.design, losses)
            if logged:
                terms = {name: round(term.item(), 5) for name, term in losses.terms.items()}
                grads = {f"grad.{name}": round(norm, 5) for name, norm in pulls.items()}
                log.write(json.dumps({"step": run.step, **terms, **grads}) + "\n")
                bar.update(task, loss=" ".join(f"{k} {v:.3f}" for k, v in terms.items()))
            due = config.checkpoint_every and run.step % config.checkpoint_every == 0
            if due or run.step == config.steps:
                save_pretrained(run.design, config.out / "checkpoints" / f"step-{run.step:08d}", run.state())
            bar.advance(task)
    final = run.average.module if config.optim.ema else run.design
    assert isinstance(final, Design)
    save_pretrained(final, config.out / "model")
    return config.out / "model"
