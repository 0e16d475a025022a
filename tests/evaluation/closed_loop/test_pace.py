"""A policy that acts less often than its robot: every action lasts, and all ticks are the policy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit import api
from wamkit.encoders import ImagesConfig
from wamkit.envs import MetaWorldConfig, Step
from wamkit.envs.facts import Facts
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.pace import PacedSimulators
from wamkit.evaluation.closed_loop.rollout import pure_simulation, rollout
from wamkit.training import OptimConfig, TrainConfig
from wamkit.trunks import TransformerConfig
from wamkit.views import ViewConfig
from wamkit.views.view import nearest_ticks


class Counting:
    """Simulators that count control ticks, show the tick, and end after ``length`` of them."""

    def __init__(self, length: int) -> None:
        self.length, self.at, self.sent = length, 0, list[float]()
        self.answer: Step | None = None

    def reset_async(self, slot: int, seed: int, *more: Any) -> None:
        self.at, self.sent = 0, []
        self.answer = Step(({"tick": 0},), (0,))

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        executed = min(len(actions), self.length - self.at)
        self.sent += actions[:executed, 0].tolist()
        ticks = tuple(self.at + p for p in look if p <= executed)
        facts = tuple(Facts(False, 0.0, float(self.at + i + 1)) for i in range(executed))
        self.at += executed
        done = self.at == self.length
        if done and self.at not in ticks:
            ticks = (*ticks, self.at)
        self.answer = Step(tuple({"tick": t} for t in ticks), ticks, executed, done=done, facts=facts)

    def wait(self, slots: Sequence[int]) -> Mapping[int, Step]:
        assert self.answer is not None
        return dict.fromkeys(slots, self.answer)

    def close(self) -> None:
        """Nothing to end."""


@settings(max_examples=100, deadline=None)
@given(
    every=st.floats(1.0, 6.0),
    blocks=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    length=st.integers(1, 80),
)
def test_every_action_lasts_until_the_next_tick_of_the_policy(
    every: float, blocks: list[int], length: int
) -> None:
    robot = Counting(length)
    paced = PacedSimulators(robot, every)
    paced.reset_async(0, 0)
    assert paced.wait([0])[0].ticks == (0,)
    tick = 0
    for size in blocks:
        paced.step_async(0, np.arange(tick, tick + size, dtype=float)[:, None], tuple(range(1, size + 1)))
        step = paced.wait([0])[0]
        for seen, at in zip(step.observations, step.ticks, strict=True):
            assert nearest_ticks(np.array(at), every) == seen["tick"] or step.done
            assert tick < at <= tick + size
        ends = nearest_ticks(np.arange(tick + 1, tick + step.executed + 1), every)
        assert [fact.gap_m for fact in step.facts] == np.minimum(ends, robot.at).astype(float).tolist()
        tick += step.executed
        if step.done:
            break
    expected = np.searchsorted(
        nearest_ticks(np.arange(1, 200), every), np.arange(len(robot.sent)), side="right"
    )
    assert robot.sent == expected.tolist()
    assert nearest_ticks(np.array(tick), every) >= len(robot.sent)


def test_a_policy_faster_than_its_robot_does_not_act() -> None:
    with pytest.raises(ConfigError, match=r"2 times per control tick"):
        PacedSimulators(Counting(1), 0.5)


@pytest.mark.sim
def test_an_evaluation_at_half_the_rate(tmp_path: Path) -> None:
    env = MetaWorldConfig(image_size=32, max_ticks=21)
    task = "button-press-topdown-v3"
    collect = api.CollectConfig(out=tmp_path / "data", tasks=(task,), episodes=1, image_size=32, workers=1)
    api.collect(collect, progress=False)
    direct = api.recipe("direct")
    design = replace(
        direct,
        view=ViewConfig(every=2, size=(16, 16)),
        width=16,
        encoders={**direct.encoders, "images": ImagesConfig(channels=(8, 8), features=4, tokens=1, shift=0)},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
    )
    config = TrainConfig(
        dataset=tmp_path / "data",
        out=tmp_path / "run",
        design=design,
        steps=2,
        batch_size=4,
        optim=OptimConfig(warmup=1),
    )
    policy = api.load_policy(api.train(config, progress=False))
    evaluation = api.EvaluationConfig(tasks=(task,), episodes=2, env=env, workers=1)
    done = rollout(policy, evaluation, progress=False)
    assert done.report.control_hz == env.action_spec().rate_hz / 2
    assert done.report.every == 2
    assert [episode.ticks for episode in done.report.episodes] == [10, 10]
    assert pure_simulation(evaluation, done.traces, progress=False) > 0
