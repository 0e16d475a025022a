"""Oracles of taps, noise levels, early exits and skipped futures."""

from __future__ import annotations

import torch
from cases import Case

from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design


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
    """Without the future the action costs fewer calls of the network or fewer tokens, and none for the future."""
    design = case.design
    skipped = design.sample(case.observation(), [ACTION], seeds=[1], budget=Budget(future=False))
    assert not set(case.futures()) & set(skipped.nfe)
    whole = design.sample(case.observation(), [ACTION, *case.futures()], seeds=[1])
    assert set(case.futures()) <= set(whole.nfe)
