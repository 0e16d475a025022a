"""Critical phases: imagination is paid for only where it matters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, Spend, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("phase_trigger")
@dataclass(frozen=True)
class PhaseTrigger(Early):
    """Spend the future's and the planner's budget in critical phases only (DreamAvoid; survey eqs. 34, 10).

    Slow motion is taken for precise, so critical: the score is ``exp(-speed / scale)`` in (0, 1], with the mean
    speed since the last call, and 0 before anything moved. Routine calls generate no future.

    Attributes:
        execute: K, ticks between two calls.
        threshold: a call is critical where the score reaches it; 0 is always, 1 is never.
        entries: entries of the robot's state whose motion is looked at.
        scale: speed, in state units per tick, at which the score has fallen to 1 / e.
        candidates: planner's candidates of a routine call; None leaves them as they are.
    """

    threshold: float = 0.5
    entries: tuple[int, ...] = (0, 1, 2)
    scale: float = 0.005
    candidates: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1 or not self.scale > 0:
            raise ConfigError(
                f"PhaseTrigger: needs `threshold` in [0, 1] and a positive `scale`, got {self.threshold} "
                f"and {self.scale}."
            )

    @property
    def routine(self) -> Spend:
        """What a call outside critical phases spends."""
        return Spend(future=False, candidates=self.candidates)

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """See :meth:`Controller.watch`. Adds up the way since the last call."""
        here = seen.state[list(self.entries)]
        way = state.seen.get("way", np.zeros(()))
        if "here" in state.seen:
            way = np.add(way, np.linalg.norm(np.subtract(here, state.seen["here"])), dtype=np.float64)
        return dataclasses.replace(state, seen={"here": here, "way": way})

    def score(self, state: ControllerState) -> float:
        """How critical the current phase is, 0 to 1."""
        if not state.cursor:
            return 0.0
        return math.exp(-float(state.seen["way"]) / state.cursor / self.scale)

    def critical(self, state: ControllerState) -> bool:
        """Whether the call that is due lies in a critical phase."""
        return self.threshold < 1 and self.score(state) >= self.threshold

    def spend(self, state: ControllerState) -> Spend:
        """See :meth:`Controller.spend`."""
        return Spend() if self.critical(state) else self.routine

    def spends(self) -> tuple[Spend, ...]:
        """See :meth:`Controller.spends`."""
        return (*((self.routine,) if self.threshold > 0 else ()), *((Spend(),) if self.threshold < 1 else ()))

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`."""
        counted = state.count("critical_calls", int(self.critical(state)))
        after = super().receive(counted, chunk, future)
        return dataclasses.replace(after, seen={**after.seen, "way": np.zeros(())})
