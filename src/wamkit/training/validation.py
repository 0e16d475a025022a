"""Validation: the loss of the averaged weights on held-out episodes, and the best checkpoint by it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch

from wamkit.contract.types import Batch, to_device
from wamkit.data.mixture import Mixture
from wamkit.design.checkpoint import save_pretrained
from wamkit.progress import stage, track
from wamkit.training.balance import weights_at
from wamkit.training.config import TrainConfig
from wamkit.training.held_out import Subset, episodes_of_robots, sample_frames
from wamkit.training.resume import BEST_FOLDER
from wamkit.training.start import TrainingRun
from wamkit.training.watch import Watch
from wamkit.training.writers import Writer

WINDOWS = 512  # windows on which the loss is measured, at most; the same ones every time
TOTAL = "held_out"  # name of the weighted sum in the log; the loss of a stream is ``held_out.<stream>``


@final
class Validation:
    """Loss on held-out windows every ``evaluate_every`` steps; does nothing where no episode is held out.

    The windows and their noise are the same every time, so that two values differ by the weights alone. No generator
    that the training draws from is moved.

    Args:
        run: run in training.
        config: its config.
        watch: says which windows have a loss that is not finite.
        log: where the losses are written.
    """

    def __init__(self, run: TrainingRun, config: TrainConfig, watch: Watch, log: Writer) -> None:
        self._run, self._config, self._watch, self._log = run, config, watch, log
        # The sum is weighted as at the end of the run, so that ramps do not move it.
        self._weights = weights_at(config.steps, config.ramps, config.design.loss_weights)

    def after_step(self) -> None:
        """Measure, log, and keep the weights in ``best/`` if they are the best so far, when it is time.

        Raises:
            TrainingError: a loss is not finite.
            OSError: the log or the checkpoint cannot be written.
        """
        run, every = self._run, self._config.evaluate_every
        due = run.step == self._config.steps or (every and run.step % every == 0)
        if not run.held_out or not due:
            return
        losses = {name: round(value, 5) for name, value in self.measure().items()}
        self._log.write(run.step, losses)
        best = self._config.out / BEST_FOLDER
        if run.best is None or losses[TOTAL] < run.best["loss"] or not best.exists():
            run.best = {"step": run.step, "loss": losses[TOTAL]}
            with stage("save best"):
                save_pretrained(run.averaged, best)

    def measure(self) -> dict[str, float]:
        """Held-out losses of the averaged weights: :data:`TOTAL`, and one per stream.

        Of a mixture, the same of every robot, and the mean of the robots by their weights at the end of the run.
        """
        run, config = self._run, self._config
        if not isinstance(run.dataset, Mixture):
            return self._measured(run.held_out, WINDOWS)
        found, means = dict[str, float](), dict[str, float]()
        weights = config.source_weights(np.array([config.steps - 1]))[0]
        firsts, own = run.dataset.first_episodes, episodes_of_robots(run.dataset, run.held_out)
        for share, (robot, first) in zip(weights / weights.sum(), firsts.items(), strict=True):
            episodes = [first + number for number in own[robot]]
            for name, value in self._measured(episodes, math.ceil(WINDOWS / len(weights))).items():
                found[name.replace(TOTAL, f"{TOTAL}.robot.{robot}", 1)] = value
                means[name] = means.get(name, 0.0) + float(share) * value
        return {**means, **found}

    def _measured(self, episodes: Sequence[int], most: int) -> dict[str, float]:
        """Held-out losses on at most ``most`` windows of these episodes."""
        run, config = self._run, self._config
        source = Subset(run.dataset, episodes)
        frames = sample_frames(source.num_frames, most, config.seed)
        parts = np.array_split(frames, math.ceil(len(frames) / config.batch_size))
        design, sums = run.averaged.eval(), dict[str, float]()
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            torch.manual_seed(config.seed)
            for part in track(parts, "held-out loss"):
                batch = source.windows(part, design.training_window)
                for name, value in self._losses(batch).items():
                    sums[name] = sums.get(name, 0.0) + value * len(part)
        return {name: total / len(frames) for name, total in sums.items()}

    def _losses(self, batch: Batch) -> Mapping[str, float]:
        design = self._run.averaged
        losses = self._run.objective.loss(design, to_device(batch, self._config.device), self._weights)
        self._watch.look_aside(losses, batch)
        return {TOTAL: losses.total.item()} | {
            f"{TOTAL}.{name}": term.item() for name, term in losses.terms.items()
        }
