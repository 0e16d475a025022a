"""Masked discrete denoising: both modes of a joint distribution, mask rates, budgets, given and absent streams."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given as data_given
from hypothesis import strategies as st
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.actions import BinsConfig
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import Unmasker, UnmaskerConfig
from wamkit.estimators.unmasker import masked_after
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

FUTURE = StreamSpec("future", "future", 2, 1, 1, vocabulary=3)
ACTION = StreamSpec("action", "action", 4, 1, 1, vocabulary=2)
RARE = 0.3


def build(config: UnmaskerConfig) -> Unmasker:
    trunk = TransformerConfig(width=32, depth=2, heads=2).build()
    return config.build((FUTURE, ACTION), (), trunk)


def modes(rows: int) -> dict[str, Target]:
    """With probability 0.3 future (1, 1) and action (0, 0, 0, 0), else (2, 2) and (1, 1, 1, 1)."""
    bit = (torch.rand(rows, 1, 1) > RARE).long()
    return {
        "future": Target((bit + 1).expand(-1, 2, 1), torch.zeros(rows, 2, dtype=torch.bool)),
        "action": Target(bit.expand(-1, 4, 1), torch.zeros(rows, 4, dtype=torch.bool)),
    }


@pytest.fixture(scope="module")
def model() -> Unmasker:
    torch.manual_seed(0)
    model = build(UnmaskerConfig(absent={"future": 0.2}, clean={"future": 0.2}))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    rows = 256
    call = Call(model.trunk.empty(rows, 1), {}, (), rows)
    for _ in range(250):
        loss = sum(model.loss(["future", "action"], call, modes(rows), None).terms.values(), torch.zeros(()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def draw(
    model: Unmasker, outputs: list[str], rows: int = 600, known: dict[str, Tensor] | None = None, **nfe: int
) -> dict[str, Tensor]:
    call = Call(model.trunk.empty(rows, 1), known or {}, (), rows)
    with torch.no_grad():
        made = model.generate(outputs, call, Budget(nfe=nfe), RowNoise([7], copies=rows))
    assert set(made.values) == set(outputs)
    return made.values


def agreeing(action: Tensor) -> float:
    """Share of rows whose action tokens are all equal."""
    return (action.flatten(1) == action.flatten(1)[:, :1]).all(dim=1).float().mean().item()


@pytest.mark.learns
def test_both_modes_of_a_joint_distribution_are_sampled_and_not_mixed(model: Unmasker) -> None:
    # The future is revealed first (2 calls), then the action reads it.
    made = draw(model, ["future", "action"], future=2, action=6)
    bit = made["action"].flatten(1).float().mean(dim=1)
    assert agreeing(made["action"]) > 0.97
    assert ((made["future"].flatten(1) - 1).float().mean(dim=1) == bit).float().mean().item() > 0.97
    assert (bit < 0.5).float().mean().item() == pytest.approx(RARE, abs=0.08)


@pytest.mark.learns
def test_few_calls_mix_the_modes_and_a_call_per_token_does_not(model: Unmasker) -> None:
    shares = [agreeing(draw(model, ["action"], action=calls)["action"]) for calls in (1, 4)]
    independent = RARE**4 + (1 - RARE) ** 4
    assert shares[0] == pytest.approx(independent, abs=0.1)
    assert shares[1] > 0.95


@pytest.mark.learns
def test_given_stream_decides_and_absent_stream_leaves_the_marginal(model: Unmasker) -> None:
    for bit in (0, 1):
        known = {"future": torch.full((100, 2, 1), bit + 1)}
        made = draw(model, ["action"], 100, known, action=4)
        assert (made["action"] == bit).float().mean().item() > 0.98
    marginal = draw(model, ["action"], action=4)["action"].flatten(1).float().mean(dim=1)
    assert (marginal < 0.5).float().mean().item() == pytest.approx(RARE, abs=0.08)


@pytest.mark.learns
def test_a_fully_masked_stream_is_exactly_absent(model: Unmasker) -> None:
    ids = {"future": torch.ones(3, 2, dtype=torch.long), "action": torch.ones(3, 4, dtype=torch.long)}
    half = torch.tensor([[True, False, True, False]]).expand(3, -1)
    cache = model.trunk.empty(3, 1)
    with torch.no_grad():
        alone = model.logits({"action": ids["action"]}, {"action": half}, cache)["action"]
        hidden = torch.ones(3, 2, dtype=torch.bool)
        beside = model.logits(ids, {"future": hidden, "action": half}, cache)["action"]
        seen = model.logits(ids, {"future": ~hidden, "action": half}, cache)["action"]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(alone, seen, atol=1e-2)


@pytest.mark.learns
@pytest.mark.parametrize(
    "nfe", [{"future": 1, "action": 3}, {"future": 5, "action": 2}, {"action": 9, "future": 9}]
)
def test_calls_equal_the_budget(model: Unmasker, nfe: dict[str, int]) -> None:
    calls = [0]
    hook = model.trunk.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))
    call = Call(model.trunk.empty(2, 1), {}, (), 2)
    with torch.no_grad():
        made = model.generate(["future", "action"], call, Budget(nfe=nfe), RowNoise([1, 2]))
    hook.remove()
    assert made.nfe == nfe
    assert calls == [max(nfe.values())]


@pytest.mark.learns
def test_a_row_depends_on_its_seed_alone(model: Unmasker) -> None:
    def rows(seeds: list[int]) -> Tensor:
        call = Call(model.trunk.empty(len(seeds), 1), {}, (), len(seeds))
        with torch.no_grad():
            made = model.generate(["future", "action"], call, Budget(), RowNoise(seeds))
        return made.values["action"]

    assert torch.equal(rows([4, 5, 6])[1:2], rows([5]))


@data_given(length=st.integers(1, 40), calls=st.integers(1, 60))
def test_schedule_reveals_everything_at_the_last_call(length: int, calls: int) -> None:
    left = masked_after(length, calls)
    assert len(left) == calls
    assert left[-1] == 0
    before = [length, *left[:-1]]
    assert all(a >= b for a, b in zip(before, left, strict=True))
    assert before[-1] >= 1  # the last call has something to reveal
    waiting = max(0, calls - length)
    assert left[:waiting] == [length] * waiting
    assert all(a > b for a, b in zip(before[waiting:], left[waiting:], strict=True))


def test_mask_rates_are_independent_or_shared() -> None:
    torch.manual_seed(0)
    long = (replace(FUTURE, steps=50), replace(ACTION, steps=50))
    trunk = TransformerConfig(width=8, depth=1, heads=1).build()
    correlations = {}
    for rates in ("independent", "shared"):
        model = UnmaskerConfig(rates=rates).build(long, (), trunk)  # type: ignore[arg-type]
        masks = model._draw_masks(["future", "action"], 2000, torch.device("cpu"))
        share = torch.stack([masks[n].float().mean(dim=1) for n in ("future", "action")])
        assert bool((share > 0).all())
        correlations[rates] = torch.corrcoef(share)[0, 1].item()
    assert abs(correlations["independent"]) < 0.08
    assert correlations["shared"] > 0.99
    model = UnmaskerConfig(absent={"future": 0.25}, clean={"future": 0.25}).build(long, (), trunk)
    share = model._draw_masks(["future"], 4000, torch.device("cpu"))["future"].float().mean(dim=1)
    assert (share == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert (share == 1).float().mean().item() == pytest.approx(0.25 + 0.75 * 0.13, abs=0.06)


def test_reads_apply_to_token_streams_too() -> None:
    torch.manual_seed(0)
    model = build(UnmaskerConfig(reads={"action": ()})).eval()
    assert model.skippable(["future", "action"], "future", Budget())
    assert not model.skippable(["future", "action"], "action", Budget())
    alone = draw(model, ["action"], 4, action=4)
    beside = draw(model, ["future", "action"], 4, action=4, future=1)
    assert torch.equal(alone["action"], beside["action"])


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="needs token ids"):
        UnmaskerConfig().build((replace(ACTION, vocabulary=None),), (), None)
    with pytest.raises(ConfigError, match="`nfe` names stream 'act'"):
        build(UnmaskerConfig(nfe={"act": 3}))
    with pytest.raises(ConfigError, match="needs rates: independent"):
        build(UnmaskerConfig(rates="shared", clean={"future": 0.5}))
    with pytest.raises(BudgetError, match="needs at least 1"):
        build(UnmaskerConfig()).check_budget(["action"], Budget(nfe={"action": 0}))


def test_a_stream_may_be_absent_where_the_others_share_a_rate() -> None:
    model = build(UnmaskerConfig(rates="shared", absent={"future": 0.5}))
    masks = model._draw_masks(["future", "action"], 2000, torch.device("cpu"))
    whole = {name: mask.all(dim=1).float().mean().item() for name, mask in masks.items()}
    assert whole["future"] > 0.5
    assert whole["future"] - whole["action"] > 0.2
    assert model.processes == 1
    assert model.skippable(["future", "action"], "future", Budget())


def test_a_design_of_token_streams_trains_and_acts(data: DataSpec, toy: ToyWindows) -> None:
    """The interleaved recipe with its autoregressor exchanged for an unmasker."""
    base = recipe("autoregressive")
    assert isinstance(base.action, BinsConfig)
    (name,) = base.estimators
    config = replace(base, estimators={name: UnmaskerConfig(steps=3, absent={"future": 0.3})})
    design = Design(config, data)
    design.fit(toy, 0)
    design.loss(toy.windows(torch.arange(10, 18).numpy(), design.training_window)).total.backward()
    design.eval()
    seen = acting_observation(toy, [30, 60], design.window)
    state = design.initial_state(2)
    both, _ = design.forecast(seen, state, Budget(nfe={"action": 2}), [1, 2])
    assert both.nfe == {"action": 2, "future": 3}
    assert set(both.future) == {"future"}
    alone, _ = design.forecast(seen, state, Budget(future=False), [1, 2])
    assert set(alone.nfe) == {"action"}
    assert design.cells()["backbone"] == "Hybrid"  # two processes on one trunk
    early, _ = design.forecast(seen, state, Budget(exit={"future": 1}), [1, 2])
    assert early.nfe == {"action": 3, "future": 1}
    assert early.future["future"].shape == both.future["future"].shape
    with pytest.raises(BudgetError, match="must be 1 to its nfe, which is 3"):
        design.check_budget(Budget(exit={"action": 4}))


def test_an_early_exit_reveals_all_in_its_call() -> None:
    """Stopping after the last call changes nothing; after an earlier one, fewer calls write the same number of ids."""
    fresh = build(UnmaskerConfig(steps=4))
    call = Call(fresh.trunk.empty(16, 1), {}, (), 16)
    made = {}
    for leave in (1, 2, 4):
        budget = Budget(exit={"future": leave})
        with torch.no_grad():
            made[leave] = fresh.generate(["future"], call, budget, RowNoise(range(16)))
        assert made[leave].nfe == {"future": leave}
    with torch.no_grad():
        whole = fresh.generate(["future"], call, Budget(), RowNoise(range(16)))
    assert torch.equal(whole.values["future"], made[4].values["future"])
    assert not torch.equal(whole.values["future"], made[1].values["future"])
    assert made[1].values["future"].shape == whole.values["future"].shape
