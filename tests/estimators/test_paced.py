"""Learned schedule: fewer evaluations at equal success, more of them where the state is hard."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.calls import Call, Generated
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import ConfigError
from wamkit.estimators import (
    AutoregressorConfig,
    DenoiserConfig,
    Paced,
    PacedConfig,
    RegressorConfig,
    UnmaskerConfig,
)
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

ACTION = StreamSpec("action", "action", 1, 1, 1)
WIDTH = 32


def build(config: PacedConfig) -> Paced:
    torch.manual_seed(0)
    return config.build((ACTION,), (), TransformerConfig(width=WIDTH, depth=2, heads=2).build())


def call(model: Paced, hard: Tensor) -> Call:
    """Context of one token that says which rows are hard, (B,) bool."""
    token = torch.where(hard[:, None, None], 1.0, -1.0) * torch.linspace(-1, 1, WIDTH)
    trunk = model.inner.trunk
    return Call(trunk(token)[1], {}, (), len(hard))  # type: ignore[operator, union-attr]


def success(action: Tensor, hard: Tensor) -> Tensor:
    """Easy states have one good action, 0.5; hard ones two, -1 and 1, and nothing between them."""
    value = action.flatten()
    return torch.where(hard, (value.abs() - 1).abs() < 0.3, (value - 0.5).abs() < 0.3)


def train(model: Paced, steps: int, rows: int) -> list[float]:
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    terms = {}
    for _ in range(steps):
        hard = torch.rand(rows) < 0.5
        good = torch.where(hard, torch.randint(2, (rows,)) * 2.0 - 1, torch.full((rows,), 0.5))
        target = Target(good[:, None, None, None], torch.zeros(rows, 1, dtype=torch.bool))
        terms = model.loss(["action"], call(model, hard), {"action": target}, None).terms
        optimizer.zero_grad()
        sum(terms.values(), torch.zeros(())).backward()
        optimizer.step()
    return [term.item() for term in terms.values()]


@pytest.fixture(scope="module")
def stages() -> tuple[Paced, dict[str, Tensor]]:
    """The denoiser trained alone, then the gate alone; and the weights in between."""
    config = PacedConfig(counts=(1, 2, 4, 8, 16), tolerance=0.15)
    first = build(replace(config, train="inner"))
    train(first, 500, 128)
    before = {name: value.clone() for name, value in first.state_dict().items()}
    second = build(replace(config, train="gate"))
    second.load_state_dict(before)
    train(second, 80, 64)
    return second.eval(), before


@pytest.mark.learns
def test_only_the_gate_is_trained_around_a_frozen_denoiser(stages: tuple[Paced, dict[str, Tensor]]) -> None:
    model, before = stages
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith("gate.")}


@pytest.mark.learns
@torch.no_grad()
def test_evaluations_fall_at_equal_success_and_hard_states_receive_more(
    stages: tuple[Paced, dict[str, Tensor]],
) -> None:
    model, _ = stages
    rows = 600
    hard = torch.arange(rows) % 2 == 0
    seen = call(model, hard)
    chosen = model.choose(seen).float()
    assert chosen[hard].mean() > chosen[~hard].mean()
    rates = {}
    budgets = {n: Budget(nfe={"action": n}) for n in (1, 16)}
    for label, budget in {**budgets, "gate": Budget()}.items():
        made = model.generate(["action"], seen, budget, RowNoise(range(rows)))
        rates[label] = success(made.values["action"], hard).float().mean().item()
    print(f"\nsuccess {rates} (n={rows}); steps: easy {chosen[~hard].mean()}, hard {chosen[hard].mean()}")
    assert made.nfe == {"action": round(chosen.mean().item())}
    assert chosen.mean() <= 0.5 * 16
    assert rates["gate"] >= rates[16] - 0.02
    assert rates["gate"] > rates[1] + 0.2


@pytest.mark.learns
@torch.no_grad()
def test_a_constant_gate_is_the_uniform_schedule_bit_for_bit(stages: tuple[Paced, dict[str, Tensor]]) -> None:
    model, before = stages
    hard = torch.arange(6) % 2 == 0
    for i, count in enumerate(model.config.counts):
        model.gate[-1].weight.zero_()  # type: ignore[union-attr, operator]
        model.gate[-1].bias.copy_(torch.eye(5)[i])  # type: ignore[union-attr, operator]
        made = model.generate(["action"], call(model, hard), Budget(), RowNoise(range(6)))
        uniform = model.inner.generate(
            ["action"], call(model, hard), Budget(nfe={"action": count}), RowNoise(range(6))
        )
        assert torch.equal(made.values["action"], uniform.values["action"])
        assert made.nfe == uniform.nfe == {"action": count}
    model.load_state_dict(before)


@pytest.mark.learns
@torch.no_grad()
def test_a_row_is_what_it_is_alone_whatever_its_neighbours_are_given(
    stages: tuple[Paced, dict[str, Tensor]],
) -> None:
    model, _ = stages
    torch.nn.init.normal_(model.gate[-1].weight)  # type: ignore[union-attr, arg-type]
    hard = torch.tensor([True, False, True, False])
    whole = model.generate(["action"], call(model, hard), Budget(), RowNoise([3, 4, 5, 6])).values["action"]
    for i in range(4):
        alone = model.generate(["action"], call(model, hard[i : i + 1]), Budget(), RowNoise([3 + i]))
        torch.testing.assert_close(alone.values["action"], whole[i : i + 1], atol=1e-5, rtol=1e-5)
    assert model.choose(call(model, hard)).unique().numel() == 2


def test_costs_are_the_closed_form() -> None:
    """A sampler that returns 1 / steps: d_n = 1/n - 1/4."""
    model = build(PacedConfig(counts=(1, 2, 4), tolerance=0.5))

    def generate(outputs: object, call: Call, budget: Budget, noise: RowNoise) -> Generated:
        n = budget.nfe["action"]
        return Generated({"action": torch.full((call.rows, 1, 1, 1), 1 / n)}, {"action": n})

    model.inner.generate = generate  # type: ignore[method-assign, assignment]
    found = model.costs(["action"], call(model, torch.tensor([True, False])))
    expected = torch.tensor([(0.75 / 0.5) ** 2 + 0.25, (0.25 / 0.5) ** 2 + 0.5, 1.0])
    torch.testing.assert_close(found, expected.expand(2, 3))


def test_a_paced_design_trains_and_acts(data: DataSpec, toy: ToyWindows) -> None:
    base = recipe("joint")
    config = replace(base, estimators={"world": PacedConfig(inner=base.estimators["world"], counts=(1, 3))})
    design = Design(config, data)
    design.fit(toy, 0)
    losses = design.loss(toy.windows(torch.arange(40, 44).numpy(), design.training_window))
    assert set(losses.terms) == {"future", "action", "future+action.steps"}
    losses.total.backward()
    observation = acting_observation(toy, [30, 60], design.window)
    forecast, _ = design.eval().forecast(observation, design.initial_state(2), Budget(), [1, 2])
    assert 1 <= forecast.nfe["action"] <= 3
    told, _ = design.forecast(
        observation, design.initial_state(2), Budget(nfe={"action": 5, "future": 5}), [1, 2]
    )
    assert told.nfe == {"action": 5, "future": 5}
    design.forecast(observation, design.initial_state(2), Budget(rounds=1), [1, 2])


def test_token_ids_can_be_paced() -> None:
    ids = StreamSpec("action", "action", 2, 2, 1, vocabulary=5)
    trunk = TransformerConfig(width=WIDTH, depth=1, heads=2).build()
    model = PacedConfig(inner=UnmaskerConfig(), counts=(1, 2)).build((ids,), (), trunk)
    costs = model.costs(["action"], call(model, torch.tensor([True, False])))
    assert torch.equal(costs[:, 1], torch.ones(2))
    made = model.generate(["action"], call(model, torch.tensor([True, False])), Budget(), RowNoise([0, 1]))
    assert made.values["action"].shape == (2, 2, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"counts": (4, 2)}, r"counts: must ascend, got the list \[4, 2\]"),
        ({"tolerance": 0.0}, "tolerance: must be more than 0, got 0.0"),
        (
            {"inner": DenoiserConfig(trunk="other")},
            "`inner` runs on trunk 'other' and the gate on 'main'",
        ),
        ({"inner": AutoregressorConfig()}, "'action' carries continuous values"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(PacedConfig(**settings))


def test_an_estimator_without_steps_cannot_be_paced() -> None:
    with pytest.raises(ConfigError, match="is of family 'joint-embedding'"):
        build(PacedConfig(inner=RegressorConfig()))
