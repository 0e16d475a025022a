"""Goal-conditioned executor (`ar.goal-policy`): a goal stream that the caller supplies, with no part of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import data_spec
from wamkit.actions import ChunkConfig
from wamkit.contract.types import Batch, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor
from wamkit.encoders import StateConfig
from wamkit.estimators import RegressorConfig
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

H = 4


def expert(state: Tensor, goal: Tensor) -> Tensor:
    """(B, 4) -> (B, H, 4): steps of at most 0.2 towards the goal; the state adds them up."""
    steps = []
    for _ in range(H):
        steps.append((goal - state).clamp(-0.2, 0.2))
        state = state + steps[-1]
    return torch.stack(steps, dim=1)


def observe(state: Tensor) -> Observation:
    rows = len(state)
    return Observation({}, state[:, None], ("reach",) * rows, torch.zeros(rows, 1, dtype=torch.bool))


def reach_batch(rows: int, seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    state, goal = (torch.rand(rows, 4, generator=g) * 2 - 1 for _ in range(2))
    near = torch.rand(rows, 1, generator=g) < 0.5  # half of the rows begin where fine steps are needed
    state = torch.where(near, goal + 0.2 * state, state)
    pad = torch.zeros(rows, H, dtype=torch.bool)
    return Batch(observe(state), expert(state, goal), pad, goal=observe(goal))


@pytest.fixture(scope="module")
def design() -> Design:
    trunk = TransformerConfig(width=48, depth=2, heads=2)
    config = DesignConfig(
        name="executor",
        horizon=H,
        width=48,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        goals={"goal": "body"},
        action=ChunkConfig(ticks_per_token=H),
        trunks={"planner": trunk, "executor": trunk},
        estimators={
            "planner": RegressorConfig(trunk="planner"),
            "executor": RegressorConfig(trunk="executor"),
        },
        factors=(Factor(("goal",), (), "planner"), Factor(("action",), ("goal",), "executor")),
        controller=Chunked(execute=H),
    )
    torch.manual_seed(0)
    data = data_spec()
    data = replace(data, observation=replace(data.observation, cameras={}))  # the toy robot sees nothing
    made = Design(config, data)
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=300)
    for step in range(300):
        loss = made.loss(reach_batch(64, step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return made.eval()


def success(design: Design, goals: Tensor, supplied: list[Tensor] | None) -> float:
    """Share of rows that end at their goal after six calls; ``supplied`` are the goals told at each call."""
    state = torch.rand(goals.shape, generator=torch.Generator().manual_seed(5)) * 2 - 1
    body = design.substrates["body"]
    for i in range(6):
        given = None if supplied is None else {"goal": body.encode(observe(supplied[i]))}  # type: ignore[operator]
        sampled = design.sample(observe(state), ["action"], seeds=range(len(state)), given=given)
        assert ("goal" in sampled.nfe) == (supplied is None)  # a supplied goal is not planned
        state = state + design.action.decode(sampled.values["action"]).sum(dim=1)  # type: ignore[operator]
    return float(((state - goals).norm(dim=1) < 0.2).float().mean())


@pytest.mark.learns
def test_oracle_goals_succeed_and_stale_goals_fail(design: Design) -> None:
    assert design.factorisation() == "p(g|c) p(a|g,c)"
    goals = torch.rand(200, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    earlier = torch.rand(200, 4, generator=torch.Generator().manual_seed(4)) * 2 - 1
    oracle = success(design, goals, [goals] * 6)
    late = success(design, goals, [earlier] * 4 + [goals] * 2)  # the goal moved, and word came late
    stale = success(design, goals, [earlier] * 6)
    assert oracle > 0.95
    assert stale < 0.1
    assert stale < late < oracle


@pytest.mark.learns
def test_the_planner_is_replaced_without_retraining_the_executor(design: Design) -> None:
    goals = torch.rand(200, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    before = {k: v.clone() for k, v in design.state_dict().items()}
    own = success(design, goals, None)  # its own planner cannot know: nothing in the state tells the goal
    noisy = goals + 0.02 * torch.randn(goals.shape, generator=torch.Generator().manual_seed(6))
    assert own < 0.1
    assert success(design, goals, [noisy] * 6) > 0.9
    assert all(torch.equal(before[k], v) for k, v in design.state_dict().items())


@pytest.mark.learns
def test_goals_steer_and_are_read_as_given(design: Design) -> None:
    body = design.substrates["body"]
    state = torch.zeros(2, 4)
    ahead = torch.tensor([[0.8, 0.0, 0.0, 0.0], [-0.8, 0.0, 0.0, 0.0]])
    given = {"goal": body.encode(observe(ahead))}  # type: ignore[operator]
    values = design.sample(observe(state), ["action"], seeds=[0, 0], given=given).values
    moved = design.action.decode(values["action"]).sum(dim=1)[:, 0]  # type: ignore[operator]
    assert np.sign(moved.tolist()).tolist() == [1, -1]
    assert set(values) == {"action"}
