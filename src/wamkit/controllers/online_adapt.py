"""Adaptation while acting: what motion falls short of what was commanded, and is made up for."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("online_adapt")
@dataclass(frozen=True)
class OnlineAdapt(Early):
    """Learn what motion falls short of its prediction, and make up for it (AdaWorldPolicy; survey eq. 6).

    A model predicts that a delta action moves the robot by ``step * action + residual`` in a tick; the residual
    starts at zero. Every tick the prediction is compared with the measured motion:

        error = motion - (step * action + residual),     residual <- residual + rate * error

    and the next action is ``planned - residual / step``, within ``limit``. A constant disturbance (a payload that
    sags, a slope) is learned by a factor 1 - rate per tick; one that scales with the action (friction) as long as
    the action changes slowly. Errors within ``threshold`` teach nothing, so that the residual stays at zero where
    the world is as the model says. Delta actions only.

    Attributes:
        execute: K, ticks between two calls.
        state: entries of the robot's state that say its place.
        action: entries of the action that move these, in the same order.
        step: state units that one unit of action moves in one tick.
        rate: share of the error that is learned in one tick, above 0 and at most 1.
        threshold: largest error, in state units per tick, that is taken for noise.
        limit: the largest corrected action.
        patience: ticks in a row with an error above the threshold, after learning, that restore the snapshot: what
            is learned then does not explain what is seen. None: never.
    """

    state: tuple[int, ...] = (0, 1, 2)
    action: tuple[int, ...] = (0, 1, 2)
    step: float = 0.01
    rate: float = 0.3
    threshold: float = 0.001
    limit: float = 1.0
    patience: int | None = None

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

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """See :meth:`Controller.check`."""
        if mode != "delta":
            raise ConfigError(
                f"Controller 'online_adapt' corrects delta actions, and the policy's are {mode!r}."
            )

    def residual(self, state: ControllerState) -> NDArray[np.float64]:
        """What is learned, (entries,), state units per tick. It is the snapshot, too: see :meth:`restore`."""
        return np.asarray(state.seen.get("residual", np.zeros(len(self.state))), np.float64)

    def restore(self, state: ControllerState, snapshot: ValueArray | None = None) -> ControllerState:
        """The state with the residual of an earlier :meth:`residual`, or with nothing learned."""
        kept = np.zeros(len(self.state)) if snapshot is None else np.array(snapshot, np.float64)
        seen = {**state.seen, "residual": kept, "above": np.zeros((), np.int64)}
        return dataclasses.replace(state, seen=seen).count("restored")

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`. Compares the motion since the last tick with its prediction."""
        place = seen.state[list(self.state)].astype(np.float64)
        after = dataclasses.replace(state, seen={**state.seen, "place": place})
        if "sent" not in state.seen:
            return after.count("adapted_ticks", 0)
        before, sent = (np.asarray(state.seen[name], np.float64) for name in ("place", "sent"))
        learned = self.residual(state)
        error = place - before - (self.step * sent + learned)
        wrong = np.abs(error) > self.threshold
        if not wrong.any():
            return self._note(after, learned, 0).count("adapted_ticks", 0)
        above = int(state.seen.get("above", np.zeros((), np.int64))) + 1
        if self.patience is not None and above > self.patience:
            return self.restore(after)
        return self._note(after, learned + self.rate * wrong * error, above).count("adapted_ticks")

    def _note(self, state: ControllerState, residual: ValueArray, above: int) -> ControllerState:
        return dataclasses.replace(state, seen={**state.seen, "residual": residual, "above": np.array(above)})

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`. Nothing is changed while nothing is learned."""
        planned, after = super().next(state)
        residual, entries = self.residual(state), list(self.action)
        action = planned.copy()
        if residual.any():
            action[entries] = np.clip(planned[entries] - residual / self.step, -self.limit, self.limit)
        sent = action[entries].astype(np.float64)
        return action, dataclasses.replace(after, seen={**after.seen, "sent": sent})
