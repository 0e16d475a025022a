"""Movement primitives: the package agrees, goals are reached, durations stretch time only, parameters are edited."""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import MovementPrimitiveConfig
from wamkit.actions.movement_primitive import MovementPrimitive
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import ActionSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design, from_pretrained, save_pretrained
from wamkit.errors import ConfigError, MissingExtraError, SpecError
from wamkit.zoo import recipe

pytest.importorskip("movement_primitives")
H = 16
NAMES = ("dx", "dy", "dz", "grip")
ROBOT = ActionSpec(NAMES, (-1.0,) * 4, (1.0,) * 4, 40.0, gripper="positive_closes")
DATA: DataSpec = replace(data_spec(), action=ROBOT)


def chunks(seed: int, rows: int = 5, stop: int = H) -> Tensor:
    """Smooth deltas that fade out at tick ``stop``, and a gripper that closes on the way."""
    rng = np.random.default_rng(seed)
    t = np.arange(H)[None, :, None]
    wave = sum(rng.normal(size=(rows, 1, 3)) * np.sin(np.pi * f * (t + 1) / (stop + 1)) for f in (1, 2))
    moving = 0.1 * wave * (t < stop)
    grip = 1 / (1 + np.exp(-(np.minimum(t, stop - 1) - stop / 2))) * np.ones((rows, 1, 1))
    return torch.from_numpy(np.concatenate((moving, grip), axis=2)).float().clamp(-1, 1)


def build(**changes: float) -> MovementPrimitive:
    return replace(MovementPrimitiveConfig(), **changes).build(DATA, H)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 9999), stop=st.integers(8, H))
def test_a_smooth_chunk_survives_the_round_trip(seed: int, stop: int) -> None:
    part, action = build(), chunks(seed, stop=stop)
    part.fit(ToyWindows(), seed=0)
    again = part.decode(part.encode(action))
    assert (again - action).square().mean().sqrt() < 0.15 * action.square().mean().sqrt()
    end, there = action[:, :, :3].sum(dim=1), again[:, :, :3].sum(dim=1)
    torch.testing.assert_close(there, end, atol=0.05, rtol=0)


def test_more_weights_follow_the_chunk_more_closely() -> None:
    action = chunks(0, rows=50)
    errors = [
        float((build(weights=k).decode(build(weights=k).encode(action)) - action).square().mean().sqrt())
        for k in (3, 6, 12)
    ]
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]


def test_the_compiled_chunk_is_what_the_package_executes() -> None:
    part, action = build(), chunks(1, rows=2)
    values = part.encode(action)
    compiled = part.chunk_of(part.parameters_of(action))
    for row, chunk in zip(part.describe(values), compiled.numpy(), strict=True):
        dmp = part.primitive(row)
        dmp.dt_ = 1 / (40.0 * 128)  # the package integrates with its own step; a fine one is its exact answer
        _, path = dmp.open_loop(run_t=H / 40.0)
        path = path[::128]
        np.testing.assert_allclose(chunk[:, :3], np.diff(path[:, :3], axis=0), atol=3e-3)
        np.testing.assert_allclose(chunk[:, 3], path[1:, 3], atol=3e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 9999), shove=st.floats(-2, 2), tick=st.integers(0, H - 1))
def test_it_reaches_the_goal_from_any_start_and_under_a_push(seed: int, shove: float, tick: int) -> None:
    part = build()
    row = part.describe(part.encode(chunks(seed, rows=1)))[0]
    goal = np.array([row[name]["goal"] for name in NAMES])
    dmp = part.primitive(row)
    y = np.random.default_rng(seed).normal(size=4)
    dmp.configure(start_y=y)
    yd = np.zeros(4)
    for i in range(4 * H):
        if i == tick:
            dmp.current_y += shove  # the push: the state of the running primitive is displaced
        y, yd = dmp.step(dmp.current_y, yd)
    np.testing.assert_allclose(y, goal, atol=0.01)
    np.testing.assert_allclose(yd, 0, atol=0.05)


def test_scaling_the_duration_keeps_the_shape_of_the_path() -> None:
    part, action = build(), chunks(2, rows=3, stop=8)
    fast = part.describe(part.encode(action))
    assert [row["duration_s"] for row in fast] == pytest.approx([8 / 40] * 3)
    slow = deepcopy(fast)
    for row in slow:
        row["duration_s"] *= 2
    path = part.decode(part.values(fast))[:, :, :3].cumsum(dim=1)
    stretched = part.decode(part.values(slow))[:, :, :3].cumsum(dim=1)
    torch.testing.assert_close(stretched[:, 1::2], path[:, :8], atol=1e-4, rtol=0)


def test_the_parameters_are_plain_text_and_an_edited_goal_is_where_it_goes() -> None:
    part = build()
    part.fit(ToyWindows(), seed=0)
    values = part.encode(chunks(3, rows=2, stop=10))
    rows = json.loads(json.dumps(part.describe(values)))
    torch.testing.assert_close(part.values(rows), values, atol=1e-3, rtol=1e-3)
    rows[0]["dy"]["goal"] += 0.5
    goal = rows[0]["dy"]["goal"]
    rows[0]["grip"]["goal"] = -1.0
    moved = part.decode(part.values(rows))
    assert moved[0, :, 1].sum() == pytest.approx(goal, abs=0.02)
    assert moved[0, -1, 3] == pytest.approx(-1.0, abs=0.02)
    torch.testing.assert_close(moved[1], part.decode(values)[1], atol=1e-3, rtol=0)
    del rows[0]["dy"]
    with pytest.raises(ConfigError, match="need the entries"):
        part.values(rows)


def test_the_stream_is_one_small_vector_and_gradients_pass() -> None:
    part = build()
    part.fit(ToyWindows(), seed=0)
    spec = part.spec("action")
    values = part.encode(ToyWindows().windows(np.arange(0, 300, 7), WindowSpec(horizon=H)).action)
    assert (spec.steps, spec.tokens, spec.features) == values.shape[1:] == (1, 1, 1 + 1 + 4 + 4 * 8)
    assert values.abs().mean() < 3  # normalised
    values.requires_grad_()
    part.decode(values).square().sum().backward()
    assert values.grad is not None
    assert (values.grad.abs().sum(dim=(0, 1, 2)) > 0).float().mean() > 0.9


def test_a_design_acts_with_it_and_comes_back_from_disk(tmp_path: Path, toy: ToyWindows) -> None:
    torch.manual_seed(0)
    design = Design(replace(recipe("direct"), action=MovementPrimitiveConfig()), DATA)
    design.fit(toy, seed=0)
    totals = []
    optimizer = torch.optim.Adam(design.parameters(), lr=1e-3)
    for _ in range(6):
        losses = design.loss(toy.windows(np.arange(0, 320, 20), design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert min(totals[1:]) < totals[0]
    design.eval()
    observation = acting_observation(toy, [40, 90], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    assert forecast.action.shape == (2, H, 4)
    assert forecast.action.abs().max() <= 1
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(forecast.action, repeated.action)


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match="codes chunks of 16 ticks"):
        build().encode(torch.zeros(1, 8, 4))
    with pytest.raises(ConfigError, match="at least 2"):
        build(weights=1)
    turning = ActionSpec(tuple("abcdefghij"), (-1.0,) * 10, (1.0,) * 10, 40.0, rotation="rot6d")
    with pytest.raises(ConfigError, match="record it as axis_angle"):
        MovementPrimitiveConfig().build(replace(DATA, action=turning), H)
    monkeypatch.setitem(sys.modules, "movement_primitives.dmp", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[primitives\]"):
        build()
