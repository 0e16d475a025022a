"""Oracles of memories that are trained while acting."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case

from gates import sharpen
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Carries, Observation
from wamkit.design import Design
from wamkit.estimators.fast_weights import FastWeights


@oracle("mm.ttt-memory")
def ttt_memory(case: Case) -> None:
    """The memory's size is constant, an early cue is still there later and moves the action, and a reset is exact."""
    design = sharpen(case.untrained())
    labels = [name for name, part in design.estimators.items() if isinstance(part, FastWeights)]
    assert labels, "no weights are trained while acting"
    seen = case.cut(design.window)
    cue = replace(seen, images={k: 255 - v for k, v in seen.images.items()})
    blank = design.initial_state(1)
    states = {"cue": walked(design, [cue] + [seen] * 6), "none": walked(design, [seen] * 7)}
    longer = walked(design, [cue] + [seen] * 20)
    for label in labels:
        sizes = [size(s[label]) for s in (blank, states["cue"], longer)]
        assert len(set(sizes)) == 1, f"the memory grows: {sizes}"
        told, plain = (states[kind][label]["weights"] for kind in ("cue", "none"))
        assert not torch.equal(told, plain), "the cue is forgotten"
        assert same(blank[label], design.initial_state(1)[label]), "acting changed the start"
    context = design.encode_context(seen)
    acts = [
        design.sample(seen, [ACTION], seeds=[1], carry=state, context=context).values[ACTION]
        for state in states.values()
    ]
    assert not torch.equal(*acts), "what is remembered does not reach the action"


def walked(design: Design, observations: list[Observation]) -> Carries:
    """Carried state after a series of observations."""
    state = design.initial_state(observations[0].batch_size)
    for observation in observations:
        state = design.observe(observation, state, design.encode_context(observation))
    return state


def size(carry: dict[str, torch.Tensor]) -> int:
    """Bytes of a carried state."""
    return sum(value.numel() * value.element_size() for value in carry.values())


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """True when two carried states are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)
