"""Frechet distance: the closed form of Gaussians, zero for equal sets, symmetric."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from wamkit.errors import DataError
from wamkit.evaluation.prediction.frechet import frechet, gaussian_distance


def test_diagonal_gaussians_have_the_textbook_distance() -> None:
    """Commuting covariances: |m - n|^2 plus the squared difference of the standard deviations."""
    a, b = np.array([1.0, 2.0, 0.5]), np.array([2.0, 2.0, 0.1])
    found = gaussian_distance(np.zeros(3), np.diag(a**2), np.array([3.0, 0.0, 4.0]), np.diag(b**2))
    assert found == pytest.approx(25.0 + ((a - b) ** 2).sum())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_it_is_symmetric_and_zero_for_equal_sets_and_matches_sqrtm(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(40, width)) @ rng.normal(size=(width, width))
    second = rng.normal(size=(30, width)) + rng.normal(size=width)
    there, back = frechet(first, second, "x"), frechet(second, first, "x")
    assert there == pytest.approx(back, rel=1e-8)
    assert frechet(first, first, "x") == pytest.approx(0.0, abs=1e-6 * max(1.0, first.var()))
    c, d = (np.atleast_2d(np.cov(s, rowvar=False)) for s in (first, second))
    shift = ((first.mean(0) - second.mean(0)) ** 2).sum()
    reference = shift + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    assert there == pytest.approx(reference, rel=1e-5, abs=1e-6)


def test_a_shift_of_all_samples_is_its_square() -> None:
    samples = np.random.default_rng(0).normal(size=(50, 4))
    assert frechet(samples, samples + 2.0, "x") == pytest.approx(16.0)


def test_refusals_name_the_features() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(size=(4, 4)), rng.normal(size=(9, 4))
    with pytest.raises(DataError, match=r"frechet\[teacher_feature\]: 4 samples of 4 features.*at least 5"):
        frechet(few, many, "teacher_feature")
    with pytest.raises(DataError, match="of equal width"):
        frechet(many, many[:, :2], "x")
    many[0, 0] = np.nan
    with pytest.raises(DataError, match="not finite"):
        frechet(many, rng.normal(size=(9, 4)), "x")
