"""Dual-rate control: a slow model plans a path, and a fast reflex tracks it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from typing_extensions import override

from wamkit.config.ranges import Count, Positive, Range, Whole
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("slow_fast")
@dataclass(frozen=True)
class SlowFast(Early):
    """Plan a path with a slow model and correct it every tick by a fast reflex (as in Helix; eqs. 34, 35).

    The path is the sum of a call's delta actions, starting at the robot's position at the call. Every tick the reflex
    adds ``gain * (path - position) / step`` to the chunk's action, so a push is answered at the next tick and not at
    the next call. When the slow model stops, the reflex holds the end of the path. Delta actions only.

    Attributes:
        execute: K, ticks between two calls of the slow model. The reflex runs every tick.
        state: entries of the robot's state that hold its position.
        action: entries of the action that move these state entries, in the same order.
        step: state units that one unit of action moves in one tick.
        gain: share of the error corrected in one tick, above 0 and below 2.
        slow_calls: maximum number of calls of the slow model, after which it is frozen. None sets no limit.
    """

    state: tuple[Whole, ...] = (0, 1, 2)
    action: tuple[Whole, ...] = (0, 1, 2)
    step: Positive = 0.01
    gain: Annotated[float, Range(0, 2, above=True, below=True)] = 0.5
    slow_calls: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.state) != len(self.action) or not self.step > 0 or not 0 < self.gain < 2:
            raise ConfigError(
                f"SlowFast: needs as many `state` as `action` entries, a positive `step` and a `gain` between 0 and "
                f"2 (outside, the reflex is unstable), got {self.state}, {self.action}, {self.step} and {self.gain}."
            )

    @override
    def check(self, mode: str, offsets: Sequence[int]) -> None:
        if mode != "delta":
            raise ConfigError(
                f"Controller 'slow_fast' sums up delta actions, but the policy's actions are {mode!r}."
            )

    @override
    def wants_call(self, state: ControllerState) -> bool:
        frozen = self.slow_calls is not None and state.calls >= self.slow_calls
        return super().wants_call(state) and not (frozen and state.chunk is not None)

    @override
    def calls(self, ticks: int) -> tuple[int, ...]:
        return super().calls(ticks)[: self.slow_calls]

    @override
    def cost(self, ticks: int, call: float) -> float:
        """Return the cost of an episode by equation (34), for the slow model's calls alone."""
        return len(self.calls(ticks)) * call

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        return dataclasses.replace(state, seen={**state.seen, "place": seen.state[list(self.state)]})

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast and start the path at the robot's current position."""
        after = super().receive(state, chunk, future)
        return dataclasses.replace(after, seen={**after.seen, "path": after.seen["place"]})

    @override
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """Return the corrected action of this tick; past the end of the chunk the path stands still."""
        chunk = self.current(state)
        planned, after = super().next(state)
        entries = list(self.action)
        action = planned.copy()
        if state.cursor >= len(chunk):
            action[entries] = 0
        error = np.subtract(state.seen["path"], state.seen["place"], dtype=np.float32)
        path = np.add(state.seen["path"], self.step * action[entries], dtype=np.float32)
        action[entries] += self.gain * error / self.step
        after = dataclasses.replace(after, seen={**after.seen, "path": path})
        return action, after.count("corrections")
