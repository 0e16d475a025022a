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
from wamkit.controllers.cost import chunk_cost
from wamkit.errors import ConfigError


@Controller.register_subclass("overlap")
@dataclass(frozen=True)
class Overlap(Controller):
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
        if self.execute < 1:
            raise ConfigError(f"Overlap: `execute` must be at least 1, got {self.execute}.")
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

    def wants_call(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_call`."""
        return state.chunk is None or state.cursor >= self.execute

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`.

        Raises:
            ConfigError: the state asks for a model call first.
        """
        if self.wants_call(state):
            raise ConfigError(
                "Controller.next: a model call is due (`wants_call`): `receive` its chunk first."
            )
        said = [p.actions[state.tick - p.start] for p in state.plans if p.covers(state.tick)]
        action = np.einsum("n,na->a", self.weights(len(said)), np.stack(said)).astype(np.float32)
        return action, dataclasses.replace(state, cursor=state.cursor + 1, tick=state.tick + 1)

    def horizon(self, predicted: int) -> HorizonUse:
        """See :meth:`Controller.horizon`. All predicted actions are used."""
        if predicted < self.execute:
            raise ConfigError(
                f"Controller 'overlap' executes {self.execute} actions per call, the model predicts {predicted}. "
                f"Set `execute` to at most {predicted}."
            )
        return HorizonUse(predicted, self.execute, need=predicted)

    def calls(self, ticks: int) -> tuple[int, ...]:
        """See :meth:`Controller.calls`."""
        return tuple(range(0, ticks, self.execute))

    def cost(self, ticks: int, call: float) -> float:
        """Equation (34)."""
        return chunk_cost(ticks, self.execute, call)

    def deadline_s(self, rate_hz: float) -> float:
        """See :meth:`Controller.deadline_s`: K / f."""
        return self.execute / rate_hz
