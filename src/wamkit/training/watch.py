"""Watch over a running training: it stops at the first number that is not finite, and when nothing learns."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from wamkit.contract.types import Batch, Losses
from wamkit.data.mixture import Recordings
from wamkit.design import Design
from wamkit.errors import TrainingError
from wamkit.training.config import TrainConfig
from wamkit.training.resume import latest_checkpoint, named_tensors

log = logging.getLogger(__name__)

STILL = 20  # steps after which something must have moved
FROZEN = 200  # steps from the start without any gradient, after which a run is stopped
MOVED = 1e-12  # smallest change of a weight that counts as one
SAMPLE = 256  # values per parameter that are compared
NAMED = 6  # windows of a batch that a message names
SILENT = 10  # logged steps with a loss of exactly 0 after which it is said


@final
class Watch:
    """Numbers of every step, looked at before the step is taken.

    A look waits for the device once per step, after the backward pass, so that a bad step is never taken.

    Args:
        design: design in training.
        average: its moving average.
        optimizer: optimiser.
        dataset: demonstrations, to name the windows of a batch.
        config: config of the run.
        step: steps taken before this session.
    """

    def __init__(
        self,
        design: Design,
        average: AveragedModel,
        optimizer: torch.optim.Optimizer,
        dataset: Recordings,
        config: TrainConfig,
        step: int,
    ) -> None:
        self._design, self._average, self._optimizer = design, average, optimizer
        self._dataset, self._config = dataset, config
        self._step = step
        self._looks = 0
        self._pulled = self._moved = False
        self._silent: dict[str, int] = {}
        self._before = {name: _sample(p) for name, p in design.named_parameters() if p.requires_grad}

    def look(self, losses: Losses, norm: Tensor, batch: Batch) -> None:
        """Look at a step before it is taken.

        Args:
            losses: losses of the step.
            norm: norm of the gradient before clipping.
            batch: windows of the step.

        Raises:
            TrainingError: loss or gradient is not finite, or nothing has learned in the first steps.
        """
        pair = losses.total.detach().float(), norm.detach().float().to(losses.total.device)
        total, pull = torch.stack(pair).tolist()  # read together: one wait for the device
        if not (math.isfinite(total) and math.isfinite(pull)):
            raise TrainingError(
                f"step {self._step + 1}: {self._culprit(losses, pull)}. Batch: {self._windows(batch)}. "
                f"{self._way_out()}"
            )
        if not self._looks and not self._config.optim.only:
            for name, term in losses.terms.items():
                if not term.requires_grad:
                    log.warning(
                        "the loss of stream %r depends on nothing that learns; it is only logged", name
                    )
        self._pulled |= pull > 0
        if self._looks in (STILL, FROZEN):
            self._check_movement()
        self._looks += 1
        self._step += 1

    def look_aside(self, losses: Losses, batch: Batch) -> None:
        """Look at losses that are only measured; raises :class:`TrainingError` when one is not finite."""
        if not math.isfinite(losses.total.item()):
            raise TrainingError(
                f"step {self._step}, held out: {self._culprit(losses, 0.0)}. Batch: {self._windows(batch)}. "
                f"{self._way_out()}"
            )

    def read(self, losses: Losses) -> dict[str, float]:
        """Losses of a logged step; a stream whose loss is exactly 0 all the time is said."""
        terms = {name: term.item() for name, term in losses.terms.items()}
        for name, value in terms.items():
            self._silent[name] = self._silent.get(name, 0) + 1 if value == 0 else -(10**9)
            last = self._step >= self._config.steps
            if self._silent[name] == SILENT or (last and 0 < self._silent[name] < SILENT):
                log.warning(
                    "the loss of stream %r has been exactly 0 in every logged step up to step %d: nothing is learned "
                    "for it. Look at its targets, or remove the stream.",
                    name,
                    self._step,
                )
        return terms

    def before_saving(self) -> None:
        """Raise :class:`TrainingError` instead of saving what cannot be used."""
        if self._looks and self._step >= self._config.steps:
            self._check_movement()
        place = f"step {self._step}"
        require_finite(self._design.state_dict(), f"{place}: weights", self._way_out())
        require_finite(self._average.state_dict(), f"{place}: moving average of the weights", self._way_out())
        moments = dict(named_tensors(self._optimizer.state_dict()["state"]))
        require_finite(moments, f"{place}: state of the optimiser", self._way_out())

    def _check_movement(self) -> None:
        """Say that the first steps have left every parameter as it was, or raise :class:`TrainingError`."""
        if self._moved:
            return
        steps, optim = f"the first {self._looks} steps of this session", self._config.optim
        if not self._pulled:
            # A few batches of nothing but padding are no reason to stop.
            problem = f"the gradient was exactly 0 in {steps}: nothing is learned"
            way_out = "Look at `design.loss_weights`, `ramps`, `optim.only` and the lengths of the episodes."
        else:
            now = dict(self._design.named_parameters())
            change = [float((_sample(now[n]) - s).abs().max()) for n, s in self._before.items() if s.numel()]
            self._moved = max(change, default=0.0) > MOVED
            problem = f"no weight has changed in {steps}, with `optim.lr` {optim.lr:g} and `optim.clip` {optim.clip:g}"
            way_out = "Raise them."
        if self._moved:
            self._before.clear()
        elif (self._pulled and optim.lr > 0) or self._looks >= FROZEN:
            raise TrainingError(f"{problem}. {way_out}")
        else:
            log.warning("%s. %s", problem, way_out)

    def _culprit(self, losses: Losses, pull: float) -> str:
        """Which loss, or the gradient of which parameter, is not finite."""
        bad = [
            f"{name!r} is {v.item()}" for name, v in losses.terms.items() if not bool(torch.isfinite(v).all())
        ]
        if bad:
            return f"the loss of stream {', of stream '.join(bad)}"
        if not math.isfinite(losses.total.item()):
            return f"the sum of the losses is {losses.total.item()}"
        gradients = {n: p.grad for n, p in self._design.named_parameters() if p.grad is not None}
        broken = [name for name, gradient in gradients.items() if not bool(torch.isfinite(gradient).all())]
        if broken:
            return (
                f"the gradient of {broken[0]!r} is not finite ({len(broken)} of {len(gradients)} parameters)"
            )
        largest = max(gradients, key=lambda name: float(gradients[name].abs().max()))
        return (
            f"the norm of the gradient is {pull}, too large for its number format; largest in {largest!r} "
            f"({float(gradients[largest].abs().max()):.3g})"
        )

    def _windows(self, batch: Batch) -> str:
        """Places of the windows of a batch, those with the largest actions first."""
        if batch.index is None:
            return "of unknown windows"
        largest = batch.action.abs().flatten(1).amax(dim=1)
        order = torch.argsort(largest, descending=True, stable=True).tolist()
        places = [place_of(self._dataset, int(batch.index[row])) for row in order[:NAMED]]
        more = f" and {len(order) - NAMED} more" if len(order) > NAMED else ""
        return f"{'; '.join(places)}{more} (largest actions first)"

    def _way_out(self) -> str:
        """What the user can do after the run has stopped."""
        saved = latest_checkpoint(self._config.out)
        kept = "No checkpoint was written before."
        if saved is not None:
            kept = f"The last good checkpoint is kept: {saved}; name it in `pretrained` to go on from it."
        return (
            f"Lower `optim.lr` ({self._config.optim.lr:g}) or `optim.clip` ({self._config.optim.clip:g}), or look at "
            f"these episodes, and choose another `out`. {kept}"
        )


def require_finite(tensors: Mapping[str, Tensor], what: str, way_out: str) -> None:
    """Raise :class:`TrainingError` when a number in ``tensors`` (name -> tensor) is not finite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TrainingError(f"{what}: {name!r} holds numbers that are not finite. {way_out}")


def place_of(dataset: Recordings, frame: int) -> str:
    """Place of a frame for a message."""
    for episode in dataset.episodes:
        if episode.start <= frame < episode.stop:
            return f"episode {episode.index} frame {frame - episode.start}"
    return f"frame {frame}"


def _sample(parameter: nn.Parameter) -> Tensor:
    """Copy of some values of a parameter."""
    return parameter.detach().flatten()[:SAMPLE].clone()
