"""Figures of a dataset against closed forms: idle ticks, delays, jitter, duplicates, constant entries, padding."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import ACTION, OBSERVATION, episode, record, varied

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.contents import Contents
from wamkit.data.survey import (
    ALIKE,
    BINS,
    delays,
    duplicates,
    entries,
    idle_share,
    jitter,
    matched,
    survey,
    windows,
)


def walks(lengths: list[int], width: int, seed: int = 0) -> np.ndarray:
    """Random walks (N, D), which change in every entry at every tick."""
    steps = np.random.default_rng(seed).uniform(0.5, 1, (sum(lengths), width))
    return np.cumsum(steps * np.random.default_rng(seed + 1).choice((-1, 1), steps.shape), axis=0)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    chance=st.floats(0, 1),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_idle_ticks_are_those_that_were_held(lengths: list[int], chance: float, seed: int) -> None:
    state, action = walks(lengths, 2, seed), walks(lengths, 3, seed + 10)
    rng, first, held, all_ticks = np.random.default_rng(seed), 0, 0, 0
    for length in lengths:
        for t in range(first + 1, first + length):
            if rng.random() < chance:
                # The rest of the walk is moved, so that only this tick stands still.
                state[t:] -= state[t] - state[t - 1]
                action[t:] -= action[t] - action[t - 1]
                held += 1
            all_ticks += 1
        first += length
    assert idle_share(state, action, lengths) == (held / all_ticks if all_ticks else 0.0)


def test_a_tick_is_not_idle_when_only_state_or_only_action_stands_still() -> None:
    still, moving = np.ones((10, 2)), walks([10], 2)
    assert idle_share(still, moving, [10]) == 0
    assert idle_share(moving, still, [10]) == 0
    assert idle_share(still, still, [10]) == 1
    # From one episode to the next nothing is said.
    assert idle_share(np.repeat(moving[:2], 5, axis=0), np.repeat(moving[:2], 5, axis=0), [5, 5]) == 1


@given(planted=st.integers(0, 12), seed=st.integers(0, 1000), relative=st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_planted_delay_is_found_by_name(planted: int, seed: int, relative: bool) -> None:
    lengths = [60, 45]
    commands = [walks([length + planted], 2, seed + i) for i, length in enumerate(lengths)]
    state = np.concatenate([c[:length] for c, length in zip(commands, lengths, strict=True)])[:, ::-1]
    action = np.concatenate([c[planted:] for c in commands])
    if relative:  # the change that each tick commands
        steps = [np.diff(c, axis=0, append=c[-1:]) for c in commands]
        action = np.concatenate([s[planted:] for s in steps])
    names = ("y_m", "x_m"), (("dx", "dy") if relative else ("x", "y"))
    found = delays(state, action, lengths, names, 20.0, relative)
    assert [(d.action, d.state, d.ticks) for d in found] == [
        (names[1][0], "x_m", planted),
        (names[1][1], "y_m", planted),
    ]
    assert all(d.correlation > 0.999 for d in found)


@given(planted=st.integers(0, 12), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_a_planted_delay_is_found_in_the_speeds_where_no_name_is_shared(planted: int, seed: int) -> None:
    command = walks([90 + planted], 3, seed)
    names = ("joint_1", "joint_2", "joint_3"), ("a", "b", "c")
    (found,) = delays(-2 * command[:90], command[planted:], [90], names, 20.0, False)
    assert (found.action, found.state, found.ticks) == ("speed", "speed", planted)


def test_no_delay_is_said_where_nothing_follows() -> None:
    names = ("x",), ("x",)
    (found,) = delays(walks([400], 1, 5), walks([400], 1, 9), [400], names, 20.0, False)
    assert found.ticks is None
    assert found.correlation < 0.3
    assert delays(np.zeros((9, 0)), walks([9], 1), [9], ((), ("x",)), 20.0, False) == ()
    (still,) = delays(np.ones((9, 1)), np.ones((9, 1)), [9], names, 20.0, False)
    assert (still.ticks, still.correlation) == (None, 0.0)


def test_names_match_without_units_and_signs_of_a_change() -> None:
    assert matched(("x_m", "Y_rad", "gripper"), ("dx", "delta_y", "close"), True) == [(0, 0), (1, 1)]
    assert matched(("x_m", "d"), ("dx", "d"), False) == [(1, 1)]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    size=st.floats(1e-4, 4e-3),
    seed=st.integers(0, 100),
)
@settings(max_examples=30, deadline=None)
def test_jitter_is_that_of_the_steps_in_time(lengths: list[int], size: float, seed: int) -> None:
    rng, rate = np.random.default_rng(seed), 50.0
    off = [rng.uniform(-size, size, length) for length in lengths]
    times = np.concatenate([np.arange(len(o)) / rate + o for o in off])
    steps = np.concatenate([np.diff(o) for o in off])
    found = jitter(times, lengths, rate)
    if len(steps):
        assert found.rms_s == pytest.approx(np.sqrt(np.mean(steps**2)))
        assert found.largest_s == pytest.approx(np.abs(steps).max())
    else:
        assert (found.rms_s, found.largest_s) == (0, 0)


@given(count=st.integers(2, 8), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_planted_duplicate_is_found_and_no_other(count: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(20, 60))
    first, second = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=2, max_size=2)))
    noise = data.draw(st.sampled_from((0.0, 1e-3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    lengths = [length] * count
    state, action = rng.normal(size=(sum(lengths), 3)), rng.normal(size=(sum(lengths), 2))
    for values in (state, action):
        copied = values[first * length : (first + 1) * length]
        values[second * length : (second + 1) * length] = copied + noise * rng.normal(size=copied.shape)
    (found,) = duplicates(state, action, lengths)
    assert (found.first, found.second) == (first, second)
    assert found.distance <= min(ALIKE, 3 * noise)


def test_the_same_path_in_another_time_is_no_duplicate() -> None:
    path = walks([40], 2)
    slow = np.repeat(path, 2, axis=0)
    assert duplicates(np.concatenate((path, slow)), np.zeros((120, 1)), [40, 80]) == ()
    assert duplicates(np.zeros((8, 1)), np.zeros((8, 1)), [4, 4]) == ()  # nothing moves: nothing to compare


def test_ranges_histograms_and_entries_that_never_move() -> None:
    values = np.stack((np.linspace(-1, 3, 240), np.full(240, 0.7)), axis=1)
    ramp, flat = entries(values, ("ramp", "flat"))
    assert (ramp.low, ramp.high, ramp.mean, ramp.moves) == (-1, 3, pytest.approx(1), True)
    assert ramp.std == pytest.approx(np.std(np.linspace(-1, 3, 240)))
    assert ramp.counts == (240 // BINS,) * BINS
    assert (flat.low, flat.high, flat.moves) == (0.7, 0.7, False)
    assert sum(flat.counts) == 240


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    horizon=st.integers(1, 9),
    past=st.integers(0, 4),
    observed=st.sets(st.integers(-9, -1), max_size=2),
    future=st.sets(st.integers(1, 9), max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_padding_is_that_of_every_window(
    lengths: list[int], horizon: int, past: int, observed: set[int], future: set[int]
) -> None:
    spec = WindowSpec((*sorted(observed), 0), past, horizon, tuple(sorted(future)))
    found = windows(lengths, spec)

    def outside(offsets: range | tuple[int, ...]) -> float:
        steps = [
            not 0 <= now + o < length
            for length in lengths
            for now, o in itertools.product(range(length), offsets)
        ]
        return sum(steps) / len(steps)

    assert found.count == sum(lengths)
    assert found.action == pytest.approx(outside(range(-past, horizon)))
    assert found.observation == pytest.approx(outside(spec.observation))
    assert found.future == (pytest.approx(outside(spec.future)) if future else None)


def test_padding_is_what_the_dataset_marks(recorded: Path) -> None:
    spec = WindowSpec((-3, 0), past_actions=2, horizon=4)
    batch = Dataset(recorded).windows(np.arange(18), spec)
    found = windows([5, 9, 4], spec)
    assert found.action == pytest.approx(float(batch.action_pad.float().mean()))
    assert batch.observation.pad is not None
    assert found.observation == pytest.approx(float(batch.observation.pad.float().mean()))


def test_a_survey_of_a_recorded_dataset(tmp_path: Path) -> None:
    items = [*varied([12, 15]), episode(12, 0, task="task 0")]  # the last one repeats the first
    still = [
        dataclasses.replace(i, state=np.concatenate((i.state[:, :2], 0 * i.state[:, 2:]), 1)) for i in items
    ]
    found = survey(Contents(record(tmp_path / "set", still), extras=None))
    assert found.lengths == (12, 15, 12)
    assert found.tasks == {"task 0": 2, "task 1": 1}
    assert found.constant == ["state z_m"]
    assert [(d.first, d.second, d.distance) for d in found.duplicates] == [(0, 2, 0.0)]
    assert found.idle == 0
    assert found.jitter.largest_s < 1e-6
    assert [d.state for d in found.delays] == ["x_m"]
    assert tuple(e.name for e in found.state) == OBSERVATION.state
    assert tuple(e.name for e in found.action) == ACTION.names
    values = np.concatenate([i.action for i in still])
    assert [e.low for e in found.action] == values.min(axis=0).tolist()
    assert found.successes == (2, 3)
