"""The second embodiment: the package's physics, our contract, an expert that hands the cube over."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from wamkit.envs import AlohaConfig, EnvConfig
from wamkit.envs.aloha import AlohaEnv, to_control, to_finger, to_opening
from wamkit.envs.perturbations import Perturbation
from wamkit.errors import ConfigError

pytest.importorskip("gym_aloha")
pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def env() -> Iterator[AlohaEnv]:
    made = AlohaConfig(image_size=32).build()
    assert isinstance(made, AlohaEnv)
    yield made
    made.close()


def test_the_physics_is_the_package_s_own(env: AlohaEnv) -> None:
    from gym_aloha.constants import DT
    from gym_aloha.env import AlohaEnv as Original
    from gym_aloha.tasks.sim import BOX_POSE
    from gym_aloha.utils import sample_box_pose

    original = Original("transfer_cube", observation_width=32, observation_height=32)
    BOX_POSE[0] = sample_box_pose(7)
    original._env.reset()
    env.restart(7)
    assert np.array_equal(env.data.qpos, original._env.physics.data.qpos)
    rng = np.random.default_rng(0)
    action = env._state().astype(np.float64)
    task, physics = original._env.task, original._env.physics
    for _ in range(60):
        action = np.clip(action + rng.normal(0, 0.03, 14), env.action_spec.low, env.action_spec.high)
        sent = action.astype(np.float32)
        env.advance(sent)
        task.before_step(sent.astype(np.float64), physics)
        physics.step(round(DT / physics.timestep()))
    assert np.abs(env.data.qpos - physics.data.qpos).max() < 1e-6
    assert np.abs(env._state() - task.get_qpos(physics)).max() < 1e-6


def test_success_is_the_package_s_criterion(env: AlohaEnv) -> None:
    from gym_aloha.tasks.sim import TransferCubeTask

    class Wrapped:
        """What the package's task reads, on our simulation."""

        def __init__(self) -> None:
            self.data = env.data
            self.model = self

        def id2name(self, number: int, kind: str) -> str:
            assert kind == "geom"
            return str(env.model.geom(number).name)

    env.restart(3)
    expert, judge, agreed = env.expert(), TransferCubeTask(), []
    for _ in range(300):
        outcome = env.advance(expert())
        agreed.append((outcome.success, judge.get_reward(Wrapped()) == 4))
    assert all(ours == theirs for ours, theirs in agreed)
    assert any(ours for ours, _ in agreed)


def test_the_expert_succeeds(env: AlohaEnv) -> None:
    solved = 0
    for seed in range(10):
        env.restart(seed)
        expert = env.expert()
        while True:
            outcome = env.advance(expert())
            if outcome.success or outcome.out_of_time:
                break
        solved += outcome.success
    assert solved >= 8


def test_a_seed_names_an_episode(env: AlohaEnv) -> None:
    first, _ = env.reset(seed=5)
    env.action_space.seed(5)  # some random actions make the physics unstable
    for _ in range(3):
        env.step(env.action_space.sample())
    again, _ = env.reset(seed=5)
    assert np.array_equal(first["state"], again["state"])
    assert all(np.array_equal(first["images"][c], again["images"][c]) for c in ("top", "angle"))
    assert env.observation_space.contains(again)
    assert not np.array_equal(env.reset(seed=6)[0]["images"]["top"], first["images"]["top"])


def test_state_and_action_mean_the_same(env: AlohaEnv) -> None:
    first, _ = env.reset(seed=1)
    for _ in range(50):
        observation, *_ = env.step(first["state"])  # asked to be where they are, the arms stay there
    assert np.abs(observation["state"] - first["state"]).max() < 0.05
    assert to_opening(to_finger(0.3)) == pytest.approx(0.3)
    assert to_control(np.zeros(14)).shape == (16,)


@pytest.mark.parametrize("kind", sorted({k.kind for k in AlohaConfig().perturbations()}))
def test_the_same_perturbations_act_here(env: AlohaEnv, kind: str) -> None:
    clean, _ = env.reset(seed=5)
    physics = env.data.qpos.copy()
    strongest = Perturbation.get_choice_class(kind)(strength=5)
    seen, _ = env.reset(seed=5, options={"perturbation": strongest})
    for _ in range(3):  # a frame can only be dropped once there is an earlier one
        before = seen
        seen, *_ = env.step(seen["state"])
    env.reset(seed=5)
    for _ in range(3):
        plain, *_ = env.step(env._state())
    changed = {
        "images": any(not np.array_equal(seen["images"][c], plain["images"][c]) for c in ("top", "angle")),
        "task": seen["task"] != clean["task"],
        "repeated": kind == "dropped_frames"
        and np.array_equal(seen["images"]["top"], before["images"]["top"]),
    }
    assert any(changed.values())
    again, _ = env.reset(seed=5)
    assert np.array_equal(again["images"]["top"], clean["images"]["top"])
    assert np.array_equal(env.data.qpos, physics)


def test_what_it_does_not_have_is_refused(env: AlohaEnv) -> None:
    texture = Perturbation.get_choice_class("surface_texture")(strength=1, surface="table")
    with pytest.raises(ConfigError, match="does not have a texture"):
        env.reset(seed=0, options={"perturbation": texture})
    with pytest.raises(ConfigError, match="not have a surface 'wall'"):
        env.reset(
            seed=0,
            options={
                "perturbation": Perturbation.get_choice_class("surface_colour")(strength=1, surface="wall")
            },
        )
    with pytest.raises(ConfigError, match="Did you mean 'aloha-transfer-cube'"):
        AlohaConfig(task="aloha-transfer-cub")
    with pytest.raises(ConfigError, match="Did you mean 'top'"):
        EnvConfig.get_choice_class("aloha")(cameras=("tob",))
