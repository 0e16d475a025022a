"""Subgoals of a demonstration, one after the other: the rule in closed form, and a loop that needs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import draccus
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import Memory, ToyPolicy, ToyStep

from support import data_spec as toy_spec
from wamkit.actions import ChunkConfig
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Aim, Budget, Forecast, Observation, WindowSpec
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.milestones import milestones
from wamkit.data.spec import data_spec
from wamkit.design import Design, DesignConfig, Factor
from wamkit.encoders import StateConfig
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.goals import PACE, Course, Goals, advance
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.substrates import ProprioceptionConfig

TASK = "button-press-topdown-v3"  # names the words of the recordings, nothing else
ENV = MetaWorldConfig(task=TASK)
SEEN = ObservationSpec({}, ("x", "y"), 10.0)
MOVES = ActionSpec(("dx", "dy"), (-0.2, -0.2), (0.2, 0.2), 10.0)
STEP = 0.1
SQUARE = ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
BACK = ((1.0, 0.0), (0.0, 0.0))  # ends where it starts
TICKS = 120


def towards(place: np.ndarray, corner: np.ndarray, speed: float) -> np.ndarray:
    """One step of at most ``speed`` that stops at ``corner``."""
    left = corner - place
    return left * min(1.0, speed / max(float(np.linalg.norm(left)), 1e-9))


def demonstrate(corners: Sequence[tuple[float, float]]) -> Episode:
    """From corner to corner, with a rest of three ticks at each."""
    place, states, actions = np.zeros(2), [], []
    for corner in np.array(corners):
        rested = 0
        while rested < 3:
            move = towards(place, corner, STEP)
            rested += not move.any()
            states.append(place)
            actions.append(move)
            place = place + move
            place = np.where(np.abs(place - corner) < 1e-9, corner, place)
    return Episode(
        {}, np.array(states, np.float32), np.array(actions, np.float32), ENV.phrases()[0], success=True
    )


@cache
def recorded(corners: tuple[tuple[float, float], ...]) -> Path:
    folder = TemporaryDirectory()
    KEPT.append(folder)
    with DatasetWriter(Path(folder.name) / "data", SEEN, MOVES) as writer:
        writer.add(demonstrate(corners))
    return Path(folder.name) / "data"


KEPT: list[TemporaryDirectory[str]] = []


# ------------------------------------------------------------------------------------------------ the rule


@settings(max_examples=80, deadline=None)
@given(
    length=st.integers(1, 30),
    walk=st.lists(st.tuples(st.integers(0, 9), st.floats(-3, 3)), max_size=12),
    seed=st.integers(0, 99),
)
def test_a_course_never_goes_back_and_never_faster_than_its_pace(
    length: int, walk: list[tuple[int, float]], seed: int
) -> None:
    states = np.random.default_rng(seed).normal(size=(length, 1))
    at = 0
    for ticks, x in walk:
        found = advance(states, at, np.array([x]), ticks)
        assert at <= found <= min(at + PACE * ticks, length - 1)
        at = found


def goal(number: int) -> Observation:
    return Observation({}, torch.full((1, 1, 1), float(number)), ("go",), torch.zeros(1, 1, dtype=torch.bool))


@pytest.mark.parametrize("every", [1, 2, 5])
def test_whoever_repeats_the_demonstration_sees_what_training_shows(every: int) -> None:
    """In steps of one size: the goal at a tick is the first milestone after it."""
    states, marks = np.arange(31.0)[:, None], np.array([7, 12, 25, 30])
    course = Course([goal(m) for m in marks], marks, states, np.ones(1))
    for tick in range(0, 31, every):
        shown = course.follow(states[tick], tick).state.item()
        assert shown == min((m for m in marks if m > tick), default=30)


def test_whoever_stands_where_the_demonstration_stood_passes_on() -> None:
    states = np.array([0.0, 1, 2, 3, 3, 3, 3, 4, 5])[:, None]
    course = Course([goal(0), goal(1)], np.array([6, 8]), states, np.ones(1))
    shown = [course.follow(np.array([min(t, 3.0)]), t).state.item() for t in range(9)]
    assert shown == [0, 0, 0, 0, 1, 1, 1, 1, 1]  # the rest is one place, and it lies behind after half of it
    assert course.passed == 1


def test_a_later_passage_through_the_same_place_is_not_this_one() -> None:
    there_and_back = np.concatenate((np.arange(11.0), np.arange(9.0, -1, -1)))[:, None]
    course = Course([goal(0), goal(1)], np.array([10, 20]), there_and_back, np.ones(1))
    assert [course.follow(np.array([0.0]), t).state.item() for t in range(0, 4, 2)] == [0, 0]
    assert course.passed == 0


def test_an_entry_that_never_changes_says_nothing() -> None:
    states = np.stack((np.arange(9.0), np.full(9, 5.0)), axis=1)
    course = Course([goal(0), goal(1)], np.array([4, 8]), states, np.array([1.0, np.inf]))
    assert course.follow(np.array([4.0, -70.0]), 4).state.item() == 1


# ------------------------------------------------------------------------------------------- recorded courses


@pytest.mark.parametrize("corners", [SQUARE, BACK], ids=["square", "back"])
def test_the_goals_are_the_milestones_and_then_the_end(corners: tuple[tuple[float, float], ...]) -> None:
    data = Dataset(recorded(corners))
    course = Goals(recorded(corners), ENV, (TASK,), SEEN, "next").course(TASK, 0)
    marks = milestones(data.action, data.action_spec)
    assert len(marks) == len(corners)
    shown = [course.goal]
    for tick in range(data.num_frames):
        now = course.follow(data.state[tick], tick)
        if now is not shown[-1]:
            shown.append(now)
    np.testing.assert_allclose(torch.cat([g.state[0] for g in shown]), data.state[marks])
    np.testing.assert_allclose(torch.cat([g.state[0] for g in shown]), corners, atol=1e-6)
    alone = Goals(recorded(corners), ENV, (TASK,), SEEN).course(TASK, 0)
    assert torch.equal(alone.goal.state[0, 0], torch.from_numpy(data.state[-1]))
    assert torch.equal(alone.follow(data.state[-1], 99).state, alone.goal.state)


def test_milestones_without_a_robot_state_cannot_be_followed() -> None:
    blind = ObservationSpec({}, (), 10.0)
    with pytest.raises(ConfigError, match=r"measured by the robot's state, which is empty.*aim: end"):
        Goals(recorded(SQUARE), ENV, (TASK,), blind, "next")


# ------------------------------------------------------------------------------------------- the closed loop


@dataclasses.dataclass(frozen=True)
class Seeker(ToyPolicy):
    """Goes straight to the goal that it is shown, and stands there."""

    step: float = STEP
    window: WindowSpec = dataclasses.field(default_factory=lambda: WindowSpec(horizon=8, goal=True))
    observation_spec: ObservationSpec = SEEN
    action_spec: ActionSpec = MOVES
    reads_goal: bool = True

    def forecast(
        self, observation: Observation, state: Memory, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Memory]:
        assert observation.goal is not None
        rows = []
        for place, corner in zip(
            observation.state[:, -1].numpy().astype(float), observation.goal.state[:, -1].numpy(), strict=True
        ):
            moves = []
            for _ in range(self.window.horizon):
                moves.append(towards(place, corner, self.step))
                place = place + moves[-1]
            rows.append(np.stack(moves))
        return Forecast(torch.from_numpy(np.stack(rows)).float()), state


class Plane:
    """A point that moves as it is told, starting at zero; it keeps its way."""

    def __init__(self) -> None:
        self.way: list[np.ndarray] = []
        self.answer = ToyStep()

    def _see(self) -> dict[str, Any]:
        return {"images": {}, "state": self.way[-1].astype(np.float32), "task": "go", "extras": {}}

    def reset_async(self, slot: int, seed: int, **_: Any) -> None:
        self.way = [np.zeros(2)]
        self.answer = ToyStep((self._see(),), (0,))

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        seen, ticks = [], []
        for position, action in enumerate(actions, start=1):
            self.way.append(self.way[-1] + action)
            if position in look:
                seen.append(self._see())
                ticks.append(len(self.way) - 1)
        self.answer = ToyStep(tuple(seen), tuple(ticks), len(actions))

    def wait(self, slots: Sequence[int]) -> dict[int, ToyStep]:
        return dict.fromkeys(slots, self.answer)

    def close(self) -> None:
        """Nothing to end."""


def seek(corners: tuple[tuple[float, float], ...], aim: Aim, speed: float, execute: int = 4) -> np.ndarray:
    """The way of a policy that goes where its goal is: (TICKS + 1, 2)."""
    goals, plane = Goals(recorded(corners), ENV, (TASK,), SEEN, aim), Plane()
    pilot = PolicyPilot(
        Seeker(step=speed),
        Chunked(execute),
        Budget(),
        TICKS,
        goals=lambda plan: goals.course(plan.task, plan.seed),
    )
    (run,) = ClosedLoop(plane, 1, 1, pilot, TICKS).run([PlannedEpisode(TASK, 0)]).runs
    assert run.status == "timeout", run.error
    assert run.course is None  # let go of
    return np.stack(plane.way)


@pytest.mark.parametrize("execute", [1, 4, 8])
@pytest.mark.parametrize("speed", [STEP / 2, STEP, 2 * STEP])
@pytest.mark.parametrize("corners", [SQUARE, BACK], ids=["square", "back"])
def test_every_subgoal_is_reached_in_its_order(
    corners: tuple[tuple[float, float], ...], speed: float, execute: int
) -> None:
    """At half, the same and twice the demonstration's speed, however seldom the policy is called."""
    way = seek(corners, "next", speed, execute)
    reached = []
    for corner in np.array(corners):
        near = np.linalg.norm(way - corner, axis=1) < 0.11
        near[: reached[-1] if reached else 1] = False
        assert near.any(), corner
        reached.append(int(np.argmax(near)))
    np.testing.assert_allclose(way[-1], corners[-1], atol=1e-5)


