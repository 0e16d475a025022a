"""Oracles of controllers that a recipe names: chunks, overlap, early calls, adaptation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import NOW, Case

from oracles.registry import oracle
from wamkit.contract.types import Budget, Observation, WindowSpec
from wamkit.controllers import AsyncOverlap, Controller, ControllerState, OnlineAdapt, Seen, VerifierReplan

RATE_HZ = 10.0


def numbered(case: Case, call: int, width: int = 4) -> np.ndarray:
    """Chunk that says of every action which call made it and which tick of it this is: ``100 call + tick``."""
    values = 100.0 * call + np.arange(case.config.horizon, dtype=np.float32)
    return np.repeat(values[:, None], width, axis=1).astype(np.float32)


def forecast_fits(case: Case) -> None:
    """A real forecast has as many actions as the controller may execute."""
    design = case.design
    made, _ = design.forecast(case.observation(), design.initial_state(1), Budget(), [1])
    used = case.config.controller.horizon(case.config.horizon).used
    assert used is None or made.action.shape[1] >= used


@oracle("dp.chunked")
def chunked(case: Case) -> None:
    """It calls every K ticks, what is seen inside a chunk changes nothing, and a call longer than K / f is too long."""
    controller = case.config.controller
    assert controller.regime(case.config.horizon) == "Chunked", "not called in chunks"
    execute = controller.horizon(case.config.horizon).execute
    assert execute is not None
    forecast_fits(case)
    ticks = 3 * execute + 1
    assert controller.calls(ticks) == tuple(range(0, ticks, execute))
    runs = []
    for seen in (0.0, 1.0):  # what the robot sees between the calls
        state, made, called = controller.start(), [], []
        for tick in range(ticks):
            if controller.watches:
                state = controller.watch(state, Seen(np.full(39, seen * (tick % execute != 0), np.float32)))
            if controller.wants_call(state):
                called.append(tick)
                state = controller.receive(state, numbered(case, len(called)))
            action, state = controller.next(state)
            made.append(action)
        assert called == list(range(0, ticks, execute)), called
        runs.append(np.stack(made))
    if not controller.watches:
        assert np.array_equal(*runs)
        assert set(controller.look(0, execute, case.config.observation, ticks)) >= {execute}
    assert controller.deadline_s(RATE_HZ) == execute / RATE_HZ


@oracle("dp.async-overlap")
def async_overlap(case: Case) -> None:
    """The old chunk runs until the answer arrives, nothing idles while answers are fast, and a lost one is bridged."""
    controller = case.config.controller
    assert isinstance(controller, AsyncOverlap), "calls do not overlap with execution"
    assert 0 < controller.latency < controller.execute, "no latency that a chunk could hide"
    forecast_fits(case)
    ticks, latency, period = 4 * controller.period, controller.latency, controller.period
    executed, state = played(case, controller, ticks)
    assert state.counts["idle_ticks"] == 0, "the robot idles although answers are fast"
    for tick in range(ticks):
        call = tick // period
        fresh = call == 0 or tick % period >= latency
        call = call if fresh else call - 1
        assert executed[tick] == 100 * (call + 1) + tick - call * period, (tick, executed[tick])
    dropped, state = played(case, replace(controller, lost=(1,)), ticks)
    covered = case.config.horizon
    assert dropped[: period + latency] == executed[: period + latency]
    if covered < 2 * period + latency:
        assert state.counts["idle_ticks"] > 0
        held = dropped[covered - 1] if controller.fallback == "hold" else 0.0
        assert dropped[covered] == held, "a lost answer is not bridged as declared"


def played(case: Case, controller: Controller, ticks: int) -> tuple[list[float], ControllerState]:
    """First entry of every executed action when calls answer with numbered chunks, and the last state."""
    state, executed, call = controller.start(), [], 0
    for _ in range(ticks):
        if controller.wants_call(state):
            call += 1
            state = controller.receive(state, numbered(case, call))
        action, state = controller.next(state)
        executed.append(float(action[0]))
    return executed, state


@oracle("dp.verifier-replan")
def verifier_replan(case: Case) -> None:
    """Predictions that come true are followed to the end of the chunk; a disturbance is answered by an early call."""
    controller = case.config.controller
    assert isinstance(controller, VerifierReplan), "predictions are not compared with what is seen"
    design, execute = case.design, controller.execute
    controller.check("delta", design.perceived(controller.stream).offsets)
    made, _ = design.forecast(case.observation(), design.initial_state(1), Budget(), [1])
    true, predicted = seen_values(case, controller), made.future[controller.stream]
    assert predicted.shape[2:] == next(iter(true.values())).shape, "what is seen is not what is predicted"
    ticks = 3 * execute
    kept = verified(case, controller, true, ticks, disturbed=None)
    assert kept == list(range(0, ticks, execute)), f"calls at {kept} although every prediction came true"
    at = 1
    early = verified(case, controller, true, ticks, disturbed=at)
    offsets = [o for o in design.perceived(controller.stream).offsets if o < execute]
    assert early[1] == min(o for o in offsets if o >= at), f"disturbed at {at}, called at {early}"


def seen_values(case: Case, controller: VerifierReplan) -> dict[int, np.ndarray]:
    """Recorded values of the compared stream, tick after now -> (N, D)."""
    perceived = case.design.perceived(controller.stream)
    now = frame(case, NOW)
    return {o: perceived.encode(frame(case, NOW + o), now)[0].numpy() for o in perceived.offsets}


def frame(case: Case, index: int) -> Observation:
    """One observation of the recordings."""
    return case.cut(WindowSpec(), (index,))


def verified(
    case: Case, controller: VerifierReplan, true: dict[int, np.ndarray], ticks: int, disturbed: int | None
) -> list[int]:
    """Ticks of the calls when every call predicts ``true`` and the world differs from it after ``disturbed``."""
    state, called = controller.start(), [0]
    state = controller.receive(state, numbered(case, 0), true)
    _, state = controller.next(state)
    for tick in range(1, ticks):
        if controller.wants_values(state):
            value = true[tick - called[-1]]
            off = disturbed is not None and tick >= disturbed
            state = controller.watch(state, Seen(np.zeros(4, np.float32), value + 5.0 if off else value))
        if controller.wants_call(state):
            called.append(tick)
            state = controller.receive(state, numbered(case, 0), true)
        _, state = controller.next(state)
    return called


@oracle("dp.online-adapt")
def online_adapt(case: Case) -> None:
    """A constant push is cancelled within a few ticks, nothing is learned without one, and a snapshot undoes it."""
    controller = case.config.controller
    assert isinstance(controller, OnlineAdapt), "nothing is adapted while acting"
    controller.check(case.spec.action.mode, ())
    forecast_fits(case)
    push = 0.3 * controller.step
    gaps, state = adapted(case, controller, push)
    assert gaps[1] > controller.threshold, "the push is too small to be seen"
    assert max(gaps[-5:]) <= controller.threshold + 1e-6, f"still off by {gaps[-5:]} after {len(gaps)} ticks"
    quiet, calm = adapted(case, controller, 0.0)
    assert not controller.residual(calm).any(), "learned from a world that is as predicted"
    assert max(quiet) < 1e-6
    learned = controller.residual(state)
    assert learned.any()
    back = controller.restore(state, controller.residual(calm))
    assert not controller.residual(back).any()
    assert np.array_equal(controller.residual(controller.restore(back, learned)), learned)


def adapted(
    case: Case, controller: OnlineAdapt, push: float, ticks: int = 60
) -> tuple[list[float], ControllerState]:
    """Largest gap between planned and measured motion per tick in a world that pushes, and the last state."""
    entries, moves = list(controller.state), list(controller.action)
    place = np.zeros(len(case.spec.observation.state), np.float32)
    chunk = np.full((case.config.horizon, len(case.spec.action.names)), 0.25, np.float32)
    state, gaps = controller.start(), []
    for _ in range(ticks):
        state = controller.watch(state, Seen(place.copy()))
        if controller.wants_call(state):
            state = controller.receive(state, chunk)
        action, state = controller.next(state)
        motion = controller.step * action[moves] + push
        gaps.append(float(np.abs(motion - controller.step * chunk[0][moves]).max()))
        place[entries] += motion
    return gaps, state
