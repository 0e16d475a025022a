"""Oracles of dp.online-adapt on a point that is pushed and braked, in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import draccus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.controllers import Controller, ControllerState, OnlineAdapt, Seen
from wamkit.errors import ConfigError

STEP, PLANNED = 0.01, 0.4
Motion = Callable[[int, float], float]  # tick, sent action -> motion


def play(
    controller: OnlineAdapt, motion: Motion, ticks: int = 80, state: ControllerState | None = None
) -> tuple[np.ndarray, np.ndarray, ControllerState]:
    """One episode with a constant plan: sent actions (T,), errors against the planned motion (T,), last state."""
    state = state or controller.start()
    x, sent, errors = 0.0, [], []
    for tick in range(ticks):
        state = controller.watch(state, Seen(np.array([x], np.float32)))
        if controller.wants_call(state):
            state = controller.receive(state, np.full((8, 2), PLANNED, np.float32))
        action, state = controller.next(state)
        moved = motion(tick, float(action[0]))
        assert action[1] == np.float32(PLANNED)  # an entry that moves nothing is left alone
        x += moved
        sent.append(float(action[0]))
        errors.append(abs(moved - STEP * PLANNED))
    return np.array(sent), np.array(errors), state


def adapt(rate: float = 0.3, threshold: float = 1e-4, patience: int | None = None) -> OnlineAdapt:
    return OnlineAdapt(8, (0,), (0,), STEP, rate, threshold, patience=patience)


def exact(tick: int, action: float) -> float:
    return STEP * action


def test_without_mismatch_nothing_is_learned_and_nothing_is_changed() -> None:
    sent, errors, state = play(adapt(), exact)
    assert (sent == np.float32(PLANNED)).all()
    assert not adapt().residual(state).any()
    assert state.counts["adapted_ticks"] == 0
    noise = np.random.default_rng(0).uniform(-9e-5, 9e-5, 80)  # within the threshold
    _, _, state = play(adapt(), lambda tick, action: STEP * action + noise[tick])
    assert not adapt().residual(state).any()
    assert errors.max() < 1e-8


@settings(max_examples=30, deadline=None)
@given(payload=st.floats(-0.005, 0.005), rate=st.floats(0.1, 1.0), at=st.integers(5, 20))
def test_after_a_payload_the_error_is_below_the_threshold_within_n_steps(
    payload: float, rate: float, at: int
) -> None:
    """The error falls by 1 - rate per tick: |payload| (1 - rate)^n <= threshold. One tick passes until it is seen."""
    controller = adapt(rate)
    sent, errors, _ = play(controller, lambda tick, action: STEP * action + payload * (tick >= at))
    assert (sent[: at + 1] == np.float32(PLANNED)).all()
    margin = 1.05 * controller.threshold + 1e-6
    needed = 0
    if abs(payload) > margin:
        needed = (
            1
            if rate == 1
            else math.ceil(math.log(controller.threshold / abs(payload)) / math.log(1 - rate)) + 1
        )
    assert (errors[at + 1 + needed :] <= margin).all()
    if abs(payload) > margin:
        assert errors[at] == pytest.approx(abs(payload), abs=1e-8)


def test_after_friction_the_error_is_below_the_threshold_within_n_steps() -> None:
    """Motion is halved: residual <- residual - rate (residual + step a / 2) while a = planned - residual / step."""
    controller = adapt()
    sent, errors, _ = play(controller, lambda tick, action: (0.5 if tick >= 10 else 1.0) * STEP * action)
    assert errors[10] == pytest.approx(0.5 * STEP * PLANNED)
    below = np.flatnonzero(errors > 2 * controller.threshold).max() + 1 - 10
    print(f"friction: error from {errors[10]:.4f} to below {2 * controller.threshold} within {below} ticks")
    assert below <= 25
    assert sent[-1] == pytest.approx(2 * PLANNED, abs=0.03)
    frozen, unadapted, _ = play(OnlineAdapt(8, (0,), (0,), STEP, 0.3, 1.0), lambda tick, a: 0.5 * STEP * a)
    assert (frozen == np.float32(PLANNED)).all()
    assert unadapted.min() > 0.4 * STEP * PLANNED


def test_a_snapshot_restores_behaviour() -> None:
    controller = adapt()
    sagging: Motion = lambda tick, action: STEP * action - 0.001  # noqa: E731
    _, _, light = play(controller, exact, 16)
    snapshot = controller.residual(light)
    _, _, heavy = play(controller, sagging, 16, light)
    assert abs(controller.residual(heavy)[0] + 0.001) < 2e-4
    chunk = np.full((8, 2), PLANNED, np.float32)
    before, _ = controller.next(controller.receive(light, chunk))
    adapted, _ = controller.next(controller.receive(heavy, chunk))
    restored, _ = controller.next(controller.receive(controller.restore(heavy, snapshot), chunk))
    assert adapted[0] > before[0]
    np.testing.assert_array_equal(restored, before)
    again, _ = controller.next(
        controller.receive(controller.restore(heavy, controller.residual(heavy)), chunk)
    )
    np.testing.assert_array_equal(again, adapted)


def test_what_cannot_be_learned_is_given_up() -> None:
    """The push changes its sign at every tick: no residual explains it."""
    erratic: Motion = lambda tick, action: STEP * action + 0.003 * (-1) ** tick  # noqa: E731
    _, _, kept = play(adapt(), erratic)
    _, _, given_up = play(adapt(patience=10), erratic)
    assert kept.counts.get("restored", 0) == 0
    assert given_up.counts["restored"] == 7  # after ten wrong ticks in a row, again and again
    _, _, learned = play(adapt(patience=40), lambda tick, action: STEP * action - 0.001)
    assert learned.counts.get("restored", 0) == 0


def test_corrections_stay_within_the_limit_and_configs_are_checked() -> None:
    sent, _, _ = play(adapt(rate=1.0), lambda tick, action: STEP * action - 0.05)
    assert np.abs(sent).max() == 1.0
    for change in ({"rate": 0.0}, {"rate": 1.5}, {"step": 0.0}):
        with pytest.raises(ConfigError, match=r"OnlineAdapt\.(rate|step): must be more than 0"):
            OnlineAdapt(**change)
    with pytest.raises(ConfigError, match="OnlineAdapt: needs as many"):
        OnlineAdapt(state=(0,))
    with pytest.raises(ConfigError, match=r"OnlineAdapt\.patience: must be at least 1, got 0"):
        OnlineAdapt(patience=0)
    with pytest.raises(ConfigError, match="corrects delta actions"):
        OnlineAdapt().check("absolute", ())
    controller = adapt(patience=3)
    assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller
