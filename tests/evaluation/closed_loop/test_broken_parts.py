"""A policy or a simulator that breaks in a perturbed evaluation costs its own episode and is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pytest
import torch
from plain_evaluation import CONFIG, EPISODES, policy
from plain_world import PlainConfig
from torch import Tensor
from wanderer import Wanderer

from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.envs import EnvConfig
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, variants
from wamkit.evaluation.closed_loop.rollout import rollout

pytestmark = pytest.mark.whole
SHORT = dataclasses.replace(CONFIG, films=0, latency_calls=0)


@dataclasses.dataclass(frozen=True)
class Moody(Wanderer):
    """Breaks in the second call of rows that were given certain words; other rows of the batch are sound."""

    words: str = ""
    how: str = "raise"

    def initial_state(self, batch_size: int) -> Tensor:
        if self.how == "state":
            raise ValueError("no state to begin with")
        return torch.zeros(batch_size, 1)

    def forecast(
        self, observation: Observation, state: Tensor, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, Tensor]:
        made, after = super().forecast(observation, state, budget, seeds)
        guilty = torch.tensor([words == self.words for words in observation.task]) & (state[:, 0] == 1)
        if self.how == "raise" and guilty.any():
            raise ValueError("these words again")
        if self.how == "nan":
            made.action[guilty, 3, 1] = torch.nan
        return made, after


@pytest.fixture(autouse=True, scope="module")
def named() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)  # a report names its environment
        yield


def spoken(config: EvaluationConfig) -> tuple[str, set[str]]:
    """The words of a perturbed instruction, and the variants that get them."""
    report = rollout(policy(), config, progress=False).report
    words = next(e.instruction for e in report.episodes if e.dimension == "Language Instructions")
    return words, {str(e.variant) for e in report.episodes if e.instruction == words}


@pytest.fixture(scope="module")
def said() -> tuple[str, set[str]]:
    return spoken(SHORT)


@pytest.mark.parametrize(
    ("how", "message"), [("raise", "these words again"), ("nan", "not finite at tick 4, call 2")]
)
def test_a_policy_that_breaks_for_one_row(how: str, message: str, said: tuple[str, set[str]]) -> None:
    words, guilty = said
    report = rollout(policy(Moody, words=words, how=how), SHORT, progress=False).report
    broken = [e for e in report.episodes if e.status == "error"]
    assert {e.variant for e in broken} == guilty
    assert 0 < len(broken) < len(report.episodes)
    for episode in broken:
        assert message in str(episode.error)
        assert ("Traceback" in str(episode.error)) == (how == "raise")
        assert episode.ticks == 4
    assert {e.status for e in report.episodes if e not in broken} <= {"success", "timeout"}
    assert report.mean_batch is not None
    assert report.mean_batch > 0.9
    # No rate counts them, and no headline hides them.
    assert report.shifts is not None
    assert report.shifts.micro.n == 16 - len(broken)
    assert report.shifts.micro.statuses["error"] == len(broken)
    assert report.headline().endswith(f"{len(broken)} of 24 episodes ended in an ERROR")


def test_a_policy_that_cannot_begin() -> None:
    report = rollout(
        policy(Moody, how="state"), dataclasses.replace(SHORT, latency_calls=2), progress=False
    ).report
    assert {e.status for e in report.episodes} == {"error"}
    assert all("no state to begin with" in str(e.error) for e in report.episodes)
    assert report.headline().startswith("wanderer: no episode could be scored")
    assert report.headline().endswith("24 of 24 episodes ended in an ERROR")


def test_a_simulator_that_breaks_under_perturbation() -> None:
    config = dataclasses.replace(SHORT, env=PlainConfig(breaks_at=0))
    report = rollout(policy(), config, progress=False).report
    perturbed = {v.id for v in variants(config) if v.perturbation is not None}
    assert {e.variant for e in report.episodes if e.status == "error"} == perturbed
    assert all("the floor gave way" in str(e.error) for e in report.episodes if e.status == "error")
    assert report.overall.n == EPISODES - len(perturbed) == 8
    assert report.shifts is not None
    assert report.shifts.micro.rate is None
    assert "no perturbed episode could be scored" in report.headline()
    assert report.headline().endswith("16 of 24 episodes ended in an ERROR")
