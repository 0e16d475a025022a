"""Regressor, proposer and state space: closed forms, stopped gradients, filtering against open loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows
from wamkit.contract.calls import Call
from wamkit.contract.protocols import DataSpec, Estimator
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.sampling import NO_CONTEXT
from wamkit.errors import ConfigError
from wamkit.estimators import (
    Proposer,
    ProposerConfig,
    Regressor,
    RegressorConfig,
    StateSpace,
    StateSpaceConfig,
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


# ----------------------------------------------------------------------------------------------- state space

STEP, KICK = 0.15, 0.15


def pendulum(rows: int, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Angles as (cos, sin) (rows, steps + 1, 1, 2) and torques (rows, steps, 1, 1).

    Velocity is hidden, and small kicks that nobody announces give an observation something to tell.
    """
    g = torch.Generator().manual_seed(seed)
    angle = (torch.rand(rows, generator=g) * 2 - 1) * 2
    velocity = torch.zeros(rows)
    torque = torch.randn(rows, steps, generator=g)
    seen = [angle]
    for t in range(steps):
        velocity = velocity + STEP * (-3 * angle.sin() + torque[:, t])
        angle = angle + STEP * velocity + KICK * torch.randn(rows, generator=g)
        seen.append(angle)
    angles = torch.stack(seen, dim=1)
    return torch.stack((angles.cos(), angles.sin()), dim=-1)[:, :, None], torque[:, :, None, None]


BLOCKS, AHEAD = 6, 6


def state_space() -> StateSpace:
    torch.manual_seed(0)
    state = StreamSpec("latent", "state", 1, 1, 32 + 4)
    future = StreamSpec("future", "future", AHEAD, 1, 2)
    action = StreamSpec("action", "action", AHEAD, 1, 1)
    config = StateSpaceConfig(stochastic=4, hidden=48, past=BLOCKS, free_nats=0.1, kl_weight=0.05)
    return config.build((state, future), (state, action), None)


def split(seen: Tensor, torque: Tensor, blocks: int = BLOCKS) -> tuple[Past, Tensor, Tensor]:
    """The first blocks are past (no action led to the first observation), the rest is the future."""
    rows = len(seen)
    no_action = torch.zeros(rows, 1, 1, 1)
    led = torch.cat((no_action, torque[:, : blocks - 1]), dim=1)[:, :, None]  # (B, K, T = 1, N, D)
    action_pad = torch.zeros(rows, blocks, dtype=torch.bool)
    action_pad[:, 0] = True
    past = Past({"future": seen[:, :blocks]}, led, torch.zeros_like(action_pad), action_pad)
    return past, torque[:, blocks - 1 : blocks - 1 + AHEAD], seen[:, blocks : blocks + AHEAD]


@pytest.fixture(scope="module")
def trained() -> StateSpace:
    model = state_space()
    past, action, future = split(*pendulum(256, BLOCKS + AHEAD, seed=0))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    for _ in range(250):
        rows = torch.randperm(256)[:64]
        some = Past(
            {"future": past.values["future"][rows]}, past.action[rows], past.pad[rows], past.action_pad[rows]
        )
        state = model.loss(["latent"], Call(NO_CONTEXT, {}, (), 64), {}, some)
        given = {"latent": state.inferred["latent"], "action": action[rows]}
        ahead = model.loss(["future"], Call(NO_CONTEXT, given, (), 64), {"future": known(future[rows])}, None)
        optimizer.zero_grad()
        (state.terms["latent"] + ahead.terms["future"]).backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def filtered(model: StateSpace, past: Past) -> Tensor:
    carry = model.initial_carry(len(past.pad))
    return model.observe(carry, NO_CONTEXT, past)["state"]


