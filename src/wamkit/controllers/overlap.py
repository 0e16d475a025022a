"""Temporal ensembling: the average of overlapping chunks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from typing_extensions import override

from wamkit.config.ranges import Range, Size
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


@Controller.register_subclass("overlap")
@dataclass(frozen=True)
class Overlap(Every):
    """Average overlapping chunks with exponential weights, temporal ensembling (ACT, Zhao et al. 2023).

    Every tick executes ``sum_i w_i a_i`` over all chunks in use that cover it, ``w_i ~ exp(-decay * i)`` with i = 0
    for the oldest. Averaging assumes that all forecasts of a tick agree up to noise: a binary gripper, or a policy
    that jumps between modes, is blurred.

    Attributes:
        execute: K, ticks between two calls; 1 in the paper.
        decay: rate at which weights fall from the oldest chunk to the newest. 0 is the plain mean, negative values
            favour new chunks, and ``-inf`` is the same as ``chunked``.
    """

    execute: Size = 1
    decay: Annotated[float, Range(infinite=True)] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isnan(self.decay) or self.decay == math.inf:
            raise ConfigError(f"Overlap: `decay` must be a number or -inf, got {self.decay}.")

    def weights(self, count: int) -> ActionArray:
        """Weights (count,) of ``count`` chunks that cover one tick, oldest first. They sum to one."""
        age = np.arange(count - 1, -1, -1)  # 0 for the newest
        logits = np.zeros(count)
        logits[:-1] = self.decay * age[:-1]
        weights = np.exp(logits - logits.max())
        return (weights / weights.sum()).astype(np.float32)

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast; older chunks stay as long as they cover the current tick."""
        check_chunk(chunk, self.execute, "overlap")
        plans = (*(p for p in state.plans if p.covers(state.tick)), Plan(state.tick, state.tick, chunk))
        return dataclasses.replace(state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=plans)

    @override
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        self.current(state)
        actions = [p.actions[state.tick - p.start] for p in state.plans if p.covers(state.tick)]
        action = np.einsum("n,na->a", self.weights(len(actions)), np.stack(actions)).astype(np.float32)
        return action, dataclasses.replace(state, cursor=state.cursor + 1, tick=state.tick + 1)

    @override
    def horizon(self, predicted: int) -> HorizonUse:
        """Return the used part of a forecast: all predicted actions."""
        return dataclasses.replace(super().horizon(predicted), need=predicted)
