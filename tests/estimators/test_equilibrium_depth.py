"""Success against depth of an equilibrium head, beside a flow head at equal evaluations (`ar.equilibrium-head`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wamkit.contract.calls import Call
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.trunks import TransformerConfig

ACTION = StreamSpec("action", "action", 1, 1, 1)
DEPTHS = (1, 2, 4, 8, 16, 32)
ROWS = 400


def fitted(config: DenoiserConfig) -> Denoiser:
    """Two good actions, -1 and 1."""
    torch.manual_seed(0)
    model = config.build((ACTION,), (), TransformerConfig(width=32, depth=2, heads=2).build())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    call = Call(model.trunk.empty(256, 1), {}, (), 256)
    for _ in range(400):
        target = Target(torch.randint(2, (256, 1, 1, 1)) * 2.0 - 1, torch.zeros(256, 1, dtype=torch.bool))
        loss = model.loss(["action"], call, {"action": target}, None).terms["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def act(model: Denoiser, depth: int) -> tuple[Tensor, int]:
    call = Call(model.trunk.empty(ROWS, 1), {}, (), ROWS)
    made = model.generate(["action"], call, Budget(nfe={"action": depth}), RowNoise([0], copies=ROWS))
    return made.values["action"].flatten(), made.nfe["action"]


@torch.no_grad()
def residual(model: Denoiser, action: Tensor) -> float:
    """Mean length of the field where the actions are: how far from stationary they are."""
    level = torch.full((ROWS,), 0.5)
    empty = model.trunk.empty(ROWS, 1)
    field = model._velocity({"action": action[:, None, None, None]}, {"action": level}, empty, None)["action"]
    return field.abs().mean().item()


@pytest.fixture(scope="module")
def heads() -> dict[str, Denoiser]:
    return {kind: fitted(DenoiserConfig(prediction=kind)) for kind in ("velocity", "equilibrium")}  # type: ignore[arg-type]


@pytest.mark.learns
def test_success_and_residual_against_depth_beside_a_flow_at_equal_compute(
    heads: dict[str, Denoiser],
) -> None:
    curve: dict[int, tuple[float, float, float]] = {}
    for depth in DEPTHS:
        found = {}
        for kind, model in heads.items():
            action, spent = act(model, depth)
            assert spent == depth  # matched compute
            found[kind] = ((action.abs() - 1).abs() < 0.2).float().mean().item()
        curve[depth] = (
            found["velocity"],
            found["equilibrium"],
            residual(heads["equilibrium"], act(heads["equilibrium"], depth)[0]),
        )
    print(f"\ndepth: flow success, equilibrium success, residual (n={ROWS})")
    for depth, (flow, descent, left) in curve.items():
        print(f"  {depth:3}: {flow:.2f} {descent:.2f} {left:.3f}")
    # Neither curve has to be monotonic (a point can be stationary and still no good action); the ends are told apart.
    assert curve[32][1] > 0.8 > curve[1][1]
    assert curve[32][2] < 0.5 * curve[1][2]
    assert curve[32][0] > 0.8
