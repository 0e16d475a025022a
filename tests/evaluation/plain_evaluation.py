"""An evaluation in the plain world, and its policy."""

from __future__ import annotations

from typing import Any

from plain_world import PlainConfig
from wanderer import Wanderer

from wamkit.controllers import Chunked
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts

CONFIG = EvaluationConfig(
    tasks=("left", "right"),
    env=PlainConfig(),
    controller=Chunked(4),
    workers=1,
    slots=4,
    latency_calls=1,
    shifts=Shifts(8, ("Robot Initial States", "Language Instructions"), (1, 5)),
)
EPISODES = 24


def policy(kind: type[Wanderer] = Wanderer, **values: Any) -> Wanderer:
    """A policy of this world."""
    env = CONFIG.env
    return kind(observation_spec=env.observation_spec(), action_spec=env.action_spec(), **values)
