"""Goal pointer in the closed loop: on a toy world in closed form, and with a real design in the simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import MAX_TICKS, Memory, ToyPolicy, ToySimulators, ToyStep, ToyWorld

from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, Forecast, Observation, Perceived
from wamkit.controllers import GoalPointer
from wamkit.design import Design, from_pretrained, save_pretrained
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Senses
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, Rollout, rollout
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats
from wamkit.zoo.registry import systems

STEP = 0.25
POINTER = GoalPointer("s", 0.01)


class Walled(ToyWorld):
    """Ends at a wall 0.625 to the right of its start."""

    def step(self, actions: np.ndarray, look: tuple[int, ...]) -> ToyStep:
        room = self.seed % 5 + 0.625 - self.x
        return super().step(np.minimum(actions, room), look)


class Simulators(ToySimulators):
    """Slots of toy worlds, those of ``walled`` seeds with a wall."""

    def __init__(self, slots: int, walled: Sequence[int]) -> None:
        super().__init__(slots)
        self.walled = walled

    def reset_async(self, slot: int, seed: int, *rest: Any, **more: Any) -> None:
        super().reset_async(slot, seed, *rest, **more)
        if seed in self.walled:
            self.worlds[slot] = Walled(seed, None)


@dataclasses.dataclass(frozen=True)
class Planner(ToyPolicy):
    """Plans two and four ticks ahead, relative to where it is, and goes to the first place that it is given.

    Its place is read off the extra ``force``, which stands in for a tracker.
    """

    offsets: tuple[int, ...] = (2, 4)
    sensors: tuple[str, ...] = ()
    log: list[tuple[Any, ...]] = dataclasses.field(default_factory=list, compare=False)

    def check_given(self, stream: str, followed: bool = False) -> None:
        assert (stream, followed) == ("s", True)

    def generate(
        self, observation: Observation, state: Memory, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        self.log.append(("plan", observation.state[0, -1, 0].item(), budget.future))
        ahead = STEP * torch.tensor(self.offsets)
        return ahead.expand(len(seeds), -1)[..., None, None]

    def perceived(self, stream: str) -> Perceived:
        def since(observation: Observation, now: Observation) -> Tensor:
            return (observation.extras["force"] - now.extras["force"])[:, 0, :1, :1]

        return Perceived(stream, self.offsets, since, ("force",), lambda v, o, n: v - since(o, n)[:, None])

    def forecast(
        self,
        observation: Observation,
        state: Memory,
        budget: Budget,
        seeds: Sequence[int],
        given: dict[str, Tensor] | None = None,
    ) -> tuple[Forecast, Memory]:
        assert given is not None
        done, state = super().forecast(observation, state, dataclasses.replace(budget, future=False), seeds)
        goals = given["s"][:, :, 0, 0]
        self.log.extend(("given", *row) for row in goals.tolist())
        action = done.action.clone()
        action[:, :, 0] = goals[:, :1].clamp(-STEP, STEP)
        return dataclasses.replace(done, action=action), state


def run(
    seeds: Sequence[int] = (0,), walled: Sequence[int] = (), budget: Budget | None = None
) -> tuple[list[EpisodeRun], Planner]:
    policy = Planner()
    pilot = PolicyPilot(policy, POINTER, budget or Budget(), MAX_TICKS)
    loop = ClosedLoop(Simulators(4, walled), 4, 1, pilot, MAX_TICKS)
    return list(loop.run([PlannedEpisode("a", seed) for seed in seeds]).runs), policy


@pytest.mark.parametrize("budget", [Budget(), Budget(future=False)])
def test_goals_are_passed_where_they_lie_and_seen_from_where_the_robot_is(budget: Budget) -> None:
    """Goals at 0.5 and 1.0 are reached at the ticks 2 and 4, where the next plan begins."""
    (done,), policy = run(budget=budget)
    assert done.error is None, done.error
    assert (done.status, done.tick, done.calls, done.early_calls) == ("timeout", MAX_TICKS, MAX_TICKS, 0)
    assert done.controller.counts == {"plans": 8, "reached_steps": 14}
    plans = [entry for entry in policy.log if entry[0] == "plan"]
    assert plans == [("plan", 4 * STEP * i, None) for i in range(8)]
    given = [entry[1:] for entry in policy.log if entry[0] == "given"]
    once = [(0.5, 1.0), (0.25, 0.75), (0.5, 0.5), (0.25, 0.25)]  # as far as it is from here
    assert given == (8 * once)[:MAX_TICKS]


def test_a_goal_behind_a_wall_is_pursued_until_the_end() -> None:
    (done,), policy = run(walled=(0,))
    assert done.controller.counts == {"plans": 1, "reached_steps": 1}
    assert done.controller.pointer == 1
    given = [entry[1:] for entry in policy.log if entry[0] == "given"]
    assert given[3:] == [(0.375, 0.375)] * (MAX_TICKS - 3)


def test_episodes_of_a_batch_are_independent() -> None:
    together, policy = run(range(5), walled=(1, 3))
    alone = [run((seed,), walled=(1, 3))[0][0] for seed in range(5)]
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.record(), ours.controller.counts) == (theirs.record(), theirs.controller.counts)
        assert all(
            np.array_equal(a.actions, b.actions) for a, b in zip(ours.blocks, theirs.blocks, strict=True)
        )
    assert max(policy.batches) == 2
    assert [one.controller.counts["plans"] for one in together] == [
        8,
        1,
        8,
        1,
        6,
    ]  # seed 4 succeeds at tick 24


def test_what_is_dropped_cannot_be_compared() -> None:
    senses = Senses((), {"force": (2, 3)})
    with pytest.raises(ConfigError, match=r"stream 's' .* force, which it is made of, is dropped"):
        PolicyPilot(Planner(), POINTER, Budget(), MAX_TICKS, senses)


# ------------------------------------------------------------------------------------------------------ design
TICKS = 6
RECORD = ("depth", "camera", "object_id", "object_pose")
ENV = MetaWorldConfig(image_size=32, action_repeat=4, max_ticks=TICKS, record=RECORD)


@pytest.fixture(scope="module")
def design() -> Design:
    config = systems()["Dex4D"].make()
    trunk = TransformerConfig(width=32, depth=1, heads=2)
    config = dataclasses.replace(config, width=32, trunks={"main": trunk})
    env = dataclasses.replace(ENV, task="drawer-open-v3")
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    extras = {name: shape for name, (shape, _) in env.extras_spec().items()}
    torch.manual_seed(0)
    return Design(config, DataSpec(observation, action, stats, extras)).eval()


def evaluate(design: Design, **changes: Any) -> Rollout:
    controller = dataclasses.replace(design.controller, **changes)
    config = EvaluationConfig(
        tasks=("drawer-open-v3",), episodes=1, env=ENV, controller=controller, workers=1, slots=1, films=0,
        latency_calls=1,
    )  # fmt: skip
    return rollout(design, config, progress=False)


@pytest.mark.sim
@pytest.mark.parametrize(("threshold", "counts"), [(1e9, (2, 5)), (0.0, (1, 0))])
def test_a_design_follows_its_tracks_in_the_simulator(
    design: Design, threshold: float, counts: tuple[int, int]
) -> None:
    done = evaluate(design, threshold=threshold)
    (episode,) = done.report.episodes
    assert (episode.status, episode.calls, episode.ticks, episode.error) == ("timeout", TICKS, TICKS, None)
    notes = " ".join(done.report.notes)
    assert f"plans: mean {counts[0]}.00" in notes
    assert f"reached_steps: mean {counts[1]}.00" in notes
    assert "tracks" not in done.report.nfe  # the calls spend nothing on the plan
    assert done.report.nfe["action"] > 0


def test_it_is_saved_with_the_design(design: Design, tmp_path: Path) -> None:
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.controller == design.controller == GoalPointer("tracks", 0.1, (3, 4, 5))
    assert again.cells()["deployment"] == "Single-step"
    assert again.perceived("tracks").extras == design.perceived("tracks").extras


@pytest.mark.sim
def test_a_simulator_that_does_not_track_is_refused_before_the_start(design: Design) -> None:
    env = dataclasses.replace(ENV, record=("depth", "camera", "object_id"))
    config = EvaluationConfig(tasks=("drawer-open-v3",), episodes=1, env=env, workers=1, slots=1)
    with pytest.raises(
        SpecError, match=r"made of the extra 'object_pose', which environment 'drawer-open-v3'"
    ):
        rollout(design, config, progress=False)
