"""Oracles of controllers that wait for something: a critical phase, a waypoint, a subgoal, a word of the user."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from cases import NOW, Case

from gates import sharpen
from oracles.pointing import goal_pointer
from oracles.probes import drawn
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.controllers import (
    Controller,
    ControllerState,
    GoalPointer,
    Interactive,
    PhaseTrigger,
    ProgressGate,
    Seen,
    SubgoalRefresh,
)
from wamkit.design import Design

OFF = 10.0  # distance between two values that no threshold takes for close


def chunk_of(case: Case, call: int) -> np.ndarray:
    """Chunk (H, A) that says which call made it."""
    return np.full((case.config.horizon, len(case.spec.action.names)), float(call), np.float32)


# ------------------------------------------------------------------------------------------------ phases
@oracle("dp.phase-trigger")
def phase_trigger(case: Case) -> None:
    """The future is generated in critical phases alone; thresholds 0 and 1 are always and never; routine costs less."""
    trigger = case.config.controller
    assert isinstance(trigger, PhaseTrigger), "no phase decides what a call may spend"
    design = case.untrained()
    fast, slow = 10 * trigger.scale, 0.0
    speeds = [fast] * 2 + [slow] * 2 + [fast] * 2  # one per chunk
    dreams, spent = dreamed(case, design, trigger, speeds)
    assert dreams == [False, False, False, True, True, False], f"dreamt in the calls {dreams}"
    routine = [cost for cost, dream in zip(spent, dreams, strict=True) if not dream]
    critical = [cost for cost, dream in zip(spent, dreams, strict=True) if dream]
    assert max(routine) < min(critical), f"routine calls spend {routine}, critical ones {critical}"
    always, whole = dreamed(case, design, replace(trigger, threshold=0.0), speeds)
    never, least = dreamed(case, design, replace(trigger, threshold=1.0), speeds)
    assert all(always)
    assert not any(never)
    assert sum(least) < sum(spent) < sum(whole)


def dreamed(
    case: Case, design: Design, trigger: PhaseTrigger, speeds: list[float]
) -> tuple[list[bool], list[int]]:
    """Per call, whether it generated a future, and how often networks ran; a robot that moves at given speeds."""
    observation = case.cut(design.window)
    state, carry = trigger.start(), design.initial_state(1)
    place = np.zeros(len(case.spec.observation.state), np.float32)
    dreams, spent = [], []
    for tick in range(len(speeds) * trigger.execute):
        state = trigger.watch(state, Seen(place.copy()))
        if trigger.wants_call(state):
            budget = replace(Budget(), **trigger.spend(state).changes())
            design.check_budget(budget)
            runs = [calls(part, "generate") for part in design.estimators.values()]
            forecast, carry = design.forecast(observation, carry, budget, [1])
            for part in design.estimators.values():
                del part.generate
            dreams.append(bool(forecast.future))
            spent.append(sum(map(len, runs)) + sum(forecast.nfe.values()))
            state = trigger.receive(state, forecast.action[0].numpy())
        _, state = trigger.next(state)
        place[list(trigger.entries)] += speeds[tick // trigger.execute] / len(trigger.entries) ** 0.5
    return dreams, spent


# ------------------------------------------------------------------------------------------------ waypoints
@oracle("dp.progress-gate")
def progress_gate(case: Case) -> None:
    """No waypoint is passed before it is reached: a stalled chunk is followed by another one to the same waypoint."""
    gate = case.config.controller
    if isinstance(gate, GoalPointer):
        goal_pointer(case, gate)
        return
    assert isinstance(gate, ProgressGate), "nothing that is predicted must be reached"
    gate.check(case.spec.action.mode, case.config.futures[gate.stream].offsets)
    value, offset = predicted(case, gate)
    calls_made, state = walked(case, gate, value, offset, arrive=None)
    assert calls_made == list(range(0, 4 * gate.execute, gate.execute)), (
        "a chunk ended although nothing was reached"
    )
    assert state.counts["waypoints"] == 0, "a waypoint was passed that was not reached"
    assert state.counts["stalled_calls"] == 3
    at = gate.execute + 1
    calls_made, state = walked(case, gate, value, offset, arrive=at)
    assert at in calls_made, f"reached at {at}, called at {calls_made}"
    assert state.counts["waypoints"] == 1
    near = replace(gate, threshold=2 * OFF)  # the gate opens where the threshold says
    assert walked(case, near, value, offset, arrive=None)[1].counts["waypoints"] > 0


def predicted(case: Case, gate: ProgressGate) -> tuple[np.ndarray, int]:
    """The waypoint of a real forecast, the value of its last step, and that step's offset."""
    design = case.design
    made, _ = design.forecast(case.observation(), design.initial_state(1), Budget(), [1])
    assert gate.stream in made.future, f"a call does not predict {gate.stream}"
    return made.future[gate.stream][0, -1].numpy(), case.config.futures[gate.stream].offsets[-1]


