"""Oracles of dp.subgoal-refresh: on a toy world in closed form, and with a real design in the simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import draccus
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import MAX_TICKS, Memory, ToyPolicy, ToySimulators

from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked, Controller, SubgoalRefresh
from wamkit.design import Design
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.loop import ClosedLoop
from wamkit.evaluation.closed_loop.pilot import PolicyPilot
from wamkit.evaluation.closed_loop.rollout import EvaluationConfig, rollout
from wamkit.trunks import TransformerConfig
from wamkit.verbs.load import unit_stats
from wamkit.zoo import recipe


@dataclasses.dataclass(frozen=True)
class Follower(ToyPolicy):
    """Its generator says where the robot is; its actions say in their second entry how old that is."""

    step: float = 0.125
    log: list[tuple[str, float, float]] = dataclasses.field(default_factory=list, compare=False)

    def check_given(self, stream: str, followed: bool = False) -> None:
        assert stream == "goal"
        assert not followed

    def generate(
        self, observation: Observation, state: Memory, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        x = observation.state[:, -1, :1]
        self.log.append(("generator", x.item(), float(seeds[0])))
        return x[:, None, None]

    def forecast(
        self,
        observation: Observation,
        state: Memory,
        budget: Budget,
        seeds: Sequence[int],
        given: dict[str, Tensor] | None = None,
    ) -> tuple[Forecast, Memory]:
        assert given is not None
        assert given["goal"].shape == (len(seeds), 1, 1, 1)
        done, state = super().forecast(observation, state, budget, seeds)
        action = torch.full_like(done.action, self.step)
        for x, goal in zip(
            observation.state[:, -1, 0].tolist(), given["goal"].flatten().tolist(), strict=True
        ):
            self.log.append(("policy", x, (x - goal) / self.step))  # ticks since the subgoal was asked for
        return dataclasses.replace(done, action=action), state


def run(controller: Controller, seeds: Sequence[int] = (0,)) -> tuple[list[EpisodeRun], Follower]:
    policy = Follower()
    pilot = PolicyPilot(policy, controller, Budget(), MAX_TICKS)
    loop = ClosedLoop(ToySimulators(2), 2, 1, pilot, MAX_TICKS)
    return list(loop.run([PlannedEpisode("a", seed) for seed in seeds]).runs), policy


def ages(policy: Follower) -> list[int]:
    return [round(value) for who, _, value in policy.log if who == "policy"]


@settings(max_examples=30, deadline=None)
@given(execute=st.integers(1, 8), refresh=st.integers(1, 20), latency=st.integers(0, 12))
def test_the_policy_never_waits_and_every_subgoal_is_young(execute: int, refresh: int, latency: int) -> None:
    controller = SubgoalRefresh(execute, "goal", refresh, latency)
    (done,), policy = run(controller)
    calls = Chunked(execute).calls(MAX_TICKS)
    assert (done.status, done.tick, done.calls) == ("timeout", MAX_TICKS, len(calls))
    starts = [round(x / policy.step) for who, x, _ in policy.log if who == "generator"]
    assert tuple(starts) == controller.starts(MAX_TICKS)
    # In closed form: the newest start whose answer is there; the first one was waited for.
    there = {start: start + latency if start else 0 for start in starts}
    expected = [call - max(s for s in starts if there[s] <= call) for call in calls]
    assert ages(policy) == expected
    assert done.controller.counts == {"subgoals": len(starts), "oldest_subgoal_ticks": max(expected)}
    assert max(expected) < controller.bound


def test_stopping_the_generator_leaves_the_last_subgoal_in_use() -> None:
    (done,), policy = run(SubgoalRefresh(4, "goal", 6, 2, stop_after=2))
    assert [round(x / policy.step) for who, x, _ in policy.log if who == "generator"] == [0, 6]
    assert ages(policy) == [0, 4, 2, 6, 10, 14, 18, 22]
    assert (done.status, done.controller.counts["oldest_subgoal_ticks"]) == ("timeout", 22)
    (endless,), _ = run(SubgoalRefresh(4, "goal", 6, 2))
    assert endless.controller.counts["oldest_subgoal_ticks"] == 6


def test_runs_have_clocks_and_noise_of_their_own() -> None:
    controller = SubgoalRefresh(4, "goal", 6, 2)
    together, policy = run(controller, range(5))
    alone = [run(controller, (seed,))[0][0] for seed in range(5)]
    for ours, theirs in zip(together, alone, strict=True):
        assert (ours.record(), ours.controller.counts) == (theirs.record(), theirs.controller.counts)
    seeds = [seed for who, _, seed in policy.log if who == "generator"]
    assert len(set(seeds)) == len(seeds)
    assert draccus.decode(Controller, draccus.encode(controller, Controller)) == controller


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"SubgoalRefresh\.refresh: must be at least 1, got 0"):
        SubgoalRefresh(refresh=0)
    controller = SubgoalRefresh()
    with pytest.raises(ConfigError, match="`supply` it first"):
        controller.receive(controller.start(), np.zeros((16, 2), np.float32))
    with pytest.raises(ConfigError, match="asked for no subgoal"):
        Chunked().supply(Chunked().start(), np.zeros(1))


# ------------------------------------------------------------------------------------------------------ design


@pytest.fixture(scope="module")
def design() -> Design:
    config = recipe("rollout")
    trunks = {name: TransformerConfig(width=32, depth=1, heads=2) for name in config.trunks}
    config = dataclasses.replace(config, width=32, trunks=trunks)
    env = MetaWorldConfig(image_size=32)
    observation, action = env.observation_spec(), env.action_spec()
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    torch.manual_seed(0)
    return Design(config, DataSpec(observation, action, stats)).eval()


@pytest.mark.sim
def test_a_design_reads_subgoals_of_its_own_generator_in_the_simulator(design: Design) -> None:
    env = MetaWorldConfig(image_size=32, action_repeat=2, max_ticks=24)
    shape: dict[str, Any] = {
        "tasks": ("drawer-open-v3",),
        "episodes": 1,
        "slots": 1,
        "workers": 1,
        "films": 0,
    }
    controllers = (SubgoalRefresh(8, "goal", 12, 4), SubgoalRefresh(8, "goal", 8, 0), Chunked(8))
    reports = [
        rollout(
            design, EvaluationConfig(env=env, controller=c, latency_calls=2, **shape), progress=False
        ).report
        for c in controllers
    ]
    for report in reports:
        (episode,) = report.episodes
        assert (episode.status, episode.calls, episode.ticks) == ("timeout", 3, 24)
    slow, fresh, own = reports
    assert own.nfe["goal"] > 0
    assert "goal" not in slow.nfe  # the policy's calls spend nothing on it
    assert slow.latency_ms.n == 2
    assert any("oldest_subgoal_ticks: mean 8.00" in note for note in slow.notes)
    assert any("oldest_subgoal_ticks: mean 0.00" in note for note in fresh.notes)
    assert any("subgoals: mean 2.00" in note for note in slow.notes)


def test_a_stream_that_cannot_be_supplied_is_refused(design: Design) -> None:
    for stream in ("future", "gaol"):
        with pytest.raises(ConfigError, match=f"no goal or state stream '{stream}'"):
            PolicyPilot(design, SubgoalRefresh(8, stream), Budget(), 24)
