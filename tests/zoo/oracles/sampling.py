"""Oracles of taps, noise levels, early exits and skipped futures."""

from __future__ import annotations

from typing import Any

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.drawing import another, graded, heads, poison, sampled, terms
from oracles.registry import calls, oracle
from wamkit.contract.protocols import Trunk
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.errors import BudgetError
from wamkit.estimators import FeatureTapConfig


def trunk_calls(design: Design) -> list[list[int]]:
    """Counters of the calls of every trunk."""
    return [calls(trunk, "forward") for trunk in design.trunks.values()]


def spent(case: Case, budget: Budget) -> int:
    """Calls of all trunks for one action under a budget."""
    design = case.untrained()
    counters = trunk_calls(design)
    case.act(design, case.cut(design.window), budget=budget)
    return sum(map(len, counters))


@oracle("ps.feature-tap")
def feature_tap(case: Case) -> None:
    """What is read are hidden states of a chosen place that the future's loss shapes; what comes after is not run."""
    design = sharpen(case.untrained())
    (tap,) = design.config.taps
    future = design.config.taps[tap]
    part = case.config.estimators[design.graph.factor_of(tap).estimator]
    assert isinstance(part, FeatureTapConfig)
    reader = ACTION if case.acts else next(f.generates[0] for f in design.config.factors if tap in f.given)
    shown = sampled(case, design, [tap]).values[tap]
    spec, trunk = design.streams[tap], design.trunks[part.trunk or ""]
    assert shown.shape == (1, spec.steps, spec.tokens, spec.features)
    assert spec.features == trunk.width
    runs = passes(trunk, future)
    alone = sampled(case, design, [reader])
    assert future not in alone.nfe, f"the whole future was generated for {reader!r}"
    assert len(runs) == (part.evaluation if part.kind == "tap" else 1), f"{len(runs)} passes of the network"
    assert runs[-1] == part.layer, f"layers up to {runs[-1]} were run for a tap after layer {part.layer}"
    told = [sampled(case, design, [reader], given={tap: v}).values[reader] for v in (shown, another(shown))]
    assert not torch.equal(*told), f"{reader!r} does not read the tap"
    fresh = case.untrained().train()
    reached = graded(fresh, terms(case, fresh)[future])
    assert any(name.startswith(f"trunks.{part.trunk}.") for name in reached), (
        "no future trains what is tapped"
    )


def passes(trunk: Trunk, stream: str) -> list[int | None]:
    """Record the passes over the tokens of one stream from now on: layers that each pass runs, None for all."""
    runs: list[int | None] = []
    inner = trunk.forward

    def counted(tokens: Tensor, *, layout: Any = (), layers: int | None = None, **more: Any) -> Any:
        if [name for name, _ in layout] == [stream]:
            runs.append(layers)
        return inner(tokens, layout=layout, layers=layers, **more)

    trunk.forward = counted  # type: ignore[method-assign]
    return runs


@oracle("ss.early-exit")
def early_exit(case: Case) -> None:
    """An exit after k evaluations spends k and as many passes, and the action reads the state that it left."""
    design = sharpen(case.untrained())
    futures = [*design.config.taps, *case.futures()]
    spends, costs, acts = [], [], []
    for exit_at in (1, 2):
        exits = {name: exit_at for name in futures if can_exit(design, name, exit_at)}
        assert exits, "nothing of the recipe can be passed on partly denoised"
        counters = trunk_calls(design)
        made = design.sample(case.observation(), [ACTION], seeds=[1], budget=Budget(exit=exits))
        needed = bool(set(exits) & set(made.nfe))
        if not needed:  # the action needs none of them
            made = design.sample(case.observation(), [ACTION, *exits], seeds=[1], budget=Budget(exit=exits))
        spends.append(sum(made.nfe[name] for name in exits if name in made.nfe))
        costs.append(sum(map(len, counters)))
        acts.append(made.values[ACTION])
    assert spends[0] < spends[1], spends
    assert alongside(design) or costs[0] < costs[1], f"an earlier exit costs as many passes: {costs}"
    assert not needed or not acts[0].is_floating_point() or not torch.equal(*acts), (
        "the action does not read where it stopped"
    )


def alongside(design: Design) -> bool:
    """True when the future is generated in the same evaluations as the action, which then cost the same."""
    return bool(set(design.graph.factor_of(ACTION).generates) & design.graph.of_role("future"))


def can_exit(design: Design, name: str, at: int) -> bool:
    """True when a budget may stop the generation of ``name`` after ``at`` evaluations."""
    try:
        design.check_budget(Budget(exit={name: at}))
    except BudgetError:
        return False
    return True


@oracle("ss.decoupled-times")
def decoupled_times(case: Case) -> None:
    """A stream held clean conditions the others; the action may be final while the future is still noisy."""
    design, observation = case.design, case.observation()
    future = next(n for n in case.futures() if n in design.graph.factor_of(ACTION).generates)
    steps = {ACTION: 1, future: 3}
    made = design.sample(observation, [ACTION, future], seeds=[1], budget=Budget(nfe=steps))
    assert (made.nfe[ACTION], made.nfe[future]) == (1, 3)
    known = torch.randn_like(made.values[future])
    told = case.act(design, observation, given={future: known})
    other = case.act(design, observation, given={future: known + 3})
    assert not torch.equal(told, other), "a clean future does not condition the action"


@oracle("ss.future-skip")
def future_skip(case: Case) -> None:
    """Acting without the future costs fewer tokens and none of its weights; with it, it is there again."""
    design = case.untrained()
    futures = case.futures()
    own = heads(case, design, futures)
    tokens, acted = [], []
    for budget in (Budget(), Budget(future=False)):
        runs = widths(design)
        want = [ACTION, *(futures if budget.future is None else ())]
        made = sampled(case, design, want, budget=budget)
        assert set(futures) & set(made.nfe) == (set(futures) if budget.future is None else set())
        tokens.append(sum(sum(run) for run in runs))
        acted.append(made.values[ACTION])
    assert tokens[1] < tokens[0], f"{tokens[1]} tokens without the future, {tokens[0]} with it"
    poison(p for n, p in design.named_parameters() if n in own and not n.startswith(on_the_way(design)))
    after = sampled(case, design, [ACTION], budget=Budget(future=False)).values[ACTION]
    assert torch.equal(acted[1], after), "the skipped branch acts"


def on_the_way(design: Design) -> tuple[str, ...]:
    """Beginnings of the names of weights that lead to a tap, whose evaluations need the future's own head."""
    taps = [name for name, kind in design.graph.tapped().items() if kind == "tap"]
    owners = {design.graph.factor_of(name).estimator for name in taps}
    return tuple(f"estimators.{name}." for name in owners)


def widths(design: Design) -> list[list[int]]:
    """Tokens of every pass of each trunk, recorded from now on."""
    return [counted_tokens(trunk) for trunk in design.trunks.values()]


def counted_tokens(trunk: Trunk) -> list[int]:
    """Tokens of every pass of a trunk, recorded from now on."""
    made: list[int] = []
    inner = trunk.forward

    def counted(tokens: Tensor, **more: Any) -> Any:
        made.append(tokens.shape[1])
        return inner(tokens, **more)

    trunk.forward = counted  # type: ignore[method-assign]
    return made
