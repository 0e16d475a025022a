"""Goal pointer: one action per tick towards a step of a generated future, and the next step only when it is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Whole, Word
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, Subgoal, ValueArray, gap
from wamkit.controllers.cost import single_step_cost
from wamkit.controllers.periodic import Periodic
from wamkit.errors import ConfigError


@Controller.register_subclass("goal_pointer")
@dataclass(frozen=True)
class GoalPointer(Periodic):
    """Call every tick, towards the step of a generated future that a pointer stands at (Dex4D; survey eq. 35).

    The future is generated once and followed: its factor runs when there is none yet and when the pointer has passed
    the last step. The robot waits for it. Every call is given the steps from the pointer on; after the end the last
    one is repeated, so that the stream keeps its shape. At every later tick the observation is compared with the step
    that the pointer stands at, and the pointer advances by one when the gap is at most ``threshold``. There is no other
    way to advance: a robot that does not come closer pursues the same step until the episode ends.

    The report gives the generated futures (``plans``) and the steps that were reached (``reached_steps``).

    Attributes:
        stream: name of the future stream, which the action must be generated from.
        threshold: gap at which a step counts as reached, a root mean square difference or a share of differing ids.
        entries: features of a token that are compared, such as the displacement of a point; empty for all of them.
    """

    stream: Word = "future"
    threshold: NonNegative = 0.1
    entries: tuple[Whole, ...] = ()

    @property
    @override
    def period(self) -> int:
        return 1

    @property
    @override
    def watches(self) -> bool:
        return True

    @property
    @override
    def compares(self) -> str:
        return self.stream

    @property
    @override
    def supplies(self) -> str:
        return self.stream

    @override
    def compared_from(self, state: ControllerState) -> int:
        return state.subgoals[-1].asked

    @override
    def wants_values(self, state: ControllerState) -> bool:
        return not self.wants_subgoal(state)

    @override
    def wants_subgoal(self, state: ControllerState) -> bool:
        return not state.subgoals or state.pointer >= len(state.subgoals[-1].values)

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """Advance the pointer by one step if the step that it stands at is reached."""
        if seen.values is None or self.wants_subgoal(state):
            return state
        goal = state.subgoals[-1].values[state.pointer]
        if gap(self._compared(goal), self._compared(seen.values)) > self.threshold:
            return state
        return dataclasses.replace(state, pointer=state.pointer + 1).count("reached_steps")

    @override
    def supply(self, state: ControllerState, values: ValueArray) -> ControllerState:
        """Take in a new future (T, N, D) or ids (T, N) and point at its first step.

        Raises:
            ConfigError: ``entries`` names a feature that a token of the stream does not have.
        """
        features = values.shape[2] if values.ndim == 3 else 0
        if self.entries and max(self.entries) >= features:
            raise ConfigError(
                f"Controller 'goal_pointer': `entries` {list(self.entries)} of stream {self.stream!r}, whose tokens "
                f"have {features} features. Name features below {features}, or leave `entries` empty."
            )
        plan = Subgoal(state.tick, state.tick, values)
        return (
            dataclasses.replace(state, subgoals=(plan,), pointer=0).count("plans").count("reached_steps", 0)
        )

    @override
    def given(self, state: ControllerState) -> ValueArray | None:
        """Return the steps from the pointer on, the last one repeated, (T, N, D) or (T, N)."""
        if self.wants_subgoal(state):
            return None
        values = state.subgoals[-1].values
        return values[np.minimum(np.arange(len(values)) + state.pointer, len(values) - 1)]

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        if self.wants_subgoal(state):
            raise ConfigError("Controller.receive: a future is due (`wants_subgoal`): `supply` it first.")
        return super().receive(state, chunk, future)

    @override
    def cost(self, ticks: int, call: float) -> float:
        """Return the cost of an episode by equation (35), for the policy's calls alone."""
        return single_step_cost(ticks, call)

    def _compared(self, values: ValueArray) -> ValueArray:
        return values[..., list(self.entries)] if self.entries else values
