"""Budgets of a design: saved with it, default of every call, overridden field by field, checked when built."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from wamkit.config import decode, encode
from wamkit.contract.types import Budget, Forecast
from wamkit.design import Design, DesignConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.errors import BudgetError
from wamkit.zoo import recipe

SEEDS = [1, 2]


def joint(budget: Budget) -> DesignConfig:
    """A joint denoiser that may be given either stream, so that it can alternate (DAWN)."""
    return replace(recipe("joint"), budget=budget)


def built(budget: Budget) -> Design:
    torch.manual_seed(0)
    return Design(joint(budget), data_spec()).eval()


def act(design: Design, budget: Budget | None = None) -> Forecast:
    observation = acting_observation(ToyWindows(), [5, 90], design.window)
    return design.forecast(observation, design.initial_state(2), budget or Budget(), SEEDS)[0]


def test_every_field_of_a_call_overrides_that_of_the_design() -> None:
    own = Budget(nfe={"future": 2, "action": 3}, exit={"future": 1}, future=False, rounds=2, horizon=8)
    assert Budget().over(own) == own
    assert own.over(Budget(rounds=5, candidates=4)) == replace(own, candidates=4)
    call = Budget(nfe={"future": 9}, future=True, rounds=0)
    whole = {
        "nfe": {"future": 9, "action": 3},
        "exit": {"future": 1},
        "future": True,
        "rounds": 0,
        "horizon": 8,
    }
    assert call.over(own) == Budget(**whole)  # type: ignore[arg-type]
    assert call.over(own).over(own) == call.over(own)


@pytest.mark.parametrize(
    "own",
    [
        Budget(rounds=2),
        Budget(nfe={"future": 2, "action": 3}),
        Budget(exit={"future": 1}),
        Budget(future=False),
    ],
    ids=["rounds", "steps", "exit", "no future"],
)
def test_a_saved_budget_is_what_a_call_without_one_spends(own: Budget, tmp_path: Path) -> None:
    design, plain = built(own), built(Budget())
    mine, asked = act(design), act(plain, own)
    assert mine.nfe == asked.nfe != act(plain).nfe or own.exit
    assert torch.equal(mine.action, asked.action)
    assert mine.future.keys() == asked.future.keys()
    assert not torch.equal(mine.action, act(plain).action)
    assert decode(DesignConfig, encode(design.config), "here") == design.config
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    assert again.config.budget == own
    assert torch.equal(act(again).action, mine.action)


def test_a_call_overrides_and_a_call_of_one_stream_has_no_turns() -> None:
    design, plain = built(Budget(rounds=2)), built(Budget())
    assert torch.equal(act(design, Budget(rounds=0)).action, act(plain).action)
    observation = acting_observation(ToyWindows(), [5, 90], design.window)
    alone = design.sample(observation, ["future"], seeds=SEEDS)
    assert torch.equal(
        alone.values["future"], plain.sample(observation, ["future"], seeds=SEEDS).values["future"]
    )
    with pytest.raises(BudgetError, match="rounds=2"):
        design.sample(observation, ["future"], seeds=SEEDS, budget=Budget(rounds=2))


def test_inspect_shows_what_is_set() -> None:
    assert built(Budget(rounds=2, nfe={"future": 2})).describe()["budget"] == {
        "rounds": 2,
        "nfe": {"future": 2},
    }
    assert built(Budget()).describe()["budget"] == {}


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (Budget(nfe={"futur": 2}), "unknown stream 'futur'"),
        (Budget(candidates=3), "need a planner"),
        (Budget(horizon=4), "the controller executes 8 actions of each call"),
        (Budget(exit={"future": 99}), "exit for stream 'future' is 99"),
    ],
)
def test_a_budget_that_the_design_cannot_honour_is_refused_when_it_is_built(
    own: Budget, message: str
) -> None:
    with pytest.raises(BudgetError, match=message):
        built(own)
    with pytest.raises(BudgetError, match="rounds=1"):
        Design(replace(recipe("post_head"), budget=Budget(rounds=1)), data_spec())
