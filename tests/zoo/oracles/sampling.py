"""Oracles of taps, noise levels, early exits and skipped futures."""

from __future__ import annotations

from typing import Any

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.drawing import another, graded, heads, poison, sampled, terms
from oracles.probes import stages, told
from oracles.registry import calls, oracle
from wamkit.contract.calls import Call
from wamkit.contract.protocols import Trunk
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.controllers import Chunked
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.errors import BudgetError
from wamkit.estimators import Denoiser, FeatureTapConfig, Unmasker
from wamkit.estimators.levels import LevelEstimator
from wamkit.estimators.tokens import with_given


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
    """A clean stream conditions the others; one may be final while another is noisy; absent is left out exactly."""
    plain = (
        {"planner": None, "controller": Chunked(execute=case.config.stride)} if case.config.planner else {}
    )
    design, observation = sharpen(case.untrained(**plain)), case.cut(case.design.window)
    apart = [(name, p) for name, e in design.estimators.items() for p in stages(e) if independent(p)]
    assert apart, "no two streams have noise levels of their own"
    owner, part = apart[0]
    outputs = list(part.outputs)
    ancestors = design.graph.ancestors(outputs) & set(design.graph.roles)
    before = told(case, design, observation, ancestors)
    made = {}
    for quick in outputs:
        slow = [name for name in outputs if name != quick]
        spends = {quick: 1, **dict.fromkeys(slow, 3)}
        drawn_now = design.sample(observation, outputs, seeds=[1], given=before, budget=Budget(nfe=spends))
        made = drawn_now.values
        assert all(drawn_now.nfe[name] == spends[name] for name in outputs), "one clock for all streams"
    conditions = 0
    for name in outputs:
        others = [n for n in outputs if n != name and part.takes([n], name)]
        for other in others:
            shown = [
                design.sample(observation, [other], seeds=[1], given={**before, name: value}).values[other]
                for value in (made[name], made[name] + 3)
            ]
            assert not torch.equal(*shown), f"a clean {name} does not condition {other}"
            conditions += 1
    assert conditions, "no stream conditions another"
    context = context_of(owner, design.graph, design.encode_context(observation))
    call = Call(context, before, design.initial_state(1)[owner], 1)
    if isinstance(part, Denoiser):
        marginal(part, made, call)


def independent(part: object) -> bool:
    """True for a denoiser or unmasker of several streams that draws the noise of each apart from the others'."""
    if not isinstance(part, LevelEstimator) or len(part.outputs) < 2:
        return False
    rows, names = 64, list(part.outputs)
    if isinstance(part, Denoiser):
        drawn = part._draw_levels(names, rows, torch.device("cpu"))
    else:
        assert isinstance(part, Unmasker)
        drawn = {
            n: m.float().mean(dim=1) for n, m in part._draw_masks(names, rows, torch.device("cpu")).items()
        }
    first, second = (drawn[name] for name in names[:2])
    return bool(((first - second).abs() > 0.3).any())


@torch.no_grad()
def marginal(part: Denoiser, values: dict[str, torch.Tensor], call: Call) -> None:
    """A stream of pure noise is as good as left out: the others get the very same velocity."""
    cache = with_given(part.trunk, part.given, call)
    if part.memory is not None:
        cache = cache.append(call.carry["cache"])
    names = list(part.outputs)
    half = torch.full((1,), 0.5)
    for hidden in names:
        levels = {name: torch.ones(1) if name == hidden else half for name in names}
        rest = [name for name in names if name != hidden]
        times = None if part.memory is None else call.carry["count"]
        both = part._velocity(dict(values), levels, cache, times)
        alone = part._velocity({n: values[n] for n in rest}, dict.fromkeys(rest, half), cache, times)
        for name in rest:
            assert torch.allclose(both[name], alone[name], atol=1e-4, rtol=1e-3), (hidden, name)


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
    trunks = {design.config.estimators[name].trunk for name in owners}
    return (*(f"estimators.{name}." for name in owners), *(f"trunks.{name}." for name in trunks))


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
