"""Goals and missing sensors when acting: real designs, untrained, in the real simulator."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_world import PlainConfig
from toys import ToyPolicy

from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import EncoderConfig
from wamkit.contract.types import Aim, WindowSpec
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.encoders import BodySensorsConfig, GoalImageConfig
from wamkit.envs import AlohaConfig, EnvConfig, MetaWorldConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Senses, observe
from wamkit.evaluation.closed_loop.goals import Goals
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, Rollout, prepare, rollout
from wamkit.trunks import TransformerConfig
from wamkit.verbs.collect import CollectConfig, collect
from wamkit.verbs.load import unit_stats
from wamkit.zoo import recipe

pytestmark = pytest.mark.sim
TASK, OTHER, PICK = "button-press-topdown-v3", "drawer-open-v3", "pick-place-v3"
ENV = MetaWorldConfig(image_size=32, action_repeat=4, max_ticks=8)
CONFIG = EvaluationConfig(tasks=(TASK,), episodes=1, env=ENV, workers=1, slots=1, films=0, latency_calls=1)
FORCE = (3, 3)


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("goals") / "data"
    shape = {"image_size": ENV.image_size, "action_repeat": ENV.action_repeat}
    collect(CollectConfig(out=out, tasks=(TASK,), episodes=3, workers=1, **shape), progress=False)  # type: ignore[arg-type]
    return out


def design_with(encoder: EncoderConfig, aim: Aim = "end", env: EnvConfig = ENV) -> Design:
    config = dataclasses.replace(recipe("direct"), aim=aim)
    trunks = {name: TransformerConfig(width=32, depth=1, heads=2) for name in config.trunks}
    config = dataclasses.replace(
        config, width=32, trunks=trunks, encoders={**config.encoders, "more": encoder}
    )
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    torch.manual_seed(0)
    return Design(config, DataSpec(observation, action, stats, {"contact_force": FORCE})).eval()


@pytest.fixture(scope="module")
def aiming() -> Design:
    return design_with(GoalImageConfig(channels=(8, 8), keypoints=4))


@pytest.fixture(scope="module")
def feeling() -> Design:
    return design_with(BodySensorsConfig(("contact_force",)))


def sent(done: Rollout) -> np.ndarray:
    return np.concatenate([block.actions for trace in done.traces for block in trace.blocks])


def test_a_goal_image_reaches_the_policy_in_the_simulator(aiming: Design, demonstrations: Path) -> None:
    config = dataclasses.replace(CONFIG, goals=demonstrations)
    aimed = rollout(aiming, config, progress=False)
    unaimed = rollout(aiming, dataclasses.replace(CONFIG, drop=("goal",)), progress=False)
    for done in (aimed, unaimed):
        assert [e.status for e in done.report.episodes] == ["timeout"]
    assert not np.allclose(sent(aimed), sent(unaimed))
    assert aimed.report.config["goals"] == str(demonstrations)


@pytest.fixture(scope="module")
def picked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demonstrations with a milestone inside: the gripper closes."""
    out = tmp_path_factory.mktemp("picked") / "data"
    shape = {"image_size": ENV.image_size, "action_repeat": ENV.action_repeat}
    collect(CollectConfig(out=out, tasks=(PICK,), episodes=3, workers=1, **shape), progress=False)  # type: ignore[arg-type]
    return out


def test_a_design_that_aims_at_the_next_milestone_acts_on_it(aiming: Design, picked: Path) -> None:
    """The same weights, shown the end and the first milestone, act differently."""
    stepwise = design_with(GoalImageConfig(channels=(8, 8), keypoints=4), "next")
    stepwise.load_state_dict(aiming.state_dict())
    config = dataclasses.replace(CONFIG, goals=picked, tasks=(PICK,))
    ended, stepped = (rollout(design, config, progress=False) for design in (aiming, stepwise))
    assert [e.status for e in stepped.report.episodes] == ["timeout"]
    assert not np.allclose(sent(ended), sent(stepped))


def test_an_episode_passes_the_milestones_of_another_one_when_it_passes_its_own(picked: Path) -> None:
    """Objects lie elsewhere in each; the goal changes within 3 ticks of when the gripper closes."""
    data, goals = Dataset(picked), Goals(picked, ENV, (PICK,), ENV.observation_spec(), "next")
    for row in data.episodes:
        states, own = (
            data.state[row.start : row.stop],
            data.milestones[data.milestones >= row.start][0] - row.start,
        )
        assert own < len(row) - 1
        for seed in range(6):
            course = goals.course(PICK, seed)
            passed = []
            for tick, state in enumerate(states):
                course.follow(state, tick)
                passed.append(course.passed)
            assert passed == sorted(passed)
            assert passed[-1] == 1
            assert abs(passed.index(1) - own) <= 3


def test_goals_are_last_frames_chosen_by_seed(demonstrations: Path) -> None:
    data, goals = Dataset(demonstrations), Goals(demonstrations, ENV, (TASK,), ENV.observation_spec())
    ends = [row.stop - 1 for row in data.episodes]
    last = data.windows(np.array(ends), WindowSpec()).observation
    seen = set()
    for seed in range(12):
        goal = goals.course(TASK, seed).goal
        assert goal.pad.tolist() == [[False]]
        assert goal.task[0] in MetaWorldConfig(task=TASK).phrases()
        torch.testing.assert_close(goal.images["scene"], goals.course(TASK, seed).goal.images["scene"])
        same = [
            torch.equal(goal.images["scene"][0], image) and torch.equal(goal.state[0], state)
            for image, state in zip(last.images["scene"], last.state, strict=True)
        ]
        assert sum(same) == 1
        seen.add(same.index(True))
    assert seen == {0, 1, 2}


