"""Cross-entropy search on a linear-quadratic toy whose optimum is known in closed form."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from point_mass import STEPS, cost_to, goals, predict, proposer
from wamkit.contract.calls import PlanResult
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.planners import CEM, CandidateScoringConfig, CEMConfig
from wamkit.planners.objectives import distance


def plan(planner: CEM, goal: Tensor, budget: Budget | None = None, seed: int = 0) -> PlanResult:
    rows = len(goal)
    noise = RowNoise([100 + seed + i for i in range(rows)])
    return planner.plan(proposer(seed, rows), cost_to(goal), budget or Budget(), noise)


def cem(candidates: int = 64, iterations: int = 8, elites: int = 8, deviation_cost: float = 0.0) -> CEM:
    return CEMConfig("future", "goal", candidates, iterations, elites, deviation_cost).build()


def test_reaches_the_goal_of_a_controllable_system() -> None:
    """Three inputs steer two states exactly, so the optimal cost is zero."""
    goal = goals((1.0, 0.0), (-0.5, 0.5), (2.0, 1.0))
    result = plan(cem(iterations=25), goal)
    assert result.cost.max().item() < 1e-3
    torch.testing.assert_close(predict(result.action[:, None])[:, 0, -1], goal[:, 0], atol=0.05, rtol=0)


def test_approaches_the_analytic_optimum_with_a_quadratic_input_cost() -> None:
    """mean((M u + d - g)^2) + w mean(((u - centre) / spread)^2) is least squares in u."""
    weight, goal = 0.3, goals((1.5, 0.5))
    count = 256
    candidates = proposer(0, 1)(count)
    centre, spread = candidates.mean(dim=1).flatten(), candidates.std(dim=1, correction=0).flatten()
    columns = [predict(unit.view(1, 1, STEPS, 1, 1))[0, 0, -1, 0] for unit in torch.eye(STEPS)]
    drift = predict(torch.zeros(1, 1, STEPS, 1, 1))[0, 0, -1, 0]
    matrix = torch.stack(columns, dim=1) - drift[:, None]
    left = torch.cat((matrix / 2**0.5, (weight / STEPS) ** 0.5 * torch.diag(1 / spread)))
    right = torch.cat(((goal.flatten() - drift) / 2**0.5, (weight / STEPS) ** 0.5 * centre / spread))
    optimum = torch.linalg.lstsq(left, right[:, None]).solution
    least = (left @ optimum - right[:, None]).square().sum()
    result = plan(cem(count, 12, 20, deviation_cost=weight), goal)
    assert result.cost.item() == pytest.approx(least.item(), rel=0.02)
    assert result.cost.item() >= least.item() - 1e-5
    torch.testing.assert_close(result.action.flatten(), optimum.flatten(), atol=0.1, rtol=0)


def test_one_candidate_and_no_iteration_is_the_proposal() -> None:
    result = plan(cem(), goals((1.0, 0.0), (0.0, 0.0)), Budget(candidates=1, iterations=0))
    assert torch.equal(result.action, proposer(0, 2)(1)[:, 0])
    assert result.evaluations == 1


def test_no_iteration_is_the_argmin_of_the_proposals() -> None:
    goal = goals((1.0, 0.0), (-1.0, 2.0))
    candidates = proposer(0, 2)(32)
    cost = (predict(candidates)[:, :, -1] - goal).square().mean(dim=(-2, -1))
    result = plan(cem(32), goal, Budget(iterations=0))
    assert torch.equal(result.action, candidates[torch.arange(2), cost.argmin(dim=1)])
    assert torch.equal(result.cost, cost.min(dim=1).values)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), candidates=st.integers(2, 20))
def test_the_cost_never_rises_with_more_iterations(seed: int, candidates: int) -> None:
    goal = goals((1.0, 0.0), (-0.5, 0.5))
    results = [
        plan(cem(), goal, Budget(candidates=candidates, iterations=k), seed=seed) for k in (0, 1, 2, 5)
    ]
    for worse, better in pairwise(results):
        assert (better.cost <= worse.cost).all()
    for result in results:  # the reported cost is the cost of the returned action
        reached = predict(result.action[:, None])[:, 0, -1]
        torch.testing.assert_close(result.cost, (reached - goal[:, 0]).square().mean(dim=(-2, -1)))


def test_a_row_is_planned_as_if_it_were_alone() -> None:
    goal = goals((1.0, 0.0), (-0.5, 0.5))
    both = plan(cem(), goal)
    second = plan(cem(), goal[1:], seed=1)
    torch.testing.assert_close(both.action[1:], second.action, atol=1e-5, rtol=1e-5)


def test_evaluations_are_counted() -> None:
    seen = [0]

    def counted(actions: Tensor) -> Tensor:
        seen[0] += actions.shape[1]
        return predict(actions)

    goal = goals((1.0, 0.0))
    budget = Budget(candidates=10, iterations=3)
    result = cem().plan(proposer(0, 1), cost_to(goal, counted), budget, RowNoise([0]))
    assert result.evaluations == seen[0] == 40


def plan_scalar(x: float, left: int, seed: int) -> Tensor:
    """Plan x' = x + u over the ``left`` steps that remain, towards 1: (left,)."""
    noise = RowNoise([seed])
    return (
        cem(64, 10)
        .plan(
            lambda n: noise.normal(n, left, 1, 1).view(1, n, left, 1, 1),
            cost_to(torch.ones(1, 1, 1, 1), lambda actions: x + actions.cumsum(dim=2)),
            Budget(),
            noise,
        )
        .action.flatten()
    )


