"""Jacobian inverse dynamics: the damped inverse, its limits, and one planner that serves two robots."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
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
from wamkit.design import Design, FutureConfig, from_pretrained, save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import JacobianDynamicsConfig, RegressorConfig
from wamkit.estimators.jacobian_dynamics import JacobianDynamics
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

POINTS = 5
MOTION = StreamSpec("motion", "future", 1, POINTS, 2)
PLACES = torch.rand(POINTS, 2, generator=torch.Generator().manual_seed(0)) - 0.5


def action_spec(width: int) -> StreamSpec:
    return StreamSpec("action", "action", 1, 1, width)


def trunk() -> Trunk:
    return TransformerConfig(width=32, depth=2, heads=2).build()


def robot(letter: str, angle: Tensor) -> Tensor:
    """True Jacobians (B, 2 * POINTS, A) of how tracked points answer to the robot's action, seen from ``angle``.

    Robot a moves the body in its own axes and turns it; robot b has four skewed, redundant motors.
    """
    c, s, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    turn = torch.stack((torch.stack((c, -s), 1), torch.stack((s, c), 1)), 1)  # (B, 2, 2)
    spin = torch.stack((-PLACES[:, 1], PLACES[:, 0]), 1).expand(len(angle), -1, -1)
    body = torch.cat((turn[:, None].expand(-1, POINTS, -1, -1), spin[..., None]), dim=3).flatten(1, 2)
    if letter == "a":
        return body
    mix = torch.tensor([[1.0, 0.5, -0.3, 0.0], [0.0, 0.8, 0.4, -1.0], [0.7, 0.0, 0.6, 0.5]])
    return body @ mix + zero[:, None, None]


def call_of(angle: Tensor, model: Trunk, given: dict[str, Tensor]) -> Call:
    """The context shows the viewing angle."""
    token = torch.zeros(len(angle), 1, 32)
    token[:, 0, 0], token[:, 0, 1] = angle.cos() * 3, angle.sin() * 3
    return Call(model(token)[1], given, (), len(angle))


def drawn(letter: str, rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Angles, random actions, and the motion they cause."""
    g = torch.Generator().manual_seed(seed)
    angle = torch.rand(rows, generator=g) * math.pi
    jacobian = robot(letter, angle)
    action = torch.randn(rows, jacobian.shape[2], generator=g)
    return angle, action, (jacobian @ action[..., None])[..., 0].view(rows, 1, POINTS, 2)


@cache
def translator(letter: str, steps: int = 300) -> JacobianDynamics:
    """Trained on the robot's own random play."""
    torch.manual_seed(0)
    width = 3 if letter == "a" else 4
    # Four motors move three degrees of freedom: which of them did it cannot be told, so learn the forward way.
    config = JacobianDynamicsConfig(damping=1e-5, inverse=0.0)
    model = config.build([action_spec(width)], [MOTION], trunk())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        angle, action, motion = drawn(letter, 64, step)
        target = {"action": Target(action[:, None, None], torch.zeros(64, 1, dtype=torch.bool))}
        loss = model.loss(["action"], call_of(angle, model.trunk, {"motion": motion}), target, None)
        optimizer.zero_grad()
        loss.terms["action"].backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def planner() -> Estimator:
    """Predicts the motion from what is seen; it never heard of an action."""
    torch.manual_seed(1)
    return RegressorConfig().build([MOTION], [], trunk())


def wanted(rows: int) -> Tensor:
    """The demonstrated motion: the body goes right and turns."""
    spin = torch.stack((-PLACES[:, 1], PLACES[:, 0]), 1)
    return (torch.tensor([0.5, 0.0]) + 0.4 * spin).expand(rows, 1, -1, -1)


def plan(model: Estimator, angle: Tensor) -> Tensor:
    assert isinstance(model.trunk, torch.nn.Module)
    call = call_of(angle, model.trunk, {})  # type: ignore[arg-type]
    return model.generate(["motion"], call, Budget(), RowNoise(range(len(angle)))).values["motion"]


