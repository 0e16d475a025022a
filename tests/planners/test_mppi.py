"""Path integral control on the linear-quadratic toy: its average has a closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from point_mass import STEPS, cost_to, goals, predict, proposer
from support import ToyWindows, acting_observation, data_spec
from wamkit.contract.calls import PlanResult
from wamkit.contract.rows import join_rows
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError
from wamkit.evaluation.closed_loop.tree import signature, take_row
from wamkit.planners import MPPI, MPPIConfig
from wamkit.planners.mppi import Nominal
from wamkit.zoo import recipe


def plan(planner: MPPI, goal: Tensor, budget: Budget | None = None, seed: int = 0) -> PlanResult:
    rows = len(goal)
    noise = RowNoise([100 + seed + i for i in range(rows)])
    return planner.plan(proposer(seed, rows), cost_to(goal), budget or Budget(), noise)


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
            cost_to(torch.ones(1, 1, 1, 1), lambda actions: x + actions.cumsum(dim=2)),
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
    result = MPPIConfig().build().plan(proposer(0, 2), cost_to(goal, counted), budget, RowNoise([0, 1]))
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


def chase(shift: int, samples: int, steps: int = 6, calls: int = 12, rows: int = 24) -> Tensor:
    """x' = x + u after a target that moves up and down; the first action of every plan is executed: costs (calls, B).

    A plan is judged by where its last step should be: where the target will then be.
    """
    planner = MPPIConfig(
        candidates=samples, iterations=0, temperature=0.02, deviation_cost=0.0, warm_shift=shift
    ).build()
    spec = StreamSpec("action", "action", steps, 1, 1)
    carry, x, costs = planner.initial_carry(spec, rows, torch.device("cpu")), torch.zeros(rows), []
    for call in range(calls):
        noise = RowNoise([1000 * call + i for i in range(rows)])
        target = 2.0 * torch.sin(torch.arange(rows) + 0.3 * (call + steps))
        result = planner.plan(
            lambda n, noise=noise: 0.4 * noise.normal(n, steps, 1, 1).view(rows, n, steps, 1, 1),
            cost_to(
                target[:, None, None, None],
                lambda actions, x=x: x[:, None, None, None, None] + actions.cumsum(dim=2),
            ),
            Budget(),
            noise,
            carry,
        )
        carry, x = result.carry, x + result.action[:, 0, 0, 0]
        costs.append(result.cost)
    return torch.stack(costs)


@pytest.mark.parametrize("samples", [8, 32, 128])
def test_a_warm_start_costs_less_than_a_cold_one_on_a_moving_target(samples: int) -> None:
    """The same number of samples with the same noise; the first call has nothing to start from.

    Nothing is claimed for further rounds within a call: they find on this toy what the warm start brings along.
    """
    cold, warm = chase(0, samples), chase(1, samples)
    assert torch.equal(cold[0], warm[0])
    assert warm[1:].mean() < 0.5 * cold[1:].mean()
    assert (warm[1:].mean(dim=0) < cold[1:].mean(dim=0)).float().mean() > 0.8  # most rows, not a few far ones


def test_the_last_plan_is_shifted_and_the_open_end_is_the_proposals() -> None:
    planner = MPPIConfig(warm_shift=1).build()
    proposals = torch.randn(2, 5, STEPS, 1, 1, generator=torch.Generator().manual_seed(0))
    last = torch.tensor([1.0, 2.0, 3.0]).view(1, STEPS, 1, 1).expand(2, -1, -1, -1)
    started = planner.start(proposals, Nominal(last, torch.tensor([True, False])))
    assert torch.equal(started[1], proposals[1])  # the first call of an episode
    assert torch.equal(started[0, 0], proposals[0, 0])  # the policy's own action
    moved, centre = started[0, 1:] - proposals[0, 1:], proposals[0].mean(dim=0)
    expected = torch.tensor([2.0, 3.0, centre[2].item()]).view(STEPS, 1, 1) - centre
    torch.testing.assert_close(moved, expected.expand(4, -1, -1, -1))
    short = planner.start(proposals[:, :, :2], Nominal(last, torch.tensor([True, True])))
    assert short.shape == (2, 5, 2, 1, 1)  # fewer actions asked for than planned before
    budget, goal = Budget(candidates=1, iterations=0), goals((1.0, 0.0), (0.0, 0.0))
    noise, known = RowNoise([0, 1]), Nominal(last, torch.ones(2, dtype=torch.bool))
    one = planner.plan(proposer(0, 2), cost_to(goal), budget, noise, known)
    assert torch.equal(one.action, proposer(0, 2)(1)[:, 0])
    assert torch.equal(one.carry.plan, one.action)


def test_a_design_carries_the_plan_from_call_to_call() -> None:
    torch.manual_seed(0)
    toy, spec = ToyWindows(), data_spec()

    def built(shift: int) -> Design:
        planner = MPPIConfig(candidates=4, iterations=0, warm_shift=shift)
        design = Design(replace(recipe("rollout"), planner=planner), spec).eval()
        design.fit(toy, 0)
        return design

    warm, cold = built(2), built(0)
    cold.load_state_dict(warm.state_dict())
    seen = acting_observation(toy, [30, 60], warm.window)
    (first, state), (same, still) = (
        d.forecast(seen, d.initial_state(2), Budget(), seeds=[1, 2]) for d in (warm, cold)
    )
    assert torch.equal(first.action, same.action)
    later, after = warm.forecast(seen, state, Budget(), seeds=[3, 4])
    afresh, _ = cold.forecast(seen, still, Budget(), seeds=[3, 4])
    assert not torch.allclose(later.action, afresh.action)
    # The evaluation keeps one state per episode and joins the rows of those that are called together.
    rows = [take_row(state, i, 2) for i in range(2)]
    joined, _ = warm.forecast(seen, join_rows(rows), Budget(), seeds=[3, 4])
    assert torch.equal(joined.action, later.action)
    assert signature(warm.initial_state(1)) == signature(rows[0])
    alone, _ = warm.forecast(acting_observation(toy, [60], warm.window), rows[1], Budget(), seeds=[4])
    torch.testing.assert_close(alone.action, later.action[1:], atol=1e-4, rtol=1e-4)
    # Only what was planned is carried: another call of `forecast` does not change the state that it was given.
    again, _ = warm.forecast(seen, state, Budget(), seeds=[3, 4])
    assert torch.equal(again.action, later.action)
    assert set(after) == set(state)


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"temperature: must be at least 0, got -1"):
        MPPIConfig(temperature=-1.0).build()
    with pytest.raises(BudgetError, match="candidates: must be at least 1"):
        plan(MPPIConfig().build(), goals((0.0, 0.0)), Budget(candidates=0))
    with pytest.raises(ConfigError, match="candidates: must be at least 1"):
        MPPIConfig(candidates=0).build()
    with pytest.raises(ConfigError, match=r"warm_shift: must be at least 0 .*, got -1"):
        MPPIConfig(warm_shift=-1).build()
    with pytest.raises(ConfigError, match="warm_shift 2 leaves nothing of an action of 2 steps"):
        MPPIConfig(warm_shift=2).build().check(StreamSpec("action", "action", 2, 1, 1))
    ids = StreamSpec("action", "action", 2, 1, 1, vocabulary=8)
    with pytest.raises(ConfigError, match="planner 'mppi' needs continuous values"):
        MPPIConfig().build().check(ids)
