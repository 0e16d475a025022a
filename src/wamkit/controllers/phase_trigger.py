"""Phase-dependent budgets: futures are generated in critical phases only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from wamkit.config.ranges import Positive, Probability, Size, Whole
from wamkit.controllers.base import ActionArray, Controller, ControllerState, Seen, Spend, ValueArray
from wamkit.controllers.periodic import Early
from wamkit.errors import ConfigError


@Controller.register_subclass("phase_trigger")
@dataclass(frozen=True)
class PhaseTrigger(Early):
    """Spend the future's and the planner's budget in critical phases only (DreamAvoid; survey eqs. 34, 10).

    Slow motion is taken as precise and therefore critical: the score is ``exp(-speed / scale)`` in (0, 1], with the
    mean speed since the last call, and 0 before the first action. Routine calls generate no future.

    Attributes:
        execute: K, ticks between two calls.
        threshold: score at which a call counts as critical, from 0 (always) to 1 (never).
        entries: entries of the robot's state whose speed is measured.
        scale: speed at which the score has fallen to 1 / e, in state units per tick.
        candidates: number of planner candidates in a routine call. None keeps the budget's number.
    """

    threshold: Probability = 0.5
    entries: tuple[Whole, ...] = (0, 1, 2)
    scale: Positive = 0.005
    candidates: Size | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.threshold <= 1 or not self.scale > 0:
            raise ConfigError(
                f"PhaseTrigger: needs `threshold` in [0, 1] and a positive `scale`, got {self.threshold} "
                f"and {self.scale}."
            )

    @property
    def routine(self) -> Spend:
        """Budget changes of a call outside critical phases."""
        return Spend(future=False, candidates=self.candidates)

    @override
    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """Add this tick's motion to the distance moved since the last call."""
        position = seen.state[list(self.entries)]
        distance = state.seen.get("distance", np.zeros(()))
        if "position" in state.seen:
            motion = np.linalg.norm(np.subtract(position, state.seen["position"]))
            distance = np.add(distance, motion, dtype=np.float64)
        return dataclasses.replace(state, seen={"position": position, "distance": distance})

    def score(self, state: ControllerState) -> float:
        """Criticality of the current phase, 0 to 1."""
        if not state.cursor:
            return 0.0
        return math.exp(-float(state.seen["distance"]) / state.cursor / self.scale)

    def critical(self, state: ControllerState) -> bool:
        """Return true if the call that is due lies in a critical phase."""
        return self.threshold < 1 and self.score(state) >= self.threshold

    @override
    def spend(self, state: ControllerState) -> Spend:
        return Spend() if self.critical(state) else self.routine

    @override
    def spends(self) -> tuple[Spend, ...]:
        return (*((self.routine,) if self.threshold > 0 else ()), *((Spend(),) if self.threshold < 1 else ()))

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        counted = state.count("critical_calls", int(self.critical(state)))
        after = super().receive(counted, chunk, future)
        return dataclasses.replace(after, seen={**after.seen, "distance": np.zeros(())})
