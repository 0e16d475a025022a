"""The closed loop on a toy world whose outcome is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import MAX_TICKS, Memory, ToyPolicy, ToySimulators

from wamkit.contract.rows import join_rows
from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, WindowSpec
from wamkit.controllers import Chunked, Controller, OpenLoop, SingleStep
from wamkit.envs.perturbations.suite import Variant
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.episodes import (
    ActionBlock,
    EpisodeRun,
    PlannedEpisode,
    Queue,
    Senses,
    Trace,
    observe,
)
from wamkit.evaluation.closed_loop.loop import ClosedLoop, LoopResult, two_groups
from wamkit.evaluation.closed_loop.pilot import PolicyPilot, ReplayPilot
from wamkit.evaluation.closed_loop.tree import signature, take_row

PLAN = [PlannedEpisode(task, seed) for seed in range(5) for task in ("a", "b")]


def run(
    policy: ToyPolicy,
    slots: int = 4,
    controller: Controller | None = None,
    deadly: tuple[int, ...] = (),
    plan: list[PlannedEpisode] = PLAN,
) -> tuple[LoopResult, ToySimulators, PolicyPilot]:
    simulators = ToySimulators(slots, deadly)
    pilot = PolicyPilot(policy, controller or Chunked(4), Budget(), MAX_TICKS)
    return ClosedLoop(simulators, slots, 1, pilot, MAX_TICKS).run(plan), simulators, pilot


@pytest.mark.parametrize("controller", [Chunked(4), Chunked(8), SingleStep(), OpenLoop()])
def test_every_episode_ends_at_the_tick_of_the_closed_form(controller: Controller) -> None:
    result, _, _ = run(ToyPolicy(step=0.5), controller=controller)
    assert [(r.plan.task, r.plan.seed) for r in result.runs] == [(p.task, p.seed) for p in PLAN]
    for r in result.runs:
        ticks = math.ceil((10 - r.plan.seed) / 0.5)
        assert (r.status, r.tick) == ("success", ticks)
        assert r.calls == len(controller.calls(ticks))


def test_timeout_failure_and_clipping_are_told_apart() -> None:
    slow, _, _ = run(ToyPolicy(step=0.1))
    assert {(r.status, r.tick) for r in slow.runs} == {("timeout", MAX_TICKS)}
    back, _, _ = run(ToyPolicy(step=-1.0))
    assert {r.status for r in back.runs} == {"failure"}
    wild, _, _ = run(ToyPolicy(step=5.0))
    assert [r.tick for r in wild.runs] == [10 - r.plan.seed for r in wild.runs]
    assert {r.record().clipped for r in wild.runs} == {0.5}
    assert {r.record().clipped for r in slow.runs} == {0.0}


def test_a_raising_policy_loses_only_the_guilty_episode() -> None:
    good, _, _ = run(ToyPolicy())
    result, _, _ = run(ToyPolicy(raises_at=2.0))
    for r, clean in zip(result.runs, good.runs, strict=True):
        if r.plan.seed == 2:
            assert r.status == "error"
            assert "the toy cannot see this" in (r.error or "")
            assert "Traceback" in (r.error or "")
        else:
            assert (r.status, r.tick) == (clean.status, clean.tick)


def test_a_nan_action_and_a_dead_simulator_are_errors() -> None:
    result, simulators, _ = run(ToyPolicy(nan_at=3.0), deadly=(1,))
    errors = {r.plan.seed: r.error for r in result.runs if r.status == "error"}
    assert sorted(errors) == [1, 3]
    assert "not finite at tick 0" in (errors[3] or "")
    assert errors[1] == "worker died at tick 4"
    assert not simulators.pending
    assert all(r.status == "success" for r in result.runs if r.plan.seed not in errors)


def test_the_same_plan_gives_the_same_messages_and_batches() -> None:
    first, second = ToyPolicy(), ToyPolicy()
    _, a, _ = run(first)
    _, b, _ = run(second)
    assert a.log == b.log
    assert first.batches == second.batches
    assert max(first.batches) == 2


@settings(max_examples=20, deadline=None)
@given(slots=st.integers(1, 12), execute=st.integers(1, 8))
def test_results_do_not_depend_on_the_number_of_slots(slots: int, execute: int) -> None:
    one, _, _ = run(ToyPolicy(), slots=1, controller=Chunked(execute))
    many, _, _ = run(ToyPolicy(), slots=slots, controller=Chunked(execute))
    assert [r.record() for r in one.runs] == [r.record() for r in many.runs]
    for ours, theirs in zip(one.runs, many.runs, strict=True):
        assert [b.actions.tolist() for b in ours.blocks] == [b.actions.tolist() for b in theirs.blocks]


def test_states_of_different_length_are_called_apart() -> None:
    result, _, _ = run(ToyPolicy(grows=True), slots=8)
    assert {r.status for r in result.runs} == {"success"}


def test_one_group_computes_while_the_other_simulates() -> None:
    """When a group is waited for, every running slot of the other group has its work already."""
    _, simulators, _ = run(ToyPolicy(step=0.2), slots=4, plan=[PlannedEpisode("a", s) for s in range(4)])
    busy: set[int] = set()
    waits = 0
    for kind, what, *_ in simulators.log:
        if kind != "wait":
            busy.add(what)
        elif waits == 0:
            waits, busy = 1, set()
        else:
            waits += 1
            if waits <= 8:
                assert busy == {0, 1, 2, 3}
            busy -= set(what)
    assert waits > 8


def test_each_group_of_slots_uses_every_worker() -> None:
    assert two_groups(range(8), 2) == [(0, 1, 4, 5), (2, 3, 6, 7)]
    assert two_groups(range(4), 2) == [(0, 1), (2, 3)]
    assert two_groups([0], 1) == [(0,)]
    assert two_groups([2, 3, 6, 7], 2) == [(2, 3), (6, 7)]
    assert two_groups([], 2) == []


def test_the_last_episodes_of_one_group_are_split() -> None:
    """Six equal episodes in four slots: both that are left are begun by the first group, and take turns."""
    plan = [PlannedEpisode("a", 0, variant=Variant(f"a/{i}", "a", i)) for i in range(6)]
    result, simulators, _ = run(ToyPolicy(step=0.2), slots=4, plan=plan)
    ticks = {r.tick for r in result.runs}
    assert len(ticks) == 1
    log = simulators.log
    last = [k for k, (kind, *_) in enumerate(log) if kind == "reset"][-1]
    busy: set[int] = set()
    alone = together = 0
    for kind, what, *_ in log[last + 1 :]:
        if kind != "wait":
            busy.add(what)
            continue
        assert set(what) < {0, 2} or not together  # once they are split they stay apart
        together += len(what) == 1 and busy == {0, 2}
        alone += len(what) == 1 and busy == set(what)
        busy -= set(what)
    assert together > 8
    assert alone <= 2  # the very first and the very last


def test_replay_sends_the_same_messages_without_a_policy() -> None:
    result, recorded, _ = run(ToyPolicy(), deadly=(1,))
    traces = [Trace(r.plan, tuple(r.blocks)) for r in result.runs]
    simulators = ToySimulators(4, deadly=(1,))
    loop = ClosedLoop(simulators, 4, 1, ReplayPilot(traces), MAX_TICKS)
    again = loop.run([t.plan for t in traces])
    assert simulators.log == recorded.log
    assert [(r.status, r.tick) for r in again.runs] == [(r.status, r.tick) for r in result.runs]


def test_a_recording_is_found_by_its_variant_not_by_task_and_seed() -> None:
    """The clean arm and every perturbation of it have one task and seed; each has its own actions."""
    shifted = Variant("Light Conditions/diffuse/3/a/000", "a", 0)
    plans = [PlannedEpisode("a", 7, variant=v) for v in (Variant("clean/a/000", "a", 0), shifted, None)]
    traces = [
        Trace(plan, tuple(ActionBlock(np.full((1, 2), value + i, np.float32), (1,)) for i in range(2)))
        for value, plan in zip((0.0, 10.0, 20.0), plans, strict=True)
    ]
    pilot = ReplayPilot(traces)
    runs = [EpisodeRun(plan, order) for order, plan in enumerate(reversed(plans))]
    for i in range(2):
        sent = pilot.decide(runs)
        assert [float(sent[order].actions[0, 0]) for order in range(3)] == [20.0 + i, 10.0 + i, i]
    assert pilot.decide(runs) == {}
    assert {run.status for run in runs} == {"error"}
    assert all("the recording ends here" in (run.error or "") for run in runs)


def test_only_what_is_read_is_rendered_and_films_see_their_future() -> None:
    film = [PlannedEpisode("a", 0, filmed=True), PlannedEpisode("a", 1)]
    result, simulators, pilot = run(ToyPolicy(step=0.5), slots=2, plan=film)
    looks = {entry[1]: entry[3] for entry in reversed(simulators.log) if entry[0] == "step"}
    assert looks[1] == (1, 4)  # call at 4 reads 4 and 4 - 3
    assert looks[0] == (1, 2, 4)  # and the film of call 0 shows 2 and 4
    assert pilot.notes == []
    filmed = result.runs[0]
    assert [i.tick for i in filmed.imagined] == list(range(0, 20, 4))
    # The toy imagines x + 1 and x + 2 after 2 and 4 ticks of 0.5: exactly what happens.
    for imagined in filmed.imagined[:-1]:
        for frame, offset in zip(imagined.frames["scene"], (2, 4), strict=True):
            assert (frame == filmed.frames[imagined.tick + offset]["images"]["scene"]).all()


def test_windows_repeat_the_first_observation_before_the_start_and_say_so() -> None:
    frames = {
        tick: {
            "images": {"scene": np.full((2, 3, 3), tick, np.uint8)},
            "state": np.array([tick]),
            "task": "go",
        }
        for tick in range(4)
    }
    early = EpisodeRun(PlannedEpisode("a", 0), 0, instruction="go", tick=1, frames=frames)
    late = EpisodeRun(PlannedEpisode("a", 1), 1, instruction="stop", tick=3, frames=frames)
    window = observe([early, late], WindowSpec(observation=(-2, -1, 0)), 3)
    assert window.state[:, :, 0].tolist() == [[0, 0, 1], [1, 2, 3]]
    assert window.pad.tolist() == [[True, False, False], [False, False, False]]
    assert window.images["scene"].shape == (2, 3, 3, 2, 3)
    assert window.images["scene"][:, :, 0, 0, 0].tolist() == window.state[:, :, 0].tolist()
    assert window.task == ("go", "stop")


def test_sensors_are_stacked_like_everything_else() -> None:
    frames = {
        tick: {
            "images": {},
            "state": np.array([tick]),
            "task": "go",
            "extras": {"force": np.full((2, 3), tick, np.float32), "touch": np.array([tick], np.uint8)},
        }
        for tick in range(4)
    }
    early = EpisodeRun(PlannedEpisode("a", 0), 0, tick=1, frames=frames)
    late = EpisodeRun(PlannedEpisode("a", 1), 1, tick=3, frames=frames)
    for frame in frames.values():
        frame["images"]["scene"] = np.zeros((2, 2, 3), np.uint8)
    spec = WindowSpec(observation=(-2, 0))
    assert observe([early, late], spec, 3).extras == {}
    seen = observe([early, late], spec, 3, Senses(("force", "touch")))
    assert seen.extras["force"].shape == (2, 2, 2, 3)
    assert seen.extras["force"][:, :, 0, 0].tolist() == [[0.0, 1.0], [1.0, 3.0]]
    assert seen.extras["touch"].dtype == torch.uint8


def test_queue_keeps_a_slot_on_its_task_and_then_helps_the_longest() -> None:
    queue = Queue(
        [PlannedEpisode("a", 0), PlannedEpisode("b", 0), PlannedEpisode("a", 1), PlannedEpisode("b", 1)]
    )
    order = [queue.next(t) for t in ("b", "b", "b", None, "a")]
    assert [(r.plan.task, r.plan.seed) if r else None for r in order] == [
        ("b", 0), ("b", 1), ("a", 0), ("a", 1), None,
    ]  # fmt: skip


@given(st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_rows_join_and_split(values: list[int]) -> None:
    rows = [
        {"m": Memory(torch.tensor([v]), torch.full((1, 3), v)), "k": (torch.tensor([[v]]), 7)} for v in values
    ]
    joined = join_rows(rows)
    assert joined["k"][0].shape == (len(values), 1)
    for i, v in enumerate(values):
        row = take_row(joined, i, len(values))
        assert (row["m"].calls.item(), row["k"][0].item(), row["k"][1]) == (v, v, 7)
        assert signature(row) == signature(rows[0])


def test_states_without_a_batch_dimension_are_refused() -> None:
    with pytest.raises(ConfigError, match="leading dimension"):
        take_row({"t": torch.zeros(3)}, 0, 2)
    assert signature(torch.zeros(1, 3)) != signature(torch.zeros(1, 4))


@given(
    st.tuples(st.integers(0, 10**9), st.integers(0, 10**4)),
    st.tuples(st.integers(0, 10**9), st.integers(0, 10**4)),
)
def test_row_seeds_differ_and_fit_a_generator(one: tuple[int, int], two: tuple[int, int]) -> None:
    assert 0 <= row_seed(*one) < 2**63
    assert (row_seed(*one) == row_seed(*two)) == (one == two)
