"""Goal pointer on hand-made futures and distances, without a model or a simulator."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import draccus
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.controllers import Controller, ControllerState, GoalPointer, Seen
from wamkit.errors import ConfigError

CHUNK = np.zeros((4, 2), np.float32)
HERE = np.zeros(3, np.float32)
PLAN = np.array([1, 2, 3], np.float32)[:, None, None]  # three steps (3, 1, 1)


def seen(value: float) -> Seen:
    return Seen(HERE, np.full((1, 1), value, np.float32))


def walk(
    controller: GoalPointer, plan: np.ndarray, values: Sequence[Seen]
) -> tuple[list[int], ControllerState]:
    """Where the pointer stands after each tick's observation; the same plan is supplied whenever one is wanted."""
    state, stood = controller.start(), []
    for value in values:
        if controller.wants_values(state):
            state = controller.watch(state, value)
        if controller.wants_subgoal(state):
            state = controller.supply(state, plan)
        stood.append(state.pointer)
        _, state = controller.next(controller.receive(state, CHUNK))
    return stood, state


@pytest.mark.parametrize(
    ("places", "expected", "counts"),
    [
        ((0, 0, 0, 0), (0, 0, 0, 0), (1, 0)),  # it stands still
        ((0, 1, 2, 3), (0, 1, 2, 0), (2, 3)),  # it arrives everywhere, then there is a new plan
        ((0, 0.5, 0.875, 1.25, 2), (0, 0, 1, 1, 2), (1, 2)),  # within 1/8 of the first, far from the second
        ((0, 3, 2, 1, 3, 2), (0, 0, 0, 1, 1, 2), (1, 2)),  # later steps do not count before their turn
        ((0, 1, 1, 1, 1), (0, 1, 1, 1, 1), (1, 1)),  # it stalls at the first
        ((1, 1), (0, 1), (1, 1)),  # what is seen when the plan is made is not compared
    ],
)
def test_the_pointer_on_hand_made_places(
    places: tuple[float, ...], expected: tuple[int, ...], counts: tuple[int, int]
) -> None:
    controller = GoalPointer(threshold=0.125)
    stood, state = walk(controller, PLAN, [seen(x) for x in places])
    assert tuple(stood) == expected
    assert state.counts == {"plans": counts[0], "reached_steps": counts[1]}
    assert state.calls == len(places)


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    plan=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    threshold=st.integers(0, 2),
)
def test_it_advances_exactly_where_the_threshold_is_met(
    places: list[int], plan: list[int], threshold: int
) -> None:
    controller = GoalPointer(threshold=float(threshold))
    steps = np.array(plan, np.float32)[:, None, None]
    stood, state = walk(controller, steps, [seen(x) for x in places])
    at, reached, plans = 0, 0, 1
    expected = [0]
    for place in places[1:]:
        near = abs(plan[at] - place) <= threshold
        reached += near
        plans += near and at + 1 == len(plan)
        at = (at + near) % len(plan)
        expected.append(at)
    assert stood == expected
    assert state.counts == {"plans": plans, "reached_steps": reached}


@settings(max_examples=25, deadline=None)
@given(
    places=st.lists(st.floats(1.5, 100, width=32), max_size=30),
    signs=st.lists(st.sampled_from((-1, 1)), min_size=30, max_size=30),
)
def test_a_stall_never_advances(places: list[float], signs: list[int]) -> None:
    controller = GoalPointer(threshold=0.25)
    values = [seen(1 + sign * x) for x, sign in zip(places, signs, strict=False)]
    stood, state = walk(controller, PLAN, [seen(0), *values])
    assert set(stood) == {0}
    assert state.counts == {"plans": 1, "reached_steps": 0}


def test_a_call_is_given_the_steps_from_the_pointer_on() -> None:
    controller = GoalPointer()
    state = controller.start()
    assert controller.given(state) is None
    state = controller.supply(state, PLAN)
    shown = []
    for place in (1, 2, 3):
        given = controller.given(state)
        assert given is not None
        shown.append(given[:, 0, 0].tolist())
        state = controller.watch(state, seen(place))
    assert shown == [[1, 2, 3], [2, 3, 3], [3, 3, 3]]
    assert controller.wants_subgoal(state)
    assert controller.given(state) is None
    assert not controller.wants_values(state)


def test_entries_choose_what_is_compared() -> None:
    plan = np.array([[[0, 0, 3, 4]], [[0, 0, 9, 9]]], np.float32)
    value = np.array([[7, 7, 0, 0]], np.float32)  # root mean squares 3.54 of entries 2 and 3, 5.55 of all
    for threshold, entries, reached in ((3.6, (2, 3), 1), (3.5, (2, 3), 0), (5.6, (), 1), (5.5, (), 0)):
        controller = GoalPointer(threshold=threshold, entries=entries)
        state = controller.supply(controller.start(), plan)
        assert controller.watch(state, Seen(HERE, value)).pointer == reached, (threshold, entries)


def test_ids_are_compared_by_the_share_that_differs() -> None:
    plan = np.array([[1, 2, 3, 4], [1, 2, 3, 5]])
    for threshold, reached in ((0.25, 1), (0.2, 0)):
        controller = GoalPointer(threshold=threshold)
        state = controller.supply(controller.start(), plan)
        assert controller.watch(state, Seen(HERE, np.array([1, 2, 3, 9]))).pointer == reached
    given = controller.given(state)
    assert given is not None
    assert given.dtype == plan.dtype


def test_the_state_is_a_value() -> None:
    """Nothing of a state changes after it was returned, so that it can be kept, repeated and shared by episodes."""
    controller = GoalPointer(threshold=0.0)
    states = [controller.start()]
    states.append(controller.supply(states[-1], PLAN))
    states.append(controller.receive(states[-1], CHUNK))
    states.append(controller.next(states[-1])[1])
    states.append(controller.watch(states[-1], seen(1)))
    kept = copy.deepcopy(states)
    again = controller.watch(states[3], seen(1))
    assert again.pointer == states[4].pointer == 1
    assert controller.watch(states[3], seen(0)).pointer == 0
    for before, after in zip(kept, states, strict=True):
        assert (before.pointer, before.tick, before.counts) == (after.pointer, after.tick, after.counts)
        assert all(
            np.array_equal(a.values, b.values) for a, b in zip(before.subgoals, after.subgoals, strict=True)
        )


def test_one_call_per_tick() -> None:
    controller = GoalPointer()
    assert controller.regime(16) == "Single-step"
    assert controller.calls(5) == (0, 1, 2, 3, 4)
    assert controller.cost(5, 2.0) == 10.0
    assert controller.deadline_s(20.0) == 0.05
    assert controller.watches
    assert controller.follows
    state = controller.receive(controller.supply(controller.start(), PLAN), CHUNK)
    assert not controller.wants_call(state)
    assert controller.wants_call(controller.next(state)[1])


def test_config_and_refusals() -> None:
    controller = GoalPointer("tracks", 0.5, (3, 4, 5))
    assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller
    with pytest.raises(ConfigError, match="`supply` it first"):
        controller.receive(controller.start(), CHUNK)
    with pytest.raises(
        ConfigError, match=r"`entries` \[3, 4, 5\] of stream 'tracks', whose tokens have 1 features"
    ):
        controller.supply(controller.start(), PLAN)
    with pytest.raises(ConfigError, match="have 0 features"):
        controller.supply(controller.start(), np.array([[1, 2], [3, 4]]))
    with pytest.raises(ConfigError, match="threshold: must be finite"):
        GoalPointer(threshold=float("nan"))
    with pytest.raises(ConfigError, match="entries"):
        GoalPointer(entries=(-1,))
