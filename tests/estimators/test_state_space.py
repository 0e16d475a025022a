"""State space: filtering against open loop, and the Kullback-Leibler divergence in closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from estimating import targets
from support import data_spec
from wamkit.contract.calls import Call
from wamkit.contract.streams import Past, RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.design import Design, FutureConfig
from wamkit.design.sampling import NO_CONTEXT
from wamkit.errors import ConfigError
from wamkit.estimators import (
    StateSpace,
    StateSpaceConfig,
)
from wamkit.zoo import recipe

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
        ahead = model.loss(
            ["future"], Call(NO_CONTEXT, given, (), 64), targets({"future": future[rows]}), None
        )
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


@pytest.mark.parametrize(
    ("horizon", "stride", "offsets", "way_out"),
    [
        (8, 4, (4,), r"Set them to \[4, 8\]"),
        (16, 8, (4, 16), r"Set them to \[8, 16\]"),
        (12, 8, (8,), "to a multiple of `stride` 8"),
    ],
)
def test_futures_that_do_not_end_the_steps_are_refused(
    horizon: int, stride: int, offsets: tuple[int, ...], way_out: str
) -> None:
    """They built, and training then died on the shape of a matrix, or learned one step from the target of another."""
    futures = {"future": FutureConfig("video", offsets)}
    config = replace(recipe("recurrent"), horizon=horizon, stride=stride, futures=futures)
    config = replace(config, controller=Chunked(execute=stride))
    with pytest.raises(ConfigError, match=way_out):
        Design(config, data_spec())
