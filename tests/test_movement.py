"""Movement primitives: fits chunks, converges from anywhere and under a push, duration scales time and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import MovementPrimitiveConfig
from wamkit.actions.movement import SUBSTEPS, rollout
from wamkit.design import Design
from wamkit.errors import ConfigError, SpecError
from wamkit.protocols import DataSpec
from wamkit.training import from_pretrained, save_pretrained
from wamkit.types import Budget, WindowSpec
from wamkit.zoo import recipe

DATA = data_spec()
H = 16


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), push=st.booleans())
def test_it_converges_from_any_start_and_under_a_push(seed: int, push: bool) -> None:
    rng = np.random.default_rng(seed)
    start, goal, weights = rng.normal(size=2) * 3, rng.normal(size=2), rng.normal(size=(2, 5))
    force = np.zeros((4 * SUBSTEPS, 2))
    force[SUBSTEPS // 2 : SUBSTEPS] = rng.normal(size=2) * 500
    path = rollout(start, goal, weights, 4, force if push else None)
    assert np.abs(path[-1] - goal).max() < 1e-3
    if push:
        free = rollout(start, goal, weights, 4)
        assert np.abs(path - free).max() > 0.1  # it was pushed off the path


def test_without_weights_it_is_the_critically_damped_spring() -> None:
    path = rollout(np.zeros(1), np.ones(1), np.zeros((1, 1)), 1)[:, 0]
    s = np.linspace(0, 1, SUBSTEPS + 1)
    np.testing.assert_allclose(path, 1 - (1 + 12.5 * s) * np.exp(-12.5 * s), atol=0.01)


def test_smooth_chunks_are_rebuilt_from_a_few_parameters(toy: ToyWindows) -> None:
    part = MovementPrimitiveConfig().build(DATA, H)
    part.fit(toy, seed=0)
    chunks = toy.windows(np.arange(0, 360, 9), WindowSpec(horizon=H)).action
    values = part.encode(chunks)
    assert values.shape == (len(chunks), 1, 1, part.spec("action").features)
    assert values.mean(dim=0).abs().max() < 0.5
    assert (part.decode(values) - chunks).square().mean().sqrt() < 0.1 * chunks.std()


def test_duration_scales_time_and_keeps_the_path() -> None:
    absolute = replace(DATA, action=replace(DATA.action, mode="absolute"))
    part = MovementPrimitiveConfig().build(absolute, 33)
    t = torch.linspace(0, 1, 33)[:, None]
    action = 0.5 * t * torch.tensor([1.0, -1.0, 0.5, 0.2]) + 0.3 * torch.sin(3 * t)
    (fast,) = part.movements(part.encode(action[None]))
    fast = replace(fast, duration_ticks=12)
    slow = replace(fast, duration_ticks=24)
    short, long = part.decode(part.values([fast, slow]))
    torch.testing.assert_close(long[::2], short[:17], atol=5e-3, rtol=0)
    assert (long - short).abs().max() > 0.05


def test_the_parameters_are_printed_and_edited(toy: ToyWindows) -> None:
    part = MovementPrimitiveConfig(weights=3).build(DATA, H)
    part.fit(toy, seed=0)
    values = part.encode(toy.windows(np.array([5]), WindowSpec(horizon=H)).action)
    (movement,) = part.movements(values)
    torch.testing.assert_close(part.values([movement]), values, atol=1e-4, rtol=1e-4)
    assert "goal=(" in repr(movement)
    still = replace(movement, goal=(0.4, 0.0, 0.0, -0.4), weights=((0.0,) * 3,) * 4, duration_ticks=4)
    moved = part.decode(part.values([still])).sum(dim=1)[0]  # delta actions add up to the goal
    torch.testing.assert_close(moved, torch.tensor(still.goal), atol=5e-3, rtol=0)


def test_refusals() -> None:
    with pytest.raises(ConfigError, match="weights 17 must be 1 to the horizon 16"):
        MovementPrimitiveConfig(weights=17).build(DATA, H)
    with pytest.raises(SpecError, match="chunks of 16 ticks as a whole, but got 8"):
        MovementPrimitiveConfig().build(DATA, H).encode(torch.zeros(1, 8, 4))


def test_a_design_with_movement_primitives_trains_acts_and_reloads(
    data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    design = Design(replace(recipe("direct"), action=MovementPrimitiveConfig(weights=4)), data)
    design.fit(toy, seed=0)
    optimizer = torch.optim.Adam(design.parameters(), lr=1e-3)
    for _ in range(2):
        loss = design.loss(toy.windows(np.arange(0, 320, 20), design.training_window)).total
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    design.eval()
    observation = acting_observation(toy, [40, 90], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(forecast.action, repeated.action)
