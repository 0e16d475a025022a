"""Oracle of latent actions: read off a transition, read by a world model, decoded by a part of the robot's own."""

from __future__ import annotations

import torch
from cases import Case

from gates import sharpen
from oracles.probes import disturb, drawn, own_parameters, told
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.design import Design


def latents(design: Design) -> dict[str, list[str]]:
    """Inferred states, no taps, that a future is generated from: state -> these futures."""
    graph, found = design.graph, {}
    for name in sorted(graph.of_role("state") - set(design.config.taps)):
        rebuilt = [f for f in sorted(graph.of_role("future")) if name in graph.factor_of(f).given]
        if rebuilt:
            found[name] = rebuilt
    return found


@oracle("ar.latent-action")
def latent_action(case: Case) -> None:
    """z is read off a transition and says how it goes on; the action is decoded from z by a part of its own."""
    design = sharpen(case.untrained())
    found = latents(design)
    assert found, "no inferred state that a future is generated from"
    for name, rebuilt in found.items():
        inferred(case, design, name, rebuilt)
        trained_by_the_future(case, name, rebuilt)
        if case.acts:
            decoded_apart(case, design, name)


def inferred(case: Case, design: Design, name: str, rebuilt: list[str]) -> None:
    """Another transition, another z; another z, another future."""
    graph, observation = design.graph, case.cut(design.window)
    own = [f for f in rebuilt if graph.factor_of(f).estimator == graph.factor_of(name).estimator]
    source = [f for f in graph.factor_of(name).given if f in graph.futures()] or own
    assert source, "z is read off no future"
    beside = told(case, design, observation, graph.ancestors([name]) - set(source))
    seen = [{**beside, source[0]: drawn(design, source[0], k)} for k in (1, 2)]
    z = [design.sample(observation, [name], seeds=[1], given=some).values[name] for some in seen]
    assert not torch.equal(*z), "another transition, the same z"
    again = design.sample(observation, [name], seeds=[9], given=seen[0]).values[name]
    assert torch.equal(again, z[0]), "z of a transition depends on chance"
    before = told(case, design, observation, graph.ancestors(rebuilt[:1]) - {name})
    shown = [
        design.sample(observation, rebuilt[:1], seeds=[1], given={**before, name: drawn(design, name, k)})
        for k in (1, 2)
    ]
    assert not torch.equal(*(made.values[rebuilt[0]] for made in shown)), "z does not tell the future"


def trained_by_the_future(case: Case, name: str, rebuilt: list[str]) -> None:
    """The error of the rebuilt future trains what infers z."""
    design = case.untrained()
    design.train()
    design.loss(case.batch(design=design)).terms[rebuilt[0]].backward()
    part = case.estimator_of(name, design)
    assert any(p.grad is not None and bool(p.grad.any()) for p in part.parameters())


def decoded_apart(case: Case, design: Design, name: str) -> None:
    """z moves the action; another robot's decoder leaves z as it is."""
    graph, observation = design.graph, case.cut(design.window)
    before = told(case, design, observation, graph.ancestors([name]))
    shown = [case.act(design, observation, given={**before, name: drawn(design, name, k)}) for k in (1, 2)]
    assert not torch.equal(*shown), "the action does not read z"
    first = told(case, design, observation, [name])[name]
    decoder, source = graph.factor_of(ACTION).estimator, graph.factor_of(name).estimator
    assert disturb(own_parameters(design, decoder, [source])), "the decoder has no weight of its own"
    assert torch.equal(told(case, design, observation, [name])[name], first), "another decoder, another z"
