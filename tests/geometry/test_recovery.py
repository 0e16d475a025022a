"""Motion recovery: a known rigid path is recovered and executed, an articulated object raises the flag."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from wamkit.contract.specs import ActionSpec
from wamkit.errors import SpecError
from wamkit.geometry.recovery import commands, fit, rigid_path

NAMES = ("x", "y", "z", "rx", "ry", "rz", "grip")
SPEC = ActionSpec(
    NAMES, (-0.02,) * 3 + (-0.1,) * 3 + (-1.0,), (0.02,) * 3 + (0.1,) * 3 + (1.0,), 20.0, "delta", "world",
    "axis_angle", "positive_closes",
)  # fmt: skip


def clip(seed: int, steps: int = 6, points: int = 12) -> tuple[np.ndarray, Rotation, np.ndarray]:
    """Tracks (T, K, 3) of points on a body that moves along a known path."""
    rng = np.random.default_rng(seed)
    body = rng.normal(size=(points, 3)) * 0.05 + rng.normal(size=3) * 0.3
    speed, turn = rng.normal(size=3) * 0.03, rng.normal(size=3) * 0.15
    t = np.arange(steps)[:, None]
    rotation, translation = Rotation.from_rotvec(t * turn), t * speed
    tracks = np.stack([rotation[i].apply(body) + translation[i] for i in range(steps)])
    return tracks, rotation, translation


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 9999))
def test_a_known_rigid_path_is_recovered(seed: int) -> None:
    tracks, rotation, translation = clip(seed)
    path = rigid_path(tracks)
    assert path.rigid.all()
    np.testing.assert_allclose(path.rotation, rotation.as_matrix(), atol=1e-8)
    np.testing.assert_allclose(path.translation, translation, atol=1e-8)
    flat = tracks[0].copy()
    flat[:, 2] = 0  # all points in a plane: a reflection would fit as well
    r, _, residual = fit(flat, flat @ rotation[1].as_matrix().T)
    np.testing.assert_allclose(r, rotation[1].as_matrix(), atol=1e-6)
    assert residual < 1e-9


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), noise=st.sampled_from([0.0, 0.001]))
def test_the_commands_execute_the_path_within_the_limits(seed: int, noise: float) -> None:
    tracks, rotation, translation = clip(seed)
    tracks = tracks + np.random.default_rng(seed).normal(size=tracks.shape) * noise
    position, turn = tracks[0].mean(axis=0), Rotation.from_rotvec([0.3, -0.2, 0.5])
    actions = commands(rigid_path(tracks), position, turn.as_matrix(), SPEC, grip=1.0)
    assert (actions >= np.array(SPEC.low) - 1e-9).all()
    assert (actions <= np.array(SPEC.high) + 1e-9).all()
    assert (actions[:, -1] == 1.0).all()
    place, now = position, turn
    for step in actions:  # a controller in the world frame, written apart from the code under test
        place, now = place + step[:3], Rotation.from_rotvec(step[3:6]) * now
    wanted = rotation[-1].apply(position) + translation[-1]
    assert np.linalg.norm(place - wanted) < 1e-6 + 5 * noise
    assert (now * (rotation[-1] * turn).inv()).magnitude() < 1e-6 + 100 * noise


def test_an_articulated_object_raises_the_flag_instead_of_acting() -> None:
    tracks, _, _ = clip(0)
    hinge = tracks.copy()
    hinge[:, :6] = tracks[0, :6]  # half of it stays behind
    path = rigid_path(hinge)
    assert path.rigid[0]
    assert not path.rigid[1:].any()
    with pytest.raises(SpecError, match="step 1 is not one rigid motion"):
        commands(path, np.zeros(3), np.eye(3), SPEC)
    visible = np.ones(tracks.shape[:2], dtype=bool)
    visible[:, :6] = False  # the part that moves, alone
    assert rigid_path(hinge, visible).rigid.all()
    visible[3, 2:] = False
    lost = rigid_path(tracks, visible)
    assert lost.rigid.tolist() == [True, True, True, False, True, True]


def test_a_body_at_rest_needs_no_command_and_nonsense_is_refused() -> None:
    still = np.repeat(clip(0)[0][:1], 4, axis=0)
    assert commands(rigid_path(still), np.zeros(3), np.eye(3), SPEC).shape == (0, 7)
    with pytest.raises(SpecError, match=r"tracks must be \(T, K, 3\)"):
        rigid_path(np.zeros((3, 4)))
    joints = ActionSpec(("j1", "j2", "j3"), (-1.0,) * 3, (1.0,) * 3, 20.0, rotation="joint")
    with pytest.raises(SpecError, match="joints need IK"):
        commands(rigid_path(still), np.zeros(3), np.eye(3), joints)