def error(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean squared error per step, (T,)."""
    return (prediction - truth).square().mean(dim=(0, 2, 3))


@pytest.mark.learns
def test_the_posterior_is_closer_to_what_is_observed_than_the_prior(trained: StateSpace) -> None:
    past, _, _ = split(*pendulum(200, BLOCKS + AHEAD, seed=1))
    state = torch.zeros(200, 36)
    with torch.no_grad():
        for k in range(BLOCKS):
            state, prior, _ = trained._filter_step(state, past, k, sample=False)
            truth = past.values["future"][:, k]
            posterior_error = (trained._decode(state) - truth).square().mean()
            expected = torch.cat((state[:, : trained.deterministic], prior.mean), dim=-1)
            prior_error = (trained._decode(expected) - truth).square().mean()
            assert posterior_error < prior_error, k


@pytest.mark.learns
def test_open_loop_error_grows_slower_than_copying_the_present(trained: StateSpace) -> None:
    past, action, future = split(*pendulum(200, BLOCKS + AHEAD, seed=2))
    with torch.no_grad():
        rolled = trained._roll(filtered(trained, past)[:, None, None], action)
    model_error = error(rolled, future)
    copy_error = error(past.values["future"][:, -1:].expand_as(future), future)
    assert (model_error < copy_error).all(), (model_error, copy_error)
    assert model_error[-1] - model_error[0] < 0.5 * (copy_error[-1] - copy_error[0])


@pytest.mark.learns
def test_the_action_and_the_hidden_velocity_matter(trained: StateSpace) -> None:
    past, action, future = split(*pendulum(200, BLOCKS + AHEAD, seed=3))
    state = filtered(trained, past)[:, None, None]
    last = Past(
        {"future": past.values["future"][:, -1:]}, past.action[:, :1], past.pad[:, :1], past.action_pad[:, :1]
    )
    with torch.no_grad():
        whole = error(trained._roll(state, action), future).mean()
        shuffled = error(trained._roll(state, action.flip(0)), future).mean()
        one_frame = error(trained._roll(filtered(trained, last)[:, None, None], action), future).mean()
    assert whole < shuffled
    assert whole < one_frame  # a single picture shows no velocity


@pytest.mark.learns
def test_observing_block_by_block_equals_the_unrolled_filter(trained: StateSpace) -> None:
    past, _, _ = split(*pendulum(5, BLOCKS + AHEAD, seed=4))
    carry = trained.initial_carry(5)
    shape = carry["state"].shape
    for k in range(BLOCKS):
        block = Past(
            {"future": past.values["future"][:, k : k + 1]},
            past.action[:, k : k + 1],
            past.pad[:, k : k + 1],
            past.action_pad[:, k : k + 1],
        )
        with torch.no_grad():
            carry = trained.observe(carry, NO_CONTEXT, block)
        assert carry["state"].shape == shape  # constant in time
    assert torch.equal(carry["state"], filtered(trained, past))


@pytest.mark.learns
def test_a_new_episode_forgets_the_last_one(trained: StateSpace) -> None:
    past, _, _ = split(*pendulum(3, BLOCKS + AHEAD, seed=5))
    fresh = filtered(trained, past)
    with torch.no_grad():
        again = trained.observe({"state": torch.randn(3, 36)}, NO_CONTEXT, past)["state"]
    assert torch.equal(fresh, again)


def test_kl_of_gaussians_in_closed_form() -> None:
    from wamkit.estimators.state_space import Gaussian, kl

    a = Gaussian(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 2.0]]))
    b = Gaussian(torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 1.0]]))
    expected = (math.log(2) + (1 + 1) / 8 - 0.5) + (math.log(0.5) + 4 / 2 - 0.5)
    assert kl(a, b).item() == pytest.approx(expected, rel=1e-6)
    assert kl(a, a).item() == 0


@pytest.mark.learns
def test_generate_reads_the_carry_and_counts_the_steps(trained: StateSpace) -> None:
    past, action, _ = split(*pendulum(3, BLOCKS + AHEAD, seed=6))
    state = filtered(trained, past)
    call = Call(NO_CONTEXT, {}, {"state": state}, 3)
    latent = trained.generate(["latent"], call, Budget(), RowNoise([0, 1, 2]))
    assert torch.equal(latent.values["latent"][:, 0, 0], state)
    call = Call(NO_CONTEXT, {"latent": latent.values["latent"], "action": action}, {"state": state}, 3)
    made = trained.generate(["future"], call, Budget(), RowNoise([0, 1, 2]))
    assert made.nfe == {"future": AHEAD}
    assert made.values["future"].shape == (3, AHEAD, 1, 2)


def test_state_space_refuses_other_factors() -> None:
    state, future = StreamSpec("latent", "state", 1, 1, 8), StreamSpec("future", "future", 2, 1, 2)
    action = StreamSpec("action", "action", 4, 1, 1)
    config = StateSpaceConfig(stochastic=4)
    with pytest.raises(ConfigError, match=r"needs factors p\(state \| c\) and p\(future \| state, action\)"):
        config.build((future,), (action,), None)
    with pytest.raises(ConfigError, match="needs factors"):
        config.build((state, future), (action,), None)  # one factor that generates both at once
    with pytest.raises(ConfigError, match="'latent' has 8 features, which must exceed stochastic 8"):
        replace(config, stochastic=8).build((state, future), (state, action), None)
    with pytest.raises(ConfigError, match="3 action steps cannot be cut evenly into the 2 steps"):
        config.build((state, future), (state, replace(action, steps=3)), None)
