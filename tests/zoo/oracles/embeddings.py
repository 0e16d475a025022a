"""Oracles of predictors in feature space and of states that no data shows."""

from __future__ import annotations

from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.registry import oracle
from oracles.worlds import codes_differ, known, made, moved, shown_again
from wamkit.contract.types import Batch, Observation, map_tensors
from wamkit.design import Design
from wamkit.encoders import MaskedEncoder
from wamkit.estimators import RegressorConfig
from wamkit.estimators.summary import Summary
from wamkit.substrates import EmaFeature
from wamkit.training import OptimConfig

COLLAPSED = 1e-3  # standard deviation over observations below which a target says nothing


def embedded(case: Case) -> list[str]:
    """Futures that a joint-embedding or deterministic predictor regresses."""
    graph = case.design.graph
    names = [
        n
        for n in case.futures()
        if graph.estimators[graph.factor_of(n).estimator].family == "joint-embedding"
    ]
    assert names, "nothing is predicted by a joint-embedding or deterministic predictor"
    return names


@oracle("bb.jepa-predictor")
def jepa_predictor(case: Case) -> None:
    """Targets carry no gradient, follow their average exactly, do not collapse; one input has one prediction."""
    names, design = embedded(case), case.untrained()
    design.train()
    batch = case.batch(range(0, 24, 3), design)
    targets = design.targets(batch)
    for name in names:
        values = targets[name].values
        assert not values.requires_grad
        assert float(values.std(dim=0).mean()) > COLLAPSED, f"{name}: the target is the same everywhere"
    optimizer = OptimConfig().build(design)
    design.loss(batch).total.backward()
    for name in names:
        assert all(p.grad is None for p in design.substrate(name).parameters()), "a gradient in the target"
    optimizer.step()
    for name in names:
        averaged(design, name)
    design.eval()
    observation = case.cut(design.window)
    first, second = (made(case, design, observation, names, seed=1) for _ in range(2))
    assert all(torch.equal(first[n], second[n]) for n in names), "one input, two predictions"
    hiding = [e for e in design.encoders.values() if isinstance(e, MaskedEncoder)]
    for encoder in hiding:
        hidden_blocks(case, encoder)


def averaged(design: Design, name: str) -> None:
    """After a step of the optimiser the target's weights are the declared average; other targets stay."""
    substrate = design.substrate(name)
    if not isinstance(substrate, EmaFeature):
        before = [p.clone() for p in substrate.parameters()]
        design.after_step()
        assert all(torch.equal(a, b) for a, b in zip(before, substrate.parameters(), strict=True))
        return
    decay, online = substrate.config.decay, design.encoders[substrate.config.encoder]
    before = [p.clone() for p in substrate.target.parameters()]
    substrate.after_step({substrate.config.encoder: online})
    for old, new, value in zip(before, substrate.target.parameters(), online.parameters(), strict=True):
        torch.testing.assert_close(new, decay * old + (1 - decay) * value, rtol=1e-6, atol=1e-7)
    changed = [not torch.equal(a, b) for a, b in zip(before, substrate.target.parameters(), strict=True)]
    assert any(changed), "the average does not follow"


def hidden_blocks(case: Case, encoder: MaskedEncoder) -> None:
    """What a hidden block shows has no effect on the loss, what is visible has; the loss counts where it says."""
    design = case.untrained()
    design.train()
    batch = case.batch(range(10, 18, 2), design)  # no observed step lies before the episode
    torch.manual_seed(3)
    hidden = encoder.draw(4, torch.device("cpu"))
    assert bool(hidden.flatten(1).any(dim=1).all())
    assert not bool(hidden.flatten(1).all(dim=1).any())
    scrambled = replace(
        batch.observation,
        images={k: 255 - v for k, v in batch.observation.images.items()},
        extras={k: v.flip(-1) if v.is_floating_point() else v for k, v in batch.observation.extras.items()},
    )
    inside = mixed(encoder, batch, scrambled, hidden)
    losses = {}
    for key, some in (("plain", batch.observation), ("inside", inside), ("all", scrambled)):
        design = case.untrained()
        design.train()
        own = next(e for e in design.encoders.values() if isinstance(e, MaskedEncoder))
        own.draw = lambda *_: hidden  # type: ignore[method-assign]
        torch.manual_seed(0)
        losses[key] = design.loss(replace(batch, observation=some)).total.item()
    assert losses["plain"] == losses["inside"], "what is hidden is read"
    assert losses["plain"] != losses["all"], "what is visible is not read"
    counted(case, batch, hidden)


def mixed(encoder: MaskedEncoder, batch: Batch, other: Observation, hidden: Tensor) -> Observation:
    """The observation with the other one's content inside the hidden cells, as far as the encoder blanks it."""
    seen = batch.observation
    images, extras = {}, dict(seen.extras)
    for name, picture in seen.images.items():
        marked = (
            encoder.blank(replace(seen, images={name: torch.zeros_like(picture)}), hidden).images[name] > 0
        )
        images[name] = torch.where(marked, other.images[name], picture)
    for name in encoder.extras:
        ones = torch.ones_like(seen.extras[name])
        marked = encoder.blank(replace(seen, extras={**seen.extras, name: ones}), hidden).extras[name] == 0
        extras[name] = torch.where(marked, other.extras[name], seen.extras[name])
    return replace(seen, images=images, extras=extras)


