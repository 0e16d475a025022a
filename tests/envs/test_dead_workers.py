"""A worker process that dies takes its running episodes with it and nothing else, and is replaced."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from broken_worlds import CountingConfig, DyingConfig

from wamkit.contract.types import Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked, Controller
from wamkit.envs import EVALUATION_SEEDS_FROM, EnvConfig, VectorEnv
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, rollout


@dataclasses.dataclass(frozen=True)
class Counter:
    """A policy for :class:`CountingConfig` that always says one."""

    name: str = "counter"
    window: WindowSpec = dataclasses.field(default_factory=lambda: WindowSpec(horizon=2))
    sensors: tuple[str, ...] = ()
    droppable: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    reads_goal: bool = False
    controller: Controller = dataclasses.field(default_factory=lambda: Chunked(2))
    observation_spec: Any = dataclasses.field(default_factory=CountingConfig().observation_spec)
    action_spec: Any = dataclasses.field(default_factory=CountingConfig().action_spec)

    def initial_state(self, batch_size: int) -> tuple[()]:
        return ()

    def forecast(
        self, observation: Observation, state: Any, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Any]:
        return Forecast(torch.ones(len(seeds), 2, 1)), state

    def decode_future(self, forecast: Forecast) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {"tuple": {}, "formula": "p(a|c)", "is_wam": False}

    def check_budget(self, budget: Budget) -> None:
        pass


@pytest.mark.parametrize(("what", "word"), [("die", "SIGKILL"), ("crash", "SIGSEGV")])
def test_an_evaluation_goes_on_when_a_worker_is_killed(
    what: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers with two slots each; the third of twelve episodes kills its worker at its fourth tick."""
    monkeypatch.setitem(
        EnvConfig._choice_registry, "counting", CountingConfig
    )  # a report names its environment
    deadly = EVALUATION_SEEDS_FROM + 2
    config = EvaluationConfig(
        tasks=("counting",),
        episodes=12,
        env=CountingConfig(what=what, seeds=(deadly,)),
        slots=4,
        films=0,
        latency_calls=0,
        timeout_s=30,
    )
    episodes = rollout(Counter(), config, progress=False).report.episodes
    assert [e.seed for e in episodes] == [EVALUATION_SEEDS_FROM + i for i in range(12)]
    broken = [e for e in episodes if e.status == "error"]
    # The guilty one, and the one that ran beside it in the same process: slots 0 and 2.
    assert [e.seed - EVALUATION_SEEDS_FROM for e in broken] == [0, 2]
    for episode in broken:
        assert word in str(episode.error)
    assert {(e.status, e.ticks) for e in episodes if e not in broken} == {("timeout", 6)}


def test_episodes_that_have_not_begun_are_started_in_the_next_worker() -> None:
    configs = [CountingConfig(what="die", at=0, seeds=(7,))] * 3
    with VectorEnv(configs, workers=1, timeout_s=30) as env:
        for slot in range(3):
            env.reset_async(slot, 7 if slot == 0 else slot)
        env.wait(range(3))
        env.step_async(0, torch.ones(1, 1).numpy())  # the worker dies here
        env.reset_async(1, 5)  # and never gets to this
        steps = env.wait([0, 1])
        assert "SIGKILL" in str(steps[0].error)
        assert steps[1].error is None
        assert steps[1].observations[0]["state"][2] == 5
        env.step_async(2, torch.ones(1, 1).numpy())
        assert "was lost with it" in str(env.wait([2])[2].error)
        (pid,) = env.worker_pids
        os.kill(pid, signal.SIGKILL)  # while nobody asks it for anything
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        env.reset_async(0, 3)
        assert env.wait([0])[0].observations[0]["state"][2] == 3


def test_a_reset_that_kills_its_worker_is_an_error_and_not_tried_again() -> None:
    with VectorEnv([CountingConfig()] * 2, workers=1, timeout_s=30) as env:
        env.reset_async(0, 0, config=DyingConfig())
        env.reset_async(1, 4)
        steps = env.wait([0, 1])
        assert "SIGKILL" in str(steps[0].error)
        assert steps[1].observations[0]["state"][2] == 4


def test_the_traceback_of_a_crash_is_kept() -> None:
    with VectorEnv([CountingConfig(what="crash", at=0)], workers=1, timeout_s=30) as env:
        env.reset_async(0, 0)
        env.wait([0])
        (before,) = env.worker_pids
        env.step_async(0, torch.ones(1, 1).numpy())
        error = str(env.wait([0])[0].error)
        assert "Segmentation fault" in error
        assert "_advance_simulation" in error
        env.reset_async(0, 1)
        assert env.wait([0])[0].error is None
        assert env.worker_pids != (before,)