@pytest.mark.learns
def test_one_untouched_planner_serves_two_robots() -> None:
    model = planner()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(150):
        angle, _, _ = drawn("a", 32, step)
        target = {"motion": Target(wanted(32), torch.zeros(32, 1, dtype=torch.bool))}
        loss = model.loss(["motion"], call_of(angle, model.trunk, {}), target, None)  # type: ignore[arg-type]
        optimizer.zero_grad()
        loss.terms["motion"].backward()
        optimizer.step()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    angle, _, _ = drawn("a", 200, 10_000)
    for letter in ("a", "b"):
        inverse = translator(letter)
        with torch.no_grad():
            motion = plan(model, angle)
            made = inverse.generate(
                ["action"], call_of(angle, inverse.trunk, {"motion": motion}), Budget(), RowNoise([0])
            )
        assert made.nfe == {"action": 1}
        action = made.values["action"].flatten(1)
        moved = (robot(letter, angle) @ action[..., None]).view_as(motion)  # what the world really does
        error = (moved - wanted(200)).square().mean().sqrt()
        assert error < 0.1 * wanted(200).square().mean().sqrt(), letter
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_actions_between_known_motions_are_recovered() -> None:
    model = translator("a")
    angle, action, motion = drawn("a", 500, 20_000)
    with torch.no_grad():
        jacobian, drift = model.linear(call_of(angle, model.trunk, {}))
        found = model.invert(jacobian, motion.flatten(1) - drift)
    assert (jacobian - robot("a", angle)).abs().max() < 0.25
    assert (found - action).square().mean().sqrt() < 0.1


def test_the_damped_inverse_in_closed_form() -> None:
    model = JacobianDynamicsConfig(damping=0.5).build([action_spec(3)], [MOTION], trunk())
    jacobian, motion = torch.zeros(1, 10, 3), torch.ones(1, 10)
    jacobian[0, 0, 0], jacobian[0, 1, 1] = 2.0, 1e-6
    action = model.invert(jacobian, motion)
    damping = 0.5 * 10 / 3
    torch.testing.assert_close(action, torch.tensor([[2 / (4 + damping), 0.0, 0.0]]), atol=1e-5, rtol=0)
    exact = replace(model.config, damping=1e-9).build([action_spec(3)], [MOTION], trunk())
    g = torch.Generator().manual_seed(0)
    jacobian, action = torch.randn(4, 10, 3, generator=g), torch.randn(4, 3, generator=g)
    found = exact.invert(jacobian, (jacobian @ action[..., None])[..., 0])
    torch.testing.assert_close(found, action, atol=1e-4, rtol=0)


def test_padded_rows_are_not_learned_from() -> None:
    model = JacobianDynamicsConfig().build([action_spec(3)], [MOTION], trunk())
    angle, action, motion = drawn("a", 6, 0)
    pad = torch.tensor([[False]] * 4 + [[True]] * 2)

    def value(motion: Tensor) -> Tensor:
        call = call_of(angle, model.trunk, {"motion": motion})
        return model.loss(["action"], call, {"action": Target(action[:, None, None], pad)}, None).terms[
            "action"
        ]

    other = motion.clone()
    other[4:] += 10
    assert torch.equal(value(motion), value(other))
    other[0] += 1
    assert not torch.equal(value(motion), value(other))


def test_it_acts_behind_a_predicted_future(data: DataSpec, toy: ToyWindows, tmp_path: Path) -> None:
    config = recipe("post_head")
    config = replace(
        config,
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (4, 8))},
        estimators={
            "predictor": config.estimators["predictor"],
            "policy": JacobianDynamicsConfig(trunk="policy"),
        },
    )
    torch.manual_seed(0)
    design = Design(config, data)
    assert design.factorisation() == "p(s|c) p(a|s,c)"
    design.fit(toy, seed=0)
    optimizer = torch.optim.Adam(design.parameters(), lr=1e-3)
    totals = []
    for _ in range(6):
        losses = design.loss(toy.windows(np.arange(0, 320, 20), design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.terms["action"].item())
    assert totals[-1] < totals[0]
    design.eval()
    observation = acting_observation(toy, [40, 90], design.window)
    forecast, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(forecast.action, repeated.action)


def test_what_does_not_fit_is_refused() -> None:
    config, action = JacobianDynamicsConfig(), action_spec(3)
    with pytest.raises(ConfigError, match="generates the action alone"):
        config.build([MOTION], [MOTION], trunk())
    with pytest.raises(ConfigError, match="inverts the motion of futures or goals"):
        config.build([action], [], trunk())
    with pytest.raises(ConfigError, match=r"JacobianDynamicsConfig\.damping: must be more than 0, got 0"):
        JacobianDynamicsConfig(damping=0)
    with pytest.raises(ConfigError, match="needs continuous values"):
        config.build([action], [replace(MOTION, vocabulary=7)], trunk())
