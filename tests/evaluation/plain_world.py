"""A world without physics that starts fast, for evaluations in real worker processes; workers import this file,
which loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.envs import EnvConfig, OutOfReachError, SimulatedEnv
from wamkit.envs.perturbations import Perturbation, Scene, Start
from wamkit.envs.perturbations.suite import every_kind

WORDS = ("go to the right", "move rightwards", "towards the right, please")


@dataclass(frozen=True)
class PlainConfig(EnvConfig):
    """A point is pushed by the first action entry from where the seed puts it; above 3 it has arrived.

    Attributes:
        breaks_at: tick at which perturbed episodes raise, or -1.
        gives_up_at: where the demonstrator does not know what to do from, or -1.
    """

    task: str = "left"
    max_ticks: int = 10
    breaks_at: int = -1
    gives_up_at: float = -1.0

    @classmethod
    def task_names(cls) -> tuple[str, ...]:
        return ("left", "right")

    def build(self) -> SimulatedEnv:
        return PlainEnv(self)

    def phrases(self) -> tuple[str, ...]:
        return WORDS

    def perturbations(self) -> tuple[Perturbation, ...]:
        return every_kind({})

    def observation_spec(self) -> ObservationSpec:
        return ObservationSpec({"scene": CameraSpec(8, 8)}, ("x",), 10.0)

    def action_spec(self) -> ActionSpec:
        return ActionSpec(tuple("abcd"), (-1.0,) * 4, (1.0,) * 4, 10.0)


class PlainEnv(SimulatedEnv):
    def __init__(self, config: PlainConfig) -> None:
        specs = (config.observation_spec(), config.action_spec())
        super().__init__("plain", WORDS[0], *specs, config.max_ticks, {})
        self._breaks_at, self._gives_up_at, self._x = config.breaks_at, config.gives_up_at, 0.0

    def phrases(self) -> tuple[str, ...]:
        return WORDS

    def scene(self) -> Scene:
        nowhere = np.zeros((2, 3))
        return Scene(None, {}, {}, nowhere, nowhere[0], None)  # type: ignore[arg-type]

    def disturbance(self) -> NDArray[np.float32]:
        return np.array([1, 0, 1, 0], np.float32)

    def expert(self) -> Any:
        if self._x == self._gives_up_at:
            raise OutOfReachError("too far")
        return lambda: np.array([0.5, 0, 0, 0], np.float32)

    def _restore_simulation(self) -> None:
        """Nothing is left behind that a reset does not set."""

    def _reset_simulation(self, seed: int, start: Start) -> None:
        self._x = seed % 3 + 20 * start.hand_offset_m[0]

    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        if self.tick == self._breaks_at and self._episode.perturbation is not None:
            raise FloatingPointError("the floor gave way")
        self._x += float(action[0])
        return 0.0, self._x > 3

    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return {"scene": np.full((8, 8, 3), int(np.clip(100 + 10 * self._x, 0, 255)), np.uint8)}

    def _state(self) -> NDArray[np.float32]:
        return np.array([self._x], np.float32)

    def _extras(self) -> dict[str, NDArray[Any]]:
        return {}
