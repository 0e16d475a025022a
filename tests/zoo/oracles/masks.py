"""Oracles of who reads whom: masks around the action, and heads that act on a prediction."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from gates import moved_steps, other_future, sharpen
from oracles.drawing import another, graded, sampled, terms
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.estimators.levels import LevelConfig


@oracle("cp.action-centric-mask")
def action_centric(case: Case) -> None:
    """Either no future reaches the action, or all that does passes through the streams that it reads."""
    design = sharpen(case.untrained())
    graph = design.graph
    factor = graph.factor_of(ACTION)
    reads = graph.estimators[factor.estimator].reads
    direct = {*factor.given, *reads.get(ACTION, factor.generates)} - {ACTION}
    neck = sorted(direct & graph.of_role("future"))
    if neck:
        bottleneck(case, design, neck)
        return
    assert not any(moved_steps(design, case.cut(design.window))), "a predicted future moves the action"
    alone = sampled(case, design, [ACTION], budget=Budget(future=False)).values[ACTION]
    futures = sorted(graph.of_role("future"))
    beside = sampled(case, design, [ACTION, *futures]).values[ACTION]
    assert torch.equal(alone, beside), "the action is another one when futures are generated beside it"
    mutual = [name for name in factor.generates if name in futures]
    for name in mutual:
        told = [
            sampled(case, design, [name], given={ACTION: a}).values[name] for a in (alone, another(alone))
        ]
        assert not torch.equal(*told), f"{name!r} does not read the action"


def bottleneck(case: Case, design: Design, neck: list[str]) -> None:
    """Futures reach the action through the streams that it reads; with those closed, none of them does."""
    factor = design.graph.factor_of(ACTION)
    behind = [n for n in case.futures() if n in factor.generates and n not in neck]
    assert behind, "the action reads every future itself"
    part = case.config.estimators[factor.estimator]
    assert isinstance(part, LevelConfig)
    closed = {
        **case.config.estimators,
        factor.estimator: replace(part, reads={**part.reads, ACTION: (ACTION,)}),
    }
    shut = sharpen(case.untrained(estimators=closed))
    made = sampled(case, design, [*neck, *behind]).values
    other = {**made, **{name: another(made[name]) for name in behind}}
    told = [sampled(case, design, [ACTION], given=given).values[ACTION] for given in (made, other)]
    assert not torch.equal(*told), f"{behind} do not reach the action through {neck}"
    told = [sampled(case, shut, [ACTION], given=given).values[ACTION] for given in (made, other)]
    assert torch.equal(*told), f"{behind} reach the action past {neck}"
    moved = {**made, **{name: another(made[name]) for name in neck}}
    assert not torch.equal(*(sampled(case, design, [ACTION], given=g).values[ACTION] for g in (made, moved)))


@oracle("cp.post-head")
def post_head(case: Case) -> None:
    """The head trains while the predictor cannot be changed by it, takes the true future, and acts on it."""
    design = case.untrained()
    graph = design.graph
    factor = graph.factor_of(ACTION)
    read = list(factor.given)
    assert read, "the action is given nothing that was predicted"
    predictors = {graph.factor_of(name).estimator for name in graph.ancestors([ACTION])}
    theirs = {f"estimators.{name}." for name in predictors}
    trunks = {design.config.estimators[name].trunk for name in predictors}
    own = design.config.estimators[factor.estimator].trunk
    theirs |= {f"trunks.{name}." for name in trunks if name is not None and name != own}
    shared = own in trunks
    frozen = {
        n
        for n, p in design.named_parameters()
        if n.startswith(tuple(theirs)) and not (shared and f"trunks.{own}." in n)
    }
    if shared:  # the predictor holds the shared trunk under its own name, too
        inside = {id(p) for p in design.trunks[own].parameters()}
        frozen = {n for n in frozen if id(design.get_parameter(n)) not in inside}
    assert frozen, "nothing predicts apart from the head"
    design.train()
    if ACTION in terms(case, design):  # a head that is fitted in every call has no loss
        reached = graded(design, terms(case, design)[ACTION])
        assert not reached & frozen, f"the head's loss changes the predictor: {sorted(reached & frozen)[:3]}"
        for name, parameter in design.named_parameters():
            parameter.requires_grad_(name not in frozen)
        assert graded(design, terms(case, design)[ACTION]), (
            "the head does not train with the predictor frozen"
        )
    acts_on(case, sharpen(design), read)


def acts_on(case: Case, design: Design, read: list[str]) -> None:
    """The action follows what it is given: the true future where there is one, and another one."""
    made = {name: sampled(case, design, [name]).values[name] for name in read}
    targets = design.targets(case.batch([12], design))
    true = {name: targets[name].values if name in targets else value for name, value in made.items()}
    acted = sampled(case, design, [ACTION], given=true).values[ACTION]
    assert acted.isfinite().all()
    for draw in range(20):
        other = {n: instead(design, n, v, draw) for n, v in true.items()}
        if not torch.equal(acted, sampled(case, design, [ACTION], given=other).values[ACTION]):
            return
    raise AssertionError("another future, the same action")


def instead(design: Design, name: str, value: Tensor, draw: int) -> Tensor:
    """Another value of a stream that the head is given."""
    if name in design.graph.futures():
        return other_future(design, name, value, torch.Generator().manual_seed(draw))
    return another(value, seed=draw, vocabulary=design.streams[name].vocabulary)
