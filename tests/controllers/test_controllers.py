"""Oracles of dp.open-loop, dp.chunked and dp.single-step on a toy world, without a model or a simulator.

The world is a counter: the observation at tick t is ``world[t]``; the toy model answers H actions that all
repeat the observation it saw plus the step index, so every executed action tells which observation caused it.
"""

import math

import draccus
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wamkit.controllers import (
    Chunked,
    Controller,
    OpenLoop,
    SingleStep,
    chunk_cost,
    feasible,
    open_loop_cost,
    single_step_cost,
)
from wamkit.errors import ConfigError

H = 12


def play(controller: Controller, world: np.ndarray, horizon: int = H) -> tuple[np.ndarray, list[int]]:
    """Run one episode; returns the executed actions (T, 2) = (observation used, index) and the call ticks."""
    state, calls, actions = controller.start(), [], []
    for tick, seen in enumerate(world):
        if controller.wants_call(state):
            calls.append(tick)
            chunk = np.stack([np.full(horizon, seen), np.arange(horizon)], axis=1).astype(np.float32)
            state = controller.receive(state, chunk)
        action, state = controller.next(state)
        actions.append(action)
    assert state.calls == len(calls)
    return np.stack(actions), calls


@given(ticks=st.integers(1, 60), execute=st.integers(1, H))
def test_chunked_calls_are_ceil_of_t_over_k_and_cost_follows(ticks: int, execute: int) -> None:
    controller = Chunked(execute)
    actions, calls = play(controller, np.arange(ticks))
    assert len(calls) == math.ceil(ticks / execute)
    assert calls == list(controller.calls(ticks))
    assert controller.cost(ticks, 2.5) == chunk_cost(ticks, execute, 2.5) == 2.5 * len(calls)
    np.testing.assert_array_equal(actions[:, 0], np.arange(ticks) // execute * execute)
    np.testing.assert_array_equal(actions[:, 1], np.arange(ticks) % execute)


@given(tick=st.integers(0, 23), execute=st.integers(1, H))
def test_a_change_inside_a_chunk_has_no_effect_until_the_boundary(tick: int, execute: int) -> None:
    world = np.arange(24)
    changed = world.copy()
    changed[tick:] += 1000
    before, _ = play(Chunked(execute), world)
    after, _ = play(Chunked(execute), changed)
    boundary = math.ceil(tick / execute) * execute
    np.testing.assert_array_equal(before[:boundary], after[:boundary])
    assert (before[boundary:, 0] != after[boundary:, 0]).all()


def test_open_loop_calls_once_ignores_later_observations_and_holds() -> None:
    changed = np.arange(20)
    changed[1:] += 1000
    before, calls = play(OpenLoop(), np.arange(20))
    after, _ = play(OpenLoop(), changed)
    assert calls == [0] == list(OpenLoop().calls(20))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before[:, 1], np.minimum(np.arange(20), H - 1))
    assert OpenLoop().cost(20, 3.0) == open_loop_cost(3.0) == 3.0
    assert OpenLoop().deadline_s(10.0) is None


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_single_step_calls_every_tick_and_every_action_is_from_the_newest(
    seen: list[int],
) -> None:
    actions, calls = play(SingleStep(), np.array(seen))
    assert calls == list(range(len(seen))) == list(SingleStep().calls(len(seen)))
    np.testing.assert_array_equal(actions[:, 0], seen)
    assert (actions[:, 1] == 0).all()
    assert SingleStep().cost(len(seen), 0.5) == single_step_cost(len(seen), 0.5) == 0.5 * len(calls)


def test_feasibility_flags_a_call_longer_than_its_chunk() -> None:
    assert feasible(0.79, execute=8, rate_hz=10.0)
    assert not feasible(0.8, execute=8, rate_hz=10.0)
    assert not feasible(0.11, execute=1, rate_hz=10.0)
    assert Chunked(8).deadline_s(10.0) == 0.8
    assert SingleStep().deadline_s(10.0) == 0.1
    with pytest.raises(ConfigError, match="K=0"):
        feasible(0.1, 0, 10.0)


@given(
    execute=st.integers(1, 9),
    offsets=st.sets(st.integers(-20, 0), min_size=1, max_size=4),
    ticks=st.integers(1, 40),
)
def test_look_covers_exactly_what_calls_read(execute: int, offsets: set[int], ticks: int) -> None:
    controller, seen = Chunked(execute), {0}
    for tick in controller.calls(ticks):
        assert {max(tick + offset, 0) for offset in offsets} <= seen | {0}
        count = min(execute, ticks - tick)
        seen |= {tick + p for p in controller.look(tick, count, sorted(offsets), ticks)}
    read = {tick + offset for tick in controller.calls(ticks) for offset in offsets}
    assert seen - {0} == {t for t in read if t > 0}
    assert OpenLoop().look(0, ticks, sorted(offsets), ticks) == ()


def test_chunks_that_do_not_fit_are_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="at most 4"):
        Chunked(8).horizon(4)
    with pytest.raises(ConfigError, match="Lower `execute`"):
        Chunked(8).receive(Chunked(8).start(), np.zeros((4, 2), np.float32))
    with pytest.raises(ConfigError, match="receive"):
        Chunked(8).next(Chunked(8).start())
    with pytest.raises(ConfigError, match="at least 1"):
        Chunked(0)
    assert Chunked(8).horizon(16).execute == 8
    assert OpenLoop().horizon(16).execute is None


@pytest.mark.parametrize("controller", [Chunked(3), SingleStep(), OpenLoop()])
def test_round_trip_as_config(controller: Controller) -> None:
    assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller
