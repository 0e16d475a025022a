"""Subgoals on a separate clock: a generator renews them, and the policy reads the newest one available."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from wamkit.config.ranges import Count, Whole, Word
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Subgoal, ValueArray
from wamkit.controllers.periodic import Every
from wamkit.errors import ConfigError


@Controller.register_subclass("subgoal_refresh")
@dataclass(frozen=True)
class SubgoalRefresh(Every):
    """Condition the policy on subgoals from a generator with a clock of its own (pi0.7; survey eq. 34).

    The generator is the factor of a goal stream (a picture to reach) or of a state stream (the plan of a slow network
    for a fast one, as in Helix). It is started every ``refresh`` ticks from the current observation
    and answers ``latency`` ticks later. The policy is called every ``execute`` ticks with the newest available
    subgoal as a given: it never generates one and never waits. Only the first subgoal is waited for, before the robot
    moves. There is one generator: it is restarted only after its previous answer has arrived.

    The report gives the age of the oldest subgoal in use (``oldest_subgoal_ticks``), which is less than :attr:`bound`
    while the generator runs.

    Attributes:
        execute: K, ticks between two calls of the policy.
        stream: name of the goal or state stream.
        refresh: ticks between two starts of the generator. Starts are ``latency`` ticks apart where that is longer.
        latency: simulated ticks from a start of the generator to its answer.
        stop_after: maximum number of generated subgoals, after which the last one stays in use. None sets no limit.
    """

    stream: Word = "goal"
    refresh: Count = 80
    latency: Whole = 20
    stop_after: Count | None = None

    @property
    @override
    def supplies(self) -> str:
        return self.stream

    @property
    def clock(self) -> int:
        """Ticks between two starts of the generator, at least its latency."""
        return max(self.refresh, self.latency)

    @property
    def bound(self) -> int:
        """Exclusive upper bound on the age in ticks of a subgoal in use while the generator runs."""
        return self.clock + self.latency

    def starts(self, ticks: int) -> tuple[int, ...]:
        """Ticks at which an episode of ``ticks`` ticks starts the generator."""
        return tuple(range(0, ticks, self.clock))[: self.stop_after]

    @override
    def reads(self, ticks: int) -> tuple[int, ...]:
        """Ticks of the policy's calls and the generator's starts."""
        return tuple(sorted({*self.calls(ticks), *self.starts(ticks)}))

    @override
    def wants_subgoal(self, state: ControllerState) -> bool:
        if not state.subgoals:
            return True
        stopped = self.stop_after is not None and state.counts["subgoals"] >= self.stop_after
        return not stopped and state.tick >= state.subgoals[-1].asked + self.clock

    @override
    def supply(self, state: ControllerState, values: ValueArray) -> ControllerState:
        """Take in a new subgoal, which is held back until ``latency`` ticks have passed."""
        ready = state.tick + (self.latency if state.subgoals else 0)
        subgoals = (*state.subgoals[-1:], Subgoal(state.tick, ready, values))
        return dataclasses.replace(state, subgoals=subgoals).count("subgoals")

    def latest(self, state: ControllerState) -> Subgoal | None:
        """Return the newest subgoal that has arrived, or None."""
        arrived = [subgoal for subgoal in state.subgoals if subgoal.ready <= state.tick]
        return arrived[-1] if arrived else None

    @override
    def given(self, state: ControllerState) -> ValueArray | None:
        latest = self.latest(state)
        return None if latest is None else latest.values

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast and record the age of the subgoal that it was generated for."""
        latest = self.latest(state)
        if latest is None:
            raise ConfigError("Controller.receive: a subgoal is due (`wants_subgoal`): `supply` it first.")
        oldest = state.counts.get("oldest_subgoal_ticks", 0)
        older = max(state.tick - latest.asked - oldest, 0)
        return super().receive(state.count("oldest_subgoal_ticks", older), chunk, future)
