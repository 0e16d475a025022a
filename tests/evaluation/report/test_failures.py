"""Phases and failure tags: closed forms, and what the real simulators say of policies whose fate is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import small_report
from stories import AWAY, LEFT, NEAR, NUDGED, PUSH, TOUCH, Story, record
from toys import ToyPolicy, ToySimulators

from wamkit.contract.types import Budget
from wamkit.controllers import Interactive
from wamkit.envs import MetaWorldConfig, SimulatedEnv
from wamkit.envs.aloha import AlohaConfig
from wamkit.envs.facts import Facts
from wamkit.errors import DataError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import (
    FLICKER,
    MOVED_M,
    PHASES,
    events_of,
    failure_rows,
    failure_table,
    tags_of,
)


@pytest.mark.parametrize(
    ("story", "status", "phase", "tags"),
    [
        ([AWAY, AWAY], "timeout", "reach", ("never reached", "timeout")),
        ([AWAY, NEAR, AWAY], "timeout", "reach", ("never reached", "drift", "timeout")),
        ([AWAY, TOUCH], "timeout", "contact", ("timeout",)),
        ([AWAY, TOUCH], "failure", "contact", ()),
        ([AWAY, TOUCH, *[LEFT] * FLICKER], "timeout", "contact", ("timeout",)),
        ([AWAY, TOUCH, *[LEFT] * (FLICKER + 1)], "timeout", "contact", ("contact lost", "timeout")),
        ([AWAY, PUSH, *[NUDGED] * 9], "timeout", "transport", ("contact lost", "timeout")),
        ([AWAY, PUSH, *[AWAY] * 9], "failure", "transport", ("contact lost", "drift")),
        ([AWAY, PUSH], "success", "success", ()),
        ([AWAY, AWAY], "success", "success", ()),
        ([(False, 1.0, 0.3)] * 2, "timeout", "reach", ("never reached", "timeout")),
    ],
)
def test_tags_follow_from_contacts(story: Story, status: str, phase: str, tags: tuple[str, ...]) -> None:
    told = record(story, status)
    assert told.events is not None
    assert told.events.phase == phase
    assert tags_of(told) == tags


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=40))
def test_events_are_consistent(story: Story) -> None:
    events = events_of([Facts(*line) for line in story], success=False)
    assert events is not None
    text = "".join("x" if touching else "." for touching, _, _ in story)
    # Contact begins once per group of touches that no gap longer than FLICKER divides.
    groups = [g for g in text.replace("." * (FLICKER + 1), "|").split("|") if "x" in g]
    assert events.contacts == len(groups)
    assert events.contact_ticks == text.count("x")
    assert (events.phase == "reach") == (events.contacts == 0) == (events.first_contact is None)
    assert events.lost == ("x" in text and text.endswith("." * (FLICKER + 1)))
    assert 0 <= events.drift_m <= 1


def test_the_table_counts_every_phase_with_its_interval() -> None:
    episodes = [record([AWAY]), record([TOUCH]), record([PUSH]), record([PUSH], "success", early_calls=2)]
    broken = EpisodeRecord("push", 9, "push it", "error", 1, 1)
    noisy = [record([AWAY], dimension="Sensor Noise", kind="blur", strength=3)]
    table = failure_table([*episodes, broken, *noisy])
    assert table is not None
    counts = {(r.dimension, r.phase): (r.reached.successes, r.reached.n) for r in table.phases}
    assert counts == {
        ("Original", "contact"): (3, 4), ("Original", "transport"): (2, 4), ("Original", "success"): (1, 4),
        ("Sensor Noise", "contact"): (0, 1), ("Sensor Noise", "transport"): (0, 1),
        ("Sensor Noise", "success"): (0, 1),
    }  # fmt: skip
    for row in table.phases:
        assert row.reached.low <= row.reached.successes / row.reached.n <= row.reached.high
    shares = {(r.dimension, r.tag): (r.share.successes, r.share.n) for r in table.tags}
    assert shares["Original", "never reached"] == (1, 3)
    assert shares["Original", "timeout"] == (3, 3)
    assert (table.replans.mean, table.early_replans.max) == (2.0, 2.0)
    assert ("Original", "got to contact", "3 of 4, 75 % [30, 95]") in failure_rows(table)
    assert failure_table([EpisodeRecord("push", 0, "push it", "success", 1, 1)]) is None


def test_a_report_keeps_the_table_and_notices_another_one(tmp_path) -> None:
    plain = small_report()
    episodes = (record([PUSH], "success"), record([TOUCH]))
    told = dataclasses.replace(plain, episodes=episodes, failures=failure_table(episodes))
    with pytest.raises(DataError, match="tasks"):  # the scores of other episodes
        told.check("here")
    wrong = dataclasses.replace(plain, failures=told.failures)
    wrong.save(tmp_path / "report.json")
    with pytest.raises(DataError, match="failures"):
        type(plain).load(tmp_path / "report.json")


def test_early_calls_are_counted_as_the_controller_asks_for_them() -> None:
    controller = Interactive(execute=8, inputs={3: "go left", 8: "go on"})
    pilot = PolicyPilot(ToyPolicy(), controller, Budget(), 30)
    result = ClosedLoop(ToySimulators(1), 1, 1, pilot, 30).run([PlannedEpisode("a", 0)])
    (run,) = result.runs
    # 20 ticks at half a step: calls at 0, 3 (asked for), 8 (asked for), 16.
    assert (run.tick, run.calls, run.early_calls) == (20, 4, 2)
    assert run.record().early_calls == 2
    assert run.record().events is None


# ------------------------------------------------------------------------------------ the real simulators


def play(env: SimulatedEnv, act: Callable[[list[Facts]], np.ndarray], ticks: int) -> EpisodeRecord:
    run, outcome = EpisodeRun(PlannedEpisode(env.task_name, 0), 0), None
    for _ in range(ticks):
        outcome = env.advance(act(run.facts))
        known = env.facts()
        assert known is not None
        run.facts.append(known)
        if outcome.success:
            break
    run.status = "success" if outcome is not None and outcome.success else "timeout"
    return run.record()


@pytest.mark.sim
@pytest.mark.parametrize("task", ["drawer-open-v3", "pick-place-v3", "button-press-v3"])
def test_metaworld_tells_the_phases(task: str) -> None:
    env = MetaWorldConfig(task=task, image_size=16, cameras=("scene",)).build()
    env.restart(1_000_000)
    expert = env.expert()
    done = play(env, lambda facts: expert(), 120)
    assert done.events is not None
    assert (done.events.phase, tags_of(done)) == ("success", ())
    assert done.events.contacts >= 1
    assert done.events.moved_m > MOVED_M

    env.restart(1_000_000)
    still = play(env, lambda facts: np.zeros(4), 30)
    assert still.events is not None
    assert tags_of(still) == ("never reached", "timeout")
    assert (still.events.contacts, still.events.moved_m) == (0, 0.0)


@pytest.mark.sim
def test_who_touches_and_goes_away_has_lost_contact_and_drifted() -> None:
    env = MetaWorldConfig(task="pick-place-v3", image_size=16, cameras=("scene",)).build()
    env.restart(1_000_000)
    expert = env.expert()

    def touch_and_stop(facts: list[Facts]) -> np.ndarray:
        return np.zeros(4) if any(f.touching for f in facts) else expert()

    stops = play(env, touch_and_stop, 60)
    assert stops.events is not None
    assert stops.events.phase in ("contact", "transport")
    assert "never reached" not in tags_of(stops)
    assert "timeout" in tags_of(stops)

    env.restart(1_000_000)
    expert = env.expert()

    def touch_and_leave(facts: list[Facts]) -> np.ndarray:
        return np.array([0.0, 0.0, 1.0, -1.0]) if any(f.touching for f in facts) else expert()

    leaves = play(env, touch_and_leave, 80)
    assert {"contact lost", "drift", "timeout"} <= set(tags_of(leaves))


@pytest.mark.sim
def test_aloha_tells_the_phases() -> None:
    env = AlohaConfig(image_size=16, cameras=("top",)).build()
    env.restart(1_000_000)
    start = env.observe()["state"]
    still = play(env, lambda facts: start, 30)
    assert still.events is not None
    assert tags_of(still) == ("never reached", "timeout")
    assert still.events.moved_m == 0.0  # the cube fell onto the table by itself

    env.restart(1_000_000)
    expert, seen = env.expert(), []
    for _ in range(400):
        env.advance(expert())
        seen.append(env.facts())
        if seen[-1].moved_m >= MOVED_M:
            break
    phases = [PHASES.index(events_of(seen[:i], False).phase) for i in range(1, len(seen) + 1)]
    assert phases == sorted(phases)  # reach, then contact, then transport
    assert set(phases) == {0, 1, 2}
