"""Asynchronous overlap: the next chunk is predicted while the current one runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wamkit.controllers.base import (
    ActionArray,
    Controller,
    ControllerState,
    HorizonUse,
    Plan,
    ValueArray,
    check_chunk,
)
from wamkit.controllers.periodic import Every
from wamkit.errors import ConfigError


@Controller.register_subclass("async_overlap")
@dataclass(frozen=True)
class AsyncOverlap(Every):
    """Predict the next chunk while the current one runs (DreamZero, LingBot-VA; survey eq. 34).

    A call at tick t is answered at t + latency. Until then the old chunk goes on; the first ``latency`` actions
    of the answer are stale by then and skipped, so what was executed in between is the old chunk's. Unlike
    real-time chunking (Black et al. 2025) the answer is not conditioned on these actions: it may jump. There is one
    model: the next call waits for the answer to the last one. The first call is made while the robot has not
    started yet and is waited for.

    Attributes:
        execute: K, ticks between two calls; they are further apart where ``latency`` is longer.
        latency: ticks from a call to its answer, simulated. Compare the report's measured latency with it.
        fallback: what a tick without an action executes: the last action again, or zeros (right for delta actions).
        lost: numbers of calls, from 0, whose answers never come (a dropped link), simulated.
    """

    latency: int = 4
    fallback: Literal["hold", "zero"] = "hold"
    lost: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latency < 0:
            raise ConfigError(f"AsyncOverlap: `latency` must be at least 0, got {self.latency}.")
        if 0 in self.lost:
            raise ConfigError("AsyncOverlap: `lost` names call 0, without which an episode cannot start.")

    @property
    def period(self) -> int:
        """Ticks between two calls."""
        return max(self.execute, self.latency)

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. The answer is held back until it would have been there."""
        check_chunk(chunk, self.execute, "async_overlap")
        ready = state.tick + (self.latency if state.calls else 0)
        kept = (
            state.plans[-1:]
            if state.calls in self.lost
            else (*state.plans[-1:], Plan(state.tick, ready, chunk))
        )
        return dataclasses.replace(state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=kept)

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`. Ticks without an action are counted as ``idle_ticks``."""
        self.current(state)
        tick, arrived = state.tick, [p for p in state.plans if p.ready <= state.tick]
        newest = arrived[-1]
        after = dataclasses.replace(state, cursor=state.cursor + 1, tick=tick + 1).count("idle_ticks", 0)
        if newest.covers(tick):
            action = newest.actions[tick - newest.start]
            return action, dataclasses.replace(after, seen={"action": action})
        action = state.seen["action"] if self.fallback == "hold" else np.zeros_like(newest.actions[0])
        return np.asarray(action, np.float32), after.count("idle_ticks")

    def horizon(self, predicted: int) -> HorizonUse:
        """See :meth:`Controller.horizon`. Without idle ticks it takes ``period + latency`` actions."""
        if predicted < self.execute or predicted <= self.latency:
            raise ConfigError(
                f"Controller 'async_overlap' executes {self.execute} actions per call after {self.latency} stale "
                f"ones, the model predicts {predicted}. Set `execute` to at most {predicted} and `latency` below it."
            )
        return HorizonUse(predicted, self.period, need=min(predicted, self.period + self.latency))

    def answer_s(self, rate_hz: float) -> float:
        """See :meth:`Controller.answer_s`."""
        return self.latency / rate_hz

    def deadline_s(self, rate_hz: float) -> float:
        """See :meth:`Controller.deadline_s`: an answer must be there before the chunk it overlaps is over, K / f."""
        return self.execute / rate_hz
