"""Stages in one factor: ids and continuous values on one trunk, as two factors compute them, and joint all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from estimating import drawn, targets, tiny, told
from support import ToyWindows, acting_observation
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import EstimatorConfig
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, from_pretrained, save_pretrained
from wamkit.errors import ConfigError
from wamkit.estimators import (
    AutoregressorConfig,
    Denoiser,
    DenoiserConfig,
    Staged,
    StagedConfig,
    UnmaskerConfig,
)
from wamkit.substrates import PatchVQConfig, PixelLatentConfig
from wamkit.training import OptimConfig
from wamkit.trunks import MixtureConfig, TransformerConfig
from wamkit.zoo import recipe

IDS = StreamSpec("ids", "future", 1, 4, 1, vocabulary=7)
ACTION = StreamSpec("action", "action", 3, 1, 2)
POLICY = DenoiserConfig(steps=2)
WRITERS: dict[str, EstimatorConfig] = {
    "written": AutoregressorConfig(temperature=1.0),
    "unmasked": UnmaskerConfig(steps=2),
}


def staged(writer: EstimatorConfig, **changes: object) -> StagedConfig:
    parts = {"ids": writer, "action": POLICY}
    return replace(StagedConfig(parts=parts, streams={"ids": ("ids",), "action": ("action",)}), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_one_factor_in_stages_is_the_chain_of_two_factors(writer: EstimatorConfig) -> None:
    """Equal losses, equal samples and equal gradients of the trunk as p(ids | c) p(action | ids, c)."""
    one = tiny(staged(writer), [IDS, ACTION])
    torch.manual_seed(0)
    trunk = TransformerConfig(width=16, depth=2, heads=2).build()
    first = writer.build((IDS,), (), trunk).eval()
    second = POLICY.build((ACTION,), (IDS,), trunk).eval()
    known = drawn([IDS, ACTION], 3)
    assert isinstance(one, Staged)
    policy = one.parts["action"]
    assert isinstance(policy, Denoiser)

    torch.manual_seed(1)
    joint = one.loss(["ids", "action"], told(policy.trunk, 3), targets(known), None).terms
    torch.manual_seed(1)
    chain = first.loss(["ids"], told(trunk, 3), targets(known), None).terms
    chain.update(second.loss(["action"], told(trunk, 3, {"ids": known["ids"]}), targets(known), None).terms)
    assert joint.keys() == chain.keys()
    for name, term in joint.items():
        assert torch.equal(term, chain[name])
    sum(joint.values()).backward()  # type: ignore[union-attr]
    sum(chain.values()).backward()  # type: ignore[union-attr]
    for mine, theirs in zip(policy.trunk.parameters(), trunk.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        if mine.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad)

    with torch.no_grad():
        both = one.generate(["ids", "action"], told(policy.trunk, 3), Budget(), RowNoise([1, 2, 3]))
        noise = RowNoise([1, 2, 3])
        ids = first.generate(["ids"], told(trunk, 3), Budget(), noise)
        action = second.generate(["action"], told(trunk, 3, ids.values), Budget(), noise)
    assert torch.equal(both.values["ids"], ids.values["ids"])
    assert torch.equal(both.values["action"], action.values["action"])
    assert both.nfe == {**ids.nfe, **action.nfe}


@pytest.mark.parametrize("stream", ["ids", "action"])
def test_the_gradient_of_every_stage_reaches_the_trunk(stream: str) -> None:
    model = tiny(staged(WRITERS["written"]), [IDS, ACTION])
    assert isinstance(model, Staged)
    policy = model.parts["action"]
    assert isinstance(policy, Denoiser)
    known = targets(drawn([IDS, ACTION], 3))
    model.loss(["ids", "action"], told(policy.trunk, 3), known, None).terms[stream].backward()
    moved = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in policy.trunk.parameters()]
    assert sum(moved) > len(moved) / 2


@pytest.mark.parametrize("sees", [True, False])
def test_the_action_sees_the_ids_if_and_only_if_it_may(sees: bool) -> None:
    config = staged(WRITERS["unmasked"], reads={} if sees else {"action": ()})
    model = tiny(config, [IDS, ACTION])
    assert isinstance(model, Staged)
    policy = model.parts["action"]
    assert isinstance(policy, Denoiser)
    actions = []
    for value in (0, 3):
        known = {"ids": torch.full((2, 1, 4), value)}
        call = told(policy.trunk, 2, known)
        with torch.no_grad():
            actions.append(model.generate(["action"], call, Budget(), RowNoise([1, 2])).values["action"])
    assert torch.equal(*actions) != sees
    assert model.reads == {"ids": (), "action": ("ids",) if sees else ()}
    assert model.skippable(["ids", "action"], "ids", Budget()) != sees
    assert model.skippable(["ids", "action"], "action", Budget())


def hybrid(reads: dict[str, tuple[str, ...]] | None = None) -> DesignConfig:
    """Picture tokens by an autoregressor, then the action by flow matching, in one mixture of transformers (F1)."""
    parts: dict[str, EstimatorConfig] = {
        "foresight": AutoregressorConfig(),
        "action": DenoiserConfig(steps=2),
    }
    streams = {"foresight": ("future",), "action": ("action",)}
    return replace(
        recipe("direct"),
        substrates={"video": PixelLatentConfig(PatchVQConfig(patch=16, features=8, vocabulary=16))},
        futures={"future": FutureConfig("video", (8,))},
        trunks={
            "main": MixtureConfig(
                {"foresight": ("future",), "action": ("action",)}, width=128, depth=2, heads=4
            )
        },
        estimators={"world": StagedConfig(parts=parts, streams=streams, reads=reads or {})},
        factors=(Factor(("future", "action"), (), "world"),),
    )


def test_a_design_in_stages_is_joint_and_hybrid_and_acts_the_same_after_reload(
    data: DataSpec, toy: ToyWindows, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    design = Design(hybrid(), data)
    design.fit(toy, 0)
    assert design.factorisation() == "p(s,a|c)"
    cells = design.cells()
    assert (cells["coupling"], cells["backbone"]) == ("Joint generation", "Hybrid")
    assert design.graph.wam().paths == ("joint",)
    assert Design(hybrid({"action": ()}), data).graph.wam().paths == ("trains",)
    optimizer = OptimConfig(lr=1e-3).build(design)
    for _ in range(2):
        batch = toy.windows(torch.arange(20, 28).numpy(), design.training_window)
        losses = design.loss(batch)
        assert set(losses.terms) == {"future", "action"}
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    design.eval()
    observation = acting_observation(toy, [30, 60], design.window)
    before, _ = design.forecast(observation, design.initial_state(2), Budget(), [1, 2])
    save_pretrained(design, tmp_path / "model")
    again = from_pretrained(tmp_path / "model")
    after, _ = again.forecast(observation, again.initial_state(2), Budget(), [1, 2])
    assert torch.equal(before.action, after.action)
    assert torch.equal(before.future["future"], after.future["future"])
    moved = {"future": (before.future["future"] + 1) % 16}
    other = design.sample(observation, ["action"], seeds=[1, 2], given=moved).values["action"]
    same = design.sample(observation, ["action"], seeds=[1, 2], given=dict(before.future)).values["action"]
    assert not torch.equal(other, same)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {"ids": POLICY}, "streams": {"ids": ("ids", "action")}}, "name at least two"),
        ({"streams": {"ids": ("ids",), "action": ("ids",)}}, "Give every stream to one stage"),
        ({"reads": {"ids": ("action",)}}, "which no earlier stage generates"),
        ({"reads": {"actoin": ("ids",)}}, "Did you mean 'action'"),
        ({"parts": {"ids": AutoregressorConfig(trunk="other"), "action": POLICY}}, "runs on trunk 'other'"),
        ({"parts": {"ids": POLICY, "action": POLICY}}, "needs continuous values"),
    ],
)
def test_stages_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(staged(WRITERS["written"], **changes), [IDS, ACTION])
