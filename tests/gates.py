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
from wamkit.contract.streams import PointMotion
from wamkit.contract.types import Budget, Observation
from wamkit.design import Design
from wamkit.estimators import MotionRecovery

SHARP = 4.0  # weights are multiplied by this, so that the choice of a token depends on what it reads
NOISE = 10.0


def sharpen(design: Design) -> Design:
    """Make an untrained design sensitive, in place: all weight matrices larger, gates that start closed open."""
    with torch.no_grad():
        for parameter in design.parameters():
            if parameter.dim() > 1:
                parameter.mul_(SHARP)
            elif parameter.dim() == 0 and not parameter:
                parameter.fill_(1.0)
    return design.eval()


def _noise(like: Tensor, source: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=source).to(like)


def other_future(design: Design, name: str, like: Tensor, source: torch.Generator) -> Tensor:
    """Another value of a future: noise or other ids; a body that moves at another speed where motion is fitted.

    A rigid fit rejects noise, and the hand then stays where it is.
    """
    graph, spec = design.graph, design.streams[name]
    fitted = [
        f for f in graph.factors if name in f.given and graph.estimators[f.estimator].family == "geometric"
    ]
    if fitted:
        steps = torch.arange(1, spec.steps + 1, dtype=like.dtype)[:, None, None]
        return (0.1 * torch.rand((), generator=source) * steps).expand_as(like)
    if spec.vocabulary:
        return (_noise(like.float(), source).abs() * 997).long() % spec.vocabulary
    return NOISE * _noise(like, source)


@contextmanager
def disturbed(design: Design, draw: int) -> Iterator[None]:
    """Replace predicted futures by noise of the given draw, inside the trunks and behind the factors."""
    graph, patched, source = design.graph, list[tuple[Any, str]](), torch.Generator().manual_seed(draw)
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
                parts.append(part + NOISE * _noise(part, source) if name in futures else part)
                start += length
            return forward(torch.cat(parts, dim=1) if parts else tokens, layout=layout, **more)

        return run

    def noisy_factor(generate: Any) -> Any:
        def run(outputs: Any, *rest: Any) -> Any:
            made = generate(outputs, *rest)
            if ACTION not in outputs:
                for name in set(outputs) & futures:
                    value = made.values[name]
                    other = other_future(design, name, value, source)
                    # The gradient is that of the value that is replaced: a guide climbs what it predicts.
                    made.values[name] = other + (value - value.detach()) if value.requires_grad else other
            return made

        return run

    try:
        for name, trunk in design.trunks.items():
            if name not in spared:
                patch(trunk, "forward", noisy_trunk)
        for estimator in design.estimators.values():
            patch(estimator, "generate", noisy_factor)
        # Noise in pictures shows no motion, and a recovery would flag it and stay; it is shown a motion instead.
        for part in {id(s): s for s in map(design.substrate, recovered_from(design))}.values():
            patch(part, "moving_points", lambda _: lambda values, *_: as_one_body(values.shape[1], draw))
        yield
    finally:
        for part, method in patched:
            delattr(part, method)


def recovered_from(design: Design) -> list[str]:
    """Futures that an action is recovered from without a network."""
    factors = [f for f in design.graph.factors if isinstance(design.estimators[f.estimator], MotionRecovery)]
    return [name for factor in factors for name in factor.given]


def as_one_body(steps: int, draw: int) -> PointMotion:
    """Eight points that move as one body by a path of the given draw, slowly enough to be followed."""
    start = 0.05 * torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(0))
    path = 0.005 * (torch.rand(steps, 3, generator=torch.Generator().manual_seed(draw)) - 0.5).cumsum(dim=0)
    later = start[:, None] + path[None, :, None]
    return PointMotion(start, later, torch.ones(later.shape[:3], dtype=torch.bool), anchored=True)


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
