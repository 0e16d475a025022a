"""A planner's carried plan in closed loop: the evaluation keeps one per episode and joins those that call together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from wamkit.contract.data import DataSpec
from wamkit.controllers import Chunked
from wamkit.design import Design
from wamkit.envs import MetaWorldConfig
from wamkit.evaluation.closed_loop.episodes import Trace
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.planners import MPPIConfig
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats
from wamkit.zoo import recipe

ENV = MetaWorldConfig(image_size=32, action_repeat=4, max_ticks=8)
CONFIG = EvaluationConfig(
    env=ENV, episodes=3, controller=Chunked(4), workers=1, slots=2, films=0, latency_calls=1
)


def played(warm_shift: int) -> tuple[Trace, ...]:
    base = recipe("rollout")
    trunks = {name: TransformerConfig(width=32, depth=1, heads=2) for name in base.trunks}
    planner = MPPIConfig(candidates=3, iterations=0, warm_shift=warm_shift)
    config = dataclasses.replace(base, width=32, trunks=trunks, planner=planner)
    observation, action = ENV.observation_spec(), ENV.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    torch.manual_seed(0)
    design = Design(config, DataSpec(observation, action, stats)).eval()
    done = rollout(design, CONFIG, progress=False)
    assert [e.error for e in done.report.episodes] == [None] * 3
    return done.traces


@pytest.mark.sim
def test_the_second_call_of_every_episode_starts_from_the_first() -> None:
    for cold, warm in zip(played(0), played(1), strict=True):
        first, second = zip(cold.blocks[:2], warm.blocks[:2], strict=True)
        assert np.allclose(first[0].actions, first[1].actions, atol=1e-5)
        assert not np.allclose(second[0].actions, second[1].actions, atol=1e-2)
