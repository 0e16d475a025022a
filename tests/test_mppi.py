"""Path integral control on the linear-quadratic toy: its average has a closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from test_planner import STEPS, goals, predict, proposer
from wamkit.calls import PlanResult
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError
from wamkit.planners import MPPI, MPPIConfig
from wamkit.streams import RowNoise, StreamSpec
from wamkit.types import Budget
from wamkit.zoo import recipe


def plan(planner: MPPI, goal: Tensor, budget: Budget | None = None, seed: int = 0) -> PlanResult:
    rows = len(goal)
    noise = RowNoise([100 + seed + i for i in range(rows)])
    return planner.plan(proposer(seed, rows), predict, goal, budget or Budget(), noise)


def linear(goal: Tensor) -> tuple[Tensor, Tensor]:
    """M and r with cost |M u - r|^2 / 2 for inputs u."""
    drift = predict(torch.zeros(1, 1, STEPS, 1, 1))[0, 0, -1, 0]
    columns = [predict(unit.view(1, 1, STEPS, 1, 1))[0, 0, -1, 0] for unit in torch.eye(STEPS)]
    return torch.stack(columns, dim=1) - drift[:, None], goal.flatten() - drift


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_one_round_is_the_mean_of_the_posterior(temperature: float) -> None:
    """exp(-cost / temperature) as a likelihood and the proposals N(0, 1) as a prior: both are Gaussian."""
    goal = goals((1.5, 0.5))
    matrix, right = linear(goal)
    precision = torch.eye(STEPS) + matrix.T @ matrix / temperature
    mean = torch.linalg.solve(precision, matrix.T @ right / temperature)
    planner = MPPIConfig(candidates=200_000, iterations=0, temperature=temperature).build()
    torch.testing.assert_close(plan(planner, goal).action.flatten(), mean, atol=0.03, rtol=0)


def test_rounds_approach_the_optimum() -> None:
    goal = goals((1.0, 0.0), (-0.5, 0.5), (2.0, 1.0))
    start = plan(MPPIConfig(candidates=256, iterations=0).build(), goal).cost
    result = plan(MPPIConfig(candidates=256, iterations=25, temperature=0.01, decay=0.9).build(), goal)
    assert result.cost.max().item() < 1e-3  # three inputs steer two states exactly: the optimum is zero
    assert (result.cost < start).all()
    reached = predict(result.action[:, None])[:, 0, -1]
    torch.testing.assert_close(result.cost, (reached - goal[:, 0]).square().mean(dim=(-2, -1)))


def test_no_temperature_is_the_argmin_and_one_candidate_the_proposal() -> None:
    goal = goals((1.0, 0.0), (-1.0, 2.0))
    candidates = proposer(0, 2)(32)
    cost = (predict(candidates)[:, :, -1] - goal).square().mean(dim=(-2, -1))
    best = candidates[torch.arange(2), cost.argmin(dim=1)]
    assert torch.equal(plan(MPPIConfig(temperature=0.0, iterations=0).build(), goal).action, best)
    cold = plan(MPPIConfig(temperature=1e-6, iterations=0).build(), goal)
    torch.testing.assert_close(cold.action, best)
    torch.testing.assert_close(cold.cost, cost.min(dim=1).values)
    hot = plan(MPPIConfig(temperature=1e6, iterations=0).build(), goal)
    torch.testing.assert_close(hot.action, candidates.mean(dim=1), atol=1e-4, rtol=0)
    one = plan(MPPIConfig().build(), goal, Budget(candidates=1, iterations=0))
    assert torch.equal(one.action, proposer(0, 2)(1)[:, 0])


def test_replanning_beats_open_loop_under_noise() -> None:
    """Open loop keeps every disturbance; replanning is left with the last one only."""
    planner = MPPIConfig(candidates=64, iterations=20, temperature=0.01, decay=0.8).build()

    def ahead(x: float, left: int, seed: int) -> Tensor:
        noise = RowNoise([seed])
        return planner.plan(
            lambda n: noise.normal(n, left, 1, 1).view(1, n, left, 1, 1),
            lambda actions: x + actions.cumsum(dim=2),
            torch.ones(1, 1, 1, 1),
            Budget(),
            noise,
        ).action.flatten()

    shocks = 0.5 * torch.randn(5, STEPS, generator=torch.Generator().manual_seed(0))
    for seed, row in enumerate(shocks.tolist()):
        open_loop = ahead(0.0, STEPS, seed).sum().item() + sum(row)
        x = 0.0
        for t, shock in enumerate(row):
            x += ahead(x, STEPS - t, seed)[0].item() + shock
        assert open_loop - 1 == pytest.approx(sum(row), abs=0.03)
        assert x - 1 == pytest.approx(row[-1], abs=0.03)


def test_rows_are_planned_alone_and_evaluations_are_counted() -> None:
    goal = goals((1.0, 0.0), (-0.5, 0.5))
    both, second = plan(MPPIConfig().build(), goal), plan(MPPIConfig().build(), goal[1:], seed=1)
    torch.testing.assert_close(both.action[1:], second.action, atol=1e-5, rtol=1e-5)
    seen = [0]

    def counted(actions: Tensor) -> Tensor:
        seen[0] += actions.shape[1]
        return predict(actions)

    budget = Budget(candidates=10, iterations=3)
    result = MPPIConfig().build().plan(proposer(0, 2), counted, goal, budget, RowNoise([0, 1]))
    assert result.evaluations == seen[0] == 41


def test_it_takes_the_place_of_another_planner_in_a_design() -> None:
    torch.manual_seed(0)
    toy = ToyWindows()
    design = Design(
        replace(recipe("rollout"), planner=MPPIConfig(candidates=4, iterations=1)), data_spec()
    ).eval()
    design.fit(toy, 0)
    seen = acting_observation(toy, [30, 60], design.window)
    forecast, _ = design.forecast(seen, design.initial_state(2), Budget(), seeds=[1, 2])
    assert forecast.cost is not None
    assert bool(forecast.cost.isfinite().all())
    assert "then select argmin" in design.factorisation()


def test_errors() -> None:
    with pytest.raises(ConfigError, match="temperature -1"):
        MPPIConfig(temperature=-1.0).build()
    with pytest.raises(BudgetError, match="planner 'mppi': candidates 0"):
        plan(MPPIConfig().build(), goals((0.0, 0.0)), Budget(candidates=0))
    ids = StreamSpec("action", "action", 2, 1, 1, vocabulary=8)
    with pytest.raises(ConfigError, match="planner 'mppi' needs continuous values"):
        MPPIConfig().build().check(ids)
