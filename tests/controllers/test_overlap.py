"""Oracles of overlapping chunks and of asynchronous overlap (dp.async-overlap), in closed form."""

from __future__ import annotations

import math

import draccus
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wamkit.controllers import AsyncOverlap, Chunked, Controller, ControllerState, Overlap
from wamkit.errors import ConfigError


def play(controller: Controller, ticks: int, horizon: int) -> tuple[np.ndarray, list[int], ControllerState]:
    """Actions (T, 2) = (tick of the call, tick that the action was meant for), call ticks, the last state."""
    state, calls, actions = controller.start(), [], []
    for tick in range(ticks):
        if controller.wants_call(state):
            calls.append(tick)
            meant = np.arange(tick, tick + horizon)
            state = controller.receive(
                state, np.stack([np.full(horizon, tick), meant], axis=1).astype(np.float32)
            )
        action, state = controller.next(state)
        actions.append(action)
    assert state.tick == ticks
    assert calls == list(controller.calls(ticks))
    return np.stack(actions), calls, state


@given(count=st.integers(1, 50), decay=st.floats(-5, 5))
def test_weights_sum_to_one_and_fall_exponentially(count: int, decay: float) -> None:
    weights = Overlap(decay=decay).weights(count).astype(np.float64)
    assert weights.sum() == pytest.approx(1, abs=1e-5)
    kept = weights > 1e-6
    ratios = weights[1:][kept[1:] & kept[:-1]] / weights[:-1][kept[1:] & kept[:-1]]
    np.testing.assert_allclose(ratios, math.exp(-decay), rtol=1e-3)


@given(execute=st.integers(1, 6), extra=st.integers(0, 6), ticks=st.integers(1, 30))
def test_weight_on_the_newest_alone_is_chunked(execute: int, extra: int, ticks: int) -> None:
    newest, calls, _ = play(Overlap(execute, decay=-math.inf), ticks, execute + extra)
    chunked, chunked_calls, _ = play(Chunked(execute), ticks, execute + extra)
    np.testing.assert_array_equal(newest, chunked)
    assert calls == chunked_calls


@given(execute=st.integers(1, 4), horizon=st.integers(4, 12), ticks=st.integers(1, 30))
def test_every_forecast_of_a_tick_is_averaged_and_of_no_other(execute: int, horizon: int, ticks: int) -> None:
    actions, _, _ = play(Overlap(execute, decay=0.0), ticks, horizon)
    np.testing.assert_allclose(actions[:, 1], np.arange(ticks), rtol=1e-6)  # all meant for this very tick
    for tick in range(ticks):
        callers = [t for t in range(0, tick + 1, execute) if tick < t + horizon]
        assert actions[tick, 0] == pytest.approx(np.mean(callers), rel=1e-5)


@given(execute=st.integers(1, 8), latency=st.integers(0, 12), spare=st.integers(0, 4))
def test_no_idle_tick_when_the_answer_comes_before_the_chunk_is_over(
    execute: int, latency: int, spare: int
) -> None:
    controller = AsyncOverlap(execute, latency)
    horizon = controller.period + latency + spare
    actions, calls, state = play(controller, 60, horizon)
    assert state.counts["idle_ticks"] == 0
    np.testing.assert_array_equal(actions[:, 1], np.arange(60))
    if latency <= execute:
        assert len(calls) == math.ceil(60 / execute)
    # The prefix executed while the answer was under way is the old chunk's; then the new one's, not its start.
    for tick in range(60):
        answered = [t for t in calls if t == 0 or t + latency <= tick]
        assert actions[tick, 0] == answered[-1]
    assert controller.horizon(horizon).used == controller.period + latency


@given(execute=st.integers(2, 8), latency=st.integers(1, 8), missing=st.integers(1, 3))
def test_idle_ticks_are_what_the_chunk_lacks(execute: int, latency: int, missing: int) -> None:
    controller = AsyncOverlap(execute, latency)
    horizon = controller.period + latency - missing
    if horizon < max(execute, latency + 1):
        return
    periods = 5
    _, _, state = play(controller, controller.period * periods + latency, horizon)
    # The first chunk is there at once, so it lacks as much as every other: each ends `missing` ticks early.
    assert state.counts["idle_ticks"] == periods * missing


@pytest.mark.parametrize("fallback", ["hold", "zero"])
def test_a_lost_answer_triggers_the_declared_fallback_and_the_next_one_ends_it(fallback: str) -> None:
    controller = AsyncOverlap(execute=4, latency=2, fallback=fallback, lost=(2,))  # type: ignore[arg-type]
    actions, calls, state = play(controller, 24, horizon=6)
    # Call 1 (tick 4) covers 4..9; call 2 (tick 8) is lost; call 3 (tick 12) is answered at 14.
    assert calls == [0, 4, 8, 12, 16, 20]
    assert state.counts["idle_ticks"] == 4
    expected = actions[9] if fallback == "hold" else np.zeros(2)
    np.testing.assert_array_equal(actions[10:14], np.tile(expected, (4, 1)))
    np.testing.assert_array_equal(actions[14:18, 0], 12)
    np.testing.assert_array_equal(actions[14:, 1], np.arange(14, 24))


def test_without_latency_it_is_chunked() -> None:
    np.testing.assert_array_equal(play(AsyncOverlap(4, 0), 20, 8)[0], play(Chunked(4), 20, 8)[0])


def test_deadlines_are_the_chunk_and_what_does_not_fit_is_refused() -> None:
    assert AsyncOverlap(8, 4).deadline_s(10.0) == Overlap(8).deadline_s(10.0) == 0.8
    assert AsyncOverlap(8, 4).answer_s(10.0) == 0.4
    assert AsyncOverlap(8, 12).cost(24, 1.0) == 2
    assert Overlap(1).cost(24, 1.0) == 24
    with pytest.raises(ConfigError, match="at most 6"):
        AsyncOverlap(8, 4).horizon(6)
    with pytest.raises(ConfigError, match="at most 6"):
        Overlap(8).horizon(6)
    for wrong in (lambda: AsyncOverlap(0), lambda: AsyncOverlap(4, -1), lambda: AsyncOverlap(4, 1, lost=(0,)),
                  lambda: Overlap(0), lambda: Overlap(1, math.inf)):  # fmt: skip
        with pytest.raises(ConfigError):
            wrong()
    for controller in (AsyncOverlap(4, 2, "zero", (3,)), Overlap(2, -0.5)):
        assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller
        with pytest.raises(ConfigError, match="receive"):
            controller.next(controller.start())
