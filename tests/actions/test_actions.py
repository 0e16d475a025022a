"""Action representations: round trips, grouping of ticks, quantile bins, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import data_spec
from wamkit.actions import BinsConfig, ChunkConfig
from wamkit.contract.data import DataSpec
from wamkit.errors import ConfigError, DataError
from wamkit.nn.transforms import Mode

DATA = data_spec()
ticks = st.sampled_from([1, 2, 4, 8])


def with_stats(**changes: np.ndarray) -> DataSpec:
    stats: Mapping[str, Mapping[str, np.ndarray]] = {
        **DATA.stats,
        "action": {**DATA.stats["action"], **changes},
    }
    return replace(DATA, stats=stats)


def actions(seed: int, low: float, high: float, rows: int = 3, horizon: int = 8) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(rows, horizon, 4, generator=g)


@settings(max_examples=30, deadline=None)
@given(mode=st.sampled_from(["mean_std", "min_max", "quantile"]), ticks=ticks, seed=st.integers(0, 9999))
def test_chunk_round_trip_is_the_identity_within_the_limits(mode: Mode, ticks: int, seed: int) -> None:
    chunk = ChunkConfig(normalization=mode, ticks_per_token=ticks).build(DATA, 8)
    action = actions(seed, -1, 1)
    encoded = chunk.encode(action)
    spec = chunk.spec("action")
    assert encoded.shape == (3, spec.steps, spec.tokens, spec.features) == (3, 8 // ticks, 1, 4 * ticks)
    assert spec.ticks_per_step == ticks
    torch.testing.assert_close(chunk.decode(encoded), action, atol=1e-6, rtol=1e-5)


def test_chunk_normalises_with_the_statistics_and_clips_to_the_limits() -> None:
    chunk = ChunkConfig(ticks_per_token=2).build(DATA, 4)
    mean = torch.from_numpy(DATA.stats["action"]["mean"]).float()
    std = torch.from_numpy(DATA.stats["action"]["std"]).float()
    assert chunk.encode(mean.expand(1, 4, 4)).abs().max() < 1e-6
    torch.testing.assert_close(chunk.encode((mean + std).expand(1, 4, 4)), torch.ones(1, 2, 1, 8))
    torch.testing.assert_close(chunk.decode(torch.full((1, 2, 1, 8), 99.0)), torch.ones(1, 4, 4))
    torch.testing.assert_close(chunk.decode(torch.full((1, 2, 1, 8), -99.0)), -torch.ones(1, 4, 4))


def test_chunk_groups_ticks_in_order() -> None:
    flat = {"mean": np.zeros(4), "std": np.ones(4)}
    chunk = ChunkConfig(ticks_per_token=2).build(with_stats(**flat), 4)
    action = torch.arange(16.0).view(1, 4, 4) / 16
    assert torch.equal(chunk.encode(action)[0, 0, 0], action[0, :2].flatten())
    assert torch.equal(chunk.encode(action)[0, 1, 0], action[0, 2:].flatten())
    past = chunk.encode(torch.cat((action, action), dim=1))  # longer than the horizon: executed actions
    assert past.shape == (1, 4, 1, 8)


@settings(max_examples=40, deadline=None)
@given(bins=st.sampled_from([2, 3, 7, 256]), seed=st.integers(0, 9999))
def test_bins_round_trip_error_is_at_most_half_a_bin(bins: int, seed: int) -> None:
    part = BinsConfig(bins=bins).build(DATA, 8)
    unit = actions(seed, 0, 1)
    action = part.low + unit * (part.high - part.low)
    ids = part.encode(action)
    assert ids.dtype == torch.int64
    assert 0 <= ids.min() <= ids.max() < bins
    half = (part.high - part.low) / bins / 2
    assert ((part.decode(ids) - action).abs() <= half * (1 + 1e-4) + 1e-6).all()
    assert torch.equal(part.encode(part.decode(ids)), ids)


def test_outliers_do_not_move_the_inner_bin_edges() -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-1, 1, (10_000, 4))
    spoilt = samples.copy()
    spoilt[:5] = 1e6  # 0.05 % of the data, far outside

    def built(x: np.ndarray) -> DataSpec:
        return with_stats(
            q01=np.quantile(x, 0.01, axis=0), q99=np.quantile(x, 0.99, axis=0), max=x.max(axis=0)
        )

    clean, dirty = BinsConfig(bins=64).build(built(samples), 8), BinsConfig(bins=64).build(built(spoilt), 8)
    width = (clean.high - clean.low) / 64
    assert ((clean.high - dirty.high).abs() < 0.1 * width).all()
    assert ((clean.low - dirty.low).abs() < 0.1 * width).all()
    assert dirty.encode(torch.full((1, 8, 4), 1e6)).min() == 63
    assert dirty.encode(torch.full((1, 8, 4), -1e6)).max() == 0


def test_bins_hold_the_mean_over_the_ticks_of_a_token() -> None:
    part = BinsConfig(bins=1000, ticks_per_token=4).build(DATA, 8)
    action = actions(0, -0.9, 0.9)
    ids = part.encode(action)
    spec = part.spec("action")
    assert ids.shape == (3, 2, 4) == (3, spec.steps, spec.tokens)
    assert (spec.vocabulary, spec.ticks_per_step) == (1000, 4)
    held = action.unflatten(1, (2, 4)).mean(dim=2).repeat_interleave(4, dim=1)
    torch.testing.assert_close(part.decode(ids), held, atol=2e-3, rtol=0)


def test_bins_of_a_constant_dimension_are_finite() -> None:
    constant = np.array([0.0, 1.0, 300.0, -300.0])
    part = BinsConfig().build(with_stats(q01=constant, q99=constant), 8)
    action = torch.from_numpy(constant).float().expand(1, 8, 4)
    assert torch.equal(part.encode(action), torch.zeros(1, 8, 4, dtype=torch.long))
    assert part.decode(part.encode(action)).isfinite().all()


def test_bins_never_leave_the_action_limits() -> None:
    wide = with_stats(q01=np.full(4, -3.0), q99=np.full(4, 3.0))
    decoded = BinsConfig(bins=3).build(wide, 2).decode(torch.tensor([[[0, 1, 2, 2], [2, 2, 1, 0]]]))
    assert decoded.tolist() == [[[-1, 0, 1, 1], [1, 1, 0, -1]]]


@pytest.mark.parametrize("config", [ChunkConfig(ticks_per_token=3), BinsConfig(ticks_per_token=3)])
def test_ticks_must_divide_the_horizon(config: ChunkConfig | BinsConfig) -> None:
    with pytest.raises(ConfigError, match="ticks_per_token 3 does not divide the horizon 8"):
        config.build(DATA, 8)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="ticks_per_token: must be at least 1"):
        ChunkConfig(ticks_per_token=0)
    with pytest.raises(ConfigError, match="bins: must be at least 2"):
        BinsConfig(bins=1)  # one bin has nothing to say
    with pytest.raises(ConfigError, match="ticks_per_token: must be at least 1"):
        BinsConfig(ticks_per_token=-1)
    poor = replace(DATA, stats={"action": {"mean": np.zeros(4)}})
    with pytest.raises(DataError, match="statistic 'std' of feature 'action' is missing"):
        ChunkConfig().build(poor, 8)
    with pytest.raises(DataError, match="statistic 'q01'"):
        BinsConfig().build(poor, 8)