def test_who_is_shown_the_end_alone_takes_the_short_way() -> None:
    way = seek(SQUARE, "end", STEP)
    np.testing.assert_allclose(way[-1], SQUARE[-1], atol=1e-5)
    assert np.abs(way[:, 0]).max() < 1e-6
    assert not seek(BACK, "end", STEP).any()


def test_a_goal_that_cannot_be_followed_ends_its_episode_alone() -> None:
    """A simulator that shows no number is an error of the episode, not of the evaluation."""
    goals = Goals(recorded(SQUARE), ENV, (TASK,), SEEN, "next")
    pilot = PolicyPilot(Seeker(), Chunked(4), Budget(), TICKS, goals=lambda p: goals.course(p.task, p.seed))
    frames = [{"images": {}, "state": np.full(2, x, np.float32), "task": "go"} for x in (np.nan, 0.0)]
    runs = [EpisodeRun(PlannedEpisode(TASK, i), i, frames={0: frame}) for i, frame in enumerate(frames)]
    for run in runs:
        pilot.begin(run)
    assert set(pilot.decide(runs)) == {1}
    assert runs[0].status == "error"
    assert "not finite at tick 0" in (runs[0].error or "")


# ------------------------------------------------------------------------------------------------ a design's aim


def aiming(aim: Aim) -> DesignConfig:
    return DesignConfig(
        horizon=4,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        goals={"goal": "body"},
        aim=aim,
        action=ChunkConfig(ticks_per_token=4),
        controller=Chunked(4),
        estimators={"subgoal": RegressorConfig(), "policy": RegressorConfig()},
        factors=(Factor(("goal",), (), "subgoal"), Factor(("action",), ("goal",), "policy")),
    )


