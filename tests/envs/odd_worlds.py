"""Environments of a user that return something else than they declare; workers import this file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.envs import EnvConfig, SimulatedEnv
from wamkit.envs.base import ExtrasSpec, ScriptedExpert
from wamkit.envs.perturbations import Start

TICKS = 6


def returned(field: str, fault: str) -> Any:
    """What a world returns for a field: right without a fault."""
    picture, state = np.full((8, 6, 3), 7, np.uint8), np.array([1, 2], np.float32)
    depth = np.ones((8, 6), np.float32)
    values: dict[str, dict[str, Any]] = {
        "images": {
            "": {"scene": picture},
            "float picture": {"scene": picture / np.float32(255)},
            "wrong size": {"scene": picture[:4]},
            "channels first": {"scene": picture.transpose(2, 0, 1)},
            "missing camera": {},
            "undeclared camera": {"scene": picture, "wrist": picture},
            "list": {"scene": picture.tolist()},
            "not a mapping": picture,
        },
        "state": {
            "": state,
            "nan state": np.array([1, np.nan], np.float32),
            "double state": state.astype(np.float64),
            "wide state": np.zeros(3, np.float32),
            "rows of states": state[None],
            "state as list": [1.0, 2.0],
        },
        "extras": {
            "": {"depth": depth},
            "nan depth": {"depth": np.where(np.eye(8, 6) > 0, np.float32(np.nan), depth)},
            "small depth": {"depth": depth[1:]},
            "integer depth": {"depth": depth.astype(np.int32)},
            "no depth": {},
            "more extras": {"depth": depth, "force": state},
        },
        "reward": {"": np.float64(0.5), "text reward": "1.0", "nan reward": float("nan"), "no reward": None},
        "success": {"": np.bool_(False), "number success": 0.0, "no success": None, "text success": "no"},
        "expert": {
            "": np.full(4, 0.5, np.float32),
            "outside": np.array([3, 0, 0, 0], np.float32),
            "wide action": np.zeros(2, np.float32),
            "nan action": np.array([0, 0, 0, np.nan], np.float32),
        },
    }
    return values[field].get(fault, values[field][""])


@dataclass(frozen=True)
class OddConfig(EnvConfig):
    """A world that is right until tick ``at``, then returns ``fault``; ``declares`` a state of its config only."""

    task: str = "odd"
    max_ticks: int = TICKS
    fault: str = ""
    at: int = 2
    declares: str = "same"

    @classmethod
    def task_names(cls) -> tuple[str, ...]:
        return ("[odd]", "odd")

    def build(self) -> SimulatedEnv:
        return OddEnv(self)

    def phrases(self) -> tuple[str, ...]:
        return ("look",)

    def observation_spec(self) -> ObservationSpec:
        names = ("x", "y") if self.declares == "same" else ("x", "z")
        return ObservationSpec({"scene": CameraSpec(8, 6)}, names, 10.0)

    def action_spec(self) -> ActionSpec:
        return ActionSpec(tuple("abcd"), (-1.0,) * 4, (1.0,) * 4, 10.0)

    def extras_spec(self) -> ExtrasSpec:
        return {"depth": ((8, 6), "float32")}


class OddEnv(SimulatedEnv):
    def __init__(self, config: OddConfig) -> None:
        observation = ObservationSpec({"scene": CameraSpec(8, 6)}, ("x", "y"), 10.0)
        super().__init__(
            config.task, "look", observation, config.action_spec(), config.max_ticks, config.extras_spec()
        )
        self._config = config

    def _now(self, field: str) -> Any:
        return returned(field, self._config.fault if self.tick >= self._config.at else "")

    def _restore_simulation(self) -> None: ...

    def _reset_simulation(self, seed: int, start: Start) -> None: ...

    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        return self._now("reward"), self._now("success")

    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return self._now("images")

    def _state(self) -> NDArray[np.float32]:
        return self._now("state")

    def _extras(self) -> dict[str, NDArray[Any]]:
        return self._now("extras")

    def expert(self) -> ScriptedExpert:
        return lambda: self._now("expert")
