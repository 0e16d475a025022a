"""Oracles of networks that streams share: one trunk with several heads, experts, bridges between them."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.drawing import beside_action, graded, heads, known_beside, poison, scramble, terms
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design, DesignConfig
from wamkit.design.graph import Factor
from wamkit.errors import BudgetError
from wamkit.estimators import DenoiserConfig
from wamkit.trunks import MixtureConfig
from wamkit.trunks.mixture import CONTEXT, Mixture


def mixture(case: Case) -> tuple[str, MixtureConfig]:
    """Name and config of the mixture of experts that the action runs on."""
    trunk = case.config.estimators[case.design.graph.factor_of(ACTION).estimator].trunk
    part = case.config.trunks.get(trunk or "")
    assert isinstance(part, MixtureConfig), "the action does not run on a mixture of experts"
    return trunk or "", part


def expert_of(part: MixtureConfig, stream: str) -> str:
    """Expert that computes a stream."""
    return next(name for name, streams in part.experts.items() if stream in streams)


def others(design: Design, trunk: str, part: MixtureConfig) -> list[torch.nn.Module]:
    """Experts beside those of the action and the context."""
    experts = design.trunks[trunk].experts  # type: ignore[attr-defined]
    return [m for name, m in experts.items() if name not in (CONTEXT, expert_of(part, ACTION))]


def opened(design: Design) -> Design:
    """Open all bridges, which start closed, in place."""
    with torch.no_grad():
        for name, parameter in design.named_parameters():
            if name.endswith(".gate"):
                parameter.fill_(1.0)
    return design


def changes(case: Case, design: Design, trunk: str, part: MixtureConfig) -> bool:
    """True when other weights in the other experts give another action, all streams beside it known."""
    known = known_beside(case, design)
    before = case.act(design, case.cut(design.window), given=known)
    scramble(others(design, trunk, part))
    return not torch.equal(before, case.act(design, case.cut(design.window), given=known))


@oracle("bb.mot")
def experts(case: Case) -> None:
    """Experts share no weights, meet in attention only, and one without tokens in a call does not run."""
    trunk, part = mixture(case)
    design = case.untrained()
    network = design.trunks[trunk]
    assert isinstance(network, Mixture)
    ids = [{id(p) for p in expert.parameters()} for expert in network.experts.values()]
    assert len(ids) > 2, "one expert for everything"
    assert all(ids)
    assert sum(map(len, ids)) == len(set().union(*ids)), "experts share weights"
    alone = {name: (name, CONTEXT) for name in part.experts}
    cut = replace(part, reads=alone, bridges={})
    apart = sharpen(case.untrained(trunks={**case.config.trunks, trunk: cut}))
    assert not changes(case, apart, trunk, part), "cut off from the others, the action still depends on them"
    if beside_action(design):
        assert changes(case, opened(sharpen(case.untrained())), trunk, part) == reads_others(design), (
            "other experts reach the action where it reads none of their streams, or do not where it does"
        )
    skipped(case, trunk, part)


def reads_others(design: Design) -> bool:
    """True when the action's factor lets it read a stream beside it."""
    factor = design.graph.factor_of(ACTION)
    reads = design.graph.estimators[factor.estimator].reads
    return bool(factor.given) or bool(set(reads.get(ACTION, factor.generates)) - {ACTION})


def skipped(case: Case, trunk: str, part: MixtureConfig) -> None:
    """Where the future can be left out, its experts are not run: weights that are no numbers change nothing."""
    design = case.untrained()
    try:
        design.check_budget(Budget(future=False))
    except BudgetError:
        return
    before = case.act(design, case.cut(design.window), budget=Budget(future=False))
    kept = {expert_of(part, ACTION), CONTEXT} | {
        expert_of(part, n) for n in design.graph.factor_of(ACTION).given
    }
    for name, expert in design.trunks[trunk].experts.items():  # type: ignore[attr-defined]
        if name not in kept:
            poison(expert.parameters())
    assert torch.equal(before, case.act(design, case.cut(design.window), budget=Budget(future=False)))


