"""Oracles of deployments: one call per tick, and two rates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from cases import Case

from gates import sharpen
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, Observation
from wamkit.controllers import SlowFast, SubgoalRefresh
from wamkit.controllers.base import Seen
from wamkit.design import Design

TICKS = 24


@oracle("dp.single-step")
def single_step(case: Case) -> None:
    """A call at every tick, its first action executed, within one period."""
    controller = case.config.controller
    assert controller.calls(TICKS) == tuple(range(TICKS))
    assert controller.cost(TICKS, 2.0) == 2.0 * TICKS
    rate = case.spec.action.rate_hz
    assert controller.deadline_s(rate) == 1 / rate
    state = controller.start()
    for tick in range(TICKS):
        if controller.watches:
            state = controller.watch(state, Seen(np.zeros(len(case.spec.observation.state), np.float32)))
        if controller.wants_subgoal(state):
            state = controller.supply(state, np.zeros((1, 1, 8), np.float32))
        assert controller.wants_call(state), f"tick {tick} is not called"
        chunk = np.full((case.config.horizon, 2), tick, np.float32)
        state = controller.receive(state, chunk)
        action, state = controller.next(state)
        assert (action == tick).all(), "an older forecast is executed"
    assert case.design.cells()["deployment"] == "Single-step"


@oracle("dp.slow-fast")
def slow_fast(case: Case) -> None:
    """A slow model plans at its rate, and what acts between two plans answers to what is there now."""
    controller = case.config.controller
    if isinstance(controller, SlowFast):
        reflex(controller, case)
        return
    assert isinstance(controller, SubgoalRefresh), f"one rate: {type(controller).__name__}"
    two_networks(controller, case)


def reflex(controller: SlowFast, case: Case) -> None:
    """Slow calls every K ticks, a correction at each; a push is answered at the next tick; frozen, it stands still."""
    size = 1 + max(*controller.state, *controller.action)
    for slow_calls in (None, 1):
        tried = replace(controller, slow_calls=slow_calls)
        state, place, called = tried.start(), np.zeros(size, np.float32), 0
        before = 0.0
        for tick in range(6 * tried.execute):
            state = tried.watch(state, Seen(place.copy()))
            if tried.wants_call(state):
                called += 1
                state = tried.receive(state, np.zeros((case.config.horizon, size), np.float32))
            action, state = tried.next(state)
            place = place + tried.step * action
            if tick == tried.execute + 1:
                before = float(np.abs(place).max())
                place[list(tried.state)] += 0.1
            if tick == tried.execute + 2:
                assert np.abs(action[list(tried.action)]).min() > 0, (
                    "the push is not answered at the next tick"
                )
        assert called == (6 if slow_calls is None else 1)
        assert state.counts["corrections"] == 6 * tried.execute
        assert before < 1e-6
        if slow_calls == 1:
            assert float(np.abs(place).max()) < 0.01, "without the slow model it does not come back"


def two_networks(controller: SubgoalRefresh, case: Case) -> None:
    """Counted passes of both trunks over an episode, with and without a slow model that stops."""
    stream = controller.stream
    for stop in (None, 1):
        tried = replace(controller, stop_after=stop)
        design = sharpen(case.untrained())
        slow, fast = (network(design, name) for name in (stream, ACTION))
        assert slow != fast, "one network does both"
        counts = {name: calls(design.trunks[name], "forward") for name in (slow, fast)}
        planned, acted = drive(design, tried, case.cut(design.window))
        assert planned == len(tried.starts(TICKS))
        assert acted == math.ceil(TICKS / tried.execute) > planned
        assert len(counts[slow]) == planned * passes(design, slow, stream, case), (
            "the slow network runs in between"
        )
        assert len(counts[fast]) >= acted
    design, seen = sharpen(case.untrained()), case.cut(case.design.window)
    plan = design.generate(seen, design.initial_state(1), stream, Budget(), [1])
    old, pushed, other = (
        design.forecast(o, design.initial_state(1), Budget(), [1], given={stream: p})[0].action
        for o, p in ((seen, plan), (touched(seen), plan), (seen, plan + 1.0))
    )
    assert not torch.equal(old, pushed), "the fast network does not see what is there now"
    assert not torch.equal(old, other), "the plan does not reach the action"


def network(design: Design, stream: str) -> str:
    """Trunk that writes a stream."""
    name = design.graph.estimators[design.graph.factor_of(stream).estimator].trunk
    assert name is not None
    return name


def passes(design: Design, trunk: str, stream: str, case: Case) -> int:
    """Passes of a trunk for one plan."""
    fresh = sharpen(case.untrained())
    counted = calls(fresh.trunks[trunk], "forward")
    fresh.generate(case.cut(fresh.window), fresh.initial_state(1), stream, Budget(), [1])
    return len(counted)


def drive(design: Design, controller: SubgoalRefresh, seen: Observation) -> tuple[int, int]:
    """Run one episode on one observation: number of plans and of calls of the fast network."""
    state, planned, acted = controller.start(), 0, 0
    carry = design.initial_state(1)
    for tick in range(TICKS):
        if controller.wants_subgoal(state):
            values = design.generate(seen, carry, controller.stream, Budget(), [tick])
            state, planned = controller.supply(state, values[0].numpy()), planned + 1
        if controller.wants_call(state):
            plan = torch.from_numpy(np.array(controller.given(state)))[None]
            made, _ = design.forecast(seen, carry, Budget(), [tick], given={controller.stream: plan})
            state, acted = controller.receive(state, made.action[0].numpy()), acted + 1
        action, state = controller.next(state)
        assert np.isfinite(action).all()
    return planned, acted


def touched(seen: Observation) -> Observation:
    """The observation after a contact: other readings and other pictures."""
    images = {name: 255 - p for name, p in seen.images.items()}
    return replace(seen, state=seen.state + 1.0, images=images)