def walked(
    case: Case, gate: ProgressGate, value: np.ndarray, offset: int, arrive: int | None
) -> tuple[list[int], ControllerState]:
    """Ticks of the calls of four chunks, and the last state; the first waypoint is seen at tick ``arrive`` alone."""
    state, made = gate.start(), []
    for tick in range(4 * gate.execute):
        seen = value if tick == arrive else waypoint(value, -1)
        if gate.wants_values(state):
            state = gate.watch(state, Seen(np.zeros(4, np.float32), seen))
        if gate.wants_call(state):
            made.append(tick)
            state = gate.receive(state, chunk_of(case, len(made)), {offset: waypoint(value, len(made) - 1)})
        _, state = gate.next(state)
    return made, state


def waypoint(value: np.ndarray, number: int) -> np.ndarray:
    """Waypoint of a call by its number, far from those of the other calls; the first one is ``value``."""
    return value + number * (1 if np.issubdtype(value.dtype, np.integer) else OFF)


# ------------------------------------------------------------------------------------------------ subgoals
@oracle("dp.subgoal-refresh")
def subgoal_refresh(case: Case) -> None:
    """The policy never runs the generator, reads the latest subgoal that has arrived, whose age is bounded and told."""
    refresh = case.config.controller
    assert isinstance(refresh, SubgoalRefresh), "no stream has a clock of its own"
    design = sharpen(case.untrained())
    name = refresh.supplies
    design.check_given(name)
    observation, generator = case.cut(design.window), design.graph.factor_of(name).estimator
    assert generator != design.graph.factor_of(ACTION).estimator, "one estimator generates and acts"
    runs = calls(design.estimators[generator], "generate")
    acts = []
    for draw in (1, 2):
        given = {name: drawn(design, name, draw)}
        made, _ = design.forecast(observation, design.initial_state(1), Budget(), [1], given)
        acts.append(made.action)
    assert not runs, "the policy waits for the generator"
    assert not torch.equal(*acts), "the policy does not read the subgoal"
    value = design.generate(observation, design.initial_state(1), name, Budget(), [1])
    assert runs
    clocked(case, refresh, value[0].numpy())


def clocked(case: Case, refresh: SubgoalRefresh, value: np.ndarray) -> None:
    """Starts, arrivals and ages over an episode, with the generator running and stopped."""
    ticks = 4 * refresh.clock
    started, used, state = subgoals_of(case, refresh, value, ticks)
    assert started == list(range(0, ticks, refresh.clock))
    for tick, asked in used.items():
        arrived = [s for s in started if s + (refresh.latency if s else 0) <= tick]
        assert asked == arrived[-1], (
            f"at {tick} the subgoal of {asked} is used, that of {arrived[-1]} is there"
        )
    ages = [tick - asked for tick, asked in used.items()]
    assert state.counts["oldest_subgoal_ticks"] == max(ages) < refresh.bound
    stopped, used, state = subgoals_of(case, replace(refresh, stop_after=1), value, ticks)
    assert stopped == [0]
    assert set(used.values()) == {0}, "the last subgoal is not kept in use"
    assert state.counts["oldest_subgoal_ticks"] >= refresh.bound - refresh.latency - refresh.execute


