"""A gate: the next waypoint is taken only when this one is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, ValueArray
from wamkit.controllers.comparing import Comparing
from wamkit.errors import ConfigError


@Controller.register_subclass("progress_gate")
@dataclass(frozen=True)
class ProgressGate(Comparing):
    """Advance to the next predicted waypoint only when this one is reached (Dex4D; survey eq. 34, variable K).

    A waypoint is what a call predicted for its last offset. When what is seen comes within the threshold, the
    pointer advances (``waypoints`` in the report): the chunk ends and the next call sets the next waypoint. A
    chunk that runs out before is followed by another one for the same waypoint (``stalled_calls``).

    Attributes:
        execute: K, ticks after which a chunk ends when its waypoint is not reached.
        stream: name of the future stream whose prediction is the waypoint.
        threshold: gap at which it is reached: root mean square difference, or share of different token ids.
    """

    threshold: float = 0.1

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """See :meth:`Controller.check`."""
        if self.execute < 2:
            raise ConfigError(
                "Controller 'progress_gate' needs `execute` of at least 2: a chunk must be able to end."
            )

    def wants_values(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_values`: as long as there is a waypoint."""
        return bool(state.plans)

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`."""
        waypoint = max(state.plans[-1].future) if state.plans else 0
        if not self.close(state, waypoint, seen):
            return state
        return dataclasses.replace(state, plans=(), due=True).count("waypoints")

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. A waypoint that is not reached is kept."""
        after = super().receive(state.count("stalled_calls", int(bool(state.plans))), chunk, future)
        return dataclasses.replace(after, plans=state.plans or after.plans).count("waypoints", 0)
