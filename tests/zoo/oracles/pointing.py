"""Oracle of a goal pointer: one generated future is followed step by step, and no step is skipped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from cases import NOW, Case

from gates import sharpen
from oracles.registry import calls
from wamkit.contract.types import Budget, Observation, WindowSpec
from wamkit.controllers import ControllerState, GoalPointer, Seen

OFF = 10.0  # distance between two values that no threshold takes for close


def goal_pointer(case: Case, pointer: GoalPointer) -> None:
    """The pointer waits for the step that it stands at, and a call is given the plan from there on and makes none."""
    design = case.design
    design.check_given(pointer.stream, followed=True)
    pointer.check(case.spec.action.mode, design.perceived(pointer.stream).offsets)
    made = design.generate(case.observation(), design.initial_state(1), pointer.stream, Budget(), [1])
    arrives_in_order(case, pointer, made[0].numpy())
    follows_what_is_recorded(case, pointer)
    acts_towards_it(case, pointer)


def arrives_in_order(case: Case, pointer: GoalPointer, made: np.ndarray) -> None:
    """Steps far apart, seen at chosen ticks: each is passed when it is seen in its turn, and never before."""
    count = len(made)
    apart = np.arange(1, count + 1).reshape(-1, *[1] * (made.ndim - 1))
    plan = np.repeat(made[:1], count, axis=0) + (OFF * apart).astype(made.dtype)
    nowhere = made[0] - np.asarray(OFF, made.dtype)
    stood, asked, state = walked(case, pointer, plan, lambda tick: nowhere, 3 * count)
    assert stood == [0] * len(stood), "a goal was passed that was not reached"
    assert asked == [0], "a stalled plan was replaced"
    assert state.counts == {"plans": 1, "reached_steps": 0}
    arrivals = {3 * i + 2: i for i in range(count)}  # tick -> step that is seen there
    early = {1: count - 1} if count > 1 else {}  # the last step, long before its turn
    shown = {**arrivals, **early}
    stood, asked, state = walked(
        case, pointer, plan, lambda t: plan[shown[t]] if t in shown else nowhere, 3 * count + 2
    )
    expected = [sum(t <= tick for t in arrivals) % count for tick in range(3 * count + 2)]
    assert stood == expected, f"the pointer stands at {stood}, the goals were reached at {sorted(arrivals)}"
    assert asked == [0, max(arrivals)], "a new plan comes when the last goal is reached"
    assert state.counts["reached_steps"] == count


def follows_what_is_recorded(case: Case, pointer: GoalPointer) -> None:
    """What is seen is encoded as it was predicted, and the pointer moves where the distance says so."""
    perceived, part = case.design.perceived(pointer.stream), case.design.substrate(pointer.stream)
    last, waited = perceived.offsets[-1], False
    for start in range(NOW, NOW + 2 * last, 4):
        now = frame(case, start)
        seen = [perceived.encode(frame(case, start + t), now)[0].numpy() for t in range(last + 1)]
        by_hand = part.encode(frame(case, start + last), now)[0, 0].numpy()
        assert np.array_equal(seen[last], by_hand), "what is seen is not what is predicted"
        plan = np.stack([seen[offset] for offset in perceived.offsets])
        stood, _, _ = walked(case, pointer, plan, lambda tick, seen=seen: seen[tick], last)
        assert stood == independently(pointer, plan, seen[:last]), "not the distance moves the pointer"
        waited |= stood != [tick % len(plan) for tick in range(last)] and max(stood) == len(plan) - 1
    assert waited, "nothing moves in the recordings, so that no goal was waited for and reached"


def independently(pointer: GoalPointer, plan: np.ndarray, seen: Sequence[np.ndarray]) -> list[int]:
    """Where the pointer stands at every tick, by root mean squares written out; the plan starts again at its end."""
    at, stood = 0, [0]
    for value in seen[1:]:
        chosen = list(pointer.entries) or list(range(plan.shape[-1]))
        square = (plan[at].astype(np.float64) - value)[:, chosen] ** 2
        at = (at + int(square.mean() ** 0.5 <= pointer.threshold)) % len(plan)
        stood.append(at)
    return stood


def acts_towards_it(case: Case, pointer: GoalPointer) -> None:
    """The action depends on the step that is pointed at, not on those passed, and the generator stays at rest."""
    design, stream = sharpen(case.untrained()), pointer.stream
    observation, carry = case.cut(design.window), design.initial_state(1)
    plan = design.generate(observation, carry, stream, Budget(), [1])[0].numpy()
    runs = calls(design.estimators[design.graph.factor_of(stream).estimator], "generate")

    def acted(values: np.ndarray, reached: int) -> torch.Tensor:
        state = pointer.supply(pointer.start(), values)
        for _ in range(reached):
            state = pointer.watch(state, Seen(np.zeros(4, np.float32), values[state.pointer]))
        given = pointer.given(state)
        assert state.pointer == reached
        assert given is not None
        known = {stream: torch.from_numpy(given)[None]}
        return design.forecast(observation, carry, Budget(), [1], given=known)[0].action

    at = len(plan) // 2
    first = acted(plan, at)
    passed, pointed = plan.copy(), plan.copy()
    passed[:at] += np.asarray(OFF, plan.dtype)
    pointed[at] += np.asarray(OFF, plan.dtype)
    assert torch.equal(first, acted(passed, at)), "a goal that was passed still moves the action"
    assert not torch.equal(first, acted(pointed, at)), "the goal does not move the action"
    assert not torch.equal(first, acted(plan, 0)), "the pointer does not move the action"
    assert not runs, "the plan is generated anew although it is given"


def walked(
    case: Case, pointer: GoalPointer, plan: np.ndarray, seen: Callable[[int], np.ndarray], ticks: int
) -> tuple[list[int], list[int], ControllerState]:
    """Where the pointer stands when each tick's action is chosen, ticks of the plans, and the last state."""
    state, stood, asked = pointer.start(), [], []
    for tick in range(ticks):
        if pointer.wants_values(state):
            state = pointer.watch(state, Seen(np.zeros(4, np.float32), seen(tick)))
        if pointer.wants_subgoal(state):
            asked.append(tick)
            state = pointer.supply(state, plan)
        stood.append(state.pointer)
        assert pointer.wants_call(state), "not called at every tick"
        chunk = np.full((case.config.horizon, len(case.spec.action.names)), tick, np.float32)
        action, state = pointer.next(pointer.receive(state, chunk))
        assert (action == tick).all(), "an older forecast is executed"
    return stood, asked, state


def frame(case: Case, index: int) -> Observation:
    """One observation of the recordings."""
    return case.cut(WindowSpec(), (index,))
