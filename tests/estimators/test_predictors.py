"""Regressor and proposer: closed forms, stopped gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import ConfigError
from wamkit.estimators import (
    Proposer,
    ProposerConfig,
    Regressor,
    RegressorConfig,
)
from wamkit.substrates import TeacherFeatureConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

ACTION = StreamSpec("action", "action", 2, 1, 3)
FUTURE = StreamSpec("future", "future", 2, 4, 5)
TRUNK = TransformerConfig(width=16, depth=1, heads=2)


def regressor(loss: str = "mse") -> Regressor:
    torch.manual_seed(0)
    return RegressorConfig(loss=loss).build((FUTURE,), (ACTION,), TRUNK.build())  # type: ignore[arg-type]


def bare(model: Regressor | Proposer, rows: int, given: Mapping[str, Tensor] | None = None) -> Call:
    return Call(model.trunk.empty(rows, 1), given or {}, (), rows)


def sample(model: Estimator, name: str, call: Call, seeds: list[int] | None = None) -> Tensor:
    with torch.no_grad():
        return model.generate([name], call, Budget(), RowNoise(seeds or range(call.rows))).values[name]


def known(values: Tensor) -> Target:
    return Target(values, torch.zeros(values.shape[:2], dtype=torch.bool))


def fit(model: Estimator, name: str, call: Call, target: Target, steps: int, lr: float) -> float:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = model.loss([name], call, {name: target}, None).terms[name]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


# ------------------------------------------------------------------------------------------------- regressor


def test_regressor_is_deterministic_and_costs_one_evaluation() -> None:
    model, action = regressor(), torch.randn(2, 2, 1, 3)
    call = bare(model, 2, {"action": action})
    assert torch.equal(sample(model, "future", call, [1, 2]), sample(model, "future", call, [8, 9]))
    made = model.generate(["future"], call, Budget(), RowNoise([0, 1]))
    assert made.nfe == {"future": 1}
    assert made.values["future"].shape == (2, 2, 4, 5)


def test_distinct_actions_give_distinct_futures_and_identical_ones_identical() -> None:
    model = regressor()
    one = torch.randn(1, 2, 1, 3)
    futures = sample(model, "future", bare(model, 3, {"action": torch.cat((one, one, one + 1))}))
    torch.testing.assert_close(futures[0], futures[1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(futures[0], futures[2], atol=1e-3)


@pytest.mark.parametrize("loss", ["mse", "smooth_l1", "cosine"])
def test_losses_have_their_closed_forms(loss: str) -> None:
    model = regressor(loss)
    call = bare(model, 1, {"action": torch.zeros(1, 2, 1, 3)})
    prediction = sample(model, "future", call)
    value = model.loss(["future"], call, {"future": known(prediction + 3)}, None).terms["future"].item()
    if loss == "cosine":
        a, b = prediction, prediction + 3
        cosine = (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))
        assert value == pytest.approx(1 - cosine.mean().item(), rel=1e-4)
        scaled = model.loss(["future"], call, {"future": known(7 * prediction)}, None).terms["future"]
        assert scaled.item() == pytest.approx(0, abs=1e-5)
    else:
        assert value == pytest.approx({"mse": 9.0, "smooth_l1": 2.5}[loss], rel=1e-4)


def test_padded_steps_are_not_learned() -> None:
    model = regressor()
    call = bare(model, 2, {"action": torch.zeros(2, 2, 1, 3)})
    pad = torch.tensor([[False, True], [False, False]])
    values = torch.randn(2, 2, 4, 5)
    spoilt = values.clone()
    spoilt[0, 1] = 1e6
    losses = [
        model.loss(["future"], call, {"future": Target(v, pad)}, None).terms["future"]
        for v in (values, spoilt)
    ]
    assert torch.equal(*losses)


def test_regressor_learns_the_conditional_mean() -> None:
    """Squared error is least at E[future | action]: noise that cannot be known is averaged out."""
    torch.manual_seed(0)
    model = regressor()
    sign = torch.where(torch.arange(512) % 2 == 0, 1.0, -1.0)[:, None, None, None]
    action = sign.expand(-1, 2, 1, 3)
    future = sign * torch.linspace(0.2, 1, 5) + 0.5 * torch.randn(512, 2, 4, 5)
    final = fit(model, "future", bare(model, 512, {"action": action}), known(future), 120, 1e-2)
    assert final == pytest.approx(0.25, abs=0.02)
    made = sample(model, "future", bare(model, 2, {"action": action[:2]}))
    torch.testing.assert_close(made.mean(dim=(1, 2))[0], torch.linspace(0.2, 1, 5), atol=0.08, rtol=0)


# ----------------------------------------------------------------------------------------- post-prediction head


def post_head(data: DataSpec, toy: ToyWindows, read: str) -> Design:
    torch.manual_seed(0)
    config = recipe("post_head")
    factors = (config.factors[0], replace(config.factors[1], read=read))  # type: ignore[arg-type]
    teacher = TeacherFeatureConfig(features=8, grid=2, steps=2, batch_size=8)
    design = Design(replace(config, factors=factors, substrates={"teacher": teacher}), data)
    design.fit(toy, 0)
    return design.train()


def predictor_gradient(design: Design) -> float:
    parts = (design.estimators["predictor"], design.trunks["predictor"], design.context["predictor"])
    grads = [p.grad for part in parts for p in part.parameters() if p.grad is not None]
    return max((g.abs().max().item() for g in grads), default=0.0)


@pytest.mark.parametrize("read", ["prediction", "target"])
def test_the_action_loss_never_reaches_the_predictor(data: DataSpec, toy: ToyWindows, read: str) -> None:
    design = post_head(data, toy, read)
    losses = design.loss(toy.windows(np.arange(20, 28), design.training_window))
    losses.terms["action"].backward(retain_graph=True)
    assert predictor_gradient(design) == 0.0
    assert all(p.grad is None for p in design.substrates.parameters())
    losses.terms["future"].backward()
    assert predictor_gradient(design) > 0.0


def test_the_head_reads_the_future_it_is_given(data: DataSpec, toy: ToyWindows) -> None:
    """It accepts the true substrate values, and perturbing them changes the action."""
    design = post_head(data, toy, "prediction").eval()
    batch = toy.windows(np.array([30, 60]), design.training_window)
    truth = design.targets(batch)["future"].values

    def act(future: Tensor) -> Tensor:
        found = design.sample(batch.observation, ["action"], seeds=[1, 2], given={"future": future})
        assert set(found.nfe) == {"action"}  # a given future is not predicted again
        return found.values["action"]

    assert torch.equal(act(truth), act(truth))
    assert not torch.allclose(act(truth), act(truth + 1), atol=1e-4)


# -------------------------------------------------------------------------------------------------- proposer

SINGLE = StreamSpec("action", "action", 1, 1, 2)


def proposer(min_std: float = 0.05, max_std: float = 2.0) -> Proposer:
    torch.manual_seed(0)
    return ProposerConfig(min_std=min_std, max_std=max_std).build((SINGLE,), (), TRUNK.build())


def test_proposer_recovers_mean_deviation_and_likelihood() -> None:
    """Maximum likelihood on N(m, s): the optimum is m, s and a loss of log s + 1/2 per value."""
    mean, std = torch.tensor([0.7, -0.4]), torch.tensor([0.3, 1.2])
    unit = torch.randn(4096, 1, 1, 2)
    unit = (unit - unit.mean(dim=0)) / unit.std(dim=0, correction=0)  # moments exactly 0 and 1
    model = proposer()
    final = fit(model, "action", bare(model, 4096), known(mean + std * unit), 150, 2e-2)
    assert final == pytest.approx((std.log() + 0.5).mean().item(), abs=0.01)
    draws = sample(model, "action", bare(model, 4000))[:, 0, 0]
    torch.testing.assert_close(draws.mean(dim=0), mean, atol=0.08, rtol=0)
    torch.testing.assert_close(draws.std(dim=0), std, atol=0.06, rtol=0.05)


def test_the_deviation_stays_between_its_bounds() -> None:
    for value, expected in ((0.0, 0.2), (5.0, 0.8)):
        model = proposer(min_std=0.2, max_std=0.8)
        target = value * torch.randn(512, 1, 1, 2)
        fit(model, "action", bare(model, 512), known(target), 150, 3e-2)
        with torch.no_grad():
            std = model._density(bare(model, 1))[1]
        assert 0.2 <= std.min() <= std.max() <= 0.8
        assert std.mean().item() == pytest.approx(expected, abs=0.1)


def test_a_proposal_follows_its_rows_seed() -> None:
    model = proposer()
    both = sample(model, "action", bare(model, 2), [3, 4])
    torch.testing.assert_close(sample(model, "action", bare(model, 1), [4]), both[1:], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(both[0], both[1])


def test_refusals_name_the_part() -> None:
    ids = StreamSpec("future", "future", 1, 4, 1, vocabulary=8)
    with pytest.raises(ConfigError, match="estimator 'regressor' needs continuous values"):
        RegressorConfig().build((ids,), (), TRUNK.build())
    with pytest.raises(ConfigError, match="estimator 'regressor' runs on a trunk"):
        RegressorConfig(trunk=None).build((FUTURE,), (), None)
    with pytest.raises(ConfigError, match="proposes one stream, but got: action, future"):
        ProposerConfig().build((ACTION, FUTURE), (), TRUNK.build())
