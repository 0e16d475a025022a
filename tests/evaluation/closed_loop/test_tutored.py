"""The expert beside a policy, in the real simulator: it is asked in the policy's states and changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from toys import ToyPolicy

from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.envs import MetaWorldConfig, SimulatedEnv
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.closed_loop.tutored import Takeover, TutoredEpisode, tutor

pytestmark = pytest.mark.sim
ENV = MetaWorldConfig("door-open-v3", image_size=16, action_repeat=4, max_ticks=12)
EVERYWHERE = ("reach", "contact", "transport")


class Wanderer(ToyPolicy):
    """Actions that depend on the state and on the seed of the row, four at a time."""

    def forecast(
        self, observation: Observation, state: Any, budget: Budget, seeds: Sequence[int], **given: Any
    ) -> tuple[Forecast, Any]:
        rows = [np.random.default_rng(seed).uniform(-1, 1, (self.window.horizon, 4)) for seed in seeds]
        action = torch.from_numpy(np.stack(rows).astype(np.float32))
        return Forecast(action + observation.state[:, -1:, :1]), state


def wanderer() -> Wanderer:
    return Wanderer(observation_spec=ENV.observation_spec(), action_spec=ENV.action_spec())


def config(**changes: Any) -> EvaluationConfig:
    return EvaluationConfig(
        ("door-open-v3",), 2, env=ENV, slots=1, workers=1, films=0, latency_calls=0, **changes
    )


@pytest.fixture(scope="module")
def alone() -> list[TutoredEpisode]:
    return tutor(wanderer(), config())


def driven(env: SimulatedEnv, episode: TutoredEpisode, actions: Iterable[Any]) -> Mapping[str, np.ndarray]:
    """What an environment shows, and what its expert says, while actions are executed."""
    env.restart(episode.seed)
    expert, asked, seen = env.expert(), [], [env.landmarks()]
    for action in actions:
        asked.append(expert())
        env.advance(action)
        seen.append(env.landmarks())
    return {"expert": np.array(asked), "landmarks": np.array(seen)}


def test_the_expert_is_asked_in_the_states_that_the_policy_reaches(alone: list[TutoredEpisode]) -> None:
    env = ENV.build()
    for episode in alone:
        again = driven(env, episode, episode.actions)
        np.testing.assert_array_equal(again["expert"], np.array(episode.expert))
        np.testing.assert_array_equal(again["landmarks"], np.array(episode.landmarks))
        assert not episode.solved
        assert episode.ages[:5] == [0, 1, 2, 3, 0]
        assert set(episode.phases) == {"reach"}
        assert len(episode.phases) == len(episode.actions) == ENV.max_ticks


def test_an_expert_that_is_only_asked_changes_nothing(alone: list[TutoredEpisode]) -> None:
    plain = rollout(wanderer(), config(), progress=False)
    for episode, trace, record in zip(alone, plain.traces, plain.report.episodes, strict=True):
        np.testing.assert_array_equal(np.concatenate([b.actions for b in trace.blocks]), episode.actions)
        assert record == episode.record


@pytest.mark.parametrize("columns", [(), (0, 1, 2)])
def test_what_the_expert_takes_over_is_executed(columns: tuple[int, ...]) -> None:
    (episode, _) = tutor(wanderer(), config(), Takeover(EVERYWHERE, columns))
    mixed, where = np.array(episode.actions), list(columns) or slice(None)
    mixed[:, where] = np.array(episode.expert)[:, where]
    again = driven(ENV.build(), episode, mixed)
    np.testing.assert_array_equal(again["landmarks"], np.array(episode.landmarks))


def test_the_expert_s_phases_are_the_only_ones_it_acts_in() -> None:
    ours, theirs = np.zeros(4, np.float32), np.ones(4, np.float32)
    reach = Takeover(("reach",), (3,))
    assert reach.executed(ours, theirs, "reach").tolist() == [0, 0, 0, 1]
    assert reach.executed(ours, theirs, "contact").tolist() == [0, 0, 0, 0]
    assert ours.tolist() == [0, 0, 0, 0]


def test_a_policy_that_reads_past_actions_cannot_be_helped() -> None:
    policy = wanderer()
    policy = dataclasses.replace(policy, window=dataclasses.replace(policy.window, past_actions=4))
    with pytest.raises(ConfigError, match="past actions"):
        tutor(policy, config(), Takeover(("reach",)))
