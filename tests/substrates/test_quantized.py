"""Codebook over another substrate's tokens, and one that several scales share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.actions import BinsConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.scales import Ladder, cover, halved
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design, FutureConfig
from wamkit.errors import ConfigError, DataError
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig, QuantizedConfig
from wamkit.substrates.codebook import quantise, restore
from wamkit.zoo import recipe


def test_ids_are_the_nearest_entries_and_decode_to_them(data: DataSpec, toy: ToyWindows) -> None:
    substrate = QuantizedConfig(vocabulary=8).build(data)
    substrate.fit(toy, 0)
    seen = toy.windows(np.arange(20), WindowSpec()).observation
    ids, values = substrate.encode(seen), substrate.inner.encode(seen)
    assert ids.shape == values.shape[:3]
    nearest = (values[..., None, :] - substrate.centres).square().sum(-1).argmin(-1)
    assert torch.equal(ids, nearest)
    decoded, direct = substrate.decode(ids), substrate.inner.decode(substrate.centres[ids])
    assert all(torch.equal(decoded[c], direct[c]) for c in direct)
    assert substrate.label() == "Pixel (latent)"


def test_error_falls_with_the_vocabulary(data: DataSpec, toy: ToyWindows) -> None:
    seen = toy.windows(np.arange(0, 300, 7), WindowSpec()).observation
    errors = []
    for size in (2, 8, 32):
        substrate = QuantizedConfig(ProprioceptionConfig(), size).build(data)
        substrate.fit(toy, 0)
        values = substrate.inner.encode(seen)
        errors.append((substrate.centres[substrate.encode(seen)] - values).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * errors[0]


def test_an_autoregressor_predicts_any_quantized_substrate(data: DataSpec, toy: ToyWindows) -> None:
    base = recipe("autoregressive")
    config = replace(
        base,
        substrates={"body": QuantizedConfig(ProprioceptionConfig(), 8)},
        futures={"future": FutureConfig("body", (8, 16))},
        action=BinsConfig(bins=16, ticks_per_token=4),
    )
    torch.manual_seed(0)
    design = Design(config, data)
    design.fit(toy, 0)
    optimizer = torch.optim.AdamW(design.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(120):
        batch = toy.windows(rng.integers(toy.num_frames - 20, size=16), design.training_window)
        losses = design.loss(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    index = np.arange(0, toy.num_frames - 20, 7)
    design.eval()
    seen = acting_observation(toy, index.tolist(), design.window)
    forecast, _ = design.forecast(seen, design.initial_state(len(index)), Budget(), range(len(index)))
    ids = forecast.future["future"]
    assert ids.shape == (len(index), 2, 1)
    assert ((ids >= 0) & (ids < 8)).all()
    truth = design.targets(toy.windows(index, design.training_window))["future"].values
    assert (ids == truth).float().mean() > 0.5  # chance is the commonest id's share
    assert (truth == truth.flatten().mode().values).float().mean() < 0.35


def test_refusals(data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="token ids already"):
        QuantizedConfig(QuantizedConfig()).build(data)
    still = ToyWindows(frames=5)
    with pytest.raises(DataError, match="cannot fill a codebook of 128"):
        QuantizedConfig(ProprioceptionConfig(), 128).build(data).fit(still, 0)


# ------------------------------------------------------------------------------------------------ several scales


def errors(values: Tensor, centres: Tensor, ladder: Ladder) -> list[float]:
    """Squared error of (B, T, N, D) with nothing, then after the ids of each scale."""
    ids, _ = quantise(values, centres, ladder)
    made = [torch.zeros_like(values), *(restore(ids[: k + 1], centres, ladder) for k in range(ladder.count))]
    return [(value - values).square().sum().item() for value in made]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    pictures=st.integers(1, 2),
    scales=st.integers(1, 4),
    entries=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_no_scale_makes_the_error_larger_whatever_the_codebook(
    rows: int, columns: int, pictures: int, scales: int, entries: int, seed: int
) -> None:
    """Of any values, as long as one entry is zero; and what a scale wins is in closed form."""
    ladder = Ladder(halved(((rows, columns),) * pictures, scales))
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(2, 1, ladder.finest, 3, generator=g, dtype=torch.float64)
    centres = torch.randn(entries, 3, generator=g, dtype=torch.float64)
    centres[0] = 0
    found = errors(values, centres, ladder)
    ids, means = quantise(values, centres, ladder)
    for k in range(scales):
        won = means[k].square() - (means[k] - centres[ids[k]]).square()
        assert found[k] - found[k + 1] == pytest.approx((won.sum(-1) * ladder.area(k)).sum().item(), abs=1e-9)
        assert found[k + 1] <= found[k] + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 5))
def test_every_fine_token_lies_in_one_cell_and_no_cell_is_empty(rows: int, columns: int, count: int) -> None:
    scales = halved(((rows, columns), (columns, rows)), count)
    ladder = Ladder(scales)
    assert scales[-1] == ((rows, columns), (columns, rows))
    for k in range(count):
        assert ladder.area(k).min() > 0
        assert ladder.area(k).sum() == ladder.finest
        part = torch.randn(2, ladder.lengths[k], 3)
        torch.testing.assert_close(ladder.mean(ladder.copy(part, k), k), part)


def test_cells_are_the_quarters_of_a_picture() -> None:
    coarse, fine = halved(((4, 4),), 2)
    top, bottom = [0, 0, 1, 1], [2, 2, 3, 3]
    assert cover(coarse, fine).tolist() == [*top, *top, *bottom, *bottom]
    assert cover(((1, 1), (1, 2)), ((2, 1), (1, 4))).tolist() == [0, 0, 1, 1, 2, 2]


def test_scales_refine_what_was_fitted_and_decode_to_the_sum(data: DataSpec, toy: ToyWindows) -> None:
    substrate = QuantizedConfig(vocabulary=16, scales=2).build(data)
    substrate.fit(toy, 0)
    again = QuantizedConfig(vocabulary=16, scales=2).build(data)
    again.fit(toy, 0)
    assert torch.equal(substrate.centres, again.centres)
    assert not substrate.centres[0].any()
    spec = substrate.spec("future", "future", 1)
    assert spec.scales == (((1, 1), (1, 1)), ((2, 2), (2, 2)))  # two cameras of 2 x 2 patches
    assert (spec.tokens, spec.features, spec.vocabulary) == (2 + 8, 1, 16)
    seen = toy.windows(np.arange(0, 400, 3), WindowSpec()).observation
    ids, values = substrate.encode(seen), substrate.inner.encode(seen)
    assert ids.shape == (len(values), 1, 10)
    coarse, fine = substrate.centres[ids[..., :2]], substrate.centres[ids[..., 2:]]
    entries = coarse.repeat_interleave(4, dim=2) + fine
    torch.testing.assert_close(substrate.entries(ids), entries)
    shown, direct = substrate.decode(ids), substrate.inner.decode(entries)
    assert all(torch.equal(shown[c], direct[c]) for c in direct)
    found = errors(values, substrate.centres, substrate.ladder)
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.5 * found[0]


def test_more_scales_of_one_place_quantise_its_rest(data: DataSpec, toy: ToyWindows) -> None:
    """A substrate of one token: residual quantisation with the same number of entries in all."""
    seen = toy.windows(np.arange(0, 400, 3), WindowSpec()).observation
    found = []
    for scales in (1, 3):
        substrate = QuantizedConfig(ProprioceptionConfig(), 16, scales).build(data)
        substrate.fit(toy, 0)
        values = substrate.inner.encode(seen)
        found.append((substrate.entries(substrate.encode(seen)) - values).square().mean().item())
    assert found[1] < found[0]


def test_next_scale_predicts_ids_and_an_action_of_vectors(data: DataSpec, toy: ToyWindows) -> None:
    config = replace(
        recipe("next_scale"),
        substrates={"video": QuantizedConfig(PixelLatentConfig(PatchPCAConfig(16, 4)), 8, 2)},
        futures={"future": FutureConfig("video", (8, 16))},
    )
    design = Design(config, data)
    design.fit(toy, 0)
    losses = design.loss(toy.windows(np.arange(4), design.training_window))
    assert set(losses.terms) == {"future", "action"}
    losses.total.backward()
    seen = acting_observation(toy, [5], design.window)
    forecast, _ = design.eval().forecast(seen, design.initial_state(1), Budget(), [1])
    assert forecast.future["future"].shape == (1, 2, 2 + 8)
    assert forecast.nfe["future"] == 2
    assert forecast.action.shape == (1, config.horizon, 4)
    frames = design.decode_future(forecast)
    assert frames is not None
    assert frames["scene"].shape == (1, 2, 3, 32, 32)


def test_scales_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"QuantizedConfig\.scales: must be at least 1 .*got 0"):
        QuantizedConfig(scales=0)
    with pytest.raises(ConfigError, match=r"QuantizedConfig\.vocabulary: must be at least 2 .*got 1"):
        QuantizedConfig(vocabulary=1, scales=2)