@oracle("bb.shared-trunk")
def shared_trunk(case: Case) -> None:
    """Both losses train the trunk, the action runs without the future's head, and one trunk serves all couplings."""
    design = case.untrained()
    config, graph = case.config, case.design.graph
    trunk = config.estimators[graph.factor_of(ACTION).estimator].trunk
    peers = [n for n in case.futures() if config.estimators[graph.factor_of(n).estimator].trunk == trunk]
    assert trunk is not None
    assert peers, "no future runs on the trunk of the action"
    design.train()
    reached = {name: graded(design, terms(case, design)[name]) for name in (ACTION, *peers)}
    design.eval()
    inside = {n for n in reached[ACTION] if n.startswith(f"trunks.{trunk}.")}
    assert inside, "the action's loss does not train the trunk"
    for name in peers:
        assert reached[name] & inside, f"the loss of {name!r} does not train what the action runs on"
    own = heads(case, design, peers)
    assert own, "the future has no weights of its own"
    known = known_beside(case, design)
    before = case.act(design, case.cut(design.window), given=known)
    poison(p for n, p in design.named_parameters() if n in own)
    assert torch.equal(before, case.act(design, case.cut(design.window), given=known)), (
        "a future's head acted"
    )
    three_orders(case, design, trunk, peers[0])


def three_orders(case: Case, design: Design, trunk: str, future: str) -> None:
    """Orders of the heads on the recipe's own trunk, with its weights, are the three couplings of the survey."""
    config, part = case.config, case.config.trunks[trunk]
    if isinstance(part, MixtureConfig) or any(design.streams[n].vocabulary for n in (future, ACTION)):
        return  # experts are named after the recipe's own streams, and a denoiser takes no ids
    orders = {
        "Joint generation": (Factor((future, ACTION), (), "first"),),
        "Post-prediction head": (Factor((future,), (), "first"), Factor((ACTION,), (future,), "second")),
        "Cond. rollout": (Factor((ACTION,), (), "first"), Factor((future,), (ACTION,), "second")),
    }
    place = config.substrate_of(future)
    for coupling, factors in orders.items():
        plain = DesignConfig(
            horizon=config.horizon,
            stride=config.stride,
            observation=config.observation,
            width=config.width,
            encoders=config.encoders,
            substrates={place: config.substrates[place]},
            futures={future: config.futures[future]},
            action=config.action,
            trunks={trunk: part},
            estimators={factor.estimator: DenoiserConfig(trunk=trunk) for factor in factors},
            factors=factors,
        )
        other = Design(plain, case.spec)
        other.trunks[trunk].load_state_dict(design.trunks[trunk].state_dict())
        assert other.cells()["coupling"] == coupling


@oracle("cp.cross-stream")
def cross_stream(case: Case) -> None:
    """Closed off, the action stream is its own; open, it changes; each of its layers reads one layer of the other."""
    trunk, part = mixture(case)
    bridged = part.bridges.get(expert_of(part, ACTION), ())
    closed = part if bridged else replace(part, reads={**part.reads, expert_of(part, ACTION): (CONTEXT,)})
    assert not changes(case, case.untrained(trunks={**case.config.trunks, trunk: closed}), trunk, part), (
        "with the link closed the action stream is not its own"
    )
    assert changes(case, opened(sharpen(case.untrained())), trunk, part), "the open link carries nothing"
    network = opened(case.untrained()).trunks[trunk]
    assert isinstance(network, Mixture)
    sources = [s for name, group in part.experts.items() if name != expert_of(part, ACTION) for s in group]
    if bridged:
        sources = [stream for name in bridged for stream in part.experts[name]]
    for layer in range(network.depth):
        before, after = (depth_read(network, sources[0], layer, run) for run in (layer, layer + 1))
        assert not before, f"layers before {layer} read layer {layer} of {sources[0]!r}"
        assert after, f"layer {layer} of the action does not read layer {layer} of {sources[0]!r}"


@torch.no_grad()
def depth_read(network: Mixture, source: str, layer: int, run: int) -> bool:
    """True when the first ``run`` layers of the action see a change of one layer of the source's keys and values."""
    torch.manual_seed(0)
    tokens, actions = (torch.randn(1, n, network.width) for n in (3, 2))
    _, cache = network(tokens, layout=[(source, 3)])

    def noisy(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(x + torch.randn_like(x) if i == layer else x for i, x in enumerate(parts))

    other = replace(cache, keys=noisy(cache.keys), values=noisy(cache.values))
    if run == 0:
        return False
    first, second = (network(actions, cache=c, layout=[(ACTION, 2)], layers=run)[0] for c in (cache, other))
    return not torch.equal(first, second)
