"""A tiny perturbed evaluation and a tiny sweep in the real simulator, which other processes import and run."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from wanderer import ENV, TASKS, Wanderer

from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.evaluation.closed_loop.budgets import BudgetGrid
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.sweep import run_sweep

CONFIG = EvaluationConfig(
    tasks=TASKS,
    env=ENV,
    controller=Chunked(4),
    workers=1,
    slots=2,
    latency_calls=1,
    shifts=Shifts(4, ("Robot Initial States", "Language Instructions"), (1, 5)),
)
EPISODES = 12
SWEPT = EvaluationConfig(tasks=TASKS[:1], episodes=5, env=ENV, workers=1, slots=2, latency_calls=1)
GRID = BudgetGrid(execute=(2, 4))


@dataclasses.dataclass(frozen=True)
class Slow(Wanderer):
    """Takes its time, so that it can be killed in the middle."""

    def forecast(
        self, observation: Observation, state: Tensor, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Tensor]:
        time.sleep(0.05)
        return super().forecast(observation, state, budget, seeds)


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "sweep":
        run_sweep(Slow(), GRID, SWEPT, where, checkpoint="abc", progress=False)
    else:
        rollout(Slow(), CONFIG, checkpoint="abc", journal=where, progress=False)
