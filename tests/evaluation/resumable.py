"""A tiny perturbed evaluation in the real simulator, which other processes import and run."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from test_rollout import ENV, TASKS, Wanderer
from torch import Tensor

from wamkit.controllers import Chunked
from wamkit.evaluation.plan import EvaluationConfig, Shifts
from wamkit.evaluation.rollout import evaluate
from wamkit.types import Budget, Forecast, Observation

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


@dataclasses.dataclass(frozen=True)
class Slow(Wanderer):
    """Takes its time, so that it can be killed in the middle."""

    def forecast(
        self, observation: Observation, state: Tensor, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Tensor]:
        time.sleep(0.05)
        return super().forecast(observation, state, budget, seeds)


if __name__ == "__main__":
    evaluate(Slow(), CONFIG, checkpoint="abc", journal=Path(sys.argv[1]), progress=False)
