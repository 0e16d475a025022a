"""Oracles of token streams: causal decoding, interleaving, and masks that keep the future out of the action."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import Case
from torch import Tensor

from gates import moved_steps, sharpen
from oracles.probes import drawn, stages
from oracles.registry import oracle
from wamkit.contract.calls import Call
from wamkit.contract.protocols import Estimator
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.errors import ConfigError
from wamkit.estimators.levels import LevelEstimator
from wamkit.estimators.next_scale import NextScale
from wamkit.estimators.serial import Serial


def named(design: Design, kind: type) -> list[tuple[str, Estimator]]:
    """Estimators of a kind, and the design's estimator that each is or is a stage of."""
    found = [
        (name, part) for name, e in design.estimators.items() for part in stages(e) if isinstance(part, kind)
    ]
    return [(name, part) for name, part in found]


def call_of(case: Case, design: Design, owner: str, part: Estimator) -> Call:
    """A call of an estimator with random values of all that it is given."""
    context = design.encode_context(case.cut(design.window))
    given = {name: drawn(design, name, 5) for name in part.given}
    return Call(context_of(owner, design.graph, context), given, design.initial_state(1)[owner], 1)


@oracle("bb.autoregressive")
def autoregressive(case: Case) -> None:
    """Decoding from the cache is the teacher-forced pass; changing an element changes nothing before it."""
    design = sharpen(case.untrained())
    serial, scales = named(design, Serial), named(design, NextScale)
    assert serial or scales, "nothing is generated element by element"
    for owner, part in serial:
        call = call_of(case, design, owner, part)
        decoded, hidden = decode(part, call)
        forced = part.hidden(decoded, list(part.outputs), call)
        assert torch.allclose(hidden, forced, atol=1e-4, rtol=1e-3), "cached and uncached decoding differ"
        causal(part, decoded, call)
        if getattr(part.config, "lookahead", 1) > 1:
            assert len(part.ahead) == part.config.lookahead - 1
    for owner, part in scales:
        coarse_to_fine(part, design, call_of(case, design, owner, part))


def decode(part: Serial, call: Call) -> tuple[dict[str, Tensor], Tensor]:
    """Generated values of all streams, and the hidden tokens (1, L, width) that each element was drawn from."""
    hidden: list[Tensor] = []
    inner = part.draw

    def draw(name: str, token: Tensor, *rest: Any) -> Tensor:
        hidden.append(token)
        return inner(name, token, *rest)

    part.draw = draw  # type: ignore[method-assign]
    with torch.no_grad():
        made = part.generate(list(part.outputs), call, Budget(), RowNoise([1], part.begin.device))
    del part.draw
    return made.values, torch.stack(hidden, dim=1)


