"""Calls of a recipe that several oracles make: samples with known values, poisoned and scrambled weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from cases import Case
from torch import Tensor, nn

from wamkit.contract.specs import ACTION
from wamkit.design import Design
from wamkit.design.sampling import Sampled


def sampled(case: Case, design: Design, want: Sequence[str], seed: int = 1, **more: Any) -> Sampled:
    """Sample streams of one observation; an action that no factor generates is the recorded one."""
    observation = case.cut(design.window)
    context, carry = design.encode_context(observation), design.initial_state(1)
    if design.past_blocks:
        carry = design.observe(observation, carry, context)
    given = dict(more.pop("given", {}))
    if ACTION in design.streams and not case.acts:
        given.setdefault(ACTION, design.targets(case.batch([12], design))[ACTION].values)
    return design.sample(observation, list(want), seeds=[seed], given=given, carry=carry, **more)


def beside_action(design: Design) -> list[str]:
    """Streams that the action's factor is given or generates with the action."""
    factor = design.graph.factor_of(ACTION)
    return [*factor.given, *(name for name in factor.generates if name != ACTION)]


def known_beside(case: Case, design: Design) -> dict[str, Tensor]:
    """Sampled values of the streams beside the action, to be given to other calls."""
    names = beside_action(design)
    return {name: sampled(case, design, [name]).values[name] for name in names}


def another(value: Tensor, seed: int = 0, scale: float = 3.0, vocabulary: int | None = None) -> Tensor:
    """Another value of the same shape: shifted at random, or other ids."""
    source = torch.Generator().manual_seed(seed)
    if vocabulary:
        return (value + torch.randint(1, vocabulary, value.shape, generator=source)) % vocabulary
    return value + scale * torch.randn(value.shape, generator=source)


@torch.no_grad()
def scramble(parts: Iterable[nn.Module]) -> None:
    """Add noise to all weights of modules, in place."""
    source = torch.Generator().manual_seed(5)
    for part in parts:
        for parameter in part.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source))


@torch.no_grad()
def poison(parameters: Iterable[nn.Parameter]) -> None:
    """Set weights to not-a-number: whatever is computed with them shows it."""
    for parameter in parameters:
        parameter.fill_(float("nan"))


def graded(design: Design, loss: Tensor) -> set[str]:
    """Names of the parameters that a loss sends a gradient other than zero into."""
    design.zero_grad()
    loss.backward()
    found = {n for n, p in design.named_parameters() if p.grad is not None and bool(p.grad.any())}
    design.zero_grad()
    return found


def heads(case: Case, design: Design, futures: Iterable[str]) -> set[str]:
    """Names of the weights of estimators and trunks that the losses of futures train and the action's loss does not."""
    design.train()
    acting = graded(design, terms(case, design)[ACTION])
    found = set().union(*(graded(design, terms(case, design)[name]) for name in futures)) - acting
    design.eval()
    return {name for name in found if name.startswith(("estimators.", "trunks."))}


def terms(case: Case, design: Design) -> dict[str, Tensor]:
    """Losses of a fresh pass over the first training windows, stream -> scalar."""
    return design.loss(case.batch(design=design)).terms
