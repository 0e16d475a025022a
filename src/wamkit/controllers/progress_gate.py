"""Gating by progress: the next waypoint is taken only when the current one is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from typing_extensions import override

from wamkit.config.ranges import NonNegative
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.comparing import Comparing
from wamkit.errors import ConfigError


@Controller.register_subclass("progress_gate")
@dataclass(frozen=True)
class ProgressGate(Comparing):
    """Advance to the next predicted waypoint only when this one is reached (Dex4D; survey eq. 34, variable K).

    A waypoint is a call's prediction for its last offset. When the observation comes within the threshold, the
    waypoint is reached (``waypoints`` in the report): the chunk ends and the next call sets the next waypoint. A
    chunk that runs out first is followed by another chunk towards the same waypoint (``stalled_calls``).

    Attributes:
        execute: K, ticks after which a chunk ends when its waypoint is not reached, at least 2.
        stream: name of the future stream whose prediction is the waypoint.
        threshold: gap within which a waypoint counts as reached, a root mean square difference or a share of
            differing token ids.
    """

    threshold: NonNegative = 0.1

    @override
    def check(self, mode: str, offsets: Sequence[int]) -> None:
        if self.execute < 2:
            raise ConfigError(
                "Controller 'progress_gate' needs `execute` of at least 2: a chunk must be able to end."
            )

    @override
    def wants_values(self, state: ControllerState) -> bool:
        return bool(state.plans)

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        waypoint = max(state.plans[-1].future) if state.plans else 0
        if not self.close(state, waypoint, seen):
            return state
        return dataclasses.replace(state, plans=(), due=True).count("waypoints")

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast, but keep a waypoint that has not been reached yet."""
        after = super().receive(state.count("stalled_calls", int(bool(state.plans))), chunk, future)
        return dataclasses.replace(after, plans=state.plans or after.plans).count("waypoints", 0)
