"""The scripted demonstrator plays the same suite; its rates are counted as a policy's are."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
from plain_evaluation import CONFIG, EPISODES
from plain_world import PlainConfig

from wamkit.envs import AlohaConfig, EnvConfig
from wamkit.evaluation.closed_loop.ceiling import measure_ceiling
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, Shifts, plan_episodes


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)  # the file names its environment


def test_every_episode_ends_at_the_tick_of_the_closed_form(tmp_path: Path) -> None:
    """The demonstrator moves by a half per tick until the point is beyond 3; ten ticks are enough from above -2."""
    found = measure_ceiling(CONFIG, progress=False)
    plan = plan_episodes(CONFIG)
    assert [e.variant for e in found.episodes] == [p.key for p in plan]
    for episode in found.episodes:
        if episode.kind != "hand_position":
            assert (episode.status, episode.ticks) == (
                "success",
                math.floor((3 - episode.seed % 3) / 0.5) + 1,
            )
    moved = [e for e in found.episodes if e.kind == "hand_position"]
    assert len({e.ticks for e in moved}) > 1
    path = tmp_path / "ceiling.json"
    found.save(path)
    stored = json.loads(path.read_text())
    assert stored["tasks"]["left"] == {
        "n": 4, "successes": 4, "rate": 1.0, "wilson_95": stored["tasks"]["left"]["wilson_95"],
        "statuses": {"success": 4, "failure": 0, "timeout": 0, "error": 0},
    }  # fmt: skip
    assert len(stored["statuses"]) == EPISODES
    rows = {row["dimension"]: row["score"]["n"] for row in stored["shifts"]["dimensions"]}
    assert rows == {"Robot Initial States": 8, "Language Instructions": 8}
    assert stored["errors"] == {}


def test_what_breaks_is_an_error_and_named() -> None:
    found = measure_ceiling(dataclasses.replace(CONFIG, env=PlainConfig(breaks_at=0)), progress=False)
    broken = [e for e in found.episodes if e.status == "error"]
    assert len(broken) == 16
    assert all(e.dimension != "Original" and "the floor gave way" in str(e.error) for e in broken)
    assert found.headline().endswith("16 of 24 episodes ended in an ERROR")
    assert found.overall.rate == 1.0


def test_an_episode_that_the_demonstrator_gives_up_is_a_failure_and_counted() -> None:
    found = measure_ceiling(dataclasses.replace(CONFIG, env=PlainConfig(gives_up_at=2)), progress=False)
    clean = [e for e in found.episodes if e.dimension == "Original"]
    assert {(e.seed % 3 == 2, e.status) for e in clean} == {(True, "failure"), (False, "success")}
    assert found.overall.n == len(clean)


@pytest.mark.sim
def test_a_second_embodiment_has_a_ceiling() -> None:
    pytest.importorskip("gym_aloha")
    env = AlohaConfig(image_size=16, cameras=("top",))
    config = EvaluationConfig(
        tasks=(env.task,),
        env=env,
        workers=1,
        shifts=Shifts(2, ("Robot Initial States", "Objects Layout"), (5,)),
        timeout_s=300.0,
    )
    found = measure_ceiling(config, progress=False)
    assert len(found.episodes) == 6
    assert {e.status for e in found.episodes} <= {"success", "timeout", "failure"}
    assert found.overall.rate == 1.0
