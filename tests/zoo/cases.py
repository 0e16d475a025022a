"""A system in the state in which its checks find it: composed, fitted, trained for two steps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Estimator
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, DesignConfig
from wamkit.training import OptimConfig
from wamkit.zoo.system import System

NOW = 12  # frame of the first recording at which a system acts


@dataclass
class Case:
    """A system, its recordings and its design.

    Attributes:
        system: the system.
        data: recordings that it is built for.
        fresh: seed -> design as it was built, never trained or changed.
    """

    system: System
    data: Dataset
    fresh: dict[int, Design] = field(default_factory=dict)

    @cached_property
    def config(self) -> DesignConfig:
        return self.system.make()

    @cached_property
    def spec(self) -> DataSpec:
        return data_spec(self.data)

    def untrained(self, seed: int = 0, **changes: Any) -> Design:
        """A fresh design, fitted and not trained; ``changes`` replace fields of its config.

        Fitting is the slow part, so a design without changes is built once and copied.
        """
        if changes:
            return self._built(seed, changes)
        original = self.original(seed)
        torch.manual_seed(seed)  # whatever is drawn next is the same for every copy
        return copy.deepcopy(original)

    def original(self, seed: int = 0) -> Design:
        """The design that :meth:`untrained` copies; who changes it asks for no copy after that."""
        if seed not in self.fresh:
            self.fresh[seed] = self._built(seed, {})
        return self.fresh[seed]

    def _built(self, seed: int, changes: Mapping[str, Any]) -> Design:
        torch.manual_seed(seed)
        design = Design(replace(self.config, **changes), self.spec)
        design.fit(self.data, seed=0)
        return design.eval()

    @cached_property
    def design(self) -> Design:
        """The design after two steps of training; its oracle may change no weight."""
        design = self.untrained()
        optimizer = OptimConfig().build(design)
        design.train()
        for step in range(2):
            loss = design.loss(self.batch(range(step * 4, step * 4 + 4), design)).total
            assert loss.isfinite(), loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            design.after_step()
        return design.eval()

    def batch(self, frames: Any = range(4), design: Design | None = None) -> Batch:
        """Training windows cut at ``frames``."""
        design = self.design if design is None else design
        return self.data.windows(np.array(list(frames)), design.training_window)

    def cut(self, window: WindowSpec, frames: Any = (NOW,)) -> Observation:
        """Observations cut by ``window`` as a call of the policy sees them, with the goal that the design reads."""
        original = self.original()
        if window == original.window and original.reads_goal:
            window = replace(window, goal=True)
        batch = self.data.windows(np.array(list(frames)), window)
        seen = replace(batch.observation, goal=batch.goal)
        if not batch.past:
            return seen
        past, pad = batch.action[:, : batch.past], batch.action_pad[:, : batch.past]
        return replace(seen, past_action=past, past_action_pad=pad)

    def observation(self, frames: Any = (NOW,)) -> Observation:
        """Observations at ``frames`` of the recordings."""
        return self.cut(self.original().window, frames)

    @property
    def acts(self) -> bool:
        """True when the design generates an action."""
        return any(ACTION in factor.generates for factor in self.config.factors)

    def futures(self) -> list[str]:
        """Names of the future streams."""
        return sorted(self.original().graph.of_role("future"))

    def estimator_of(self, stream: str, design: Design | None = None) -> Estimator:
        """Estimator that generates a stream."""
        design = self.design if design is None else design
        return design.estimators[design.graph.factor_of(stream).estimator]

    def act(self, design: Design, observation: Observation, seed: int = 1, **more: Any) -> Tensor:
        """Sampled values of the action stream; ``more`` are arguments of ``Design.sample``."""
        rows = observation.batch_size
        context = design.encode_context(observation)
        carry = design.initial_state(rows)
        if design.past_blocks:
            carry = design.observe(observation, carry, context)
        seeds = [seed + i for i in range(rows)]
        return design.sample(observation, [ACTION], seeds=seeds, carry=carry, **more).values[ACTION]
