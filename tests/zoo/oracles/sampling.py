"""Oracles of taps, noise levels, early exits and skipped futures."""

from __future__ import annotations

import torch
from cases import Case

from gates import sharpen
from oracles.probes import stages, told
from oracles.registry import calls, oracle
from wamkit.contract.calls import Call
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.estimators import Denoiser, Unmasker
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
    """The action reads hidden states of a chosen place; what comes after it is not run; the future stays off."""
    design = case.design
    (tap,) = design.config.taps
    shown = design.sample(case.observation(), [tap], seeds=[1]).values[tap]
    spec = design.streams[tap]
    assert shown.shape == (1, spec.steps, spec.tokens, spec.features)
    assert spec.features == next(iter({t.width for t in design.trunks.values()}))
    future = design.config.taps[tap]
    alone = design.sample(case.observation(), [ACTION], seeds=[1])
    assert future not in alone.nfe, "the whole future was generated for the action"
    both = design.sample(case.observation(), [ACTION, future], seeds=[1])
    assert alone.nfe[tap] <= both.nfe[future]


@oracle("ss.early-exit")
def early_exit(case: Case) -> None:
    """An exit after k evaluations spends k, and less than the whole run."""
    design = case.design
    futures = [*design.config.taps, *case.futures()]
    spends = []
    for exit_at in (1, 2):
        exits = {name: exit_at for name in futures if can_exit(design, name, exit_at)}
        assert exits, "nothing of the recipe can be passed on partly denoised"
        made = design.sample(case.observation(), [ACTION], seeds=[1], budget=Budget(exit=exits))
        if not set(exits) & set(made.nfe):  # the action needs none of them
            made = design.sample(case.observation(), [ACTION, *exits], seeds=[1], budget=Budget(exit=exits))
        spends.append(sum(made.nfe[name] for name in exits if name in made.nfe))
    assert spends[0] < spends[1], spends


def can_exit(design: Design, name: str, at: int) -> bool:
    """True when a budget may stop the generation of ``name`` after ``at`` evaluations."""
    from wamkit.errors import BudgetError

    try:
        design.check_budget(Budget(exit={name: at}))
    except BudgetError:
        return False
    return True


@oracle("ss.decoupled-times")
def decoupled_times(case: Case) -> None:
    """A clean stream conditions the others; one may be final while another is noisy; absent is left out exactly."""
    design, observation = sharpen(case.untrained()), case.cut(case.design.window)
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
    """Without the future the action costs fewer calls of the network or fewer tokens, and none for the future."""
    design = case.design
    skipped = design.sample(case.observation(), [ACTION], seeds=[1], budget=Budget(future=False))
    assert not set(case.futures()) & set(skipped.nfe)
    whole = design.sample(case.observation(), [ACTION, *case.futures()], seeds=[1])
    assert set(case.futures()) <= set(whole.nfe)
