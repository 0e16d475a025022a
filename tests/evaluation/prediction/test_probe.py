"""Probes find what is in the features, and no more than the mean where nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from wamkit.errors import DataError
from wamkit.evaluation.prediction import probe
from wamkit.evaluation.prediction.probe import PROBES, Probe, Samples, fit_mean, fit_perceptron, fit_ridge


def samples(values: np.ndarray, features: np.ndarray, episodes: int = 12) -> Samples:
    return Samples(features, values, np.arange(len(values)) * episodes // len(values))


def drawn(seed: int, n: int = 600, width: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, width))


def error(fitted: Probe, judged: Samples) -> float:
    return float(np.sqrt(np.square(fitted(judged.features) - judged.values).mean()))


@pytest.mark.parametrize("fit", PROBES.values(), ids=PROBES)
def test_a_linear_map_is_found_on_rows_that_were_not_fitted(fit: object) -> None:
    weights = drawn(1, 5, 3)
    shown, unseen = (samples(x @ weights + 7.0, x) for x in (drawn(2), drawn(3)))
    exact = 1e-3 if fit is fit_ridge else 0.2
    assert error(fit(shown), unseen) < exact  # type: ignore[operator]
    assert error(fit_mean(shown), unseen) > 1.0


@pytest.mark.parametrize("fit", PROBES.values(), ids=PROBES)
def test_features_without_the_values_read_no_better_than_the_mean(fit: object) -> None:
    shown, unseen = (samples(drawn(s, width=3), drawn(s + 10, width=5)) for s in (4, 5))
    mean = error(fit_mean(shown), unseen)
    assert mean * 0.98 < error(fit(shown), unseen) < mean * 1.2  # type: ignore[operator]


def test_ridge_solves_the_normal_equations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent form: (X'X / N + p) w = X'y / N on standardised features."""
    monkeypatch.setattr(probe, "PENALTIES", (0.3,))
    x, y = drawn(6, 40), drawn(7, 40, 2)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    weights = np.linalg.solve(z.T @ z / 40 + 0.3 * np.eye(5), z.T @ (y - y.mean(axis=0)) / 40)
    np.testing.assert_allclose(fit_ridge(samples(y, x))(x), z @ weights + y.mean(axis=0), atol=1e-10)


def test_only_the_perceptron_reads_what_is_not_linear() -> None:
    shown, unseen = (samples(np.abs(x[:, :1]), x) for x in (drawn(8, width=2), drawn(9, width=2)))
    assert error(fit_perceptron(shown), unseen) < 0.3 * error(fit_ridge(shown), unseen)


def test_constant_columns_and_more_features_than_rows_are_fitted() -> None:
    x = np.concatenate((drawn(10, 30, 50), np.full((30, 1), 3.0)), axis=1)
    values = np.concatenate((x[:, :1], np.full((30, 1), 2.0)), axis=1)
    for fit in PROBES.values():
        read = fit(samples(values, x, 5))(x)
        assert np.isfinite(read).all()
        np.testing.assert_allclose(read[:, 1], 2.0, atol=1e-6)


def test_one_episode_is_refused() -> None:
    with pytest.raises(DataError, match="at least two episodes, got 1"):
        fit_ridge(samples(drawn(1), drawn(2), episodes=1))
    with pytest.raises(DataError, match="must be"):
        Samples(drawn(1), drawn(2, 3), np.zeros(600, np.int64))
