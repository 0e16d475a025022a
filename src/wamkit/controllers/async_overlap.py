"""Asynchronous overlap: prediction of the next chunk while the current one runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from typing_extensions import override

from wamkit.config.ranges import Count, Whole
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

    A call at tick t is answered at t + latency. Until then the old chunk continues; by the time the answer arrives,
    its first ``latency`` actions are stale and skipped. Unlike real-time chunking (Black et al. 2025), the answer is
    not conditioned on the actions executed in the meantime, so the motion may jump. There is one model: the next call
    waits for the answer to the previous one. The first call is made before the robot moves and blocks until answered.

    Attributes:
        execute: K, ticks between two calls. Calls are ``latency`` ticks apart where that is longer.
        latency: simulated ticks from a call to its answer. Compare it with the measured latency in the report.
        fallback: action at a tick without a prediction, ``hold`` (repeat the last action) or ``zero``. Zeros suit
            delta actions.
        lost: numbers of calls, from 0, whose answers never arrive, simulating a dropped link.
    """

    latency: Whole = 4
    fallback: Literal["hold", "zero"] = "hold"
    lost: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latency < 0:
            raise ConfigError(f"AsyncOverlap: `latency` must be at least 0, got {self.latency}.")
        if 0 in self.lost:
            raise ConfigError("AsyncOverlap: `lost` contains call 0, and an episode cannot start without it.")

    @property
    @override
    def period(self) -> int:
        return max(self.execute, self.latency)

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast, which is held back until ``latency`` ticks have passed."""
        check_chunk(chunk, self.execute, "async_overlap")
        ready = state.tick + (self.latency if state.calls else 0)
        plans = state.plans[-1:]
        if state.calls not in self.lost:
            plans = (*plans, Plan(state.tick, ready, chunk))
        return dataclasses.replace(state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=plans)

    @override
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """Return the action of this tick; ticks without a prediction are counted as ``idle_ticks``."""
        self.current(state)
        tick, arrived = state.tick, [p for p in state.plans if p.ready <= state.tick]
        newest = arrived[-1]
        after = dataclasses.replace(state, cursor=state.cursor + 1, tick=tick + 1).count("idle_ticks", 0)
        if newest.covers(tick):
            action = newest.actions[tick - newest.start]
            return action, dataclasses.replace(after, seen={"action": action})
        action = state.seen["action"] if self.fallback == "hold" else np.zeros_like(newest.actions[0])
        return np.asarray(action, np.float32), after.count("idle_ticks")

    @override
    def horizon(self, predicted: int) -> HorizonUse:
        """Return the used part of a forecast; it takes ``period + latency`` actions to avoid idle ticks."""
        if predicted < self.execute or predicted <= self.latency:
            raise ConfigError(
                f"Controller 'async_overlap' executes {self.execute} actions per call after {self.latency} stale "
                f"ones, the model predicts {predicted}. Set `execute` to at most {predicted} and `latency` below it."
            )
        return HorizonUse(predicted, self.period, need=min(predicted, self.period + self.latency))

    @override
    def answer_s(self, rate_hz: float) -> float:
        return self.latency / rate_hz

    @override
    def deadline_s(self, rate_hz: float) -> float:
        """Return K / f: an answer must arrive before the chunk that it overlaps is over."""
        return self.execute / rate_hz
