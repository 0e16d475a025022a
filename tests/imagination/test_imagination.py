"""Step-mode rollout: action k depends on predicted state k; distinct actions lead to distinct futures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, Forecast
from wamkit.design import Design, FutureConfig
from wamkit.errors import BudgetError, ConfigError
from wamkit.imagination.unrolling import unroll
from wamkit.zoo import recipe

STEPPING = ("recurrent", "chunk_causal")


def build(name: str, data: DataSpec, toy: ToyWindows) -> Design:
    torch.manual_seed(0)
    design = Design(recipe(name), data)
    design.fit(toy, 0)
    with torch.no_grad():  # far from its careful start, so that everything that is read is seen to matter
        for parameter in design.estimators.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return design.eval()


def constant(value: float) -> Tensor:
    return torch.full((2, 16, 4), value)


def roll(
    design: Design, toy: ToyWindows, steps: int = 3, seeds: Sequence[int] = (1, 2), **more: object
) -> list[Forecast]:
    observation = acting_observation(toy, [40, 40], design.window)
    return unroll(design, observation, design.initial_state(2), steps, seeds=seeds, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", STEPPING)
def test_action_k_depends_on_predicted_state_k(data: DataSpec, toy: ToyWindows, name: str) -> None:
    """Only the state that the first step leads to differs; every later action, chosen by the design, follows it."""
    design = build(name, data, toy)
    h = design.config.horizon

    def pushed(value: float) -> list[Forecast]:
        return roll(design, toy, choose=lambda k, _: constant(value)[:, :h] if k == 0 else None)

    left, again, right = pushed(-0.8), pushed(-0.8), pushed(0.8)
    assert len(left) == 3
    for k in (1, 2):
        assert torch.equal(left[k].action, again[k].action)
        assert not torch.allclose(left[k].action, right[k].action, atol=1e-5)


@pytest.mark.parametrize("name", STEPPING)
def test_distinct_actions_give_distinct_futures_and_identical_ones_identical(
    data: DataSpec, toy: ToyWindows, name: str
) -> None:
    design = build(name, data, toy)
    h = design.config.horizon
    rows = torch.stack((constant(-0.8)[0], constant(0.8)[0]))[:, :h]
    apart = roll(design, toy, seeds=(5, 5), choose=lambda *_: rows)
    alike = roll(design, toy, seeds=(5, 5), choose=lambda *_: rows[:1].expand(2, -1, -1))
    for k in range(3):
        for future in design.config.futures:
            a, b = apart[k].future[future]
            assert not torch.allclose(a, b, atol=1e-5), (k, future)
            c, d = alike[k].future[future]
            torch.testing.assert_close(c, d, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(a, c, atol=1e-5, rtol=1e-5)  # candidates do not touch each other


@pytest.mark.parametrize("name", STEPPING)
def test_a_first_step_is_a_forecast_and_the_state_is_left_alone(
    data: DataSpec, toy: ToyWindows, name: str
) -> None:
    design = build(name, data, toy)
    observation = acting_observation(toy, [40, 70], design.window)
    state = design.initial_state(2)
    forecast, _ = design.forecast(observation, state, Budget(), [1, 2])
    made = unroll(design, observation, state, 2, seeds=[1, 2])
    torch.testing.assert_close(made[0].action, forecast.action)
    again = unroll(design, observation, state, 2, seeds=[1, 2])
    assert torch.equal(made[1].action, again[1].action)
    assert not torch.allclose(made[1].action, made[0].action, atol=1e-5)


def test_the_source_of_actions_sees_what_was_predicted(data: DataSpec, toy: ToyWindows) -> None:
    design = build("recurrent", data, toy)
    seen: list[int] = []

    def choose(step: int, past: Sequence[Forecast]) -> Tensor:
        seen.append(len(past))
        level = 0.0 if not past else past[-1].future["future"].mean().tanh().item()
        return constant(level)

    made = roll(design, toy, choose=choose)
    assert seen == [0, 1, 2]
    assert torch.unique(torch.stack([f.action[0, 0, 0] for f in made])).numel() == 3


def test_refusals_name_the_way_out(data: DataSpec, toy: ToyWindows) -> None:
    joint = Design(recipe("joint"), data)
    joint.fit(toy, 0)
    with pytest.raises(ConfigError, match="carries no state between calls"):
        roll(joint, toy)
    design = build("recurrent", data, toy)
    with pytest.raises(BudgetError, match="steps 0 must be at least 1"):
        roll(design, toy, steps=0)
    with pytest.raises(BudgetError, match="every step of an unrolled model reads the predicted future"):
        roll(design, toy, budget=Budget(future=False))
    with pytest.raises(BudgetError, match="horizon 2 is less than a step"):
        roll(design, toy, budget=Budget(horizon=2))
    causal = recipe("chunk_causal")
    late = replace(causal, futures={**causal.futures, "future": FutureConfig("video", (4,))})
    other = Design(late, data)
    other.fit(toy, 0)
    with pytest.raises(
        ConfigError, match="first offset is 4, but a step covers the design's stride, 8 ticks"
    ):
        roll(other, toy)
