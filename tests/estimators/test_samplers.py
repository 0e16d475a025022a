"""Predictions, solvers, early exits and guidance of the denoiser: closed forms, counted calls, both modes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gaussians import DEVIATION, MEAN, denoiser, gaussian
from support import ToyWindows, acting_observation
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, Guide
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, Target
from wamkit.contract.types import Budget
from wamkit.design import Design, Factor
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.estimators.denoiser import TOP_NOISE
from wamkit.estimators.samplers import DescentWalk, walk_together
from wamkit.zoo import recipe


def draw(model: Denoiser, rows: int, budget: Budget, guide: Guide | None = None, seed: int = 0) -> Tensor:
    with torch.no_grad():
        call = Call(model.trunk.empty(rows, 1), {}, (), rows, guide)
        made = model.generate(["action"], call, budget, RowNoise([seed], copies=rows))
    return made.values["action"].flatten()


def exact(prediction: str, start: Tensor) -> Tensor:
    """End of the probability-flow ODE: it keeps the number of standard deviations from the mean."""
    top = TOP_NOISE if prediction == "noise" else 1.0
    spread = ((1 - top) ** 2 * DEVIATION**2 + top**2) ** 0.5
    return MEAN + DEVIATION * (top * start - (1 - top) * MEAN) / spread


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("prediction", ["velocity", "noise"])
def test_order_of_convergence_on_the_analytic_flow(prediction: str, solver: str, order: int) -> None:
    model = denoiser(DenoiserConfig(prediction=prediction, solver=solver))  # type: ignore[arg-type]
    start = RowNoise([0], copies=64).normal(1, 1, 1).flatten()
    errors = []
    for steps in (32, 64, 128, 256):
        calls: list[float] = []
        model._network = gaussian(prediction, calls)  # type: ignore[method-assign, assignment]
        found = draw(model, 64, Budget(nfe={"action": steps}))
        errors.append((found - exact(prediction, start)).abs().mean().item())
        assert len(calls) == steps
    orders = [torch.log2(torch.tensor(a / b)).item() for a, b in itertools.pairwise(errors)]
    assert all(abs(found - order) < 0.25 for found in orders), (errors, orders)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 8])
def test_heun_spends_two_evaluations_per_step_and_one_on_an_odd_last_one(steps: int) -> None:
    model = denoiser(DenoiserConfig(solver="heun"))
    calls: list[float] = []
    model._network = gaussian("velocity", calls)  # type: ignore[method-assign, assignment]
    draw(model, 2, Budget(nfe={"action": steps}))
    intervals = (steps + 1) // 2
    expected = [level for k in range(intervals) for level in (1 - k / intervals, 1 - (k + 1) / intervals)]
    assert calls == pytest.approx(expected[:steps], abs=1e-6)


# ------------------------------------------------------------------------------------------------ predictions


def fitted(config: DenoiserConfig, sample: Callable[[int], Tensor], steps: int = 900) -> Denoiser:
    torch.manual_seed(0)
    model = denoiser(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = 384
    pad = torch.zeros(rows, 1, dtype=torch.bool)
    call = Call(model.trunk.empty(rows, 1), {}, (), rows)
    for _ in range(steps):
        loss = model.loss(["action"], call, {"action": Target(sample(rows), pad)}, None).terms["action"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def two_modes(rows: int) -> Tensor:
    return torch.where(torch.rand(rows, 1, 1, 1) < 0.25, -1.0, 1.0)


@pytest.mark.learns
@pytest.mark.parametrize("prediction", ["noise", "equilibrium"])
def test_both_modes_of_a_bimodal_target(prediction: str) -> None:
    model = fitted(DenoiserConfig(prediction=prediction), two_modes)  # type: ignore[arg-type]
    x = draw(model, 800, Budget(nfe={"action": 32}), seed=5)
    assert (x < 0).float().mean().item() == pytest.approx(0.25, abs=0.1)
    assert (x.abs() < 0.5).float().mean().item() < 0.12
    assert x.abs().mean().item() == pytest.approx(1.0, abs=0.15)


def test_prediction_targets_on_a_deterministic_pair() -> None:
    clean, noise = torch.full((3, 1, 1, 1), 0.5), torch.full((3, 1, 1, 1), -1.0)
    level = torch.tensor([1.0, 0.2, 0.1])
    targets = {
        p: denoiser(DenoiserConfig(prediction=p))._target(clean, noise, level).flatten().tolist()  # type: ignore[arg-type]
        for p in ("velocity", "noise", "equilibrium")
    }
    assert targets["velocity"] == [-1.5, -1.5, -1.5]
    assert targets["noise"] == [-1.0, -1.0, -1.0]
    assert targets["equilibrium"] == pytest.approx([-1.5, -1.5, -0.75])  # full length, then falling to zero


def bowl(values: Mapping[str, Tensor], levels: Mapping[str, float]) -> Mapping[str, Tensor]:
    """Gradient of a convex energy with its minimum at (1, -2)."""
    return {"action": (values["action"] - torch.tensor([1.0, -2.0])) * torch.tensor([0.5, 3.0])}


def test_residual_falls_monotonically_on_a_convex_energy_until_the_tolerance() -> None:
    start = torch.randn(16, 1, 1, 2, generator=torch.Generator().manual_seed(0)) * 3
    walk = DescentWalk(start, 0.5, 500, 0.15, 1e-3)
    found = walk_together(bowl, {"action": walk}, {}, None)["action"]
    residuals = torch.stack(walk.residuals)
    assert bool((residuals.diff(dim=0) <= 0).all())
    assert walk.spent < 500  # the tolerance ended it
    assert bool((residuals[-1] <= 1e-3).all())
    torch.testing.assert_close(
        found.flatten(0, 2), torch.tensor([1.0, -2.0]).expand(16, 2), atol=5e-3, rtol=0
    )
    alone = DescentWalk(start[:1], 0.5, 500, 0.15, 1e-3)
    torch.testing.assert_close(walk_together(bowl, {"action": alone}, {}, None)["action"], found[:1])


@pytest.mark.learns
def test_equilibrium_depth_is_a_choice_at_run_time_and_matched_with_a_flow() -> None:
    """One datum: both reach it; at equal evaluations the flow is exact after one, the descent gets closer."""
    at_half = lambda rows: torch.full((rows, 1, 1, 1), 0.5)  # noqa: E731
    flow = fitted(DenoiserConfig(), at_half, 300)
    field = fitted(DenoiserConfig(prediction="equilibrium"), at_half, 300)
    table = {}
    for steps in (2, 8, 32):
        calls = [0]
        hook = field.trunk.register_forward_hook(lambda *_, c=calls: c.__setitem__(0, c[0] + 1))
        errors = [
            (draw(m, 64, Budget(nfe={"action": steps})) - 0.5).abs().mean().item() for m in (flow, field)
        ]
        hook.remove()
        assert calls == [steps]
        table[steps] = errors
    print("evaluations: (flow error, equilibrium error)", table)
    assert table[2][1] > table[8][1] > table[32][1]
    assert table[32][1] < 0.1
    assert table[32][0] < 0.1


def test_equilibrium_is_told_no_level_but_that_of_clean_streams() -> None:
    model = denoiser(DenoiserConfig(prediction="equilibrium"))
    x = torch.randn(2, 1, 1, 1)
    tokens = [model._embed("action", x, torch.full((2,), level)) for level in (0.1, 0.9, 0.0)]
    assert torch.equal(tokens[0], tokens[1])
    assert not torch.equal(tokens[0], tokens[2])


def test_equilibrium_stops_at_its_tolerance() -> None:
    model = fitted(
        DenoiserConfig(prediction="equilibrium", tolerance=0.25), lambda n: torch.full((n, 1, 1, 1), 0.5), 300
    )
    call = Call(model.trunk.empty(8, 1), {}, (), 8)
    with torch.no_grad():
        made = model.generate(["action"], call, Budget(nfe={"action": 100}), RowNoise([0], copies=8))
    assert 1 < made.nfe["action"] < 100


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DenoiserConfig(prediction="equilibrium", solver="heun"), "an equilibrium descends"),
        (DenoiserConfig(prediction="equilibrium", rate=0.5), "rate 0.5"),
    ],
)
def test_settings_that_make_no_sense(config: DenoiserConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        denoiser(config)


@pytest.mark.parametrize("prediction", ["velocity", "noise", "equilibrium"])
def test_every_prediction_runs_in_a_joint_design(data: DataSpec, toy: ToyWindows, prediction: str) -> None:
    base = recipe("joint")
    world = replace(base.estimators["world"], prediction=prediction)  # type: ignore[type-var]
    design = Design(replace(base, estimators={"world": world}), data)
    design.fit(toy, 0)
    batch = toy.windows(torch.arange(10, 18).numpy(), design.training_window)
    design.loss(batch).total.backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in design.parameters())
    design.eval()
    seen = acting_observation(toy, [30, 60], design.window)
    first, second = (
        design.sample(seen, ["action", "future"], seeds=[1, 2], budget=Budget(nfe={"action": 3, "future": 5}))
        for _ in range(2)
    )
    assert first.nfe == {"action": 3, "future": 5}
    assert torch.equal(first.values["future"], second.values["future"])
    assert bool(first.values["action"].isfinite().all())


# ----------------------------------------------------------------------------------------------- early exit


def cascade(data: DataSpec, toy: ToyWindows) -> Design:
    """The future first, then an action that reads it."""
    base = recipe("joint")
    config = replace(
        base,
        estimators={"video": DenoiserConfig(steps=6), "policy": DenoiserConfig(steps=3)},
        factors=(Factor(("future",), (), "video"), Factor(("action",), ("future",), "policy")),
        loss_weights={},
    )
    design = Design(config, data).eval()
    design.fit(toy, 0)
    return design


def test_exit_hands_the_partial_state_to_the_action(data: DataSpec, toy: ToyWindows) -> None:
    design = cascade(data, toy)
    seen = acting_observation(toy, [30], design.window)
    reads = [0]
    video = design.estimators["video"]
    assert isinstance(video, Denoiser)
    video.outputs["future"].outward.register_forward_hook(lambda *_: reads.__setitem__(0, reads[0] + 1))
    made = {}
    for leave in (1, 4, 6):
        reads[0] = 0
        budget = Budget(exit={"future": leave})
        design.check_budget(budget)
        made[leave] = design.sample(seen, ["action", "future"], seeds=[1], budget=budget)
        assert reads[0] == leave == made[leave].nfe["future"]
        assert made[leave].nfe["action"] == 3
    full = design.sample(seen, ["action", "future"], seeds=[1])
    assert torch.equal(made[6].values["action"], full.values["action"])
    gaps = [(made[k].values["action"] - full.values["action"]).abs().max().item() for k in (1, 4)]
    assert gaps[0] > gaps[1] > 0


def test_in_a_joint_design_the_action_goes_on_beside_a_future_that_stopped(
    data: DataSpec, toy: ToyWindows
) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    model = design.estimators["world"]
    assert isinstance(model, Denoiser)
    seen, levels = acting_observation(toy, [30], design.window), []
    network = model._network

    def listening(
        values: Mapping[str, Tensor], told: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        levels.append((told["future"].item(), told["action"].item()))
        return network(values, told, cache, times)

    model._network = listening  # type: ignore[method-assign]
    budget = Budget(nfe={"future": 4, "action": 4}, exit={"future": 2})
    made = design.sample(seen, ["action", "future"], seeds=[1], budget=budget)
    assert levels == [(1.0, 1.0), (0.75, 0.75), (0.5, 0.5), (0.5, 0.25)]
    assert made.nfe == {"future": 2, "action": 4}


def test_a_partly_denoised_stream_keeps_its_level_while_others_go_on() -> None:
    calls: list[float] = []
    model = denoiser(DenoiserConfig())
    model._network = gaussian("velocity", calls)  # type: ignore[method-assign, assignment]
    stopped = draw(model, 4, Budget(nfe={"action": 8}, exit={"action": 2}))
    assert calls == [1.0, 0.875]
    start = RowNoise([0], copies=4).normal(1, 1, 1).flatten()
    variance = (0.25**2 * DEVIATION**2 + 0.75**2) ** 0.5  # exact state at level 0.75
    assert (stopped - (0.25 * MEAN + variance * start)).abs().max().item() < 0.1


def test_exits_that_cannot_be_honoured(data: DataSpec, toy: ToyWindows) -> None:
    design = cascade(data, toy)
    for leave in (0, 7):
        with pytest.raises(
            BudgetError, match=f"exit for stream 'future' is {leave}; it must be 1 to its nfe"
        ):
            design.check_budget(Budget(exit={"future": leave}))
    with pytest.raises(BudgetError, match="unknown stream 'futur'"):
        design.check_budget(Budget(exit={"futur": 1}))
    with pytest.raises(BudgetError, match="stopped early"):
        Design(recipe("autoregressive"), data).check_budget(Budget(exit={"future": 1}))


# ------------------------------------------------------------------------------------------------- guidance


def towards(goal: float) -> Callable[[Mapping[str, Tensor]], Tensor]:
    return lambda estimates: -0.5 * (estimates["action"] - goal).square().flatten(1).sum(dim=1)


@pytest.mark.parametrize("prediction", ["velocity", "noise", "equilibrium"])
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_guidance_improves_the_objective_and_weight_zero_is_the_base(prediction: str, solver: str) -> None:
    if prediction == "equilibrium":
        solver = "euler"
    torch.manual_seed(0)
    model = denoiser(DenoiserConfig(prediction=prediction, solver=solver))  # type: ignore[arg-type]
    budget = Budget(nfe={"action": 9})
    scores = []
    base = draw(model, 32, budget)
    for weight in (0.0, 0.1, 0.3):
        x = draw(model, 32, budget, Guide("action", towards(3.0), weight))
        scores.append(-0.5 * (x - 3.0).square().mean().item())
        assert torch.equal(x, base) == (weight == 0)
    assert scores[0] < scores[1] < scores[2]


def test_guidance_on_a_design_and_where_it_is_refused(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    seen = acting_observation(toy, [30, 60], design.window)
    base = design.sample(seen, ["action", "future"], seeds=[1, 2])
    zero = design.sample(seen, ["action", "future"], seeds=[1, 2], guide=Guide("action", towards(2.0), 0.0))
    more = design.sample(seen, ["action", "future"], seeds=[1, 2], guide=Guide("action", towards(2.0), 0.3))
    assert torch.equal(zero.values["action"], base.values["action"])
    assert torch.equal(zero.values["future"], base.values["future"])
    score = towards(2.0)
    assert bool((score({"action": more.values["action"]}) > score({"action": base.values["action"]})).all())
    with pytest.raises(BudgetError, match="unknown stream 'actio'"):
        design.sample(seen, ["action"], seeds=[1, 2], guide=Guide("actio", score))
    with pytest.raises(BudgetError, match="not generated in this call"):
        design.sample(seen, ["future"], seeds=[1, 2], guide=Guide("action", score))
    other = Design(recipe("autoregressive"), data).eval()
    other.fit(toy, 0)
    with pytest.raises(BudgetError, match="cannot be steered"):
        other.sample(seen, ["action"], seeds=[1, 2], guide=Guide("action", score))
