"""Normalisation by quantiles, mean and range: its inverse, and columns that stand still, nearly or mostly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.data.spec import with_floor
from wamkit.data.stats import vector_stats
from wamkit.nn.transforms import REACH, Normalizer

MODES = ("mean_std", "min_max", "quantile")


def normalizer(values: np.ndarray, mode: Any) -> Normalizer:
    return Normalizer({"action": with_floor(vector_stats(values))}, "action", mode)


def columns(rng: np.random.Generator, offset: float, spread: float, frames: int = 400) -> np.ndarray:
    """Columns that move, stand still, tremble by single precision, and move in one frame of all, (N, 4) float32."""
    moves = offset + spread * rng.normal(size=frames)
    trembles = offset * (1 + 6e-8 * rng.integers(-1, 2, frames))
    rarely = np.full(frames, offset)
    rarely[rng.integers(frames)] += spread
    return np.stack((moves, np.full(frames, offset), trembles, rarely), axis=1).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    offset=st.floats(-1000, 1000),
    spread=st.floats(0.01, 100),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_inverse_is_exact_and_no_column_is_blown_up(
    mode: Any, offset: float, spread: float, seed: int
) -> None:
    values = columns(np.random.default_rng(seed), offset, spread)
    part, x = normalizer(values, mode), torch.from_numpy(values)
    y = part(x)
    assert torch.isfinite(y).all()
    np.testing.assert_allclose(part.inverse(y), values, rtol=1e-6, atol=1e-6 * max(1, abs(offset), spread))
    assert float(y[:, 1:3].abs().max()) <= 2e-3  # what stands still is only shifted, so a tremor stays one
    most = {"mean_std": len(values) ** 0.5, "min_max": 1.0, "quantile": REACH}[mode]
    assert float(y[:, [0, 3]].abs().max()) <= most * 1.01 + 0.1


@pytest.mark.parametrize("mode", MODES)
def test_a_column_that_trembled_in_training_may_move_when_acting(mode: Any) -> None:
    """A metre beside a column of 1000 that differed by rounding alone is a metre, not ten thousand deviations."""
    values = (1000 + 6e-5 * np.random.default_rng(0).integers(-1, 2, (200, 1))).astype(np.float32)
    moved = normalizer(values, mode)(torch.tensor([[1001.0]]))
    assert float(moved) == pytest.approx(1.0, abs=1e-3)


def test_quantiles_that_coincide_leave_the_range() -> None:
    values = np.zeros((1000, 1), np.float32)
    values[7], values[8] = 4.0, -1.0
    part = normalizer(values, "quantile")
    assert float(part.scale) == pytest.approx(5.0 / REACH)
    assert part(torch.tensor([[4.0], [-1.0]])).ravel().tolist() == pytest.approx([16.0, -4.0])