def counted(case: Case, batch: Batch, hidden: Tensor) -> None:
    """Another target at the visible tokens changes the loss of a dense predictor and no other."""
    design = case.untrained()
    design.train()
    own = next(e for e in design.encoders.values() if isinstance(e, MaskedEncoder))
    own.draw = lambda *_: hidden  # type: ignore[method-assign]
    for factor in design.graph.factors:
        part = case.config.estimators[factor.estimator]
        if not isinstance(part, RegressorConfig) or factor.given:
            continue
        (name,) = factor.generates
        inner = design.targets
        losses = []
        for shift in (0.0, 5.0):
            targets = dict(inner(batch))
            value = targets[name].values
            seen = ~hidden.flatten(1).repeat(1, value.shape[2] // hidden[0].numel())
            moved_target = value + shift * seen[:, None, :, None]
            targets[name] = replace(targets[name], values=moved_target)
            design.targets = lambda _, found=targets: found  # type: ignore[method-assign, misc]
            torch.manual_seed(0)
            losses.append(design.loss(batch).terms[name].item())
        del design.targets
        assert (losses[0] == losses[1]) == (part.where == "hidden"), (part.where, losses)


@oracle("ps.latent-state")
def latent_state(case: Case) -> None:
    """A small state of constant size: what is observed changes it, and the future follows from it."""
    design = sharpen(case.untrained())
    graph = design.graph
    states = sorted(graph.of_role("state") - set(design.config.taps))
    assert states, "no inferred state"
    observation = case.cut(design.window)
    for name in states:
        spec = design.streams[name]
        readers = [f for f in design.graph.factors if name in f.given]
        futures = [n for f in readers for n in f.generates if graph.roles[n] == "future"]
        assert futures, "no future is predicted from the state"
        future = design.streams[futures[0]]
        assert spec.length * spec.features <= future.length * future.features, (
            "the state is larger than what it says"
        )
        beside = known(case, design, observation, [futures[0]])
        shown = [
            made(case, design, observation, futures[:1], given={**beside, name: moved(design, name, k)})
            for k in (1, 2)
        ]
        assert not torch.equal(shown[0][futures[0]], shown[1][futures[0]]), "the state says nothing"
        if design.past_blocks:
            filtered(case, design, name)
        elif isinstance(case.estimator_of(name, design), Summary):
            summarised(case, name, futures[0])
        else:
            inferred(case, name, futures[0])


def filtered(case: Case, design: Design, name: str) -> None:
    """The carried state keeps its size, remembers earlier observations, and a new one corrects what was imagined."""
    frames = [12, 12 + case.config.stride, 12 + 2 * case.config.stride]

    def carried(first: int) -> list[Tensor]:
        state, sizes = design.initial_state(1), []
        for frame in (first, *frames[1:]):
            seen = case.cut(design.window, (frame,))
            state = design.observe(seen, state, design.encode_context(seen))
            found: list[Tensor] = []
            map_tensors(state, lambda t, kept=found: kept.append(t) or t)  # type: ignore[misc]
            sizes.append([t.shape for t in found])
        assert sizes[0] == sizes[-1], "the state grows"
        return found

    one, other = carried(frames[0]), carried(2)
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True)), (
        "earlier observations are forgotten"
    )


def summarised(case: Case, name: str, future: str) -> None:
    """Every observed step changes the state, nothing else does, and the future's error trains it."""
    design = sharpen(case.untrained())
    seen = case.cut(design.window, (-min(design.window.observation) + 2,))  # no step lies before the episode

    def written(step: int | None, seed: int = 1) -> Tensor:
        pictures = {n: v.clone() for n, v in seen.images.items()}
        for view in pictures.values() if step is not None else ():
            view[:, step] = 255 - view[:, step]
        return design.sample(replace(seen, images=pictures), [name], seeds=[seed]).values[name]

    plain = written(None)
    assert torch.equal(plain, written(None, seed=2)), "the observations do not determine the state"
    assert all(not torch.equal(plain, written(k)) for k in range(seen.pad.shape[1])), "a step is forgotten"
    design = case.untrained()
    design.train()
    loss = design.loss(case.batch(design=design)).terms[future]
    own = f"estimators.{design.graph.factor_of(name).estimator}."
    assert any(n.startswith(own) for n in graded(design, loss)), "what follows does not train the state"


def inferred(case: Case, name: str, future: str) -> None:
    """The posterior reads the future and the prior does not; the future's error trains the one, the gap the other."""
    codes_differ(case, name, future)
    design, seen = sharpen(case.untrained()), case.cut(case.design.window)
    rows = list(range(seen.batch_size))
    assert shown_again(case, design, seen, name, rows)
    prior = design.sample(seen, [name], seeds=rows).values[name]
    posterior = design.sample(seen, [name], seeds=rows, given={future: moved(design, future, 1)}).values[name]
    assert not torch.equal(prior, posterior), "what is inferred is what was expected"
    design = case.untrained()
    design.train()
    terms = design.loss(case.batch(design=design)).terms
    trained = [graded(design, terms[term]) for term in (name, future)]
    own = f"estimators.{design.graph.factor_of(name).estimator}."
    assert all(any(n.startswith(own) for n in names) for names in trained)
    assert {n for n in trained[0] if n.startswith(own)} - trained[1], (
        "no gap between posterior and prior is learned"
    )


def graded(design: Design, loss: Tensor) -> set[str]:
    """Names of the parameters that a loss sends a gradient other than zero into."""
    design.zero_grad()
    loss.backward(retain_graph=True)
    return {n for n, p in design.named_parameters() if p.grad is not None and bool(p.grad.any())}
