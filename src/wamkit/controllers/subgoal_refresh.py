"""Two clocks: a generator renews the subgoal, the policy reads the newest one that is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from wamkit.controllers.base import ActionArray, Controller, ControllerState, Subgoal, ValueArray
from wamkit.controllers.periodic import Every
from wamkit.errors import ConfigError


@Controller.register_subclass("subgoal_refresh")
@dataclass(frozen=True)
class SubgoalRefresh(Every):
    """Subgoals from a generator on its own clock; the policy reads the latest (pi0.7; survey eq. 34).

    The generator is the factor of a goal stream. Every ``refresh`` ticks it is started with what is then seen; its
    answer is there ``latency`` ticks later. The policy is called every ``execute`` ticks as ever, with the
    newest subgoal that is there as a given: it never generates one and never waits. Only the first one is waited
    for, while the robot stands. There is one generator: it is started again when its last answer is there.

    The report says how old the oldest subgoal in use was (``oldest_subgoal_ticks``); while the generator runs that
    is less than :attr:`bound` ticks.

    Attributes:
        execute: K, ticks between two calls of the policy.
        stream: name of the goal stream.
        refresh: ticks between two starts of the generator.
        latency: ticks from a start to its answer, simulated.
        stop_after: the most answers of the generator, after which the last one stays in use; None: no limit.
    """

    stream: str = "goal"
    refresh: int = 80
    latency: int = 20
    stop_after: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.refresh < 1 or self.latency < 0 or (self.stop_after is not None and self.stop_after < 1):
            raise ConfigError(
                f"SubgoalRefresh: needs a `refresh` of at least 1, a `latency` of at least 0 and a first subgoal, "
                f"got {self.refresh}, {self.latency} and stop_after {self.stop_after}."
            )

    @property
    def supplies(self) -> str:
        """The stream."""
        return self.stream

    @property
    def clock(self) -> int:
        """Ticks between two starts of the generator."""
        return max(self.refresh, self.latency)

    @property
    def bound(self) -> int:
        """No subgoal in use is this many ticks old while the generator runs."""
        return self.clock + self.latency

    def check_past(self, stride: int, predicted: int) -> None:
        """See :meth:`Controller.check_past`. The generator reads the carried past too, so it keeps the same clock."""
        super().check_past(stride, predicted)
        if self.clock % stride:
            raise ConfigError(
                f"controller 'subgoal_refresh' starts the generator every {self.clock} ticks, which model steps of "
                f"{stride} ticks do not divide; a design that keeps its past needs that. Change `refresh`."
            )

    def starts(self, ticks: int) -> tuple[int, ...]:
        """The ticks at which an episode of ``ticks`` ticks starts the generator."""
        return tuple(range(0, ticks, self.clock))[: self.stop_after]

    def reads(self, ticks: int) -> tuple[int, ...]:
        """See :meth:`Controller.reads`: calls of the policy and starts of the generator."""
        return tuple(sorted({*self.calls(ticks), *self.starts(ticks)}))

    def wants_subgoal(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_subgoal`."""
        if not state.subgoals:
            return True
        stopped = self.stop_after is not None and state.counts["subgoals"] >= self.stop_after
        return not stopped and state.tick >= state.subgoals[-1].asked + self.clock

    def supply(self, state: ControllerState, values: ValueArray) -> ControllerState:
        """See :meth:`Controller.supply`. The answer is held back until it would have been there."""
        ready = state.tick + (self.latency if state.subgoals else 0)
        kept = (*state.subgoals[-1:], Subgoal(state.tick, ready, values))
        return dataclasses.replace(state, subgoals=kept).count("subgoals")

    def latest(self, state: ControllerState) -> Subgoal | None:
        """The newest subgoal that is there."""
        there = [subgoal for subgoal in state.subgoals if subgoal.ready <= state.tick]
        return there[-1] if there else None

    def given(self, state: ControllerState) -> ValueArray | None:
        """See :meth:`Controller.given`."""
        latest = self.latest(state)
        return None if latest is None else latest.values

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. The subgoal that this chunk was made for gives the age."""
        latest = self.latest(state)
        if latest is None:
            raise ConfigError("Controller.receive: a subgoal is due (`wants_subgoal`): `supply` it first.")
        oldest = state.counts.get("oldest_subgoal_ticks", 0)
        older = max(state.tick - latest.asked - oldest, 0)
        return super().receive(state.count("oldest_subgoal_ticks", older), chunk, future)
