"""A toy world and toy policies that obey the runner's protocols, without processes or networks.

The world: a point on a line starts at ``seed % 5`` and is moved by the first action entry. It is solved at
position >= 10, and falls off (the task's own failure) below -3. Pixels and state both show the position.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked, Controller

OBSERVATION = ObservationSpec(cameras={"scene": CameraSpec(8, 8)}, state=("x",), rate_hz=10.0)
ACTION = ActionSpec(names=("dx", "idle"), low=(-1.0, -1.0), high=(1.0, 1.0), rate_hz=10.0)
MAX_TICKS = 30


@dataclass(frozen=True)
class ToyStep:
    observations: tuple[Mapping[str, Any], ...] = ()
    ticks: tuple[int, ...] = ()
    executed: int = 0
    success: bool = False
    done: bool = False
    error: str | None = None
    facts: tuple[Any, ...] = ()


class ToyWorld:
    """One simulator."""

    def __init__(self, seed: int, instruction: str | None) -> None:
        self.seed, self.x, self.tick = seed, float(seed % 5), 0
        self.instruction = instruction or "go right"

    def see(self) -> dict[str, Any]:
        level = np.uint8(np.clip(128 + 10 * self.x, 0, 255))
        return {
            "images": {"scene": np.full((8, 8, 3), level)},
            "state": np.array([self.x], np.float32),
            "task": self.instruction,
            "extras": {"force": np.full((2, 3), self.x, np.float32), "touch": np.array([1], np.uint8)},
        }

    def step(self, actions: np.ndarray, look: tuple[int, ...]) -> ToyStep:
        seen, ticks = [], []
        for position, action in enumerate(actions, start=1):
            self.x += float(action[0])
            self.tick += 1
            if position in look:
                seen.append(self.see())
                ticks.append(self.tick)
            if self.x >= 10 or self.x < -3 or self.tick >= MAX_TICKS:
                return ToyStep(tuple(seen), tuple(ticks), position, self.x >= 10, True)
        return ToyStep(tuple(seen), tuple(ticks), len(actions), False, False)


class ToySimulators:
    """Slots of :class:`ToyWorld`; logs every message, dies in the middle of episodes listed in ``deadly``."""

    def __init__(self, slots: int, deadly: Sequence[int] = ()) -> None:
        self.worlds: dict[int, ToyWorld] = {}
        self.pending: dict[int, ToyStep] = {}
        self.deadly = set(deadly)
        self.log: list[tuple[Any, ...]] = []
        self.slots = slots

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: Any = None,
        perturbation: Any = None,
    ) -> None:
        assert 0 <= slot < self.slots
        assert slot not in self.pending
        self.worlds[slot] = ToyWorld(seed, instruction)
        self.log.append(("reset", slot, seed))
        self.pending[slot] = ToyStep((self.worlds[slot].see(),), (0,))

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        assert slot not in self.pending
        world = self.worlds[slot]
        self.log.append(("step", slot, actions.tobytes(), look))
        if world.seed in self.deadly and world.tick >= 4:
            self.pending[slot] = ToyStep(error=f"worker died at tick {world.tick}")
        else:
            self.pending[slot] = world.step(actions, look)

    def wait(self, slots: Sequence[int]) -> dict[int, ToyStep]:
        self.log.append(("wait", tuple(slots)))
        return {slot: self.pending.pop(slot) for slot in slots}

    def close(self) -> None:
        self.worlds.clear()


@dataclass(frozen=True)
class Memory:
    """Carried state: calls so far and a cache that grows by one entry per call."""

    calls: Tensor
    cache: Tensor


@dataclass(frozen=True)
class ToyPolicy:
    """Goes right, with noise from the row's seed; ``broken`` names start positions at which it misbehaves."""

    step: float = 0.5
    raises_at: float | None = None
    nan_at: float | None = None
    window: WindowSpec = dataclasses.field(
        default_factory=lambda: WindowSpec(observation=(-3, 0), horizon=8, future=(2, 4))
    )
    name: str = "toy"
    controller: Controller = dataclasses.field(default_factory=lambda: Chunked(4))
    observation_spec: ObservationSpec = OBSERVATION
    action_spec: ActionSpec = ACTION
    sensors: tuple[str, ...] = ()
    reads_goal: bool = False
    grows: bool = False
    batches: list[int] = dataclasses.field(default_factory=list, compare=False)

    def initial_state(self, batch_size: int) -> Memory:
        return Memory(torch.zeros(batch_size, dtype=torch.int64), torch.zeros(batch_size, 0))

    def forecast(
        self, observation: Observation, state: Memory, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Memory]:
        x = observation.state[:, -1, 0]
        start = state.calls == 0
        if self.raises_at is not None and bool((start & (x == self.raises_at)).any()):
            raise ValueError("the toy cannot see this")
        assert observation.images["scene"].shape == (len(seeds), 2, 3, 8, 8)
        assert not observation.pad[:, -1].any()
        rows = [torch.randn(1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        action = torch.full((len(seeds), self.window.horizon, 2), self.step)
        action[:, :, 1] = 0.1 * torch.cat(rows)[:, None]
        if self.nan_at is not None:
            action[start & (x == self.nan_at)] = torch.nan
        self.batches.append(len(seeds))
        cache = torch.cat((state.cache, x[:, None]), dim=1) if self.grows else state.cache
        future = {} if budget.future is False else {"s": torch.stack((x + 1, x + 2), dim=1)[..., None, None]}
        forecast = Forecast(
            action, future, nfe={"a": 4, "s": 0 if not future else 2}, stage_ms={"encode": 1.0}
        )
        return forecast, Memory(state.calls + 1, cache)

    def remember(self, observation: Observation, state: Memory) -> Memory:
        raise AssertionError("the toy reads no past actions")

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        if not forecast.future:
            return None
        level = (128 + 10 * forecast.future["s"][:, :, 0, 0]).clamp(0, 255).to(torch.uint8)
        return {"scene": level[:, :, None, None, None].expand(-1, -1, 3, 8, 8)}

    def describe(self) -> dict[str, Any]:
        return {"tuple": {"coupling": "direct"}, "formula": "p(a|c)", "is_wam": False}

    def check_budget(self, budget: Budget) -> None:
        pass
