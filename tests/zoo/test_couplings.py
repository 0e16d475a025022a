"""The seven designs run the same path: fit, train, act, save, reload, act identically."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget
from wamkit.design import Design, from_pretrained, save_pretrained
from wamkit.errors import BudgetError
from wamkit.training import OptimConfig
from wamkit.zoo import GROUPS, RECIPES, recipe

COUPLINGS = GROUPS["couplings"]
WORDS = ("joint", "rollout", "depth", "pixels", "contact", "segmentation", "equilibrium")  # of the field, too
TUPLES = {
    "direct": ("None", "Direct", "Diffusion", "Chunked"),
    "joint": ("Pixel (latent)", "Joint generation", "Hybrid", "Chunked"),
    "post_head": ("Feature (teacher)", "Post-prediction head", "Joint-embedding", "Chunked"),
    "autoregressive": ("Pixel (latent)", "Joint generation", "Autoregressive", "Chunked"),
    "rollout": ("Pixel (latent)", "Cond. rollout", "Joint-embedding", "Chunked"),
    "recurrent": ("Pixel (latent)", "Cond. rollout", "State-space", "Chunked"),
    "chunk_causal": ("Pixel (latent)", "Joint generation", "AR / Diffusion", "Chunked"),
}
FORMULAS = {
    "direct": "p(a|c)",
    "joint": "p(s,a|c)",
    "post_head": "p(s|c) p(a|s,c)",
    "autoregressive": "p(a,s|c)",
    "rollout": "p(g|c) p(a|c) p(s|a,c) then select argmin |s - g|",
    "recurrent": "p(z|c) p(a|z,c) p(s|z,a,c)",
    "chunk_causal": "p(s1,s2,a|c)",
}
PATHS = {
    "direct": (),
    "joint": ("joint",),
    "post_head": ("produces",),
    "autoregressive": ("trains",),
    "rollout": ("selects",),
    "recurrent": ("trains",),
    "chunk_causal": ("joint",),
}


def trained(name: str, data: DataSpec, toy: ToyWindows, steps: int) -> tuple[Design, list[float]]:
    torch.manual_seed(0)
    design = Design(recipe(name), data)
    design.fit(toy, seed=0)
    optimizer = OptimConfig(lr=1e-3).build(design)
    rng = np.random.default_rng(0)
    design.train()
    totals = []
    for _ in range(steps):
        losses = design.loss(toy.windows(rng.integers(toy.num_frames, size=16), design.training_window))
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    return design.eval(), totals


@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_derived_description(name: str, data: DataSpec) -> None:
    design = Design(recipe(name), data)
    assert tuple(design.cells().values()) == TUPLES[name]
    assert design.factorisation() == FORMULAS[name]
    status = design.graph.wam()
    assert status.paths == PATHS[name]
    assert status.is_wam == bool(PATHS[name])
    assert status.kind == ("WAM" if PATHS[name] else "VLA")


@pytest.mark.learns
@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_train_act_save_reload(name: str, data: DataSpec, toy: ToyWindows, tmp_path: Path) -> None:
    design, totals = trained(name, data, toy, steps=25)
    assert np.mean(totals[-5:]) < np.mean(totals[:3])
    observation = acting_observation(toy, [40, 90, 200], design.window)
    forecast, state = design.forecast(observation, design.initial_state(3), Budget(), [1, 2, 3])
    assert forecast.action.shape == (3, design.config.horizon, 4)
    low, high = torch.tensor(data.action.low), torch.tensor(data.action.high)
    assert ((forecast.action >= low) & (forecast.action <= high)).all()

    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    repeated, state_again = again.forecast(observation, again.initial_state(3), Budget(), [1, 2, 3])
    assert torch.equal(forecast.action, repeated.action)
    second, _ = design.forecast(observation, state, Budget(), [4, 5, 6])
    second_again, _ = again.forecast(observation, state_again, Budget(), [4, 5, 6])
    assert torch.equal(second.action, second_again.action)


@pytest.mark.parametrize("name", sorted(COUPLINGS))
def test_a_row_depends_on_its_seed_not_on_its_neighbours(name: str, data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe(name), data).eval()
    design.fit(toy, seed=0)
    both = acting_observation(toy, [40, 90], design.window)
    alone = acting_observation(toy, [90], design.window)
    pair, _ = design.forecast(both, design.initial_state(2), Budget(), [7, 8])
    single, _ = design.forecast(alone, design.initial_state(1), Budget(), [8])
    torch.testing.assert_close(pair.action[1:], single.action, atol=2e-4, rtol=0)


def test_future_can_be_skipped_only_where_it_can(data: DataSpec) -> None:
    for name in ("direct", "joint", "autoregressive", "recurrent", "chunk_causal"):
        Design(recipe(name), data).check_budget(Budget(future=False, horizon=8))
    Design(recipe("rollout"), data).check_budget(Budget(future=False))  # its first proposal, unplanned
    for name in ("post_head",):
        with pytest.raises(BudgetError, match="needs future to act"):
            Design(recipe(name), data).check_budget(Budget(future=False))
    design = Design(recipe("autoregressive"), data)
    with pytest.raises(BudgetError, match="future=False"):
        design.check_budget(Budget(future=False))  # the second action segment comes after the first image


def test_budget_errors_name_the_way_out(data: DataSpec) -> None:
    design = Design(recipe("joint"), data)
    with pytest.raises(BudgetError, match="Did you mean 'future'"):
        design.check_budget(Budget(nfe={"futur": 2}))
    with pytest.raises(BudgetError, match="planner"):
        design.check_budget(Budget(candidates=4))
    with pytest.raises(BudgetError, match="horizon 99"):
        design.check_budget(Budget(horizon=99))
    with pytest.raises(BudgetError, match="at least 1"):
        design.check_budget(Budget(nfe={"action": 0}))
    with pytest.raises(BudgetError, match="one evaluation per token"):
        Design(recipe("autoregressive"), data).check_budget(Budget(nfe={"action": 3}))


def test_no_design_name_in_the_library() -> None:
    """Nothing branches on a design's name: renaming every recipe changes nothing but the name."""
    for name in RECIPES:
        config = recipe(name)
        assert replace(config, name="x").factors == config.factors
    source = Path(__file__).parents[2] / "src" / "wamkit"
    for path in source.rglob("*.py"):
        if path.parent.name == "zoo":
            continue
        for quoted in (f'"{name}"' for name in RECIPES if name not in WORDS):
            assert f"== {quoted}" not in path.read_text(), path
