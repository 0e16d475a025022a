"""In a real simulator: every perturbation changes its own factor and nothing else, and leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from wamkit.envs import MetaWorldConfig
from wamkit.envs.metaworld import MetaWorldEnv
from wamkit.envs.perturbations import DIMENSIONS, Perturbation
from wamkit.errors import ConfigError

pytestmark = pytest.mark.sim
KINDS = sorted(Perturbation.get_known_choices())
SEED = 1_000_005
TICKS = 6


@pytest.fixture(scope="module")
def env() -> Iterator[MetaWorldEnv]:
    made = MetaWorldConfig(task="window-open-v3", record=("object_pose",)).build()
    assert isinstance(made, MetaWorldEnv)
    yield made
    made.close()


def part(kind: str, strength: int, **fields: Any) -> Perturbation:
    made = Perturbation.get_choice_class(kind)(strength=strength, **fields)
    assert isinstance(made, Perturbation)
    return made


def run(env: MetaWorldEnv, perturbation: Perturbation | None) -> dict[str, Any]:
    """States of the physics, pictures and words over a few ticks of a fixed sequence of actions."""
    first, _ = env.reset(seed=SEED, options={"perturbation": perturbation})
    shown, dumps = [first], [env._sim.data.qpos.copy()]
    for k in range(TICKS):
        shown.append(env.step(np.array([0.3, 0.5, -0.5, 0.1 * k], np.float32))[0])
        dumps.append(env._sim.data.qpos.copy())
    return {
        "physics": np.stack(dumps),
        "state": np.stack([o["state"] for o in shown]),
        "object": np.stack([o["extras"]["object_pose"] for o in shown]),
        "scene": np.stack([o["images"]["scene"] for o in shown]),
        "gripper": np.stack([o["images"]["gripper"] for o in shown]),
        "task": np.array(shown[0]["task"]),
    }


def differs(a: dict[str, Any], b: dict[str, Any]) -> set[str]:
    return {name for name in a if not np.array_equal(a[name], b[name])}


SEEN = {"scene", "gripper"}
MAY_CHANGE = {
    "Camera Viewpoints": {"scene"},
    "Robot Initial States": {"physics", "state", *SEEN},
    "Language Instructions": {"task"},
    "Light Conditions": SEEN,
    "Background Textures": SEEN,
    "Sensor Noise": SEEN,
    "Objects Layout": {"physics", "object", *SEEN},
}


@pytest.mark.parametrize("kind", KINDS)
def test_only_its_own_factor_changes_and_nothing_stays(env: MetaWorldEnv, kind: str) -> None:
    clean = run(env, None)
    perturbed = run(env, part(kind, 5))
    changed = differs(clean, perturbed)
    assert changed, "nothing changed"
    assert changed <= MAY_CHANGE[part(kind, 1).dimension]
    assert not differs(clean, run(env, None)), "the next clean episode is not the same"
    assert not differs(perturbed, run(env, part(kind, 5))), "the same variant is not the same"


@pytest.mark.parametrize("kind", KINDS)
def test_strength_zero_is_the_clean_episode(env: MetaWorldEnv, kind: str) -> None:
    assert not differs(run(env, None), run(env, part(kind, 0)))


PICTURED = [
    k
    for k in KINDS
    if part(k, 1).dimension in ("Camera Viewpoints", "Light Conditions", "Background Textures")
]


@pytest.mark.parametrize("kind", PICTURED)
def test_stronger_pictures_are_further_away(env: MetaWorldEnv, kind: str) -> None:
    clean = run(env, None)["scene"].astype(float)
    distances = [np.abs(run(env, part(kind, s))["scene"] - clean).mean() for s in (1, 3, 5)]
    assert 0 < distances[0] < distances[-1]
    assert distances[1] < distances[2] * 1.1


def test_the_hand_begins_as_far_away_as_stated(env: MetaWorldEnv) -> None:
    clean = run(env, None)
    for strength in (1, 3, 5):
        moved = run(env, part("hand_position", strength))
        distance = np.linalg.norm((moved["state"] - clean["state"])[0, :3])
        assert distance == pytest.approx(0.03 * strength, abs=0.015)  # the arm gives a little
        assert np.array_equal(moved["object"][0], clean["object"][0])


def test_a_moved_object_is_beyond_the_usual_range(env: MetaWorldEnv) -> None:
    usual = []
    for seed in range(SEED, SEED + 30):
        env.restart(seed)
        usual.append(env.observe()["extras"]["object_pose"][0, :2])
    low, high = np.min(usual, axis=0), np.max(usual, axis=0)
    far = run(env, part("moved_object", 5))["object"][0, 0, :2]
    assert ((far < low) | (far > high)).all()
    assert np.array_equal(run(env, part("moved_object", 5))["state"][0], run(env, None)["state"][0])


def test_an_orbit_keeps_distance_and_looks_at_the_same_point(env: MetaWorldEnv) -> None:
    env.restart(SEED)
    scene = env.scene()
    camera = scene.cameras["scene"]
    before = np.array(scene.model.cam_pos[camera])
    env.restart(SEED, perturbation=part("camera_orbit", 5))
    after, axes = np.array(scene.model.cam_pos[camera]), env._sim.data.cam_xmat[camera].reshape(3, 3)
    assert np.linalg.norm(after - scene.focus) == pytest.approx(np.linalg.norm(before - scene.focus))
    looking = (scene.focus - after) / np.linalg.norm(scene.focus - after)
    assert looking @ -axes[:, 2] == pytest.approx(1.0, abs=1e-6)
    angle = np.rad2deg(np.arccos(np.dot((before - scene.focus)[:2], (after - scene.focus)[:2])
                                 / np.linalg.norm((before - scene.focus)[:2]) ** 2))  # fmt: skip
    assert angle == pytest.approx(30.0, abs=1e-4)


def test_every_dimension_has_several_kinds_and_every_surface_can_change(env: MetaWorldEnv) -> None:
    kinds = {d: [k for k in KINDS if part(k, 1).dimension == d] for d in DIMENSIONS}
    assert all(len(found) >= 2 for found in kinds.values()), kinds
    clean = run(env, None)
    assert set(env.scene().surfaces) == {"table", "wall", "floor"}
    for surface in ("table", "wall"):  # the floor lies below what the cameras see
        assert differs(clean, run(env, part("surface_texture", 5, surface=surface))) >= {"scene"}


def test_what_a_perturbation_cannot_find_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"Fog\.strength: must be at least 0 and at most 5, got -1"):
        part("fog", -1)
