"""Policies of other libraries behind the protocol of a policy: messages, a stand-in server, and lerobot itself."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.peers import policies
from benchmarks.peers.lerobot_policy import PYTHON, LeRobotPolicy, outside, serving
from benchmarks.peers.wire import TYPES, receive, send
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from plain_world import WORDS, PlainConfig
from stand_in_server import EXECUTE, HORIZON, WIDTH, draw

from wamkit.contract.types import Budget, Observation
from wamkit.controllers import Chunked
from wamkit.envs import EnvConfig
from wamkit.errors import BudgetError, ConfigError, SpecError, WamkitError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.verbs.collect import CollectConfig, collect

ROOT = Path(__file__).parents[3]
STAND_IN = [sys.executable, str(ROOT / "tests/evaluation/stand_in_server.py")]
ENV = PlainConfig()
SPECS = (ENV.observation_spec(), ENV.action_spec())
SHAPES = arrays_of.array_shapes(min_side=0, max_dims=3, max_side=3)
CONFIG = EvaluationConfig(
    tasks=("left", "right"), episodes=2, env=ENV, workers=1, slots=2, latency_calls=1, films=0
)


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reports and datasets name their world.
    monkeypatch.setitem(EnvConfig._choice_registry, "plain", PlainConfig)


@pytest.fixture
def policy() -> Iterator[LeRobotPolicy]:
    with LeRobotPolicy(STAND_IN, "stand-in", SPECS) as policy:
        yield policy


def observed(rows: int, steps: int = 2) -> Observation:
    rng = np.random.default_rng(rows)
    pictures = torch.from_numpy(rng.integers(0, 256, (rows, steps, 3, 8, 8), np.uint8))
    state = torch.from_numpy(rng.normal(size=(rows, steps, 1)).astype(np.float32))
    words = tuple(WORDS[i % 2] for i in range(rows))
    return Observation({"scene": pictures}, state, words, torch.zeros(rows, steps, dtype=torch.bool))


# --------------------------------------------------------------------------------------------------- messages


@settings(max_examples=20, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers(-(2**62), 2**62)),
    st.lists(
        st.sampled_from(TYPES).flatmap(
            lambda t: arrays_of.arrays(t, arrays_of.array_shapes(min_side=0, max_dims=3, max_side=3))
        )
    ),
)
def test_a_message_arrives_as_it_was_sent(fields: dict[str, int], arrays: list[np.ndarray]) -> None:
    pipe, named = io.BytesIO(), {f"a{i}": array for i, array in enumerate(arrays)}
    send(pipe, fields, named)
    send(pipe, {"next": True})
    pipe.seek(0)
    got, found = receive(pipe)
    assert got == fields
    assert list(found) == list(named)
    for name, array in named.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert receive(pipe) == ({"next": True}, {})


def test_every_cut_of_a_message_is_noticed() -> None:
    whole = io.BytesIO()
    send(whole, {"a": 1}, {"x": np.arange(3)})
    for length in range(len(whole.getvalue())):
        with pytest.raises(EOFError, match="the pipe was closed"):
            receive(io.BytesIO(whole.getvalue()[:length]))


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(ValueError, match="something else than messages"):
        receive(io.BytesIO(b"Loading weights ..."))
    with pytest.raises(TypeError, match="'x' is float64"):
        send(io.BytesIO(), {}, {"x": np.zeros(2)})
    header = json.dumps({"fields": {}, "arrays": [["x", "object", [1]]]}).encode()
    with pytest.raises(ValueError, match="'x' is 'object'"):
        receive(io.BytesIO(len(header).to_bytes(4, "little") + header + bytes(8)))


# ----------------------------------------------------------------------------------------------------- policy


def test_the_server_sees_the_rows_and_its_actions_come_back(policy: LeRobotPolicy) -> None:
    observation, seeds = observed(3), [5, 6, 2**62 + 1]
    forecast, state = policy.forecast(observation, policy.initial_state(3), Budget(), seeds)
    picture = observation.images["scene"][:, -1].double().mean((1, 2, 3)) / 100
    rows = torch.tensor([0, 1, 0]) + observation.state[:, -1, 0] + picture
    rows = rows + torch.tensor([draw(seed) for seed in seeds], dtype=torch.float64)
    expected = (rows[:, None] + torch.arange(HORIZON))[..., None].expand(-1, -1, WIDTH)
    torch.testing.assert_close(forecast.action, expected.float())
    assert (state, forecast.nfe, forecast.stage_ms) == ((), {"action": 3}, {"action": 1.5})


def test_a_row_depends_on_its_own_seed_alone(policy: LeRobotPolicy) -> None:
    observation = observed(2)
    both, _ = policy.forecast(observation, (), Budget(), [1, 2])
    other, _ = policy.forecast(observation, (), Budget(), [1, 3])
    assert torch.equal(both.action[0], other.action[0])
    assert not torch.equal(both.action[1], other.action[1])


def test_the_server_says_how_it_is_driven(policy: LeRobotPolicy) -> None:
    assert policy.window.observation == (-1, 0)
    assert policy.window.horizon == HORIZON
    assert policy.controller == Chunked(EXECUTE)
    assert policy.describe()["parameters"] == {"total": 7}
    json.dumps(policy.describe())


def test_what_it_cannot_do_is_refused(policy: LeRobotPolicy) -> None:
    policy.check_budget(Budget(future=False, horizon=2))
    with pytest.raises(BudgetError, match="num_inference_steps"):
        policy.check_budget(Budget(nfe={"action": 2}))
    with pytest.raises(
        ConfigError, match=r"not trained on the instruction 'move rightward'.*'move rightwards'"
    ):
        policy.require_instructions(["move rightward"])
    with pytest.raises(ConfigError, match="no stream 'future'"):
        policy.perceived("future")


def test_a_server_that_ends_says_its_last_words() -> None:
    with pytest.raises(WamkitError, match=r"(?s)ended with code 1.*no such checkpoint"):
        LeRobotPolicy([*STAND_IN, "--mute"], "mute", SPECS)
    with LeRobotPolicy([*STAND_IN, "--dies"], "dying", SPECS) as policy:
        for _ in range(2):
            with pytest.raises(WamkitError, match="the motor is hot"):
                policy.forecast(observed(1), (), Budget(), [1])


def test_a_server_of_other_data_is_refused() -> None:
    wide = dataclasses.replace(SPECS[0], state=("x", "y"))
    with pytest.raises(SpecError, match=r"1 columns of state.*Name the dataset"):
        LeRobotPolicy(STAND_IN, "other", (wide, SPECS[1]))


def test_episodes_of_a_served_policy_repeat_and_report(policy: LeRobotPolicy) -> None:
    first = rollout(policy, CONFIG, progress=False)
    again = rollout(policy, CONFIG, progress=False)
    assert {episode.status for episode in first.report.episodes} == {"success"}  # its actions all point right
    assert [len(task.statuses) for task in first.report.tasks.values()]
    assert first.report.latency_ms.n == 1
    for one, other in zip(first.traces, again.traces, strict=True):
        assert one.plan == other.plan
        for block, same in zip(one.blocks, other.blocks, strict=True):
            assert len(block.actions) <= EXECUTE
            np.testing.assert_array_equal(block.actions, same.actions)
    line = policies.row(first.report)
    assert line["tasks"]["left"]["successes"] == line["tasks"]["left"]["n"] == 2
    assert line["parameters"] == 7


def test_wordings_are_those_of_the_tasks() -> None:
    groups = policies.wordings(["drawer-open-v3", "door-open-v3"])
    assert "open the drawer" in groups["drawer-open-v3"]
    assert not set(groups["drawer-open-v3"]) & set(groups["door-open-v3"])
    with pytest.raises(ConfigError, match="drawer-open-v3"):
        policies.wordings(["drawer-opn-v3"])


# ---------------------------------------------------------------------------------------------------- lerobot

SMALL = {
    "act": ["chunk_size=4", "n_action_steps=2", "dim_model=16", "n_heads=2", "dim_feedforward=16"],
    "diffusion": ["down_dims=[8,16]", "n_groups=2", "num_train_timesteps=8", "horizon=8", "n_action_steps=3"],
}


@pytest.mark.lerobot
@pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no python with lerobot==0.4.4")
@pytest.mark.parametrize("name", list(SMALL))
def test_lerobot_trains_on_our_data_and_is_driven(name: str, tmp_path: Path) -> None:
    collect(CollectConfig(tmp_path / "data", ("left",), episodes=3, workers=1, env=ENV), progress=False)
    (tmp_path / "tasks.json").write_text(json.dumps({"other": ["wait"], "left": list(WORDS)}))
    script, out = ROOT / "benchmarks/peers/lerobot_train.py", tmp_path / "run"
    command = [os.environ[PYTHON], str(script), str(tmp_path / "data"), str(out), "--policy", name]
    command += ["--minutes", "0.02", "--tasks", str(tmp_path / "tasks.json"), "--set", *SMALL[name]]
    subprocess.run(command, env=outside() | {"HF_HOME": str(tmp_path / "hf")}, check=True)
    assert json.loads((out / "peer.json").read_text())["steps"] > 0
    with LeRobotPolicy(serving(out), name, SPECS) as policy:
        assert policy.controller == Chunked(2 if name == "act" else 3)
        assert policy.instructions[WORDS[0]] == 1
        steps = len(policy.window.observation)
        both, _ = policy.forecast(observed(2, steps), (), Budget(), [1, 2])
        other, _ = policy.forecast(observed(2, steps), (), Budget(), [1, 3])
        assert torch.equal(both.action[0], other.action[0])
        assert torch.equal(both.action[1], other.action[1]) == (name == "act")  # ACT draws nothing
        config = dataclasses.replace(CONFIG, tasks=("left",), episodes=1)
        report = rollout(policy, config, progress=False).report
    assert [episode.status for episode in report.episodes] != ["error"]
