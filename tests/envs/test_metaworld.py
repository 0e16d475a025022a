"""MetaWorld behind the contract: determinism, conventions, pictures, ground truth."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from wamkit.envs import MetaWorldConfig, VectorEnv
from wamkit.envs.base import SimulatedEnv
from wamkit.envs.demonstrations import ActionNoise, demonstrate
from wamkit.envs.ground_truth import RECORDABLE, SegmentClass
from wamkit.envs.metaworld import GOAL_MARKERS, SCENE_POSE, MetaWorldEnv, _construct
from wamkit.envs.rendering import SceneRenderer, import_mujoco
from wamkit.errors import DataError, SpecError

pytestmark = pytest.mark.sim
TASKS = ("drawer-open-v3", "button-press-topdown-v3", "window-open-v3")


def build(task: str = "drawer-open-v3", **options: Any) -> MetaWorldEnv:
    env = MetaWorldConfig(task=task, **options).build()
    assert isinstance(env, MetaWorldEnv)
    return env


def actions(seed: int, ticks: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (ticks, 4)).astype(np.float32)


def trace(env: SimulatedEnv, seed: int, ticks: int, look: bool) -> list[np.ndarray]:
    """State and both pictures after the last tick; with ``look`` the pictures in between are taken too."""
    env.restart(seed)
    if look:
        env.observe()
    for action in actions(seed, ticks):
        env.advance(action)
        if look:
            env.observe()
    seen = env.observe()
    return [seen["state"], *seen["images"].values()]


def same(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("task", ["drawer-open-v3", "window-open-v3", "pick-place-v3"])
def test_a_seed_names_an_episode_bit_for_bit(task: str) -> None:
    env = build(task)
    first = trace(env, seed=3, ticks=12, look=True)
    assert same(first, trace(env, seed=3, ticks=12, look=False)), "looking changed the episode"
    other = trace(env, seed=4, ticks=30, look=False)
    assert not same(first, other)
    assert same(first, trace(env, seed=3, ticks=12, look=False)), "an earlier episode left a trace"
    assert same(first, trace(build(task), seed=3, ticks=12, look=False)), "another instance differs"
    config = MetaWorldConfig(task=task)
    with VectorEnv([config], workers=1, timeout_s=60) as workers:
        for seed in (5, 3):
            workers.reset_async(0, seed)
            workers.wait([0])
            workers.step_async(0, actions(seed, 12))
            step = workers.wait([0])[0]
    assert step.error is None
    seen = step.observations[-1]
    assert same(first, [seen["state"], *seen["images"].values()]), "another process differs"


@pytest.mark.parametrize("task", TASKS)
def test_the_physics_is_the_package_s_own(task: str) -> None:
    mujoco = import_mujoco()
    env, raw = build(task), _construct(task)
    env.restart(11)
    raw.seed(11)
    raw.reset()
    mujoco.mj_forward(raw.model, raw.data)
    for action in actions(11, 25):
        env.observe()
        env.advance(action)
        for _ in range(2):
            raw.step(action)
    np.testing.assert_array_equal(env._sim.data.qpos, raw.data.qpos)
    np.testing.assert_array_equal(env._sim.data.qvel, raw.data.qvel)


def test_gymnasium_s_checker_accepts_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unbounded states; no gymnasium.make id
        check_env(build(record=RECORDABLE, image_size=16), skip_render_check=True)


def test_reset_and_step_follow_the_contract() -> None:
    env = build(max_ticks=3, image_size=32)
    observation, info = env.reset(seed=1, options={"instruction": "pull it"})
    assert observation["task"] == "pull it"
    assert observation["images"]["scene"].shape == (32, 32, 3)
    assert env.observation_space.contains(observation)
    assert info["success"] is False
    ends = [env.step(np.zeros(4, np.float32))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    assert env.reset(seed=1)[0]["task"] == "open the drawer"
    with pytest.raises(SpecError, match=r"hand_dx, .* shape \(3,\)"):
        env.advance(np.zeros(3))
    with pytest.raises(DataError, match="'hand_dz' is not finite"):
        env.advance([0, 0, np.nan, 0])
    with pytest.raises(RuntimeError, match="reset"):
        build().advance(np.zeros(4))


@pytest.mark.parametrize("repeat", [1, 2, 4])
def test_rate_and_scale_are_what_the_specs_say(repeat: int) -> None:
    env = build(action_repeat=repeat)
    assert env.observation_spec.rate_hz == env.action_spec.rate_hz == 80 / repeat
    env.restart(0)
    clock, start = env._sim.data.time, env._sim.data.mocap_pos[0].copy()
    hand = env.observe()["state"][:3]
    for _ in range(5):
        env.advance([0.5, -0.25, 0, 0])
    assert env._sim.data.time - clock == pytest.approx(5 / env.action_spec.rate_hz)
    moved = env._sim.data.mocap_pos[0] - start
    np.testing.assert_allclose(moved, np.array([0.5, -0.25, 0]) * 0.01 * repeat * 5, atol=1e-9)
    for _ in range(60 // repeat):
        env.advance([0, 0, 0, 0])
    np.testing.assert_allclose(env.observe()["state"][:3] - hand, moved, atol=0.01)


def test_a_positive_effort_closes_the_gripper() -> None:
    env = build()
    opening = []
    for effort in (-1.0, 1.0):
        env.restart(0)
        for _ in range(30):
            env.advance([0, 0, 0, effort])
        opening.append(env.observe()["state"][3])
    assert opening[0] > 0.9
    assert opening[1] < 0.6


@pytest.mark.parametrize("task", TASKS)
def test_both_cameras_see_object_and_gripper(task: str) -> None:
    env = build(task, record=("segmentation",))
    for seed in range(4):
        env.restart(seed)
        extras = env.observe()["extras"]
        for camera in ("scene", "gripper"):
            count = np.bincount(extras[f"segmentation.{camera}"].ravel(), minlength=5)
            assert count[SegmentClass.OBJECT] >= 60
            assert count[SegmentClass.GRIPPER] >= 8


def test_markers_are_hidden_unless_the_task_needs_them() -> None:
    for task, needed in (("drawer-open-v3", False), ("reach-v3", True)):
        env = build(task)
        assert (task in GOAL_MARKERS) == needed
        env.restart(2)
        data, cameras = env._sim.data, {"scene": SCENE_POSE}
        pictures = []
        for sites in ((), ("goal",)):
            renderer = SceneRenderer(env._sim.model, cameras, (64, 64), sites)
            import_mujoco().mj_forward(env._sim.model, data)
            pictures.append(renderer.rgb(data, "scene"))
        drawn = env.observe()["images"]["scene"]
        assert not np.array_equal(*pictures)
        # The last renderer left the marker on in the model; a fresh environment decides by the table.
        fresh = build(task)
        fresh.restart(2)
        assert np.array_equal(fresh.observe()["images"]["scene"], pictures[int(needed)])
        assert drawn.shape == (64, 64, 3)


def test_every_marker_exists() -> None:
    for task, sites in GOAL_MARKERS.items():
        model = _construct(task).model
        assert set(sites) <= {model.site(i).name for i in range(model.nsite)}


def test_clustered_meshes_leave_the_picture() -> None:
    env = build()
    env.restart(0)
    exact = SceneRenderer(env._sim.model, {"scene": SCENE_POSE}, (64, 64), cell=0.0)
    reference = exact.rgb(env._sim.data, "scene").astype(int)
    exact.close()
    difference = np.abs(env.observe()["images"]["scene"].astype(int) - reference).mean()
    moved = env.advance([1, 1, 1, 1])
    assert moved is not None
    assert difference < 4.0


def test_depth_of_the_table_is_the_plane_s() -> None:
    env = build(record=("depth",))
    env.restart(0)
    depth = env.observe()["extras"]["depth.scene"].astype(float)
    geoms = env._renderer.geoms(env._sim.data, "scene")
    top = next(g for g in range(env._sim.model.ngeom) if env._sim.model.geom_type[g] == 6)
    rows, columns = np.nonzero(geoms == top)
    assert len(rows) > 500
    focal = 32 / np.tan(np.radians(SCENE_POSE.fovy_deg) / 2)
    rays = np.stack([(columns - 31.5) / focal, (31.5 - rows) / focal, -np.ones(len(rows))], axis=1)
    world = rays @ SCENE_POSE.rotation().T
    expected = -SCENE_POSE.position[2] / world[:, 2]  # the table top is the plane z = 0
    hit = SCENE_POSE.position + world * expected[:, None]
    top = (np.abs(hit[:, 0]) < 0.69) & (np.abs(hit[:, 1] - 0.6) < 0.39)  # the rest is the side of the table
    assert top.mean() > 0.9
    np.testing.assert_allclose(depth[rows, columns][top], expected[top], rtol=0.001)


@pytest.mark.parametrize(
    ("task", "part"), [("drawer-open-v3", 2), ("pick-place-v3", 0), ("pick-place-v3", 1)]
)
def test_contact_forces_agree_with_mujoco_s_own_sum(task: str, part: int) -> None:
    kinds = ("contact", "contact_force", "object_pose", "gripper_pose")
    env = build(task, record=kinds, cameras=())
    mujoco, model, data = import_mujoco(), env._sim.model, env._sim.data
    env.restart(0)
    start = env.observe()["extras"]
    assert start["contact"].sum() == 0
    assert not start["contact_force"].any()
    expert, touched, pressed = env.expert(), 0, 0.0
    for _ in range(44):
        env.advance(expert())
        extras = env.observe()["extras"]
        mujoco.mj_rnePostConstraint(model, data)
        for side, bodies in enumerate((("leftclaw", "leftpad"), ("rightclaw", "rightpad"), ("right_hand",))):
            # The weld that drags the hand body counts in cfrc_ext too; its contacts are on other bodies.
            total = sum(data.cfrc_ext[model.body(name).id][3:] for name in bodies)
            np.testing.assert_allclose(extras["contact_force"][side], total, rtol=1e-4, atol=1e-3)
        touched += int(extras["contact"][part])
        assert not extras["contact_force"][extras["contact"] == 0].any()
        pressed = max(pressed, float(np.linalg.norm(extras["contact_force"][part])))
    assert touched > 0
    assert pressed > 1.0
    np.testing.assert_allclose(extras["gripper_pose"][:3], env.observe()["state"][:3], atol=1e-6)
    moved = np.linalg.norm(start["object_pose"][0, :3] - extras["object_pose"][0, :3])
    assert 0.05 < moved < 0.3
    assert not extras["object_pose"][1].any()


@pytest.mark.parametrize("task", TASKS)
def test_demonstrations_succeed_under_noise_and_record_clean_actions(task: str) -> None:
    env = build(task, cameras=(), max_ticks=120)
    for seed in range(3):
        recording = demonstrate(env, seed, ActionNoise(), tail_ticks=4)
        assert recording.success
        env.restart(seed)
        replayed = [env.advance(action).success for action in recording.action]
        assert len(replayed) == len(recording.state)
        assert np.abs(recording.action).max() <= 1.0
        again = demonstrate(env, seed, ActionNoise(), tail_ticks=4)
        np.testing.assert_array_equal(again.action, recording.action)
        np.testing.assert_array_equal(again.state, recording.state)
    quiet = demonstrate(env, 0, ActionNoise(probability=0.0), tail_ticks=4)
    env.restart(0)
    success = [env.advance(action).success for action in quiet.action]
    assert success.index(True) == len(success) - 5  # four ticks of tail


@pytest.mark.parametrize("task", TASKS)
def test_recorded_as_executed_the_actions_lead_to_what_was_seen(task: str) -> None:
    env = build(task, cameras=(), max_ticks=120)
    noise = ActionNoise(probability=0.3)
    clean, executed = (demonstrate(env, 1, noise, 4, recorded) for recorded in ("clean", "executed"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(clean.state, executed.state)
    for recording, same in ((executed, True), (clean, False)):
        env.restart(1)
        states = []
        for action in recording.action:
            states.append(env.observe()["state"])
            env.advance(action)
        assert np.array_equal(np.array(states), recording.state) is same


def test_the_motion_of_the_hand_and_what_its_object_is_attached_to() -> None:
    env = build("drawer-open-v3", cameras=(), record=("gripper_motion", "object_pose", "object_base"))
    made = demonstrate(env, 0, ActionNoise(probability=0.0), 4)
    velocity, way = made.extras["gripper_motion"][:, :3], made.extras["gripper_motion"][:, 3:]
    passed = (made.state[2:, :3] - made.state[:-2, :3]) * env.action_spec.rate_hz / 2
    assert np.abs(passed).max() > 0.3  # m/s
    np.testing.assert_allclose(velocity[1:-1], passed, atol=0.2)
    assert np.corrcoef(velocity[1:-1].ravel(), passed.ravel())[0, 1] > 0.97
    fast = np.abs(passed) > 0.2
    assert (np.sign(way[1:-1][fast]) == np.sign(passed[fast])).mean() > 0.9  # it is pulled where it goes
    base, drawer = made.extras["object_base"][:, 0, :3], made.extras["object_pose"][:, 0, :3]
    np.testing.assert_allclose(base, base[:1].repeat(len(base), 0), atol=1e-7)
    np.testing.assert_allclose(drawer[0, 0], base[0, 0], atol=1e-6)
    assert np.linalg.norm(drawer[-1] - drawer[0]) > 0.1


def test_cameras_say_where_they_stand_and_objects_which_pixels_are_theirs() -> None:
    env = build("drawer-open-v3", record=("camera", "object_id", "segmentation", "depth"))
    env.reset(seed=3)
    extras = env.observe()["extras"]
    position, fovy = extras["camera.scene"][:3], extras["camera.scene"][7]
    np.testing.assert_allclose(position, SCENE_POSE.position, atol=1e-6)
    assert fovy == SCENE_POSE.fovy_deg
    still, hand = extras["camera.scene"], extras["camera.gripper"]
    env.advance(np.array([1.0, 0, 0, 0]))
    env.advance(np.array([1.0, 0, 0, 0]))
    after = env.observe()["extras"]
    np.testing.assert_array_equal(after["camera.scene"], still)
    assert np.linalg.norm(after["camera.gripper"][:3] - hand[:3]) > 1e-3
    moving = extras["object_id.scene"] > 0
    assert moving.any()
    assert (extras["segmentation.scene"][moving] == SegmentClass.OBJECT).all()
    assert (extras["segmentation.scene"] == SegmentClass.OBJECT).sum() > moving.sum()  # the drawer's case


def test_landmarks_are_what_the_expert_is_told_and_move_with_the_episode() -> None:
    env = build("peg-insert-side-v3", record=("landmarks", "facts"), image_size=16)
    goals = []
    for seed in (0, 1):
        observation, _ = env.reset(seed=seed)
        hand, peg, second, goal = env.landmarks()
        np.testing.assert_array_equal(hand, observation["state"][:3])
        np.testing.assert_allclose(peg, env._sim.data.site("pegGrasp").xpos, atol=1e-6)
        np.testing.assert_allclose(goal, env._sim._target_pos, atol=1e-6)
        assert not second.any()
        np.testing.assert_array_equal(observation["extras"]["landmarks"], env.landmarks())
        goals.append(goal)
    assert np.abs(goals[0] - goals[1]).max() > 0.01


def test_facts_do_not_depend_on_when_they_are_asked_for() -> None:
    often, once = (build("drawer-open-v3", record=("facts",), image_size=16) for _ in range(2))
    for env in (often, once):
        env.restart(3)
    expert = often.expert()
    for _ in range(60):
        action = expert()
        often.advance(action)
        once.advance(action)
        often.facts()
    assert once.facts() == often.facts()
    assert once.facts().touching
    np.testing.assert_array_equal(once.observe()["extras"]["facts"], once.facts().values())


def test_an_expert_that_is_asked_twice_answers_the_same() -> None:
    env = build("door-open-v3")  # its policy in the package writes into what it reads
    env.restart(0)
    expert = env.expert()
    np.testing.assert_array_equal(expert(), expert())
