"""Rotations in every form, and trajectories whose delta and absolute forms replay to the same poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.contract.specs import ActionSpec
from wamkit.errors import SpecError
from wamkit.geometry.poses import Frame, PoseLayout
from wamkit.geometry.rotations import FORMS, SIZES, Form, convert, from_six_d

forms = st.sampled_from(FORMS)


def matrices(seed: int, count: int) -> np.ndarray:
    """Random rotation matrices without the code under test: QR of Gaussian matrices."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(count, 3, 3)))
    q = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    q[np.linalg.det(q) < 0, :, 0] *= -1
    return q


def test_a_quarter_turn_about_z_in_every_form() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]).reshape(9)
    half = np.sqrt(0.5)
    expected: dict[Form, list[float]] = {
        **{form: [np.pi / 2 * (axis == "z") for axis in form[-3:]] for form in FORMS if "euler" in form},
        "axis_angle": [0, 0, np.pi / 2],
        "quaternion_wxyz": [half, 0, 0, half],
        "quaternion_xyzw": [0, 0, half, half],
        "rot6d": [0, 1, 0, -1, 0, 0],
        "matrix": quarter.tolist(),
    }
    for form in FORMS:
        np.testing.assert_allclose(convert(quarter, "matrix", form), expected[form], atol=1e-12)
    fixed = convert(np.array([np.pi / 2, 0, np.pi / 2]), "euler_xyz", "matrix").reshape(3, 3)
    np.testing.assert_allclose(fixed @ [0, 1, 0], [0, 0, 1], atol=1e-12)  # y -> z by x, z stays under z


@settings(max_examples=60, deadline=None)
@given(source=forms, target=forms, seed=st.integers(0, 9999))
def test_conversions_keep_the_rotation(source: Form, target: Form, seed: int) -> None:
    truth = matrices(seed, 6).reshape(2, 3, 9)
    there = convert(convert(truth, "matrix", source), source, target)
    assert there.shape == (2, 3, SIZES[target])
    np.testing.assert_allclose(convert(there, target, "matrix"), truth, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9999))
def test_any_6d_values_are_a_rotation_and_pass_gradients(seed: int) -> None:
    raw = torch.randn(5, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw.requires_grad_()
    turn = from_six_d(raw)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3, dtype=torch.float64).expand(5, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(5, dtype=torch.float64))
    turn[:, 0, 1].sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()
    assert raw.grad.abs().max() > 0


def homogeneous(position: np.ndarray, turn: np.ndarray) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn, position
    return out


@settings(max_examples=60, deadline=None)
@given(
    form=forms, frame=st.sampled_from(["world", "body"]), ticks=st.integers(0, 6), seed=st.integers(0, 9999)
)
def test_delta_and_absolute_replay_to_the_same_poses(form: Form, frame: Frame, ticks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layout = PoseLayout(3 + SIZES[form], form, frame)
    turns = convert(matrices(seed, ticks + 1).reshape(-1, 9), "matrix", form)
    path = np.concatenate((rng.normal(size=(ticks + 1, 3)), turns, rng.normal(size=(ticks + 1, 1))), axis=1)
    start, absolute = path[0, : layout.moving], path[1:]
    delta = layout.to_delta(start, absolute)
    again = layout.to_absolute(start, delta)
    matrix = convert(again[:, 3:-1], form, "matrix") if ticks else np.zeros((0, 9))
    wanted = convert(absolute[:, 3:-1], form, "matrix") if ticks else matrix
    np.testing.assert_allclose(matrix, wanted, atol=1e-6)
    np.testing.assert_allclose(again[:, :3], absolute[:, :3], atol=1e-6)
    assert np.array_equal(again[:, -1], absolute[:, -1])  # the gripper is absolute in both
    # The same deltas as a chain of homogeneous transforms.
    now = homogeneous(start[:3], convert(start[3:], form, "matrix").reshape(3, 3))
    for step, pose in zip(delta, absolute, strict=True):
        move = homogeneous(step[:3], convert(step[3:-1], form, "matrix").reshape(3, 3))
        now = (
            now @ move
            if frame == "body"
            else homogeneous(now[:3, 3] + move[:3, 3], move[:3, :3] @ now[:3, :3])
        )
        np.testing.assert_allclose(now[:3, 3], pose[:3], atol=1e-6)
        np.testing.assert_allclose(now[:3, :3].ravel(), convert(pose[3:-1], form, "matrix"), atol=1e-6)


def spec(names: tuple[str, ...], **changes: str) -> ActionSpec:
    n = len(names)
    return ActionSpec(names, (-1.0,) * n, (1.0,) * n, 20.0, **changes)  # type: ignore[arg-type]


def test_joints_add_up_and_the_layout_comes_from_the_spec() -> None:
    arm = spec(("j1", "j2", "grip"), rotation="joint", gripper="positive_closes")
    layout = PoseLayout.of(arm)
    assert layout == PoseLayout(2)
    path = np.array([[1.0, 2.0, 1.0], [1.5, 0.0, -1.0]])
    delta = layout.to_delta(np.array([0.0, 0.0]), path)
    assert delta.tolist() == [[1.0, 2.0, 1.0], [0.5, -2.0, -1.0]]
    assert np.array_equal(layout.to_absolute(np.array([0.0, 0.0]), delta), path)
    names = (*tuple("xyz"), "rx", "ry", "rz", "grip")
    pose = PoseLayout.of(spec(names, rotation="axis_angle", gripper="positive_closes", frame="body"))
    assert pose == PoseLayout(6, "axis_angle", "body")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpecError, match="rot6d needs 9 entries before the gripper, but the action has 3"):
        PoseLayout.of(spec(("x", "y", "z", "g"), rotation="rot6d", gripper="positive_closes"))
    with pytest.raises(SpecError, match="frame 'camera' is neither"):
        PoseLayout.of(spec(("x", "y", "z"), frame="camera"))
    with pytest.raises(SpecError, match="need a start"):
        PoseLayout(3).to_absolute(np.zeros(2), np.zeros((4, 3)))
    with pytest.raises(SpecError, match=r"rot6d needs \(n, 6\) values, got shape \(1, 5\)"):
        convert(np.zeros(5), "rot6d", "matrix")