def test_a_goal_stream_is_trained_on_what_the_design_aims_at() -> None:
    data = Dataset(recorded(SQUARE))
    marks = milestones(data.action, data.action_spec)
    now = np.arange(data.num_frames)
    aims: tuple[Aim, ...] = ("end", "next")
    for aim in aims:
        design = Design(aiming(aim), data_spec(data))
        assert design.window.aim == aim
        batch = data.windows(now, design.training_window)
        aimed = [
            data.num_frames - 1 if aim == "end" else min((m for m in marks if m > t), default=marks[-1])
            for t in now
        ]
        expected = data.windows(np.array(aimed), WindowSpec()).observation
        found = design.targets(batch)["goal"].values
        body = design.substrates["body"]
        torch.testing.assert_close(found, body.encode(expected))  # type: ignore[operator]
        assert design.loss(batch).total.isfinite()


def test_a_config_without_an_aim_aims_at_the_end() -> None:
    plain = draccus.encode(aiming("end"))
    assert plain.pop("aim") == "end"
    assert draccus.decode(DesignConfig, plain) == aiming("end")
    assert draccus.decode(DesignConfig, draccus.encode(aiming("next"))) == aiming("next")


def test_an_aim_that_nobody_reads_is_refused() -> None:
    config = dataclasses.replace(
        aiming("next"),
        goals={},
        substrates={},
        estimators={"policy": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"),),
    )
    with pytest.raises(ConfigError, match=r"aim 'next': no part of the design reads a goal.*'goal_image'"):
        Design(config, toy_spec())