def subgoals_of(
    case: Case, refresh: SubgoalRefresh, value: np.ndarray, ticks: int
) -> tuple[list[int], dict[int, int], ControllerState]:
    """Ticks at which the generator is started, tick of a call -> start of the subgoal in use, and the last state."""
    state, started, used = refresh.start(), [], {}
    for tick in range(ticks):
        if refresh.wants_subgoal(state):
            started.append(tick)
            state = refresh.supply(state, np.full_like(value, tick))
        if refresh.wants_call(state):
            given = refresh.given(state)
            assert given is not None
            used[tick] = int(given.flat[0])
            state = refresh.receive(state, chunk_of(case, tick))
        _, state = refresh.next(state)
    return started, used, state


# ------------------------------------------------------------------------------------------------ words
@oracle("dp.interactive")
def interactive(case: Case) -> None:
    """An input in the middle changes what follows and not what was before; what a step costs does not grow."""
    if case.acts:
        controller = case.config.controller
        assert isinstance(controller, Interactive), "the user is not heard"
        said(case, controller)
    else:
        steered(case)


def said(case: Case, controller: Interactive) -> None:
    """New words at a tick call the policy there, with them; the ticks before are as without."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    at, ticks = controller.execute + 1, 3 * controller.execute
    loud = replace(controller, inputs={at: "do something else entirely"})

    def answer(words: str | None) -> np.ndarray:
        told = observation if words is None else replace(observation, task=(words,))
        return design.forecast(told, design.initial_state(1), Budget(), [1])[0].action[0].numpy()

    quiet, first = listened(controller, answer, ticks)
    spoken, second = listened(loud, answer, ticks)
    assert at in second
    assert at not in first
    assert np.array_equal(quiet[:at], spoken[:at]), "what was before the words changed"
    assert not np.array_equal(quiet[at], spoken[at]), "the words change nothing"


def listened(
    controller: Controller, answer: Callable[[str | None], np.ndarray], ticks: int
) -> tuple[np.ndarray, list[int]]:
    """Executed actions and ticks of the calls."""
    state, actions, made = controller.start(), [], []
    for tick in range(ticks):
        state = controller.watch(state, Seen(np.zeros(4, np.float32)))
        if controller.wants_call(state):
            made.append(tick)
            state = controller.receive(state, answer(controller.words(state)))
        action, state = controller.next(state)
        actions.append(action)
    return np.stack(actions), made


def steered(case: Case) -> None:
    """World model: another action in the middle changes the blocks after it, none before, at the same cost each."""
    design = sharpen(case.untrained())
    seen = case.cut(design.window)
    known = {ACTION: drawn(design, ACTION, 1)}, {ACTION: drawn(design, ACTION, 2)}
    want = sorted(design.graph.of_role("future"))
    runs, costs = [], []
    for change in (None, 2):
        state, shown = design.initial_state(1), []
        for block in range(4):
            counters = [calls(trunk, "forward") for trunk in design.trunks.values()]
            context = design.encode_context(seen)
            if design.past_blocks:
                state = design.observe(case.cut(design.window, (NOW + block,)), state, context)
            made = design.sample(seen, want, seeds=[block], given=known[int(block == change)], carry=state)
            shown.append(made.values)
            costs.append(sum(map(len, counters)))
            for trunk in design.trunks.values():
                del trunk.forward
        runs.append(shown)
    assert len(set(costs)) == 1, f"steps cost {costs}"
    same = [all(torch.equal(a[n], b[n]) for n in want) for a, b in zip(*runs, strict=True)]
    assert same[:2] == [True, True]
    assert not same[2], "the action does not steer"
