"""Two rates: a slow model writes where to go, a fast reflex keeps the robot there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("slow_fast")
@dataclass(frozen=True)
class SlowFast(Early):
    """A slow model writes a path, a fast reflex corrects every tick (dual-rate loops as in Helix; eqs. 34, 35).

    The chunk of a call, summed up from the place of the call, is the path. Every tick the reflex adds
    ``gain * (path - place) / step`` to the chunk's action: a push is answered at the next tick, not at the next
    call. Where the slow loop stops, the reflex holds the end of the path. Delta actions only.

    Attributes:
        execute: K, ticks between two calls of the slow model; the reflex runs every tick.
        state: entries of the robot's state that say its place.
        action: entries of the action that move these, in the same order.
        step: state units that one unit of action moves in one tick.
        gain: share of the error that one tick corrects, above 0 and below 2.
        slow_calls: the most calls of the slow model, after which it is frozen; None: no limit.
    """

    state: tuple[int, ...] = (0, 1, 2)
    action: tuple[int, ...] = (0, 1, 2)
    step: float = 0.01
    gain: float = 0.5
    slow_calls: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.state) != len(self.action) or not self.step > 0 or not 0 < self.gain < 2:
            raise ConfigError(
                f"SlowFast: needs as many `state` as `action` entries, a positive `step` and a `gain` between 0 and "
                f"2 (outside, the reflex is unstable), got {self.state}, {self.action}, {self.step} and {self.gain}."
            )

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """See :meth:`Controller.check`."""
        if mode != "delta":
            raise ConfigError(f"Controller 'slow_fast' sums up delta actions, and the policy's are {mode!r}.")

    def wants_call(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_call`."""
        frozen = self.slow_calls is not None and state.calls >= self.slow_calls
        return super().wants_call(state) and not (frozen and state.chunk is not None)

    def calls(self, ticks: int) -> tuple[int, ...]:
        """See :meth:`Controller.calls`."""
        return super().calls(ticks)[: self.slow_calls]

    def cost(self, ticks: int, call: float) -> float:
        """Equation (34), for the slow model's calls alone."""
        return len(self.calls(ticks)) * call

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`."""
        return dataclasses.replace(state, seen={**state.seen, "place": seen.state[list(self.state)]})

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. The path starts where the robot is."""
        after = super().receive(state, chunk, future)
        return dataclasses.replace(after, seen={**after.seen, "path": after.seen["place"]})

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`. Past the end of the chunk the path stands still."""
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
