"""A simulator that returns something else than it declares: ERROR rows in our words, and a collection that refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from odd_worlds import TICKS, OddConfig
from wanderer import Wanderer

from wamkit.api import CollectConfig, collect
from wamkit.contract.types import WindowSpec
from wamkit.controllers import Chunked
from wamkit.envs import EnvConfig
from wamkit.envs.demonstrations import ActionNoise
from wamkit.errors import WamkitError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout

pytestmark = pytest.mark.whole


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EnvConfig._choice_registry, "odd", OddConfig)


def policy() -> Wanderer:
    env = OddConfig()
    window = WindowSpec(observation=(0,), horizon=8, future=(2, 4))
    return Wanderer(window, observation_spec=env.observation_spec(), action_spec=env.action_spec())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan state", "state is not finite at entry 'y'"),
        ("float picture", "images['scene'] is float32, declared uint8"),
        ("missing camera", "images['scene'] is missing"),
        ("number success", "success is 0.0"),
        ("nan reward", "reward is nan"),
        ("small depth", "extras['depth'] has the shape"),
    ],
)
@pytest.mark.parametrize("at", [0, 4])
def test_the_episode_is_an_error_in_our_words(fault: str, message: str, at: int) -> None:
    config = EvaluationConfig(
        tasks=("[odd]", "odd"), episodes=1, env=OddConfig(fault=fault, at=at), controller=Chunked(4), workers=1,
        slots=2, films=0, latency_calls=0,
    )  # fmt: skip
    report = rollout(policy(), config, progress=False).report
    assert [e.status for e in report.episodes] == ["error", "error"]
    for episode in report.episodes:
        words = f"SpecError: environment OddEnv, task '{episode.task}', tick "
        assert str(episode.error).startswith(words)
        assert message in str(episode.error)
        assert "Traceback" not in str(episode.error)
    assert report.headline().endswith("2 of 2 episodes ended in an ERROR")


def test_a_right_simulator_is_evaluated_and_its_task_printed_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = EvaluationConfig(
        tasks=("[odd]",), episodes=1, env=OddConfig(), controller=Chunked(4), workers=1, slots=1, films=0,
        latency_calls=0,
    )  # fmt: skip
    report = rollout(policy(), config, progress=False).report
    assert [(e.task, e.status, e.ticks) for e in report.episodes] == [("[odd]", "timeout", TICKS)]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("nan state", "state is not finite"),
        ("wrong size", "has the shape (4, 6, 3)"),
        ("outside", "is 3, outside of"),
    ],
)
def test_a_collection_refuses_it(fault: str, message: str, tmp_path: Path) -> None:
    config = CollectConfig(
        out=tmp_path / "data", tasks=("[odd]",), episodes=1, env=OddConfig(fault=fault), workers=1,
        noise=ActionNoise(probability=0),
    )  # fmt: skip
    with pytest.raises(WamkitError, match=re.escape(message)) as error:
        collect(config, progress=False)
    assert "environment OddEnv, task '[odd]', tick" in str(error.value)
    assert "Traceback" not in str(error.value)
    assert not (tmp_path / "data").exists()