def test_goals_of_a_second_embodiment_reach_the_policy(tmp_path: Path) -> None:
    pytest.importorskip("gym_aloha")
    env = AlohaConfig(image_size=32, cameras=("top",), max_ticks=400)
    collect(CollectConfig(tmp_path / "d", (env.task,), episodes=1, workers=1, env=env), progress=False)
    short = dataclasses.replace(env, max_ticks=8)
    config = dataclasses.replace(CONFIG, tasks=(env.task,), env=short)
    design = design_with(GoalImageConfig(channels=(8, 8), keypoints=4), env=env)
    aimed = rollout(design, dataclasses.replace(config, goals=tmp_path / "d"), progress=False)
    unaimed = rollout(design, dataclasses.replace(config, drop=("goal",)), progress=False)
    for done in (aimed, unaimed):
        assert [e.status for e in done.report.episodes] == ["timeout"]
    assert not np.allclose(sent(aimed), sent(unaimed))
    with pytest.raises(ConfigError, match=f"AlohaConfig: unknown task '{TASK}'"):
        Goals(tmp_path / "d", env, (TASK,), env.observation_spec())


def test_an_environment_names_the_demonstrations_of_its_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world of the tests, whose tasks share their wordings."""
    monkeypatch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)  # the dataset names its robot
    env = PlainConfig()
    collect(CollectConfig(tmp_path / "d", ("left",), episodes=2, workers=1, env=env), progress=False)
    goals = Goals(tmp_path / "d", env, ("left", "right"), env.observation_spec())
    assert {goals.course("right", seed).goal.task[0] for seed in range(8)} <= set(env.phrases())
    with pytest.raises(ConfigError, match="Did you mean 'left'"):
        Goals(tmp_path / "d", env, ("lefd",), env.observation_spec())


def test_runs_keep_their_own_goals(demonstrations: Path, aiming: Design) -> None:
    pilot = prepare(aiming, dataclasses.replace(CONFIG, goals=demonstrations))
    frame = {"images": {"scene": np.zeros((32, 32, 3), np.uint8)}, "state": np.zeros(4), "task": "go"}
    runs = [EpisodeRun(PlannedEpisode(TASK, seed), seed, frames={0: frame}) for seed in range(6)]
    for run in runs:
        pilot.begin(run)
    goal = observe(runs, WindowSpec(), 4).goal
    assert goal is not None
    for row, run in enumerate(runs):
        assert run.goal is not None
        assert torch.equal(goal.images["scene"][row], run.goal.images["scene"][0])
        run.release()
        assert run.goal is None
        assert run.course is None


def test_a_goal_that_nobody_supplies_is_refused_before_the_first_episode(
    aiming: Design, demonstrations: Path
) -> None:
    with pytest.raises(ConfigError, match=r"nobody supplies one\. Set either `goals`"):
        prepare(aiming, CONFIG)
    both = dataclasses.replace(CONFIG, goals=demonstrations, drop=("goal",))
    with pytest.raises(ConfigError, match="told to drop it"):
        prepare(aiming, both)
    for change in ({"goals": demonstrations}, {"drop": ("goal",)}):
        with pytest.raises(ConfigError, match="reads no goal"):
            prepare(goalless(aiming), dataclasses.replace(CONFIG, **change))
    with pytest.raises(ConfigError, match=f"no demonstration of task '{OTHER}'"):
        prepare(aiming, dataclasses.replace(CONFIG, goals=demonstrations, tasks=(OTHER,)))
    with pytest.raises(SpecError, match="do not agree"):
        Goals(demonstrations, ENV, (TASK,), dataclasses.replace(ENV, image_size=16).observation_spec())


def goalless(design: Design) -> ToyPolicy:
    return ToyPolicy(observation_spec=design.observation_spec, action_spec=design.action_spec)


def test_a_sensor_that_is_dropped_is_flagged_and_its_buffer_is_never_read(feeling: Design) -> None:
    with pytest.raises(SpecError, match="put 'contact_force' into `drop`"):
        prepare(feeling, CONFIG)
    numb = dataclasses.replace(CONFIG, drop=("contact_force",))
    recording = dataclasses.replace(numb, env=dataclasses.replace(ENV, record=("contact_force",)))
    without, ignored = (rollout(feeling, config, progress=False) for config in (numb, recording))
    felt = rollout(feeling, dataclasses.replace(recording, drop=()), progress=False)
    for done in (without, ignored, felt):
        assert [e.status for e in done.report.episodes] == ["timeout"]
    assert np.array_equal(sent(without), sent(ignored))
    assert not np.allclose(sent(without), sent(felt))
    assert np.isfinite(sent(without)).all()


def test_what_is_dropped_looks_missing() -> None:
    frame = {"images": {"scene": np.zeros((2, 2, 3), np.uint8)}, "state": np.zeros(1), "task": "go"}
    run = EpisodeRun(PlannedEpisode(TASK, 0), 0, frames={0: frame})
    seen = observe([run], WindowSpec(observation=(-2, 0)), 1, Senses(dropped={"contact_force": FORCE}))
    assert seen.extras["contact_force"].shape == (1, 2, 3, 3)
    assert bool(seen.extras["contact_force"].isnan().all())
    assert seen.missing["contact_force"].tolist() == [[True, True]]


def test_what_cannot_be_dropped_is_refused(feeling: Design) -> None:
    for name, reason in (("contact_forc", "Did you mean 'contact_force'"), ("depth.scene", "does not read")):
        with pytest.raises(ConfigError, match=reason):
            prepare(feeling, dataclasses.replace(CONFIG, drop=("contact_force", name)))