@torch.no_grad()
def causal(part: Serial, values: dict[str, Tensor], call: Call) -> None:
    """Change one element in the middle: what is predicted up to it stays, what comes after it does not."""
    names = list(part.outputs)
    sequence = part.serialize(values, names) if len(names) == 1 or not part_is_mixed(part) else None
    piece = part.order(names)[len(part.order(names)) // 2]
    before = sum(part.sizes(names)[: len(part.order(names)) // 2])
    assert sequence is None or sequence.shape[1] == sum(part.sizes(names))
    changed = dict(values)
    changed[piece.stream] = values[piece.stream].clone()
    spec = part.outputs[piece.stream].spec
    if spec.vocabulary is not None:
        changed[piece.stream][:, piece.start] = (changed[piece.stream][:, piece.start] + 1) % spec.vocabulary
    else:
        changed[piece.stream][:, piece.start] += 3
    first, second = (part.hidden(v, names, call)[0] for v in (values, changed))
    assert torch.allclose(first[: before + 1], second[: before + 1], atol=1e-5)
    assert not torch.allclose(first[before + 1 :], second[before + 1 :], atol=1e-5)


def part_is_mixed(part: Serial) -> bool:
    """True when the elements of the streams have different widths, so that they are no single tensor."""
    return len({tokens.spec.features for tokens in part.outputs.values()}) > 1


@torch.no_grad()
def coarse_to_fine(part: NextScale, design: Design, call: Call) -> None:
    """A finer scale changes nothing that a coarser one is drawn from."""
    names = list(part.outputs)
    shown = []
    for draw in (1, 2):
        parts = {n: list(part.pyramids[n].cut(drawn(design, n, 1))) for n in names}
        for name in names:
            parts[name][-1] = part.pyramids[name].cut(drawn(design, name, draw))[-1]
        shown.append(part.hidden(part.known(parts), names, call))
    assert len(shown[0]) > 1, "a single scale"
    for first, second in zip(shown[0], shown[1], strict=True):
        assert all(torch.allclose(first[n], second[n], atol=1e-5) for n in first)
    other = {n: part.pyramids[n].cut(drawn(design, n, 3)) for n in names}
    finest = part.hidden(part.known(other), names, call)[-1]
    assert any(not torch.allclose(finest[n], shown[0][-1][n], atol=1e-5) for n in finest)


@oracle("cp.interleave")
def interleave(case: Case) -> None:
    """One declared order: what is serialised is parsed back, another order is refused, every stream has its loss."""
    design = case.untrained()
    design.train()
    owner = design.graph.factor_of(ACTION).estimator if case.acts else next(iter(design.estimators))
    estimator = design.estimators[owner]
    beside = [n for f in design.graph.factors if f.estimator == owner for n in f.generates]
    assert len(beside) > 1, "the stream holds one kind of element"
    terms = design.loss(case.batch(design=design)).terms
    for name in beside:
        if design.graph.roles[name] != "state":
            assert terms[name].isfinite(), name
    parts = stages(estimator)
    serial = [part for part in parts if isinstance(part, Serial)]
    for part in serial:
        parsed(part, design)
    if len(parts) > 1:
        staged_order(case, owner)
    elif not serial:
        assert design.past_blocks, "neither one sequence, nor stages, nor blocks of the past"
        blocks_in_order(estimator)


def parsed(part: Serial, design: Design) -> None:
    """Serialise and parse; the reversed order is refused."""
    names = list(part.outputs)
    values = {name: drawn(design, name, i) for i, name in enumerate(names)}
    if not part_is_mixed(part):
        back = part.parse(part.serialize(values, names), names)
        assert all(torch.equal(back[name], values[name]) for name in names)
    pieces = part.order(names)
    assert [p.stream for p in pieces[: len(names)]] == names
    for name in names:
        steps = [t for p in pieces if p.stream == name for t in range(p.start, p.stop)]
        assert steps == list(range(part.outputs[name].spec.steps)), "a step is written twice or never"
    if len(names) > 1:
        with pytest.raises(ConfigError, match="order"):
            part.order(names[::-1])


def staged_order(case: Case, owner: str) -> None:
    """Stages generate in their order: an earlier one does not change with a later one, which reads it."""
    design = sharpen(case.untrained())
    outputs = design.graph.factor_of(ACTION).generates
    config = case.config.estimators[owner]
    order = [name for names in config.streams.values() for name in names]  # type: ignore[attr-defined]
    assert sorted(order) == sorted(outputs)
    observation = case.cut(design.window)
    first = {n: drawn(design, n, 1) for n in order[:-1]}
    other = {n: drawn(design, n, 2) for n in order[:-1]}
    actions = [
        design.sample(observation, order[-1:], seeds=[1], given=g).values[order[-1]] for g in (first, other)
    ]
    assert not torch.equal(*actions), "the last stage does not read the earlier ones"
    alone = design.sample(observation, order[:1], seeds=[1])
    assert set(alone.values) == {order[0]}, "a later stage runs for an earlier one"


def blocks_in_order(estimator: Estimator) -> None:
    """Every block of the past has the same streams in the same order, and block causality is a lower triangle."""
    memory = estimator.memory  # type: ignore[union-attr]
    one, three = memory.layout(1), memory.layout(3)
    assert three == one * 3
    assert len({stream for stream, _ in one}) == len(one) > 1
    clock = torch.arange(3).repeat_interleave(memory.tokens_per_block)
    assert torch.equal(memory.block_causal(clock), clock[:, None] >= clock[None, :])


@oracle("cp.leakage-mask")
def leakage_mask(case: Case) -> None:
    """Where future and action share a process, no executed action moves with the future, nor with later actions.

    Where a subgoal is written first, its tokens are causal and the action is one block in which all read all.
    """
    design = sharpen(case.untrained())
    factor = design.graph.factor_of(ACTION)
    together = [name for name in factor.generates if design.graph.roles[name] == "future"]
    if together:
        moved = moved_steps(design, case.cut(design.window))
        assert not any(moved), f"executed steps that move with the future: {moved}"
        forgets_future(case, together)
    for name, part in named(design, Serial):
        call = call_of(case, design, name, part)
        values = {n: drawn(design, n, 1) for n in part.outputs}
        causal(part, values, call)
    if not together:
        earlier = [design.estimators[design.graph.factor_of(n).estimator] for n in factor.given]
        assert any(isinstance(e, Serial) for e in earlier), "no causal block in front of the action"
        full_attention(case, design)


def forgets_future(case: Case, together: list[str]) -> None:
    """In training, too: another future leaves the action's loss and its gradient as they are."""
    from dataclasses import replace

    design = case.untrained()
    design.train()
    batch = case.batch(design=design)
    assert batch.future is not None
    images = {k: 255 - v for k, v in batch.future.images.items()}
    other = replace(batch, future=replace(batch.future, images=images))
    terms = []
    for some in (batch, other):
        torch.manual_seed(0)
        terms.append(design.loss(some).terms)
    assert not torch.equal(terms[0][together[0]], terms[1][together[0]])
    assert torch.equal(terms[0][ACTION], terms[1][ACTION]), "the action is trained on the future's content"


def full_attention(case: Case, design: Design) -> None:
    """The first element of the action depends on the last one's place: no causal order inside the block."""
    part = case.estimator_of(ACTION, design)
    assert isinstance(part, LevelEstimator), "the action is no block that is generated at once"
    seen = case.cut(design.window)
    given = {name: drawn(design, name, 5) for name in design.graph.factor_of(ACTION).given}
    context = design.encode_context(seen)
    owner = design.graph.factor_of(ACTION).estimator
    call = Call(context_of(owner, design.graph, context), given, design.initial_state(1)[owner], 1)
    position = part.outputs[ACTION].position
    first = first_hidden(part, call)
    with torch.no_grad():
        position[-1, -1].add_(1.0)
    assert not torch.equal(first, first_hidden(part, call)), "the first action does not read the last one"


@torch.no_grad()
def first_hidden(part: LevelEstimator, call: Call) -> Tensor:
    """Hidden token of the first element of the action in the first evaluation."""
    hidden: list[Tensor] = []
    head = part.outputs[ACTION].outward
    handle = head.register_forward_pre_hook(lambda _, args: hidden.append(args[0]))
    part.generate([ACTION], call, Budget(), RowNoise([1], part.outputs[ACTION].position.device))
    handle.remove()
    return hidden[0].flatten(1, -2)[:, 0]
