"""Subgoals: a stream that is generated on a clock of its own and given to the policy's calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget
from wamkit.controllers import Controller, ValueArray
from wamkit.evaluation.closed_loop.attempt import Failed, attempt
from wamkit.evaluation.closed_loop.comparison import StreamComparison
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, Senses, observe
from wamkit.evaluation.closed_loop.policy import Policy


@final
class Subgoals:
    """Generates the stream that a controller supplies and hands its values to the policy.

    Args:
        policy: policy under test; generates the stream and reads it.
        controller: controller that says when a subgoal is generated and which one a call is given.
        stream: name of the stream, :attr:`wamkit.controllers.Controller.supplies`.
        budget: budget of the generator.
        senses: extras shown to the generator.
        followed: comparison of the stream, where the controller :attr:`~wamkit.controllers.Controller.follows` it:
            values that are relative to the generator's observation are then expressed as seen from each call.

    Raises:
        ConfigError: the policy cannot generate the stream separately.
    """

    def __init__(
        self,
        policy: Policy,
        controller: Controller,
        stream: str,
        budget: Budget,
        senses: Senses,
        followed: StreamComparison | None = None,
    ) -> None:
        policy.check_given(stream, followed=followed is not None)
        self._policy = policy
        self._controller = controller
        self._stream = stream
        self._budget = budget
        self._senses = senses
        self._followed = followed

    def supply(self, runs: Sequence[EpisodeRun]) -> None:
        """Generate a subgoal for every running episode whose controller starts the generator at this tick."""
        for run in runs:
            if run.status is None and self._controller.wants_subgoal(run.controller):
                values = attempt(self._generate, run)
                if isinstance(values, Failed):
                    run.fail(values.traceback)
                else:
                    run.controller = self._controller.supply(run.controller, values)

    def given(self, runs: Sequence[EpisodeRun]) -> dict[str, Tensor]:
        """Return stream -> values (B, ...) that a call for these episodes is given; empty if none has a subgoal."""
        values = [self._controller.given(run.controller) for run in runs]
        available = [value for value in values if value is not None]
        if not available:
            return {}
        stacked = torch.from_numpy(np.stack(available))
        return {self._stream: self._followed.rebased(runs, stacked) if self._followed else stacked}

    def _generate(self, run: EpisodeRun) -> ValueArray:
        """Sample the stream for one episode, with noise that differs from that of every call of the policy."""
        observation = observe([run], self._policy.window, self._policy.action_spec.width, self._senses)
        seeds = [row_seed(run.plan.seed, -1 - run.tick)]
        sample = self._policy.generate(observation, run.state, self._stream, self._budget, seeds)
        values: ValueArray = sample[0].cpu().numpy()
        return values
