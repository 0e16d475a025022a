"""FAST tokens: exact merges, a stated error, short codes for smooth motion, and one design end to end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import BinsConfig, FastConfig, byte_pairs
from wamkit.actions.fast import PAD, Fast
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design, from_pretrained, save_pretrained
from wamkit.errors import ConfigError, DataError, SpecError
from wamkit.zoo import recipe

DATA = data_spec()
H = 16


def fitted(toy: ToyWindows, **changes: float) -> Fast:
    part = replace(FastConfig(), **changes).build(DATA, H)
    part.fit(toy, seed=0)
    return part


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=9, max_size=9), min_size=1, max_size=8),
    merges=st.integers(0, 12),
)
def test_merges_are_undone_exactly(rows: list[list[int]], merges: int) -> None:
    table = byte_pairs.learn_merges(np.array(rows), 4, merges)
    expand = byte_pairs.expansions(4, table)
    codes = byte_pairs.apply_merges(np.array(rows), 4, table)
    assert [[s for i in code for s in expand[i]] for code in codes] == rows


def test_merges_by_hand() -> None:
    rows = np.array([[0, 1, 0, 1, 2], [0, 0, 0, 1, 2]])  # 01 three times, then (01)2 twice
    assert byte_pairs.learn_merges(rows, 3, 5) == [(0, 1), (3, 2)]
    codes = byte_pairs.apply_merges(rows, 3, [(0, 1), (3, 2)])
    assert [c.tolist() for c in codes] == [[3, 4], [0, 0, 4]]
    run = byte_pairs.apply_merges(np.array([[0, 0, 0, 0, 0]]), 1, [(0, 0)])  # no overlap, from the left
    assert run[0].tolist() == [1, 1, 0]


@settings(max_examples=30, deadline=None)
@given(scale=st.sampled_from([2.0, 5.0, 10.0, 20.0]), seed=st.integers(0, 9999))
def test_round_trip_error_is_within_the_stated_tolerance(scale: float, seed: int) -> None:
    part = FastConfig(scale=scale).build(DATA, H)
    g = torch.Generator().manual_seed(seed)
    action = torch.rand(3, H, 4, generator=g) * 2 - 1
    error = part.normalize(part.decode(part.encode(action))) - part.normalize(action)
    assert error.square().mean(dim=1).sqrt().max() <= 0.5 / scale + 1e-5


def test_codes_of_smooth_chunks_are_several_times_shorter_than_bins(toy: ToyWindows) -> None:
    part = fitted(toy)
    fresh = ToyWindows(frames=381, seed=1)  # another speed: chunks that the merges were not learned on
    chunks = fresh.windows(np.arange(0, 360, 7), WindowSpec(horizon=H)).action
    ids = part.encode(chunks)
    spec = part.spec("action")
    assert ids.shape == (len(chunks), spec.steps, spec.tokens) == (len(chunks), 1, H * 4)
    assert spec.vocabulary is not None
    assert 0 <= ids.min() <= ids.max() < spec.vocabulary
    length = (ids != PAD).sum(dim=2).float().mean().item()
    bins = BinsConfig().build(DATA, H).encode(chunks)[0].numel()
    assert bins > 4 * length
    error = part.normalize(part.decode(ids)) - part.normalize(chunks)
    assert error.square().mean(dim=1).sqrt().max() <= 0.05 + 1e-5


def test_any_ids_decode_to_admissible_actions_and_a_cut_code_is_a_low_pass(toy: ToyWindows) -> None:
    part = fitted(toy)
    ids = torch.randint(0, part.config.vocabulary, (20, 1, part.length))
    assert part.decode(ids).abs().max() <= 1
    assert part.decode(torch.full((1, 1, part.length), PAD)).shape == (1, H, 4)
    chunks = toy.windows(np.arange(0, 360, 30), WindowSpec(horizon=H)).action
    whole = part.encode(chunks)
    errors = []
    for kept in (1, 4, 8, part.length):
        cut = torch.where(torch.arange(part.length) < kept, whole, PAD)
        errors.append((part.decode(cut) - chunks).square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10 * errors[-1]


def test_refusals_say_what_to_set(toy: ToyWindows) -> None:
    with pytest.raises(ConfigError, match="vocabulary 100 is too small for coefficients up to"):
        FastConfig(vocabulary=100).build(DATA, H)
    with pytest.raises(ConfigError, match="scale: must be more than 0, got 0"):
        FastConfig(scale=0).build(DATA, H)
    with pytest.raises(DataError, match="but `tokens` is 2"):
        fitted(toy, tokens=2)
    with pytest.raises(SpecError, match="chunks of 16 ticks as a whole, but got 8"):
        FastConfig().build(DATA, H).encode(torch.zeros(1, 8, 4))


def test_a_design_with_fast_tokens_trains_acts_and_reloads(
    data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    config = recipe("autoregressive")
    estimators = {"world": replace(config.estimators["world"], segments=1)}  # type: ignore[call-arg]
    config = replace(config, action=FastConfig(tokens=24), estimators=estimators)
    torch.manual_seed(0)
    design = Design(config, data)
    design.fit(toy, seed=0)
    assert (design.action.merges >= 0).any()  # type: ignore[operator]
    optimizer = torch.optim.Adam(design.parameters(), lr=1e-3)
    totals = []
    for _ in range(2):
        losses = design.loss(toy.windows(np.arange(0, 320, 20), design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert totals[1] < totals[0]
    design.eval()
    observation = acting_observation(toy, [40, 90], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert torch.equal(again.action.merges, design.action.merges)  # type: ignore[arg-type]
    repeated, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(forecast.action, repeated.action)
    assert forecast.nfe["action"] == 24
