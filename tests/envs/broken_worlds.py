"""Environments that fail on purpose; workers import this file."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.envs import EnvConfig, SimulatedEnv
from wamkit.envs.perturbations import Start


@dataclass(frozen=True)
class CountingConfig(EnvConfig):
    """A world whose state counts ticks and sums actions; at tick ``at`` it does ``what``, if only for ``seeds``."""

    task: str = "counting"
    what: str = "nothing"
    at: int = 3
    max_ticks: int = 6
    succeeds_at: int = 100
    seeds: tuple[int, ...] = ()

    @classmethod
    def task_names(cls) -> tuple[str, ...]:
        return ("counting",)

    def build(self) -> SimulatedEnv:
        return CountingEnv(self)

    def phrases(self) -> tuple[str, ...]:
        return ("count",)

    def observation_spec(self) -> ObservationSpec:
        return ObservationSpec({}, ("ticks", "sum", "seed", "builds"), 10.0)

    def action_spec(self) -> ActionSpec:
        return ActionSpec(("a",), (-1.0,), (1.0,), 10.0)


class CountingEnv(SimulatedEnv):
    def __init__(self, config: CountingConfig) -> None:
        super().__init__(
            task_name="counting",
            instruction="count",
            observation_spec=config.observation_spec(),
            action_spec=config.action_spec(),
            max_ticks=config.max_ticks,
            extras_spec={},
        )
        self._config = config
        self._sum, self._seed, self._resets = 0.0, 0, 0

    def _restore_simulation(self) -> None:
        """Nothing is left behind that a reset does not set."""

    def _reset_simulation(self, seed: int, start: Start) -> None:
        self._sum, self._seed = 0.0, seed
        self._resets += 1

    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        self._sum += float(action[0])
        if self.tick == self._config.at and (not self._config.seeds or self._seed in self._config.seeds):
            if self._config.what == "raise":
                raise ValueError("the arm fell off")
            if self._config.what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._config.what == "crash":
                ctypes.string_at(0)
            if self._config.what == "hang":
                time.sleep(60)
        return 0.0, self.tick + 1 >= self._config.succeeds_at

    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return {}

    def _state(self) -> NDArray[np.float32]:
        return np.array([self.tick, self._sum, self._seed, self._resets], np.float32)

    def _extras(self) -> dict[str, NDArray[Any]]:
        return {}


@dataclass(frozen=True)
class DyingConfig(CountingConfig):
    """A world that kills its process while it is built."""

    def build(self) -> SimulatedEnv:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError
