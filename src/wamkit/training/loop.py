"""The training loop: one screen, resumable bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wamkit.contract.types import Losses, to_device
from wamkit.data import Batches
from wamkit.design import Design
from wamkit.design.checkpoint import save_pretrained
from wamkit.training.balance import check_ramps, gradient_norms, weights_at
from wamkit.training.config import TrainConfig
from wamkit.training.start import start

Hook = Callable[[int, Design, Losses], None]


def trim_log(path: Path, step: int) -> None:
    """Drop the log lines that a killed run wrote after its last checkpoint: those steps are run again."""
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    path.write_text("".join(line + "\n" for line in kept))


def train(config: TrainConfig, hook: Hook | None = None, progress: bool = True) -> Path:
    """Train a design, resuming where a killed run stopped; returns the folder of the final checkpoint."""
    torch.set_num_threads(config.threads)
    run = start(config)
    check_ramps(config.ramps, run.design.streams)
    trim_log(config.out / "log.jsonl", run.step)
    # Batches are a function of seed and step, so a resumed run sees those that it would have seen.
    batches = Batches(run.dataset, run.design.training_window, config.batch_size, config.seed, run.step)
    bar = Progress(
        TextColumn("train {task.fields[name]}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"), disable=not progress,
    )  # fmt: skip
    with batches, bar, (config.out / "log.jsonl").open("a", buffering=1) as log:
        task = bar.add_task("", name=config.design.name, loss="", total=config.steps, completed=run.step)
        while run.step < config.steps:
            # Schedules depend on the step alone: nothing about them has to be stored for resuming.
            for group in run.optimizer.param_groups:
                group["lr"] = config.optim.rate(run.step, config.steps)
            weights = weights_at(run.step, config.ramps, config.design.loss_weights)
            losses = run.loss(to_device(next(batches), config.device), weights)
            logged = (run.step + 1) % config.log_every == 0
            # Norms cost a backward pass per loss, and need the graph that the main backward pass frees.
            measured = logged and config.gradient_norms
            norms = gradient_norms(losses, run.design.trunks.parameters()) if measured else {}
            # Clipping keeps one odd batch from undoing many steps.
            run.optimizer.zero_grad()
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(run.design.parameters(), config.optim.clip)
            run.optimizer.step()
            # Moving averages follow the new weights; the averaged design is what is evaluated later.
            run.objective.after_step(run.design)
            run.average.update_parameters(run.design)
            run.step += 1
            if hook is not None:
                hook(run.step, run.design, losses)
            # Reading losses waits for the device, so they are read in logged steps only.
            if logged:
                terms = {name: round(term.item(), 5) for name, term in losses.terms.items()}
                grads = {f"grad.{name}": round(norm, 5) for name, norm in norms.items()}
                log.write(json.dumps({"step": run.step, **terms, **grads}) + "\n")
                bar.update(task, loss=" ".join(f"{k} {v:.3f}" for k, v in terms.items()))
            # The last step is stored too: a finished run that is started again has nothing left to do.
            due = config.checkpoint_every and run.step % config.checkpoint_every == 0
            if due or run.step == config.steps:
                save_pretrained(run.design, config.out / "checkpoints" / f"step-{run.step:08d}", run.state())
            bar.advance(task)
    save_pretrained(run.averaged if config.optim.ema else run.design, config.out / "model")
    return config.out / "model"
