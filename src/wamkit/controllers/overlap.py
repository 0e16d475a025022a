"""Overlapping chunks, averaged: temporal ensembling."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

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

    Every tick executes ``sum_i w_i a_i`` over all held chunks that speak of it, ``w_i ~ exp(-decay * i)`` with
    i = 0 for the oldest. Averaging assumes that two forecasts of one tick mean the same: a binary gripper or a
    policy that jumps between modes is blurred.

    Attributes:
        execute: K, ticks between two calls; 1 in the paper.
        decay: 0 is the plain mean, above 0 trusts old chunks more, below 0 new ones; ``-inf`` is ``chunked``.
    """

    execute: int = 1
    decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if math.isnan(self.decay) or self.decay == math.inf:
            raise ConfigError(f"Overlap: `decay` must be a number below infinity, got {self.decay}.")

    def weights(self, count: int) -> ActionArray:
        """(count,), weights of ``count`` chunks that speak of one tick, oldest first. They sum to one."""
        age = np.arange(count - 1, -1, -1)  # 0 for the newest
        logits = np.zeros(count)
        logits[:-1] = self.decay * age[:-1]
        weights = np.exp(logits - logits.max())
        return (weights / weights.sum()).astype(np.float32)

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. Older chunks stay as long as they speak of coming ticks."""
        check_chunk(chunk, self.execute, "overlap")
        plans = (*(p for p in state.plans if p.covers(state.tick)), Plan(state.tick, state.tick, chunk))
        return dataclasses.replace(state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=plans)

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`."""
        self.current(state)
        said = [p.actions[state.tick - p.start] for p in state.plans if p.covers(state.tick)]
        action = np.einsum("n,na->a", self.weights(len(said)), np.stack(said)).astype(np.float32)
        return action, dataclasses.replace(state, cursor=state.cursor + 1, tick=state.tick + 1)

    def horizon(self, predicted: int) -> HorizonUse:
        """See :meth:`Controller.horizon`. All predicted actions are used."""
        return dataclasses.replace(super().horizon(predicted), need=predicted)
