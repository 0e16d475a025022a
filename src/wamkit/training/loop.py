"""The training loop: one screen, resumable bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from wamkit.config import encode
from wamkit.contract.types import Losses, to_device
from wamkit.data import Batches
from wamkit.data.mixture import Mixture
from wamkit.design import Design
from wamkit.design.checkpoint import save_pretrained
from wamkit.progress import shown, stage
from wamkit.storage import claim
from wamkit.training.augmenting import augmenting
from wamkit.training.balance import check_ramps, gradient_norms, weights_at
from wamkit.training.config import TrainConfig
from wamkit.training.held_out import complement_frames
from wamkit.training.preview import preview
from wamkit.training.resume import CHECKPOINTS, MODEL_FOLDER, write_about
from wamkit.training.start import TrainingRun, start
from wamkit.training.validation import Validation
from wamkit.training.watch import Watch
from wamkit.training.writers import opened, require_writers

LOGGER = logging.getLogger(__name__)

Hook = Callable[[int, Design, Losses], None]


def train(config: TrainConfig, hook: Hook | None = None, progress: bool = True) -> Path:
    """Train a design, resuming where a killed run stopped; returns the folder of the final checkpoint.

    Raises:
        BusyError: another process is training into ``config.out``.
        ConfigError: ``config.out`` holds another run or something else, or nothing can be learned with these settings.
        MissingExtraError: the package of one of ``config.writers`` is not installed.
        OSError: the disk is full, or something else keeps a file from being written. The error names the file and, on a
            full disk, the bytes that it needs. The same call goes on from the last checkpoint once there is space.
        TrainingError: a loss, a gradient or a weight is not finite, or nothing learns. Checkpoints stay as they are.
    """
    require_writers(config.writers)
    torch.set_num_threads(config.threads)
    model = config.out / MODEL_FOLDER
    with shown(f"train {config.design.name}", progress), claim(config.out):
        run = start(config)
        if run.finished:
            LOGGER.warning("%s is finished: %s stays as it is", config.out, model)
            return model
        check_ramps(config.ramps, run.design.graph.learned())
        with stage("look at the data"):
            preview(run.design, run.dataset, config)
        write_about(config.out, run.design, run.held_out)
        run_steps(run, config, hook)
        final = run.averaged if config.optim.ema else run.design
        with stage("save model"):
            save_pretrained(final, model)
    return model


def run_steps(run: TrainingRun, config: TrainConfig, hook: Hook | None) -> None:
    """Take the steps of a run that are left."""
    # Batches are a function of seed and step, so a resumed run sees those that it would have seen.
    watch = Watch(run.design, run.average, run.optimizer, run.dataset, config, run.step)
    with (
        batches_of(run, config) as batches,
        opened(config.writers, config.out, run.step, encode(config)) as log,
        stage("steps", config.steps, run.step) as here,
    ):
        validation = Validation(run, config, watch, log)
        while run.step < config.steps:
            # Schedules depend on the step alone: nothing about them has to be stored for resuming.
            for group in run.optimizer.param_groups:
                group["lr"] = config.optim.rate(run.step, config.steps)
            weights = weights_at(run.step, config.ramps, config.design.loss_weights)
            batch = next(batches)
            losses = run.loss(to_device(batch, config.device), weights)
            logged = (run.step + 1) % config.log_every == 0
            # Norms cost a backward pass per loss, and need the graph that the main backward pass frees.
            measured = logged and config.gradient_norms
            norms = gradient_norms(losses, run.design.trunks.parameters()) if measured else {}
            # Clipping keeps one odd batch from undoing many steps.
            run.optimizer.zero_grad()
            losses.total.backward()
            norm = get_total_norm(p.grad for p in run.design.parameters() if p.grad is not None)
            watch.look(losses, norm, batch)
            clip_grads_with_norm_(run.design.parameters(), config.optim.clip, norm)
            run.optimizer.step()
            # Moving averages follow the new weights; the averaged design is what is evaluated later.
            run.objective.after_step(run.design)
            run.average.update_parameters(run.design)
            run.step += 1
            if hook is not None:
                hook(run.step, run.design, losses)
            # Reading losses waits for the device, so they are read in logged steps only.
            if logged:
                terms = {name: round(value, 5) for name, value in watch.read(losses).items()}
                log.write(run.step, {**terms, **further(losses, norms)})
                here.note = " ".join(f"{k} {v:.3f}" for k, v in terms.items())
            validation.after_step()
            # The last step is stored too: a finished run that is started again has nothing left to do.
            due = config.checkpoint_every and run.step % config.checkpoint_every == 0
            if due or run.step == config.steps:
                watch.before_saving()
                folder = config.out / CHECKPOINTS / f"step-{run.step:08d}"
                with stage("save checkpoint"):
                    save_pretrained(run.design, folder, run.state(), run.identity)
            here.advance()


def batches_of(run: TrainingRun, config: TrainConfig) -> Batches:
    """Batches from the next step of a run on, changed by its augmentations."""
    change = augmenting(config, run.design.data)
    window, size, draw = run.design.training_window, config.batch_size, None
    if isinstance(run.dataset, Mixture):
        frames = complement_frames(run.dataset, run.held_out)
        draw = run.dataset.draw(frames, config.source_weights)
    return Batches(run.learned, window, size, config.seed, run.step, change=change, draw=draw)


def further(losses: Losses, norms: Mapping[str, float]) -> dict[str, float]:
    """Values that are logged beside the losses: facts about them, and norms of their gradients."""
    facts = {name: round(fact.item(), 5) for name, fact in losses.facts.items()}
    return {**facts, **{f"grad.{name}": round(norm, 5) for name, norm in norms.items()}}
