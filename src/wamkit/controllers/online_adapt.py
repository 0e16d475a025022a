"""Adaptation while acting: learn and cancel a constant motion error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.config.ranges import Count, Fraction, NonNegative, Positive, Whole
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("online_adapt")
@dataclass(frozen=True)
class OnlineAdapt(Early):
    """Learn the gap between commanded and measured motion and cancel it (AdaWorldPolicy; survey eq. 6).

    A linear model predicts that a delta action moves the robot by ``step * action + residual`` in a tick; the residual
    starts at zero. Every tick the prediction is compared with the measured motion:

        error = motion - (step * action + residual),     residual <- residual + rate * error

    and the next action is ``planned - residual / step``, clipped to ``limit``. For a constant disturbance (a sagging
    payload, a slope) the error shrinks by a factor 1 - rate per tick; a disturbance that scales with the action
    (friction) is learned as long as the action changes slowly. Errors within ``threshold`` are ignored, so the
    residual stays at zero where the model is right. Delta actions only.

    Attributes:
        execute: K, ticks between two calls.
        state: entries of the robot's state that hold its position.
        action: entries of the action that move these state entries, in the same order.
        step: state units that one unit of action moves in one tick.
        rate: share of the error learned in one tick, above 0 and at most 1.
        threshold: largest error treated as noise, in state units per tick.
        limit: largest magnitude of a corrected action.
        patience: consecutive ticks with an error above the threshold that are learned from; one more resets the
            residual to zero, because it does not explain the observed motion. None never resets.
    """

    state: tuple[Whole, ...] = (0, 1, 2)
    action: tuple[Whole, ...] = (0, 1, 2)
    step: Positive = 0.01
    rate: Fraction = 0.3
    threshold: NonNegative = 0.001
    limit: Positive = 1.0
    patience: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.state) != len(self.action) or not self.step > 0 or not 0 < self.rate <= 1:
            raise ConfigError(
                f"OnlineAdapt: needs as many `state` as `action` entries, a positive `step` and a `rate` above 0 and "
                f"at most 1, got {self.state}, {self.action}, {self.step} and {self.rate}."
            )
        if not self.threshold >= 0 or not self.limit > 0 or (self.patience is not None and self.patience < 1):
            raise ConfigError(
                f"OnlineAdapt: needs a `threshold` of at least 0, a positive `limit` and a `patience` of at least 1, "
                f"got {self.threshold}, {self.limit} and {self.patience}."
            )

    @override
    def check(self, mode: str, offsets: Sequence[int]) -> None:
        if mode != "delta":
            raise ConfigError(
                f"Controller 'online_adapt' corrects delta actions, but the policy's actions are {mode!r}."
            )

    def residual(self, state: ControllerState) -> NDArray[np.float64]:
        """Learned residual (entries,), state units per tick; pass it to :meth:`restore` as a snapshot."""
        return np.asarray(state.seen.get("residual", np.zeros(len(self.state))), np.float64)

    def restore(self, state: ControllerState, snapshot: ValueArray | None = None) -> ControllerState:
        """Return the state with the residual of ``snapshot``, from :meth:`residual`; None resets it to zero."""
        residual = np.zeros(len(self.state)) if snapshot is None else np.array(snapshot, np.float64)
        return self._remember(state, residual, 0).count("restored")

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """Compare the motion since the last tick with its prediction, and learn from the error."""
        place = seen.state[list(self.state)].astype(np.float64)
        after = dataclasses.replace(state, seen={**state.seen, "place": place})
        if "sent" not in state.seen:
            return after.count("adapted_ticks", 0)
        before, sent = (np.asarray(state.seen[name], np.float64) for name in ("place", "sent"))
        learned = self.residual(state)
        error = place - before - (self.step * sent + learned)
        wrong = np.abs(error) > self.threshold
        if not wrong.any():
            return self._remember(after, learned, 0).count("adapted_ticks", 0)
        above = int(state.seen.get("above", np.zeros((), np.int64))) + 1
        if self.patience is not None and above > self.patience:
            return self.restore(after)
        return self._remember(after, learned + self.rate * wrong * error, above).count("adapted_ticks")

    def _remember(self, state: ControllerState, residual: ValueArray, above: int) -> ControllerState:
        """Return the state with a residual and the number of ticks in a row with an error above the threshold."""
        return dataclasses.replace(state, seen={**state.seen, "residual": residual, "above": np.array(above)})

    @override
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """Return the planned action minus the residual; a zero residual leaves it untouched."""
        planned, after = super().next(state)
        residual, entries = self.residual(state), list(self.action)
        action = planned.copy()
        if residual.any():
            action[entries] = np.clip(planned[entries] - residual / self.step, -self.limit, self.limit)
        sent = action[entries].astype(np.float64)
        return action, dataclasses.replace(after, seen={**after.seen, "sent": sent})
