"""Simulators in the ticks of a policy that acts less often than its robot's control ticks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from wamkit.envs import EnvConfig
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.policy import RenderedFrame, Simulators, SimulatorStep
from wamkit.views.view import nearest_ticks


def policy_ticks(control_ticks: int, every: float) -> int:
    """Ticks of a policy, of ``every`` control ticks each, that begin and end within so many of these; at least 1."""
    return max(1, math.floor(control_ticks / every + 1e-9))


@dataclass(frozen=True)
class PacedStep:
    """Answer of a simulator in the policy's ticks; the fields are those of :class:`SimulatorStep`."""

    observations: tuple[RenderedFrame, ...]
    ticks: tuple[int, ...]
    executed: int
    success: bool
    done: bool
    error: str | None
    facts: tuple[Facts, ...]


@final
class PacedSimulators:
    """Simulators that execute every action of a policy during several control ticks.

    Args:
        simulators: simulators in control ticks of the robot.
        every: control ticks per tick of the policy, at least 1.

    Raises:
        ConfigError: the policy acts more often than the robot.
    """

    def __init__(self, simulators: Simulators, every: float) -> None:
        if every < 1:
            raise ConfigError(
                f"view: the policy acts {1 / every:.3g} times per control tick of the robot. Train it with "
                f"`view.rate_hz` of at most the robot's rate to act."
            )
        self._inner, self._every = simulators, every
        self._tick: dict[int, int] = {}
        self._ends: dict[int, np.ndarray] = {}  # control ticks at which the sent actions end

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: EnvConfig | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Start an episode in ``slot``."""
        self._tick[slot] = 0
        self._ends.pop(slot, None)
        self._inner.reset_async(slot, seed, instruction, config, perturbation)

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        """Execute (K, A) actions; render after those positions (1-based) that ``look`` names."""
        ends = nearest_ticks(self._tick[slot] + np.arange(len(actions) + 1), self._every)
        self._ends[slot] = ends
        repeated = np.repeat(actions, np.diff(ends), axis=0)
        self._inner.step_async(slot, repeated, tuple(int(ends[p] - ends[0]) for p in look))

    def wait(self, slots: Sequence[int]) -> Mapping[int, SimulatorStep]:
        """Wait for the answers of these slots."""
        answers = self._inner.wait(slots)
        return {
            slot: self._paced(slot, step) if slot in self._ends else step for slot, step in answers.items()
        }

    def close(self) -> None:
        """End the worker processes."""
        self._inner.close()

    def _paced(self, slot: int, step: SimulatorStep) -> SimulatorStep:
        ends, start = self._ends.pop(slot), self._tick[slot]
        done = ends - ends[0]
        executed = int(np.searchsorted(done, step.executed))  # an action that was begun counts
        self._tick[slot] = start + executed
        last = np.minimum(done[1 : executed + 1], step.executed) - 1
        return PacedStep(
            observations=step.observations,
            ticks=tuple(start + int(np.searchsorted(ends, tick)) for tick in step.ticks),
            executed=executed,
            success=step.success,
            done=step.done,
            error=step.error,
            facts=tuple(step.facts[i] for i in last.tolist()) if step.facts else (),
        )
