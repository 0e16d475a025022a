"""Codebook over another substrate's tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation
from wamkit.actions import BinsConfig
from wamkit.compose import FutureConfig
from wamkit.design import Design
from wamkit.errors import ConfigError, DataError
from wamkit.protocols import DataSpec
from wamkit.substrates import ProprioceptionConfig, QuantizedConfig
from wamkit.types import Budget, WindowSpec
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
    design = Design(config, data).eval()
    design.fit(toy, 0)
    seen = acting_observation(toy, [5], design.window)
    forecast, _ = design.forecast(seen, design.initial_state(1), Budget(), [1])
    assert forecast.future["future"].shape == (1, 2, 1)


def test_refusals(data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="token ids already"):
        QuantizedConfig(QuantizedConfig()).build(data)
    still = ToyWindows(frames=5)
    with pytest.raises(DataError, match="cannot fill a codebook of 128"):
        QuantizedConfig(ProprioceptionConfig(), 128).build(data).fit(still, 0)
