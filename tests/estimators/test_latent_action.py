"""Latent actions: z says what happened, and another robot needs another decoder only."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Estimator, Trunk
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, Factor, from_pretrained, save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import LatentActionConfig, Regressor, RegressorConfig
from wamkit.estimators.latent_action import LatentAction
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

WIDTH = 32
Z = StreamSpec("z", "state", 1, 1, 2)
NEXT = StreamSpec("next", "future", 1, 1, 2)  # a point in the plane
ROBOTS = {
    "a": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
    "b": torch.tensor([[0.0, -2.0], [1.0, 0.0], [1.0, 1.0]]),
}


class World:
    """s' = s + u; robot r moves the point by the command a = M_r u. Nothing in s tells u."""

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(7)
        self.embed = torch.randn(2, WIDTH, generator=g)

    def context(self, trunk: Trunk, s: Tensor) -> Call:
        """What is seen, run through a trunk."""
        _, cache = trunk((s @ self.embed)[:, None])
        return Call(cache, {}, (), len(s))

    def rows(self, count: int, seed: int, robot: str) -> tuple[Tensor, Tensor, Tensor]:
        """s (B, 2), the future (B, 1, 1, 2) and the robot's command (B, 1, 1, A)."""
        g = torch.Generator().manual_seed(seed)
        s, u = torch.randn(count, 2, generator=g), torch.randn(count, 2, generator=g)
        return s, (s + u)[:, None, None], (u @ ROBOTS[robot].T)[:, None, None]


def target(values: Tensor) -> Target:
    return Target(values, torch.zeros(values.shape[:2], dtype=torch.bool))


@pytest.fixture(scope="module")
def learned() -> tuple[LatentAction, World]:
    torch.manual_seed(0)
    trunk = TransformerConfig(width=WIDTH, depth=2, heads=2).build()
    model = LatentActionConfig().build([Z, NEXT], [Z], trunk)
    world = World()
    steps = 300
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        s, future, _ = world.rows(64, step, "a")
        call = world.context(trunk, s)
        targets = {"next": target(future)}
        first = model.loss(["z"], call, targets, None)
        second = model.loss(["next"], replace(call, given=first.inferred), targets, None)
        optimizer.zero_grad()
        (0.1 * first.terms["z"] + second.terms["next"]).backward()
        optimizer.step()
        schedule.step()
    return model.eval(), world


def make(model: Estimator, name: str, call: Call) -> Tensor:
    made = model.generate([name], call, Budget(), RowNoise(range(call.rows)))
    assert made.nfe == {name: 1}
    return made.values[name]


@pytest.mark.learns
@torch.no_grad()
def test_z_rebuilds_the_future_and_a_shuffled_z_does_not(learned: tuple[LatentAction, World]) -> None:
    model, world = learned
    s, future, _ = world.rows(400, 10_000, "a")
    call = world.context(model.trunk, s)
    z = make(model, "z", replace(call, given={"next": future}))
    assert z.shape == (400, 1, 1, 2)

    def error(z: Tensor) -> float:
        return (make(model, "next", replace(call, given={"z": z})) - future).square().mean().item()

    own, other, guessed = error(z), error(z.roll(1, dims=0)), error(make(model, "z", call))
    assert own < 0.1
    assert other > 10 * own
    assert guessed > 5 * own  # nothing in the context tells the command: only the pair (s, s') does


@pytest.mark.learns
def test_another_robot_needs_another_decoder_only(learned: tuple[LatentAction, World]) -> None:
    model, world = learned
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for robot, matrix in ROBOTS.items():
        torch.manual_seed(1)
        command = StreamSpec("action", "action", 1, 1, len(matrix))
        decoder = RegressorConfig().build(
            [command], [Z], TransformerConfig(width=WIDTH, depth=2, heads=2).build()
        )
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=250)

        def called(seed: int, robot: str = robot, decoder: Regressor = decoder) -> tuple[Call, Tensor]:
            s, future, action = world.rows(64, seed, robot)
            with torch.no_grad():
                z = make(model, "z", replace(world.context(model.trunk, s), given={"next": future}))
            return replace(world.context(decoder.trunk, s), given={"z": z}), action

        for step in range(250):
            call, action = called(step)
            loss = decoder.loss(["action"], call, {"action": target(action)}, None).terms["action"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        call, action = called(20_000)
        with torch.no_grad():
            error = (make(decoder, "action", call) - action).square().mean().sqrt()
        assert error < 0.3 * action.std(), robot
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def config() -> DesignConfig:
    base = recipe("joint")
    return replace(
        base,
        states={"z": 8},
        estimators={"world": LatentActionConfig(), "robot": RegressorConfig()},
        factors=(
            Factor(("z",), (), "world"),
            Factor(("future",), ("z",), "world"),
            Factor(("action",), ("z",), "robot"),
        ),
    )


def test_a_design_acts_through_latent_actions(data: DataSpec, toy: ToyWindows, tmp_path: Path) -> None:
    torch.manual_seed(0)
    design = Design(config(), data)
    assert design.factorisation() == "p(z|c) p(s|z,c) p(a|z,c)"
    assert design.graph.wam().is_wam
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
    seen = {"future": forecast.future["future"] + 1}  # a video without actions: infer z, then act like it
    labelled = design.sample(observation, ["z", "action"], seeds=[1, 2], given=seen).values
    free = design.sample(observation, ["z"], seeds=[1, 2]).values
    assert not torch.equal(labelled["z"], free["z"])
    design.check_budget(Budget(future=False))


def test_what_does_not_fit_is_refused() -> None:
    trunk = TransformerConfig(width=WIDTH, depth=2, heads=2).build()
    with pytest.raises(ConfigError, match=r"needs factors p\(state \| c\) and p\(future \| state\)"):
        LatentActionConfig().build([NEXT], [Z], trunk)
    with pytest.raises(ConfigError, match="needs continuous values"):
        LatentActionConfig().build([Z, replace(NEXT, vocabulary=5, features=1)], [Z], trunk)
    with pytest.raises(ConfigError, match="runs on a trunk"):
        LatentActionConfig().build([Z, NEXT], [Z], None)
    clips = [replace(NEXT, name=name) for name in ("one", "two")]
    with pytest.raises(ConfigError, match="at most one more future for the state"):
        LatentActionConfig().build([Z, NEXT], [Z, *clips], trunk)


def test_z_is_read_off_another_model_s_future() -> None:
    """Told a generated clip, z depends on it alone, is trained by the rebuilt future, and has no prior."""
    torch.manual_seed(0)
    trunk = TransformerConfig(width=WIDTH, depth=2, heads=2).build()
    clip = replace(NEXT, name="clip")
    model = LatentActionConfig().build([Z, NEXT], [clip, Z], trunk)
    s, future, _ = World().rows(8, 1, "a")
    call = replace(World().context(trunk, s), given={"clip": future})
    with torch.no_grad():
        z = make(model, "z", call)
        assert not torch.equal(z, make(model, "z", replace(call, given={"clip": future + 1})))
    assert not model.takes(["z"], "next")
    first = model.loss(["z"], call, {"next": target(future)}, None)
    second = model.loss(["next"], replace(call, given=first.inferred), {"next": target(future)}, None)
    second.terms["next"].backward()
    assert model.posterior.weight.grad is not None
    assert bool(model.posterior.weight.grad.any())
    assert model.prior is None
