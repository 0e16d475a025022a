"""Paths under constraints: what is free to follow is followed, what is not keeps every constraint or says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from wamkit.errors import ConfigError
from wamkit.geometry.following import Box, FollowConfig, cost, follow_path

START = np.array([0.1, -0.2, 0.3])
LIMIT = np.full(3, 0.01)
LINE = START + np.linspace(0.005, 0.08, 16)[:, None] * np.array([1.0, 0.5, 0.0])


def follow(target: np.ndarray, **fields: Any) -> Any:
    return follow_path(START, target, -LIMIT, LIMIT, FollowConfig(**fields))


def test_the_gradient_matches_finite_differences() -> None:
    rng = np.random.default_rng(0)
    path, target = rng.normal(size=(2, 6, 3))
    expected = approx_fprime(path.ravel(), lambda x: cost(x, START, target, 0.3)[0])
    np.testing.assert_allclose(cost(path.ravel(), START, target, 0.3)[1], expected, rtol=1e-4, atol=1e-4)
    box = Box((-0.3, -0.2, -0.1), (0.4, 0.5, 0.6))
    for point in rng.uniform(-1, 1, (20, 3)):
        slope = approx_fprime(point, lambda x: float(box.depth(x)))
        np.testing.assert_allclose(box.slope(point), slope, atol=1e-5)


def test_a_reachable_target_is_followed_exactly() -> None:
    found = follow(LINE, smooth=0.0)
    assert found.feasible
    assert found.error_m.max() < 1e-6


def test_a_target_that_is_too_fast_is_followed_as_fast_as_the_hand_moves() -> None:
    found = follow(START + np.array([0.05, 0, 0]) * np.arange(1, 17)[:, None], smooth=0.0)
    assert found.feasible
    np.testing.assert_allclose(np.diff(found.path[:, 0], prepend=START[0]), 0.01, atol=1e-6)


def test_a_box_in_the_way_is_gone_around() -> None:
    box = Box((0.13, -0.19, 0.29), (0.15, -0.15, 0.32))
    assert (box.depth(LINE) > 0).any()
    found = follow(LINE, keep_out=(box,))
    assert found.feasible
    assert box.depth(found.path).max() <= 1e-6
    assert np.abs(np.diff(found.path, axis=0)).max() <= 0.01 + 1e-6
    assert found.error_m[-1] < 5e-3


def test_the_workspace_is_not_left() -> None:
    inside = Box((0.0, -0.3, 0.2), (0.14, 0.0, 0.4))
    found = follow(LINE, workspace=inside, smooth=0.0)
    assert found.feasible
    assert found.path[:, 0].max() <= 0.14 + 1e-6
    np.testing.assert_allclose(found.path[:, 1], LINE[:, 1], atol=1e-4)


def test_what_cannot_be_satisfied_is_said() -> None:
    elsewhere = Box((1.0, 1.0, 1.0), (2.0, 2.0, 2.0))
    assert not follow(LINE, workspace=elsewhere).feasible
    around = Box(tuple(START - 1), tuple(START + 1))
    assert not follow(LINE, keep_out=(around,)).feasible


def test_a_box_without_inside_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be below"):
        Box((0.0, 0.0, 0.0), (1.0, 0.0, 1.0))
