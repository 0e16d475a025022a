"""Frechet distance between two sets of features; reports name the features it is computed on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wamkit.errors import DataError

Matrix = NDArray[np.float64]


def moments(features: Matrix) -> tuple[Matrix, Matrix]:
    """Mean (D,) and unbiased covariance (D, D) of (n, D) samples."""
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def root(covariance: Matrix) -> Matrix:
    """Square root of a symmetric positive semi-definite matrix; eigenvalues rounded below zero count as zero."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T)


def gaussian_distance(mean: Matrix, covariance: Matrix, mean_2: Matrix, covariance_2: Matrix) -> float:
    """Squared Frechet distance of two Gaussians (Dowson and Landau 1982): ``|m - n|^2 + tr(C + D - 2 (CD)^1/2)``.

    The trace of (CD)^1/2 equals that of (C^1/2 D C^1/2)^1/2, which is symmetric and therefore has real eigenvalues.
    """
    half = root(covariance)
    inner = np.clip(np.linalg.eigvalsh(half @ covariance_2 @ half), 0.0, None)
    shift = float(np.square(mean - mean_2).sum())
    return max(shift + float(np.trace(covariance) + np.trace(covariance_2) - 2 * np.sqrt(inner).sum()), 0.0)


def frechet(first: Matrix, second: Matrix, features: str) -> float:
    """Squared Frechet distance of two sets of features (Heusel et al. 2017, "FID", for any features).

    The value depends on the number of samples, more strongly for wider features: compare at equal n only.

    Args:
        first: one set of features, (n, D).
        second: the other set, (m, D).
        features: name of the features, for error messages.

    Raises:
        DataError: the widths differ, a value is not finite, or a set does not have more samples than features.
    """
    name = f"frechet[{features}]"
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise DataError(
            f"{name}: needs two sets (n, D) of equal width, got shapes {first.shape} and {second.shape}"
        )
    for samples in (first, second):
        if len(samples) <= samples.shape[1]:
            raise DataError(
                f"{name}: {len(samples)} samples of {samples.shape[1]} features give a rank-deficient covariance. "
                f"Use at least {samples.shape[1] + 1} samples, or narrower features."
            )
        if not np.isfinite(samples).all():
            raise DataError(f"{name}: a feature is not finite")
    return gaussian_distance(*moments(first.astype(np.float64)), *moments(second.astype(np.float64)))
