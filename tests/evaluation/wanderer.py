"""A policy that needs no network, and the small simulator that it moves in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked, Controller
from wamkit.envs import MetaWorldConfig
from wamkit.errors import BudgetError

ENV = MetaWorldConfig(image_size=16, action_repeat=4, max_ticks=10)


TASKS = ("drawer-open-v3", "window-open-v3")


@dataclasses.dataclass(frozen=True)
class Wanderer:
    """Random actions from the row's seed; imagines that the world stands still; carries a call counter."""

    window: WindowSpec = dataclasses.field(
        default_factory=lambda: WindowSpec(observation=(-2, 0), horizon=8, future=(2, 4))
    )
    name: str = "wanderer"
    sensors: tuple[str, ...] = ()
    reads_goal: bool = False
    controller: Controller = dataclasses.field(default_factory=lambda: Chunked(4))
    observation_spec: ObservationSpec = dataclasses.field(default_factory=ENV.observation_spec)
    action_spec: ActionSpec = dataclasses.field(default_factory=ENV.action_spec)

    def initial_state(self, batch_size: int) -> Tensor:
        return torch.zeros(batch_size, 1)

    def forecast(
        self, observation: Observation, state: Tensor, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Tensor]:
        assert set(observation.extras) == set(self.sensors)
        noise = [torch.rand(8, 4, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in seeds]
        now = {
            camera: image[:, -1:].expand(-1, 2, -1, -1, -1) for camera, image in observation.images.items()
        }
        return Forecast(torch.stack(noise), future=now, nfe={"action": 3}), state + 1

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        return dict(forecast.future)

    def describe(self) -> dict[str, Any]:
        return {"tuple": {"coupling": "direct"}, "formula": "p(a|c)", "is_wam": False}

    def check_budget(self, budget: Budget) -> None:
        if budget.candidates is not None:
            raise BudgetError("the wanderer has no candidates")
