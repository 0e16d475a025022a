"""Slots over worker processes, on a world of four numbers."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from broken_worlds import CountingConfig

from wamkit.envs import VectorEnv
from wamkit.errors import ConfigError


def ones(k: int) -> np.ndarray:
    return np.ones((k, 1))


def test_chunks_run_in_the_worker_and_only_looked_at_ticks_come_back() -> None:
    with VectorEnv([CountingConfig(max_ticks=20)] * 3, workers=2, timeout_s=30) as env:
        for slot in range(3):
            env.reset_async(slot, seed=slot + 10, instruction=f"task {slot}")
        first = env.wait([2, 0, 1])
        for slot in range(3):
            step = first[slot]
            assert (step.ticks, step.executed, step.done, step.error) == ((0,), 0, False, None)
            assert step.observations[0]["task"] == f"task {slot}"
            assert step.observations[0]["state"].tolist() == [0, 0, slot + 10, 1]
        env.step_async(0, ones(5), look=(2, 4))
        env.step_async(1, ones(3))
        env.step_async(2, -ones(3), look=())
        steps = env.wait([0, 1, 2])
        assert [o["state"][1] for o in steps[0].observations] == [2.0, 4.0]
        assert (steps[0].ticks, steps[0].executed) == ((2, 4), 5)
        assert (steps[1].ticks, steps[1].observations[0]["state"][1]) == ((3,), 3.0)
        assert steps[2].observations == ()
        env.step_async(2, ones(1))
        assert env.wait([2])[2].observations[0]["state"][:2].tolist() == [4, -2.0]


@pytest.mark.parametrize(("succeeds_at", "success", "last"), [(4, True, 4), (100, False, 6)])
def test_an_episode_ends_in_the_middle_of_a_chunk(succeeds_at: int, success: bool, last: int) -> None:
    with VectorEnv([CountingConfig(succeeds_at=succeeds_at)], workers=1, timeout_s=30) as env:
        env.reset_async(0, 0)
        env.wait([0])
        env.step_async(0, ones(10), look=(2, 10))
        step = env.wait([0])[0]
        assert (step.ticks, step.executed, step.success, step.done) == ((2, last), last, success, True)


@pytest.mark.whole
@pytest.mark.parametrize(
    ("what", "message"),
    [("raise", "the arm fell off"), ("die", "SIGKILL"), ("hang", "did not answer within 10 s")],
)
def test_a_failing_simulator_is_reported_and_the_others_go_on(what: str, message: str) -> None:
    configs = [CountingConfig(), CountingConfig(what=what)]
    with VectorEnv(configs, workers=2, timeout_s=10 if what == "hang" else 60) as env:
        for slot in (0, 1):
            env.reset_async(slot, 7)
        env.wait([0, 1])
        for slot in (0, 1):
            env.step_async(slot, ones(5))
        steps = env.wait([0, 1])
        assert steps[0].error is None
        assert steps[0].observations[0]["state"][1] == 5.0
        assert message in str(steps[1].error)
        assert not steps[1].success
        env.step_async(1, ones(1))
        assert "Reset the slot" in str(env.wait([1])[1].error)
        env.reset_async(1, 8, config=CountingConfig())
        env.step_async(0, ones(1))
        after = env.wait([0, 1])
        assert after[0].observations[0]["state"][:2].tolist() == [6, 6.0]
        assert after[1].observations[0]["state"][:3].tolist() == [0, 0, 8]


def test_slots_of_a_dead_worker_say_that_their_episode_is_lost() -> None:
    with VectorEnv([CountingConfig()] * 4, workers=2, timeout_s=30) as env:
        for slot in range(4):
            env.reset_async(slot, slot)
        env.wait(range(4))
        os.kill(env.worker_pids[0], signal.SIGKILL)
        for slot in range(4):
            env.step_async(slot, ones(1))
        steps = env.wait(range(4))
        assert ["SIGKILL" in str(steps[slot].error) for slot in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(
    ("actions", "look", "message"),
    [
        (np.full((2, 1), np.nan), None, "'a' is not finite"),
        (np.full((2, 1), np.inf), None, "'a' is not finite"),
        (np.ones((2, 3)), None, "shape \\(3,\\)"),
        (np.ones(2), None, "shape \\(K, A\\)"),
        (np.ones((0, 1)), None, "K at least 1"),
        (np.ones((2, 1)), (3,), "must ascend from 1 to at most 2"),
    ],
)
def test_a_bad_chunk_is_an_error_of_that_slot(
    actions: np.ndarray, look: tuple[int, ...] | None, message: str
) -> None:
    with VectorEnv([CountingConfig()], workers=1, timeout_s=30) as env:
        env.reset_async(0, 0)
        env.wait([0])
        env.step_async(0, actions, look)
        step = env.wait([0])[0]
        assert step.error is not None
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(step.error)


def test_environments_are_reused_across_resets() -> None:
    other = CountingConfig(max_ticks=9)
    with VectorEnv([CountingConfig()], workers=1, timeout_s=30) as env:
        resets = []
        for config in (CountingConfig(), other, CountingConfig(), other):
            env.reset_async(0, 1, config=config)
            resets.append(int(env.wait([0])[0].observations[0]["state"][3]))
        assert resets == [1, 1, 2, 2]


def test_misuse_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 slots over 2 workers"):
        VectorEnv([], workers=2)
    env = VectorEnv([CountingConfig()], workers=1, timeout_s=30)
    with pytest.raises(ConfigError, match="slot 1 does not exist"):
        env.reset_async(1, 0)
    with pytest.raises(RuntimeError, match="does not have a pending request"):
        env.wait([0])
    env.reset_async(0, 0)
    with pytest.raises(RuntimeError, match="wait for it first"):
        env.reset_async(0, 0)
    pids = env.worker_pids
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.reset_async(0, 0)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
