"""Errors in millimetres: closed forms of open loop, closed loop, phases and distances to demonstrations."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from wamkit.envs.facts import Facts
from wamkit.evaluation.closed_loop.tutored import TutoredEpisode
from wamkit.evaluation.prediction.context import STATE
from wamkit.evaluation.prediction.precision import (
    Readings,
    at_closed_loop,
    at_open_loop,
    at_probes,
    gaps_of,
    nearest,
    outcomes,
    phases_of_frames,
)
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import events_of

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "docs"))
import precision_table

AWAY, TOUCH, PUSH = (0.0, 0.0, 0.3), (1.0, 0.0, 0.02), (0.0, 0.05, 0.1)


def places(hand: float, thing: float, n: int) -> np.ndarray:
    """Landmarks (n, 4, 3): hand and object on the x axis, goal at 1 m."""
    found = np.zeros((n, 4, 3), np.float32)
    found[:, 0, 0], found[:, 1, 0], found[:, 3, 0] = hand, thing, 1.0
    return found


def episode(status: str, gap: float, ticks: int = 30) -> TutoredEpisode:
    facts = [Facts(bool(t), m, g) for t, m, g in [AWAY] * 10 + [TOUCH] * 10 + [PUSH] * (ticks - 19)]
    record = EpisodeRecord(
        "t", 0, "do it", status, ticks, 4, events=events_of(facts[1:], status == "success")
    )
    still = np.zeros(4, np.float32)
    return TutoredEpisode(
        "t", 0, record, [still] * ticks, [still + np.float32([gap, 0, 0, 1])] * ticks,
        [tick % 8 for tick in range(ticks)], list(places(0.0, 0.1, ticks + 1)), facts,
    )  # fmt: skip


def test_phases_begin_anew_with_every_demonstration() -> None:
    facts, owners = np.array([AWAY, TOUCH, PUSH, AWAY, AWAY, TOUCH]), np.array([4, 4, 4, 4, 5, 5])
    assert phases_of_frames(facts, owners).tolist() == [
        "reach", "contact", "transport", "transport", "reach", "contact",
    ]  # fmt: skip


def test_errors_in_one_direction_add_up_and_others_cancel() -> None:
    recorded = np.zeros((2, 4, 4))
    predicted = recorded.copy()
    predicted[0, :, 0] = 0.1  # the same way in four ticks
    predicted[1, :, 0] = [0.1, -0.1, 0.1, -0.1]
    predicted[..., 3], recorded[..., 3] = 1.0, [1.0, 1.0, 1.0, -1.0]
    pad, phases = np.zeros((2, 4), bool), np.array(["reach", "contact"])
    found = at_open_loop(predicted, recorded, pad, np.zeros(4), phases, mm=20.0)
    assert found["first action, mm"]["all"]["p50"] == pytest.approx(2.0)
    assert found["accumulated, mm"]["reach"]["p50"] == pytest.approx(8.0)
    assert found["accumulated, mm"]["contact"]["p50"] == pytest.approx(0.0)
    assert found["gripper wrong, share of ticks"] == {"all": 0.25, "reach": 0.25, "contact": 0.25}


def test_padded_ticks_count_nowhere() -> None:
    recorded, pad = np.zeros((1, 3, 4)), np.array([[False, False, True]])
    found = at_open_loop(recorded + 5.0, recorded, pad, np.zeros(4), np.array(["reach"]), mm=20.0)
    assert found["accumulated, mm"]["all"]["n"] == found["last executed action, mm"]["all"]["n"] == 0
    assert found["first action, mm"]["all"]["n"] == 1


def test_the_nearest_demonstration_is_that_of_the_way_to_the_object() -> None:
    """The place on the table does not count, only where the hand is as seen from the object."""
    demonstrated = np.concatenate((places(0.0, 0.1, 1), places(0.0, 0.2, 1)))
    np.testing.assert_allclose(nearest(places(0.5, 0.63, 2), demonstrated), [30.0, 30.0], atol=1e-3)


def test_gaps_are_told_by_outcome_phase_and_age() -> None:
    ticks = gaps_of([episode("success", 0.1), episode("timeout", 0.5)], places(0.0, 0.1, 1), mm=20.0)
    found = at_closed_loop(ticks)
    assert [found[o]["gap, mm"]["all"]["p50"] for o in ("solved", "failed")] == pytest.approx([2.0, 10.0])
    assert found["failed"]["gap at a call, mm"]["all"]["n"] == 4  # 30 ticks, a call every 8
    assert {p: v["n"] for p, v in found["solved"]["gap, mm"].items()} == {
        "all": 30, "reach": 10, "contact": 10, "transport": 10,
    }  # fmt: skip
    assert found["solved"]["gap over time, mm"]["25 to 49"]["n"] == 5
    assert found["solved"]["to the nearest demonstration, mm"]["all"]["p90"] == pytest.approx(0.0, abs=1e-4)


def test_outcomes_count_phases_tags_and_how_close_failures_came() -> None:
    found = outcomes([episode("success", 0.1), episode("timeout", 0.5)])
    assert (found["successes"], found["n"]) == (1, 2)
    assert found["phases"] == {"success": 1, "transport": 1}
    assert found["tags"] == {"contact lost": 1, "timeout": 1}
    assert found["closest of failed, mm"]["hand to object"]["p50"] == pytest.approx(100.0, rel=1e-5)
    assert found["closest of failed, mm"]["object to goal"]["p50"] == pytest.approx(900.0, rel=1e-5)


def test_probes_leave_out_what_does_not_vary() -> None:
    rng, n = np.random.default_rng(0), 200
    landmarks = places(0.0, 0.1, n)
    landmarks[:, 0] = rng.uniform(0, 0.3, (n, 3))
    facts, owners = np.tile(AWAY, (n, 1)), np.repeat(np.arange(10), n // 10)
    features = {STATE: landmarks[:, 0].astype(np.float64)}
    found = at_probes(*[Readings(features, landmarks, facts, owners)] * 2)
    assert set(found["nothing"]["mean"]) == {"hand", "hand to object"}
    assert found["nothing"]["mean"]["hand"]["all"]["p50"] > 50
    assert found[STATE]["ridge"]["hand to object"]["reach"]["p90"] < 0.1


def test_without_a_record_the_page_names_the_command(tmp_path: Path) -> None:
    assert (
        precision_table.table(tmp_path / "precision.json")
        == "No record yet: run `python examples/precision.py`."
    )
