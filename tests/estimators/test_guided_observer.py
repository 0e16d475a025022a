"""Oracle of ss.guided-inference: a feedback observer finds an injected offset of the dynamics, guidance uses it.

The world is x' = x + a + offset. The base policy draws a ~ N(MEAN, DEVIATION^2), exactly. The world model believes
in x' = x + a + state, where the observer's state starts at zero and follows the prediction error (Feedback-WM).
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from gaussians import DEVIATION, MEAN, denoiser, gaussian
from wamkit.contract.calls import Call, Guide
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget
from wamkit.estimators import Denoiser, DenoiserConfig

ROWS, STEPS, GAIN, TARGET = 64, 12, 0.4, 2.5  # every step should move by TARGET


@pytest.fixture(scope="module")
def policy() -> Denoiser:
    torch.manual_seed(0)
    model = denoiser(DenoiserConfig(steps=16))
    model._network = gaussian("velocity", [])  # type: ignore[method-assign, assignment]
    return model


def play(policy: Denoiser, offset: float, weight: float, gain: float) -> tuple[Tensor, Tensor]:
    """Mean squared miss per step (STEPS,) and the observer's state after every step (STEPS, ROWS)."""
    x, state = torch.zeros(ROWS), torch.zeros(ROWS)
    misses, states = [], []
    for step in range(STEPS):
        believed = state.clone()

        def objective(estimates: Mapping[str, Tensor], believed: Tensor = believed) -> Tensor:
            return -0.5 * (estimates["action"].flatten() + believed - TARGET).square()

        call = Call(policy.trunk.empty(ROWS, 1), {}, (), ROWS, Guide("action", objective, weight))
        with torch.no_grad():
            made = policy.generate(["action"], call, Budget(), RowNoise([step], copies=ROWS))
        action = made.values["action"].flatten()
        predicted, seen = x + action + state, x + action + offset
        state = state + gain * (seen - predicted)
        misses.append((seen - x - TARGET).square().mean())
        states.append(state)
        x = seen
    return torch.stack(misses), torch.stack(states)


@pytest.mark.parametrize("offset", [1.0, -0.8])
def test_after_an_injected_offset_the_observer_converges_and_the_loss_shrinks(
    policy: Denoiser, offset: float
) -> None:
    misses, states = play(policy, offset, 0.5, GAIN)
    for step in range(STEPS):  # in closed form: the error falls by 1 - GAIN per step
        expected = torch.full((ROWS,), offset * (1 - (1 - GAIN) ** (step + 1)))
        torch.testing.assert_close(states[step], expected, atol=1e-5, rtol=0)
    assert (states[-1] - offset).abs().max() < 0.01 * abs(offset)
    blind, _ = play(policy, offset, 0.5, 0.0)
    unguided, _ = play(policy, offset, 0.0, GAIN)
    late = slice(STEPS // 2, None)
    print(
        f"offset {offset}: loss {misses[0]:.3f} at first, {misses[late].mean():.3f} late; without observer "
        f"{blind[late].mean():.3f}, without guidance {unguided[late].mean():.3f}, n = {ROWS}"
    )
    assert misses[late].mean() < 0.5 * misses[0]
    assert misses[late].mean() < 0.5 * blind[late].mean()
    assert misses[late].mean() < 0.5 * unguided[late].mean()
    assert misses[0] == blind[0]  # nothing is known yet


def test_without_an_offset_the_observer_stays_and_weight_zero_is_the_base(policy: Denoiser) -> None:
    misses, states = play(policy, 0.0, 0.5, GAIN)
    assert states.abs().max() < 1e-5
    blind, _ = play(policy, 0.0, 0.5, 0.0)
    torch.testing.assert_close(misses, blind)
    base, _ = play(policy, 0.0, 0.0, GAIN)
    assert base.mean().item() == pytest.approx((MEAN - TARGET) ** 2 + DEVIATION**2, abs=0.08)
