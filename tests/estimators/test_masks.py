"""Declared reads among jointly generated streams: action-centred, bottleneck, leakage-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.facts import EstimatorFacts
from wamkit.design.graph import Factor, FactorGraph
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators import Denoiser, DenoiserConfig
from wamkit.estimators.joint import StreamReads
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STREAMS = {
    "future": StreamSpec("future", "future", 2, 3, 4),
    "map": StreamSpec("map", "future", 1, 2, 3),
    "action": StreamSpec("action", "action", 4, 1, 2),
}
CENTRED = {"action": ()}
BOTTLENECK = {"action": ("map",)}


def denoiser(reads: Mapping[str, tuple[str, ...]], **options: object) -> Denoiser:
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=3, heads=2).build()
    config = DenoiserConfig(reads=dict(reads), **options)  # type: ignore[arg-type]
    return config.build(tuple(STREAMS.values()), (), trunk).eval()


def inputs(model: Denoiser, **levels: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(1)
    values = {n: torch.randn(2, s.steps, s.tokens, s.features).requires_grad_() for n, s in STREAMS.items()}
    return values, {n: torch.full((2,), levels.get(n, 0.5)) for n in STREAMS}


def influence(model: Denoiser, on: str, **levels: float) -> dict[str, float]:
    """Largest gradient of every token of one stream's output with respect to every stream's tokens."""
    values, told = inputs(model, **levels)
    found = model._velocity(values, told, model.trunk.empty(2, 1), None)[on]
    gradients = torch.autograd.grad(found.square().sum(), list(values.values()), allow_unused=True)
    return {n: 0.0 if g is None else g.abs().max().item() for n, g in zip(values, gradients, strict=True)}


def test_without_reads_every_stream_influences_every_other() -> None:
    model = denoiser({})
    for name in STREAMS:
        assert min(influence(model, name).values()) > 0


def test_gradient_from_a_forbidden_token_is_exactly_zero() -> None:
    model = denoiser(CENTRED)
    found = influence(model, "action")
    assert found["future"] == found["map"] == 0 < found["action"]
    assert min(influence(model, "future").values()) > 0  # the future may read the action


def test_editing_forbidden_tokens_leaves_the_action_bit_identical() -> None:
    model = denoiser(CENTRED)
    values, told = inputs(model)
    edited = {**values, "future": values["future"] + 5, "map": values["map"] * 0}
    cache = model.trunk.empty(2, 1)
    with torch.no_grad():
        one, two = (model._velocity(v, told, cache, None) for v in (values, edited))
    assert torch.equal(one["action"], two["action"])
    assert not torch.equal(one["future"], two["future"])


def test_the_future_reaches_the_action_through_the_bottleneck_alone() -> None:
    model = denoiser(BOTTLENECK)
    assert influence(model, "action")["future"] > 0  # by way of the map
    blocked = influence(model, "action", map=1.0)  # a stream at level 1 is read by nobody
    assert blocked["future"] == blocked["map"] == 0 < blocked["action"]
    assert influence(denoiser({}), "action", map=1.0)["future"] > 0  # without the mask it goes round it


@pytest.mark.parametrize("wanted", [["action"], ["action", "map"], ["action", "future", "map"]])
def test_sampling_with_and_without_the_others_gives_the_same_bits(wanted: list[str]) -> None:
    model = denoiser(CENTRED)
    call = Call(model.trunk.empty(2, 1), {}, (), 2)
    budget = Budget(nfe={"future": 3, "map": 2, "action": 5})
    with torch.no_grad():
        alone = model.generate(["action"], call, budget, RowNoise([1, 2]))
        beside = model.generate(wanted, call, budget, RowNoise([1, 2]))
    assert torch.equal(alone.values["action"], beside.values["action"])
    assert set(beside.values) == set(wanted)


def test_blocks_put_what_is_read_first() -> None:
    names = ("future", "map", "action")
    assert StreamReads(names, {}, "x").blocks(names) == [["future", "map", "action"]]
    assert StreamReads(names, CENTRED, "x").blocks(names) == [["action"], ["future", "map"]]
    assert StreamReads(names, BOTTLENECK, "x").blocks(names) == [["future", "map", "action"]]
    chain = {"future": (), "map": ("future",), "action": ("map",)}
    assert StreamReads(names, chain, "x").blocks(names) == [["future"], ["map"], ["action"]]
    assert StreamReads(names, chain, "x").blocks(("action", "future")) == [["action"], ["future"]]


def test_one_pass_per_block_equals_one_masked_pass() -> None:
    """The chain, computed block by block, against the same network under one mask over all tokens."""
    chain = {"future": (), "map": ("future",), "action": ("map",)}
    model = denoiser(chain)
    values, told = inputs(model)
    cache = model.trunk.empty(2, 1)
    with torch.no_grad():
        found = model._velocity(values, told, cache, None)
        tokens = [model._embed(n, values[n], told[n]) for n in STREAMS]
        owner = torch.cat([torch.full((t.shape[1],), i) for i, t in enumerate(tokens)])
        allowed = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=torch.bool)
        hidden, _ = model.trunk(torch.cat(tokens, dim=1), cache=cache, attend=allowed[owner][:, owner])
        for i, name in enumerate(STREAMS):
            whole = model.outputs[name].read(hidden[:, owner == i])
            torch.testing.assert_close(found[name], whole, atol=1e-5, rtol=1e-5)


def test_hidden_rows_are_hidden_across_blocks_too() -> None:
    """In training, single rows are at level 1: the others must not read them through the kept keys and values."""
    model = denoiser({"future": (), "map": ("future",), "action": ("map",)})
    values, told = inputs(model)
    told["future"] = torch.tensor([1.0, 0.5])
    found = model._velocity(values, told, model.trunk.empty(2, 1), None)["map"]
    (gradient,) = torch.autograd.grad(found.square().sum(), values["future"])
    assert gradient[0].abs().max() == 0 < gradient[1].abs().max()


def test_reads_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="`reads` names stream 'mop'"):
        denoiser({"action": ("mop",)})
    with pytest.raises(ConfigError, match="must read the same other streams"):
        denoiser({"future": (), "map": ("action",), "action": ("map", "future")})


# --------------------------------------------------------------------------------------------------- designs


def centred(data: DataSpec, toy: ToyWindows) -> Design:
    base = recipe("joint")
    world = replace(base.estimators["world"], reads={"action": ()}, absent={}, clean={})  # type: ignore[type-var]
    design = Design(replace(base, estimators={"world": world}), data).eval()
    design.fit(toy, 0)
    return design


def test_action_centred_design_skips_its_future_without_absent(data: DataSpec, toy: ToyWindows) -> None:
    design = centred(data, toy)
    seen = acting_observation(toy, [30, 60], design.window)
    design.check_budget(Budget(future=False))
    state = design.initial_state(2)
    without, _ = design.forecast(seen, state, Budget(future=False), [1, 2])
    with_future, _ = design.forecast(seen, state, Budget(), [1, 2])
    assert torch.equal(without.action, with_future.action)
    assert without.future == {}
    assert set(with_future.future) == {"future"}
    # The future still reads the action, so it cannot be had without one.
    assert "action" in design.sample(seen, ["future"], seeds=[1, 2]).values


def test_a_future_that_the_action_reads_is_not_skippable(data: DataSpec, toy: ToyWindows) -> None:
    base = recipe("joint")
    world = replace(base.estimators["world"], absent={}, clean={})  # type: ignore[type-var]
    with pytest.raises(BudgetError, match="needs future to act"):
        Design(replace(base, estimators={"world": world}), data).check_budget(Budget(future=False))


def test_status_says_that_an_unread_future_only_trains(data: DataSpec, toy: ToyWindows) -> None:
    design = centred(data, toy)
    assert design.graph.wam().paths == ("trains",)
    assert design.graph.coupling() == "Joint generation"
    assert Design(recipe("joint"), data).graph.wam().paths == ("joint",)


@pytest.mark.parametrize(
    ("reads", "paths"),
    [
        ({}, ("joint",)),
        (CENTRED, ("trains",)),
        (BOTTLENECK, ("joint",)),
        ({"map": (), "action": ("map",)}, ("joint",)),
    ],
)
def test_paths_follow_the_reads(reads: dict[str, tuple[str, ...]], paths: tuple[str, ...]) -> None:
    roles = {name: spec.role for name, spec in STREAMS.items()}
    facts = {"main": EstimatorFacts("diffusion", "main", reads=reads)}
    assert FactorGraph((Factor(tuple(STREAMS)),), roles, facts).wam().paths == paths


@pytest.mark.learns
def test_masked_training_removes_the_gap_on_a_leak() -> None:
    """Training shows the true future beside the action; what is generated when acting is no such oracle."""
    gaps = {}
    future, action = StreamSpec("future", "future", 1, 1, 1), StreamSpec("action", "action", 1, 1, 1)
    hint = StreamSpec("hint", "goal", 1, 1, 1)
    rows = 96
    pad = torch.zeros(rows, 1, dtype=torch.bool)
    for name, reads in (("leaks", {}), ("masked", CENTRED)):
        torch.manual_seed(0)
        trunk = TransformerConfig(width=24, depth=2, heads=2).build()
        config = DenoiserConfig(reads=dict(reads), clean={"future": 1.0})
        model = config.build((future, action), (hint,), trunk)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        for _ in range(250):
            truth = torch.randn(rows, 1, 1, 1)
            told = truth + 0.5 * torch.randn_like(truth)
            call = Call(trunk.empty(rows, 1), {"hint": told}, (), rows)
            loss = model.loss(
                ["future", "action"], call, {"future": Target(truth, pad), "action": Target(truth, pad)}, None
            )
            optimizer.zero_grad()
            loss.terms["action"].backward()
            optimizer.step()
        errors = []
        for given in (
            {"future": truth},
            {"future": torch.randn_like(truth)},
        ):  # as trained; as acting would have it
            with torch.no_grad():
                call = Call(trunk.empty(rows, 1), {"hint": told, **given}, (), rows)
                made = model.generate(
                    ["action"], call, Budget(nfe={"action": 10}), RowNoise([0], copies=rows)
                )
            errors.append((made.values["action"] - truth).square().mean().item())
        gaps[name] = errors[1] - errors[0]
    assert gaps["masked"] == 0
    assert gaps["leaks"] > 0.5


def test_reads_and_a_kept_past_go_together(data: DataSpec, toy: ToyWindows) -> None:
    """Chunk-causal and action-centred: the past is read by all, the future of this block by no action."""
    base = recipe("chunk_causal")
    world = replace(base.estimators["world"], reads={"action": ()}, absent={}, clean={})  # type: ignore[type-var]
    design = Design(replace(base, estimators={"world": world}), data).eval()
    design.fit(toy, 0)
    design.loss(toy.windows(torch.arange(30, 38).numpy(), design.training_window)).total.backward()
    seen = acting_observation(toy, [30], design.window)
    state = design.initial_state(1)
    without, _ = design.forecast(seen, state, Budget(future=False), [1])
    beside, _ = design.forecast(seen, state, Budget(), [1])
    assert torch.equal(without.action, beside.action)
    assert len(beside.future) == 2
