"""What a user's simulator returns is compared with its declared spec at every reset and tick."""

from __future__ import annotations

import time

import numpy as np
import pytest
from odd_worlds import OddConfig, returned

from wamkit.envs.demonstrations import ActionNoise, demonstrate
from wamkit.envs.facts import Facts
from wamkit.envs.returned import Returned
from wamkit.envs.vector import VectorEnv
from wamkit.envs.worker import require_declared
from wamkit.errors import SpecError

SEEN: list[tuple[str, str]] = [
    ("float picture", r"images\['scene'\] is float32, declared uint8. Convert it: `\(x \* 255\).round"),
    ("wrong size", r"images\['scene'\] has the shape \(4, 6, 3\), declared \(8, 6, 3\)"),
    ("channels first", r"images\['scene'\] has the shape \(3, 8, 6\), declared \(8, 6, 3\)"),
    ("missing camera", r"images\['scene'\] is missing"),
    ("undeclared camera", "images has an undeclared camera 'wrist'"),
    ("list", r"images\['scene'\] is a list. Return a numpy array"),
    ("not a mapping", "images is a ndarray"),
    ("nan state", "state is not finite at entry 'y'"),
    ("double state", r"state is float64, declared float32. Convert it: `.astype\(np.float32\)`"),
    ("wide state", r"state has the shape \(3,\), declared \(2,\)"),
    ("rows of states", r"state has the shape \(1, 2\), declared \(2,\)"),
    ("state as list", "state is a list"),
    ("nan depth", r"extras\['depth'\] is not finite at entry \[0, 0\]"),
    ("small depth", r"extras\['depth'\] has the shape \(7, 6\), declared \(8, 6\)"),
    ("integer depth", r"extras\['depth'\] is int32, declared float32"),
    ("no depth", r"extras\['depth'\] is missing"),
    ("more extras", "extras has an undeclared entry 'force'"),
]
HAPPENED: list[tuple[str, str]] = [
    ("text reward", "reward is '1.0'. Return a finite number"),
    ("nan reward", "reward is nan"),
    ("no reward", "reward is None"),
    ("number success", "success is 0.0. Return True or False"),
    ("no success", "success is None"),
    ("text success", "success is 'no'"),
]
MOVED: list[tuple[str, str]] = [
    ("outside", "the demonstrator's action 'a' is 3, outside of -1 to 1. Clip it, or widen the limits"),
    ("wide action", "the demonstrator's action has the shape"),
    ("nan action", "the demonstrator's action is not finite"),
]
ACTION = np.zeros(4, np.float32)


@pytest.mark.parametrize(("fault", "message"), SEEN)
def test_an_observation_that_is_not_as_declared(fault: str, message: str) -> None:
    env = OddConfig(fault=fault, at=1).build()
    env.reset(seed=0)
    with pytest.raises(SpecError, match=f"environment OddEnv, task 'odd', tick 1: {message}"):
        env.step(ACTION)
    with pytest.raises(SpecError, match="tick 0"):
        OddConfig(fault=fault, at=0).build().reset(seed=0)


@pytest.mark.parametrize(("fault", "message"), HAPPENED)
def test_a_reward_or_success_of_another_type(fault: str, message: str) -> None:
    env = OddConfig(fault=fault, at=1).build()
    env.reset(seed=0)
    env.step(ACTION)
    with pytest.raises(SpecError, match=f"environment OddEnv, task 'odd', tick 2: {message}"):
        env.step(ACTION)


@pytest.mark.parametrize(("fault", "message"), MOVED)
def test_a_demonstrator_that_leaves_the_limits_is_not_recorded(fault: str, message: str) -> None:
    with pytest.raises(SpecError, match=f"task 'odd', tick 2: {message}"):
        demonstrate(OddConfig(fault=fault).build(), 0, ActionNoise(probability=0), 0)


def test_a_right_simulator_passes_with_its_own_values() -> None:
    env = OddConfig().build()
    seen, _ = env.reset(seed=3)
    assert (seen["images"]["scene"] == 7).all()
    assert seen["state"].tolist() == [1, 2]
    assert seen["extras"]["depth"].shape == (8, 6)
    _, reward, terminated, _, info = env.step(ACTION)
    assert (type(reward), reward) == (float, 0.5)
    assert terminated is False
    assert info == {"success": False}


def test_an_environment_is_what_its_config_declares() -> None:
    config = OddConfig(declares="another")
    with pytest.raises(SpecError, match="environment OddEnv and its OddConfig do not agree"):
        require_declared(config, config.build())
    with pytest.raises(SpecError, match=r"OddConfig.build\(\) returned a int; return a subclass"):
        require_declared(config, 3)
    env = OddConfig().build()
    env.extras_spec = {}
    with pytest.raises(SpecError, match=r"Pass `config.extras_spec\(\)`"):
        require_declared(OddConfig(), env)


def test_a_worker_reports_it_in_our_words_and_the_others_go_on() -> None:
    odd = (
        OddConfig(fault="nan state", at=1),
        OddConfig(),
        OddConfig(fault="list", at=0),
        OddConfig(declares="z"),
    )
    with VectorEnv(odd, workers=1) as envs:
        for slot in range(4):
            envs.reset_async(slot, seed=slot)
        begun = envs.wait(range(4))
        for slot in range(2):
            envs.step_async(slot, np.zeros((2, 4), np.float32), look=(1, 2))
        stepped = envs.wait(range(2))
    words = "SpecError: environment OddEnv, task 'odd', tick"
    assert [begun[slot].error is None for slot in range(4)] == [True, True, False, False]
    assert str(begun[2].error).startswith(f"{words} 0: images['scene'] is a list")
    assert str(begun[3].error).startswith("SpecError: environment OddEnv and its OddConfig do not agree")
    assert str(stepped[0].error).startswith(f"{words} 1: state is not finite at entry 'y'")
    assert stepped[1].error is None
    assert stepped[1].ticks == (1, 2)


def test_an_instruction_is_a_text() -> None:
    with pytest.raises(SpecError, match="the instruction 3 must be a text"):
        OddConfig().build().restart(0, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"moved_m": float("nan")}, {"gap_m": "near"}, {"touching": 1}])
def test_facts_are_numbers(change: dict[str, object]) -> None:
    with pytest.raises(SpecError, match=next(iter(change))):
        Facts(**{"touching": True, "moved_m": 0.1, "gap_m": 0.2, **change})  # type: ignore[arg-type]


def test_the_check_of_a_tick_takes_less_than_a_fiftieth_of_rendering_it() -> None:
    """A rendered tick takes 5 ms and more; what is checked of it is far below a hundredth of that."""
    env, now = OddConfig().build(), Returned("OddEnv", "odd", 3)
    values = {field: returned(field, "") for field in ("images", "state", "extras", "reward", "success")}
    taken = []
    for _ in range(200):
        start = time.perf_counter()
        now.images(values["images"], env.observation_spec.cameras)
        now.state(values["state"], env.observation_spec.state)
        now.extras(values["extras"], env.extras_spec)
        now.reward(values["reward"])
        now.success(values["success"])
        taken.append(time.perf_counter() - start)
    assert min(taken) < 1e-4