def test_replanning_beats_open_loop_under_noise() -> None:
    """Open loop keeps every disturbance; replanning is left with the last one only."""
    shocks = 0.5 * torch.randn(10, STEPS, generator=torch.Generator().manual_seed(0))
    for seed, row in enumerate(shocks.tolist()):
        fixed = plan_scalar(0.0, STEPS, seed)
        open_loop = fixed.sum().item() + sum(row)
        x = 0.0
        for t, shock in enumerate(row):
            x += plan_scalar(x, STEPS - t, seed)[0].item() + shock
        assert open_loop - 1 == pytest.approx(sum(row), abs=0.02)
        assert x - 1 == pytest.approx(row[-1], abs=0.02)


def test_errors() -> None:
    with pytest.raises(ConfigError, match="elites 9 must be at most candidates 8"):
        CEMConfig(candidates=8, elites=9).build()
    for part, broken in (
        (CEMConfig, {"candidates": 0}), (CEMConfig, {"iterations": -1}), (CEMConfig, {"deviation_cost": -0.1}),
        (CandidateScoringConfig, {"candidates": 0}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=r"must be at least [01].*, got (0|-1|-0\.1)\.$"):
            part(**broken)
    with pytest.raises(BudgetError, match="candidates: must be at least 1"):
        plan(cem(), goals((0.0, 0.0)), Budget(candidates=0))
    with pytest.raises(BudgetError, match="iterations: must be at least 0"):
        plan(cem(), goals((0.0, 0.0)), Budget(iterations=-1))


def test_best_of_n_takes_the_argmin_and_one_is_the_base_policy() -> None:
    candidates = torch.tensor([3.0, 1.0, 2.0]).view(1, 3, 1, 1, 1)
    planner = CandidateScoringConfig(candidates=3).build()
    goal = torch.zeros(1, 1, 1, 1)
    noise = RowNoise([0])
    done = planner.plan(lambda n: candidates[:, :n], cost_to(goal, lambda a: a), Budget(), noise)
    assert done.action.item() == 1.0
    assert done.cost.item() == 1.0
    assert done.evaluations == 3
    one = planner.plan(lambda n: candidates[:, :n], cost_to(goal, lambda a: a), Budget(candidates=1), noise)
    assert one.action.item() == 3.0
    with pytest.raises(BudgetError, match="no iterations"):
        planner.plan(lambda n: candidates[:, :n], cost_to(goal, lambda a: a), Budget(iterations=2), noise)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_more_candidates_never_cost_more_with_a_true_model(seed: int) -> None:
    drawn = torch.randn(1, 16, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    goal, noise = torch.zeros(1, 1, 2, 2), RowNoise([0])
    planner = CandidateScoringConfig().build()
    costs = [
        planner.plan(
            lambda n: drawn[:, :n], cost_to(goal, lambda a: a), Budget(candidates=n), noise
        ).cost.item()
        for n in (1, 2, 4, 8, 16)
    ]
    assert costs == sorted(costs, reverse=True)


def test_ids_are_compared_by_the_share_that_differs_and_cem_refuses_them() -> None:
    future = torch.tensor([[[1, 2, 3, 4]], [[1, 2, 0, 0]]])  # (R, F, M)
    assert distance(future, torch.tensor([[[1, 2, 3, 0]]]).expand(2, -1, -1)).tolist() == [0.25, 0.25]
    ids = StreamSpec("action", "action", 2, 1, 1, vocabulary=8)
    with pytest.raises(ConfigError, match="planner 'cem' needs continuous values"):
        CEMConfig().build().check(ids)
    CandidateScoringConfig().build().check(ids)
