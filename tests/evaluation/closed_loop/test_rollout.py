"""``evaluate`` in the real simulator, at the smallest size, with a policy that needs no network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import draccus
import pytest
from wanderer import ENV, TASKS, Wanderer

from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.envs import EVALUATION_SEEDS_FROM, MetaWorldConfig
from wamkit.errors import BudgetError, ConfigError, SpecError
from wamkit.evaluation.closed_loop.rollout import (
    EvaluationConfig,
    plan_episodes,
    prepare,
    pure_simulation,
    rollout,
)
from wamkit.evaluation.report.report import Report

pytestmark = pytest.mark.sim


CONFIG = EvaluationConfig(
    tasks=TASKS, episodes=2, env=ENV, controller=Chunked(4), workers=2, slots=4, latency_calls=3, timeout_s=60
)


def test_evaluate_reports_and_replays(tmp_path: Path) -> None:
    done = rollout(Wanderer(), CONFIG, dataset="sha256:0", progress=False)
    report = done.report
    assert [(e.status, e.ticks, e.calls) for e in report.episodes] == [("timeout", 10, 3)] * 4
    assert report.seeds == dict.fromkeys(TASKS, (EVALUATION_SEEDS_FROM, EVALUATION_SEEDS_FROM + 1))
    assert {e.instruction for e in report.episodes} == {
        MetaWorldConfig(task=task).phrases()[0] for task in TASKS
    }
    assert report.overall.n == 4
    assert report.threads == CONFIG.threads
    assert report.peak_mem_mb["largest_worker"] > 10
    assert report.latency_ms.n == 3
    assert report.latency_ms.first is not None
    assert report.nfe == {"action": 3.0}
    assert report.mean_batch == 2.0
    assert (report.horizon.predict, report.horizon.execute) == (8, 4)
    assert report.deadline.allowed_ms == 4 * 1000 / 20
    assert report.deadline.met
    assert report.budget["horizon"] == 4
    # Filmed: one episode per task, two cameras, both calls whose future was reached.
    assert {(s.task, s.camera) for s in report.filmstrips} == {
        (t, c) for t in TASKS for c in ("scene", "gripper")
    }
    assert [s.offsets for s in report.filmstrips if s.camera == "scene"] == [(2, 4), (2, 4), (2,)] * 2
    for strip in report.filmstrips:
        assert strip.psnr_db == strip.still_db  # it imagines that nothing moves
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
    assert draccus.decode(EvaluationConfig, report.config) == CONFIG
    assert pure_simulation(CONFIG, done.traces, progress=False) > 0


def test_two_evaluations_are_equal() -> None:
    short = dataclasses.replace(CONFIG, films=0, latency_calls=0)
    one, two = (rollout(Wanderer(), short, progress=False) for _ in range(2))
    assert one.report.episodes == two.report.episodes
    for ours, theirs in zip(one.traces, two.traces, strict=True):
        assert [b.actions.tobytes() for b in ours.blocks] == [b.actions.tobytes() for b in theirs.blocks]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"controller": Chunked(9)}, ConfigError, "at most 8"),
        ({"budget": Budget(candidates=4)}, BudgetError, "candidates"),
        ({"env": dataclasses.replace(ENV, action_repeat=2)}, SpecError, "rate_hz"),
        ({"env": dataclasses.replace(ENV, cameras=("scene",))}, SpecError, "cameras"),
        ({"tasks": ("drawer-opne-v3",)}, ConfigError, "drawer-open-v3"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_simulator_starts(
    change: dict, error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        rollout(Wanderer(), dataclasses.replace(CONFIG, **change), progress=False)


def test_a_sensor_that_the_environment_does_not_deliver_is_refused() -> None:
    blind = dataclasses.replace(CONFIG, env=dataclasses.replace(ENV, record=("contact",)))
    with pytest.raises(SpecError, match=r"reads the extra 'depth.scene'.* Add 'depth' to .*`record`"):
        prepare(Wanderer(sensors=("contact", "depth.scene")), blind)
    seeing = dataclasses.replace(CONFIG, env=dataclasses.replace(ENV, record=("contact", "depth")))
    prepare(Wanderer(sensors=("contact", "depth.scene")), seeing)


def test_a_policy_feels_what_it_asks_for() -> None:
    feeling = dataclasses.replace(
        CONFIG, episodes=1, env=dataclasses.replace(ENV, max_ticks=4, record=("contact_force",)), films=0
    )
    pilot = prepare(Wanderer(sensors=("contact_force",)), feeling)
    assert pilot.policy.sensors == ("contact_force",)
    report = rollout(Wanderer(sensors=("contact_force",)), feeling, progress=False).report
    assert report.tasks


def test_bad_configs_are_refused() -> None:
    with pytest.raises(ConfigError, match="episodes"):
        EvaluationConfig(episodes=0)
    with pytest.raises(ConfigError, match="once"):
        EvaluationConfig(tasks=("reach-v3", "reach-v3"))


def test_paraphrases_are_never_the_canonical_words() -> None:
    plan = plan_episodes(dataclasses.replace(CONFIG, prompt_mode="paraphrase", episodes=4))
    for episode in plan:
        assert episode.instruction in MetaWorldConfig(task=episode.task).phrases()[1:]
    assert len({e.instruction for e in plan}) > 2
