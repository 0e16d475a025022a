"""Start of a training: fresh weights, a checkpoint's weights, or the run's own newest checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.types import Batch, Losses
from wamkit.data import Dataset
from wamkit.data.frame_cache import cache_limit
from wamkit.data.mixture import Mixture, Recordings
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.design.checkpoint import (
    from_pretrained,
    read_weights,
    resize_buffers,
)
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, DataError, reason
from wamkit.nn.devices import find_device
from wamkit.progress import say, stage
from wamkit.training.augmenting import check_augment
from wamkit.training.config import TrainConfig
from wamkit.training.distill import Distillation
from wamkit.training.held_out import Subset, complement, held_out_episodes, with_stats_of, write_held_out
from wamkit.training.imagined import Imagined
from wamkit.training.inheriting import Origin, sources_of
from wamkit.training.objective import Demonstrations, Objective
from wamkit.training.preview import check_learnable
from wamkit.training.resume import (
    MODEL_FOLDER,
    Saved,
    check_out,
    clear_leftovers,
    identity,
    model_is_whole,
    newest_whole,
    require_same_run,
    write_identity,
)
from wamkit.training.selection import Selection, parts_of, select
from wamkit.training.watch import require_finite
from wamkit.views import ViewConfig, describe_view


def initialise(design: Design, name: str, fresh: Sequence[str] = ()) -> None:
    """Load the weights (codecs included) of a checkpoint into a design.

    Args:
        design: design built for the data that :meth:`wamkit.training.inheriting.Origin.inherited` returned.
        name: checkpoint folder or hub id.
        fresh: patterns of :func:`wamkit.training.selection.select` that match exactly the tensors missing from the
            checkpoint. These keep their initial values.

    Raises:
        ConfigError: the checkpoint lacks another tensor, has an additional one, or a shape differs.
    """
    source, target = from_pretrained(name).state_dict(), design.state_dict()
    declared = select(target, fresh, "fresh")
    for wrong, problem in (
        (source.keys() - target.keys(), "is in the checkpoint and not in `design`"),
        (declared & source.keys(), "is in the checkpoint, so it cannot be `fresh`"),
        (target.keys() - source.keys() - declared, "is in `design` and not in the checkpoint"),
    ):
        if wrong:
            raise ConfigError(
                f"pretrained {name}: its parts differ from `design`: {min(wrong)!r} {problem} ({len(wrong)} tensors "
                f"in all). Name in `fresh` what the checkpoint lacks and nothing else, or start without `pretrained`."
            )
    parameters = dict(design.named_parameters(remove_duplicate=False))
    for key, value in source.items():
        if key in parameters and value.shape != target[key].shape:
            raise ConfigError(
                f"pretrained {name}: {key!r} has the shape {tuple(value.shape)} there and {tuple(target[key].shape)} "
                f"in `design`. Give the part the sizes that it was trained with."
            )
    resize_buffers(design, source)
    design.load_state_dict(source, strict=False)


@dataclass
class TrainingRun:
    """State of a training run.

    Attributes:
        design: design in training.
        dataset: demonstrations, held-out ones included.
        selection: parts that learn.
        objective: loss that is minimised.
        average: design plus the moving average of its weights.
        optimizer: optimiser of the selected parameters.
        identity: what the run was begun with (:func:`wamkit.training.resume.identity`).
        held_out: numbers of the episodes that are never learned from.
        best: ``step`` and ``loss`` of the lowest held-out loss so far; None before the first.
        step: number of steps taken.
        finished: true when the final model is there and nothing is left to do.
    """

    design: Design
    dataset: Recordings
    selection: Selection
    objective: Objective
    average: AveragedModel
    optimizer: torch.optim.AdamW
    identity: Mapping[str, Any]
    held_out: tuple[int, ...] = ()
    best: dict[str, Any] | None = None
    step: int = 0
    finished: bool = False

    @property
    def learned(self) -> Recordings | Subset:
        """Demonstrations that are learned from."""
        return complement(self.dataset, self.held_out)

    @property
    def averaged(self) -> Design:
        """Design with the averaged weights."""
        return cast(Design, self.average.module)

    def loss(self, batch: Batch, weights: Mapping[str, float]) -> Losses:
        """Losses on one batch; raises :class:`ConfigError` when they depend on nothing that learns."""
        self.selection.train_mode(self.design)
        losses = self.objective.loss(self.design, batch, weights)
        if not losses.total.requires_grad:
            raise ConfigError(
                "optim.only: no loss depends on what it names. Name a part that a loss reaches."
            )
        return losses

    def state(self) -> dict[str, Any]:
        """Values that a resumed run needs besides the weights."""
        return {
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            **({} if self.best is None else {"best": self.best}),
        }

    def restore(self, saved: Saved) -> None:
        """Continue from a checkpoint as if the run had never stopped.

        Raises:
            DataError: it is a checkpoint of another design or of another optimiser.
        """
        weights, training = read_weights(self.design, saved.folder), saved.training
        for design in (self.design, self.averaged):
            resize_buffers(design, weights)
        self.design.load_state_dict(weights)
        try:
            self.average.load_state_dict(training["average"])
            self.optimizer.load_state_dict(training["optimizer"])
            torch.set_rng_state(training["generator"])
            if training["cuda"]:
                torch.cuda.set_rng_state_all(training["cuda"])
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{saved.folder}: its training state does not fit this run ({reason(error)}). Remove the folder."
            ) from error
        self.step, self.best = training["step"], training.get("best")


def start(config: TrainConfig) -> TrainingRun:
    """Start a run, or resume it from the newest whole checkpoint of ``config.out``.

    Raises:
        ConfigError: ``config.out`` holds something else, or a run that was begun with another config or other data.
    """
    check_out(config.out)
    clear_leftovers(config.out)
    with stage("look for checkpoints"):
        saved = newest_whole(config.out)
    folder = None if saved is None else saved.folder
    origin = None if config.pretrained is None else Origin.read(str(folder or config.pretrained))
    with stage("open dataset"):
        dataset, configured = open_data(config, origin)
    held_out = held_out_episodes(dataset, config.held_out, config.seed)
    torch.manual_seed(config.seed)
    with stage("fingerprint of the data"):
        now, done = identity(config, dataset), (config.out / MODEL_FOLDER).exists()
    if saved is not None or done:
        require_same_run(folder, config.out, now)
    config.out.mkdir(parents=True, exist_ok=True)
    write_identity(config.out, now, config)
    write_held_out(config.out, held_out, dataset)
    data, learned = spec_of(dataset, config.design.horizon), complement(dataset, held_out)
    if isinstance(learned, Subset) and isinstance(dataset, Dataset):
        data = with_stats_of(data, dataset, learned.frames, config.design.horizon)
    if origin is not None:
        data = origin.inherited(data, isinstance(dataset, Mixture))
    with stage("build design"):
        design = Design(configured, data)
    if origin is not None:
        origin.check_limits(design)
    check_augment(config.operations, design)
    with stage("open dataset"):
        dataset = dataset.with_extras(design.extras)
    say_what_is_read(design, dataset)
    check_learnable(design, dataset, config)
    # A distillation needs the teacher's weights again when it resumes, not only at its start.
    if saved is None or config.distill is not None:
        with stage("prepare weights"):
            prepare_weights(design, config, complement(dataset, held_out))
        way_out = "Look at the data that it is fitted to, or choose another part."
        require_finite(design.state_dict(), "weights before the first step", way_out)
    design.to(find_device(config.device))
    distillation = start_distillation(config, design)
    selection = Selection(design, config.optim.only)
    average = AveragedModel(design, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema))
    imagined = start_imagined(config, design, dataset, selection, cast(Design, average.module))
    objective = distillation or imagined or Demonstrations(selection)
    optimizer = config.optim.build(design)
    run = TrainingRun(design, dataset, selection, objective, average, optimizer, now, held_out)
    if saved is not None:
        with stage("read checkpoint"):
            run.restore(saved)
    run.finished = (saved is None or run.step >= config.steps) and model_is_whole(config.out)
    return run


def say_what_is_read(design: Design, recordings: Recordings) -> None:
    """Show what the design reads of the recordings, and what the decoded frames of them take."""
    horizon = design.config.horizon
    own = recordings.datasets if isinstance(recordings, Mixture) else {"": recordings}
    for name, dataset in own.items():
        of, rate = f" of {name}" if name else "", dataset.action_spec.rate_hz
        for what, texts in describe_view(dataset.view).items():
            say(*(f"reads {what}{of}: {text}" for text in texts))
        say(f"predicts {horizon} actions{of}, {horizon / rate:.3g} s")
        say(f"decoded frames{of}: {dataset.frames.describe()}")


def open_data(config: TrainConfig, origin: Origin | None = None) -> tuple[Recordings, DesignConfig]:
    """Open the dataset of a training, or those of its robots, through the views of its design.

    Returns:
        The data, and the design's config with the view of every robot.
    """

    def opened(path: Path, view: ViewConfig) -> Dataset:
        memory, cache = config.image_memory_gb, cache_limit(config.frame_cache_gb)
        return Dataset(path, image_memory_gb=memory, view=view, cache=cache)

    design, sources = config.design, sources_of(config, origin)
    if not sources:
        return opened(config.dataset, design.view), design
    if origin is not None:
        design = replace(design, views={**design.views, **{n: origin.view_for(design, n) for n in sources}})
    datasets = {name: opened(source.dataset, design.view_of(name)) for name, source in sources.items()}
    kept = {} if origin is None else {n: origin.scaling_for(n, dataset) for n, dataset in datasets.items()}
    known = {name: scaling for name, scaling in kept.items() if scaling is not None}
    return Mixture(datasets, design.horizon, known), design


def spec_of(dataset: Recordings, horizon: int) -> DataSpec:
    """Spec of what a design is trained on."""
    return dataset.spec() if isinstance(dataset, Mixture) else data_spec(dataset, horizon)


def prepare_weights(design: Design, config: TrainConfig, dataset: Windows) -> None:
    """Give an untrained design its weights and codecs: fitted, loaded from ``pretrained``, or both."""
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
        design.fit(dataset, config.seed, parts_of(design, names))
        # Fitting covers whole parts, so tensors of the checkpoint in a partly fresh part are loaded again.
        initialise(design, config.pretrained, config.fresh)


def start_distillation(config: TrainConfig, design: Design) -> Distillation | None:
    """Distillation of a design that holds the teacher's weights; None when ``config`` does not ask for one."""
    if config.distill is None:
        return None
    if config.pretrained is None:
        raise ConfigError("distill: there is no teacher; name its checkpoint in `pretrained`")
    return Distillation(config.distill, design)


def start_imagined(
    config: TrainConfig, design: Design, dataset: Recordings, selection: Selection, average: Design
) -> Imagined | None:
    """Training in imagination, with its world model loaded; None when ``config`` does not ask for one."""
    if config.imagined is None:
        return None
    assert isinstance(dataset, Dataset), "a mixture is refused by the config"
    name, device = config.imagined.world, find_device(config.device)
    world = None if name is None else from_pretrained(name, device)
    return Imagined(config.imagined, design, world, dataset, selection, average)
