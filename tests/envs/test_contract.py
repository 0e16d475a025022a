"""Seeds, instructions, cameras and mesh clustering: everything that needs no simulator."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wamkit.envs import (
    EVALUATION_SEEDS_FROM,
    CameraPose,
    MetaWorldConfig,
    episode_seed,
)
from wamkit.envs.demonstrations import ActionNoise, Disturbance
from wamkit.envs.rendering import cluster_faces
from wamkit.errors import ConfigError

runs = st.integers(0, 99)
indices = st.integers(0, 9999)


@given(runs, indices, runs, indices)
def test_training_and_evaluation_share_no_seed(run: int, index: int, other: int, another: int) -> None:
    train, evaluate = episode_seed("train", run, index), episode_seed("evaluate", other, another)
    assert train < EVALUATION_SEEDS_FROM <= evaluate
    assert (episode_seed("train", other, another) == train) == ((run, index) == (other, another))


@pytest.mark.parametrize(("run", "index"), [(100, 0), (-1, 0), (0, 10_000), (0, -1)])
def test_seeds_outside_their_range_are_refused(run: int, index: int) -> None:
    with pytest.raises(ConfigError):
        episode_seed("train", run, index)


def test_every_task_has_a_canonical_instruction_and_three_paraphrases() -> None:
    tasks = MetaWorldConfig.task_names()
    assert len(tasks) == 50
    assert tasks == tuple(sorted(tasks))
    canonical = set()
    for task in tasks:
        lines = MetaWorldConfig(task=task).phrases()
        assert len(set(lines)) == len(lines) >= 4
        assert all(line.isascii() and line == line.strip() and line[0].islower() for line in lines)
        canonical.add(lines[0])
    assert len(canonical) == 50
    with pytest.raises(ConfigError, match="Did you mean 'drawer-open-v3'"):
        MetaWorldConfig(task="drawer-opne-v3")


def test_configuration_errors_name_the_value() -> None:
    for wrong, message in (
        ({"task": "drawer-open"}, "Did you mean"),
        ({"cameras": ("scene", "griper")}, "Did you mean 'gripper'"),
        ({"record": ("depht",)}, "Did you mean 'depth'"),
        ({"action_repeat": 0}, r"MetaWorldConfig\.action_repeat: must be at least 1 .*got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            MetaWorldConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="does not define an orientation"):
        CameraPose((0.0, 0.0, 1.0), (0.0, 0.0, 0.0), up=(0.0, 0.0, 1.0))


def test_importing_the_package_imports_no_simulator() -> None:
    code = "import sys, wamkit.envs; print({'mujoco', 'metaworld', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


vectors = st.tuples(*[st.floats(-2, 2)] * 3)


@given(vectors, vectors)
def test_a_camera_looks_at_its_target_with_up_upwards(position: tuple, target: tuple) -> None:
    gap = np.subtract(target, position)
    if np.linalg.norm(np.cross(gap, (0, 0, 1))) < 1e-3:
        return
    axes = CameraPose(position, target).rotation()
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-6)
    assert np.linalg.det(axes) == pytest.approx(1.0)
    seen = axes.T @ gap
    np.testing.assert_allclose(seen, [0, 0, -np.linalg.norm(gap)], atol=1e-6)
    assert (axes.T @ [0.0, 0.0, 1.0])[1] > 0


def sphere(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A unit sphere, faces wound outwards."""
    from scipy.spatial import ConvexHull

    i = np.arange(n) + 0.5
    polar, turn = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i
    points = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)
    faces = ConvexHull(points).simplices
    a, b, c = (points[faces[:, k]] for k in range(3))
    inward = (np.cross(b - a, c - a) * a).sum(1) < 0
    faces[inward] = faces[inward][:, ::-1]
    return points, faces


def volume(points: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (points[faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_clustering_keeps_the_shape_with_fewer_faces() -> None:
    points, faces = sphere(3000)
    fewer, source = cluster_faces(points, faces, 0.2)
    assert len(fewer) < len(faces) / 4
    # Divergence theorem: a closed, outward surface encloses its volume; a hole or a flipped face would show.
    assert volume(points, fewer) == pytest.approx(4 / 3 * np.pi, rel=0.05)
    edges = np.concatenate([fewer[:, [0, 1]], fewer[:, [1, 2]], fewer[:, [2, 0]]])
    forth, back = {tuple(e) for e in edges.tolist()}, {tuple(e) for e in edges[:, ::-1].tolist()}
    assert forth == back
    moved = np.linalg.norm(points[fewer] - points[faces[source]], axis=-1)
    assert moved.max() <= 0.2 * 3**0.5


def test_a_grid_finer_than_the_mesh_changes_nothing() -> None:
    points, faces = sphere(100)
    same, source = cluster_faces(points, faces, 1e-4)
    np.testing.assert_array_equal(same, faces)
    np.testing.assert_array_equal(source, np.arange(len(faces)))


def test_both_sides_of_a_sheet_survive() -> None:
    points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    kept, _ = cluster_faces(points, np.array([[0, 1, 2], [0, 2, 1], [1, 2, 0]]), 0.1)
    assert kept.tolist() == [[0, 1, 2], [0, 2, 1]]


def test_noise_disturbs_what_is_executed_as_often_as_it_says() -> None:
    spec = MetaWorldConfig().action_spec()
    unit = np.array([1, 1, 1, 0], np.float32)
    disturbance = Disturbance(ActionNoise(0.05, 0.3, 6), spec, unit, np.random.default_rng(0))
    clean = np.array([0.1, 0.0, 0.95, -1.0], np.float32)
    executed = np.array([disturbance.apply(clean) for _ in range(20_000)])
    disturbed = np.any(executed != clean, axis=1)
    # A renewal process: 1/0.05 - 1 free ticks on average before a burst of mean 3.5.
    assert disturbed.mean() == pytest.approx(3.5 / (3.5 + 19), abs=0.015)
    assert (executed[:, 3] == -1.0).all()
    assert np.abs(executed).max() <= 1.0
    assert executed[disturbed][:, 1].std() == pytest.approx(0.3, rel=0.1)
