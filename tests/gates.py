"""The contract gate by experiment: which executed action steps move when the predicted future is replaced.

Everything that a predicted future can act through is disturbed at once, with two different draws, seeds equal: values
of the factors that generate a future, and the tokens of future streams inside every trunk. A step that stays
bit-identical under both cannot see a future.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, Observation
from wamkit.design import Design

SHARP = 4.0  # weights are multiplied by this, so that the choice of a token depends on what it reads
NOISE = 10.0


def sharpen(design: Design) -> Design:
    """Make an untrained design sensitive: all weight matrices larger, in place."""
    with torch.no_grad():
        for parameter in design.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SHARP)
    return design.eval()


def _noise(like: Tensor, draw: int) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(draw)).to(like)


@contextmanager
def disturbed(design: Design, draw: int) -> Iterator[None]:
    """Replace predicted futures by noise of the given draw, inside the trunks and behind the factors."""
    graph, patched = design.graph, list[tuple[Any, str]]()
    futures = graph.futures() | graph.of_role("future")
    inert = {name for name, facts in graph.estimators.items() if "encoder-only" in facts.exposes.values()}
    spared = {graph.estimators[name].trunk for name in inert}

    def patch(part: Any, method: str, make: Callable[[Any], Any]) -> None:
        patched.append((part, method))
        setattr(part, method, make(getattr(part, method)))

    def noisy_trunk(forward: Any) -> Any:
        def run(tokens: Tensor, *, layout: Any = (), **more: Any) -> Any:
            parts, start = [], 0
            for name, length in layout:
                part = tokens[:, start : start + length]
                parts.append(part + NOISE * _noise(part, draw) if name in futures else part)
                start += length
            return forward(torch.cat(parts, dim=1) if parts else tokens, layout=layout, **more)

        return run

    def noisy_factor(generate: Any) -> Any:
        def run(outputs: Any, *rest: Any) -> Any:
            made = generate(outputs, *rest)
            if ACTION not in outputs:
                for name in set(outputs) & futures:
                    value, spec = made.values[name], design.streams[name]
                    ids = (_noise(value.float(), draw).abs() * 997).long() % (spec.vocabulary or 1)
                    made.values[name] = ids if spec.vocabulary else NOISE * _noise(value, draw)
            return made

        return run

    try:
        for name, trunk in design.trunks.items():
            if name not in spared:
                patch(trunk, "forward", noisy_trunk)
        for estimator in design.estimators.values():
            patch(estimator, "generate", noisy_factor)
        yield
    finally:
        for part, method in patched:
            delattr(part, method)


def moved_steps(design: Design, observation: Observation, seeds: int = 4) -> tuple[bool, ...]:
    """Whether each executed step of the action differs between two disturbances, for any of ``seeds`` seeds.

    Args:
        design: a design that acts; sharpen it first when it is untrained.
        observation: one observation cut by the design's window.
        seeds: number of seeds tried.
    """
    values = []
    for draw in (1, 2):
        with disturbed(design, draw):
            values.append([_action(design, observation, seed) for seed in range(seeds)])
    differs = torch.stack([(a != b).flatten(2).any(2)[0] for a, b in zip(*values, strict=True)]).any(0)
    return tuple(differs.tolist())[: design.graph.steps.get(ACTION)]


def _action(design: Design, observation: Observation, seed: int) -> Tensor:
    with torch.no_grad():
        context = design.encode_context(observation)
        carry = design.observe(observation, design.initial_state(1), context) if design.past_blocks else None
        want = [ACTION, *sorted(design.graph.of_role("future"))]  # what a call of the policy generates
        return design.sample(observation, want, seeds=[seed], budget=Budget(), carry=carry).values[ACTION]


def trained_together(design: Design, batch: Any) -> bool:
    """True when the loss of a predicted future sends a gradient into a parameter that the action's loss reaches."""
    futures, actions = design.graph.of_role("future"), design.graph.of_role("action")
    reached = []
    for wanted in (futures, actions):
        design.zero_grad()
        terms = design.loss(batch).terms
        sum(terms[name] for name in sorted(wanted) if name in terms).backward()  # type: ignore[union-attr]
        graded = {n for n, p in design.named_parameters() if p.grad is not None and bool(p.grad.any())}
        reached.append({name for name in graded if name.startswith(("estimators", "trunks"))})
    return bool(reached[0] & reached[1])
