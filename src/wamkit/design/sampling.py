"""One call of a design: run the needed factors in order, under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, Generated, Guide, Revises
from wamkit.contract.protocols import Estimator, Planner
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget, Carries, map_tensors
from wamkit.design.graph import Factor, FactorGraph
from wamkit.design.timing import Stages
from wamkit.errors import BudgetError, did_you_mean

T = TypeVar("T")

# Key of the planner's carry in a carried state, beside the names of estimators, none of which may be called so.
PLANNER_CARRY = "planner.carry"

# Context of an estimator that brings its own network and so runs on no trunk.
NO_CONTEXT = Cache((), (), torch.zeros(0, 0, dtype=torch.bool), torch.zeros(0, 0, dtype=torch.long))


def context_of(estimator: str, graph: FactorGraph, context: Mapping[str, Cache]) -> Cache:
    """Context tokens in the trunk of an estimator, out of ``context`` (trunk name -> cache)."""
    trunk = graph.estimators[estimator].trunk
    return NO_CONTEXT if trunk is None else context[trunk]


def repeat_rows(tree: T, copies: int) -> T:
    """Repeat every row of every tensor ``copies`` times, copies side by side."""
    return tree if copies == 1 else map_tensors(tree, lambda t: t.repeat_interleave(copies, dim=0))


def same_start(noise: RowNoise) -> RowNoise:
    """Copy of ``noise`` that draws the same numbers without advancing the original."""
    twin = noise.expand(1)
    twin.generators = [torch.Generator().set_state(g.get_state()) for g in noise.generators]
    return twin


def check_budget(
    budget: Budget,
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    planner: Planner | None,
    horizon: int,
    wanted: Sequence[str],
    given: Sequence[str] = (),
) -> set[str]:
    """Streams to generate; raises :class:`BudgetError` when a design of these parts cannot honour ``budget``."""
    for label, mapping in (("nfe", budget.nfe), ("exit", budget.exit)):
        for name in mapping:
            if name not in graph.roles:
                raise BudgetError(f"{label}: unknown stream {name!r}. {did_you_mean(name, graph.roles)}")
            if name in graph.known:
                raise BudgetError(
                    f"{label}: stream {name!r} is given, so nothing is spent on it. Leave it out."
                )
    for name in budget.exit:
        estimator = graph.factor_of(name).estimator
        if not estimators[estimator].exits:
            raise BudgetError(
                f"exit for stream {name!r}: estimator {estimator!r} does not generate it in steps that can be "
                f"stopped early. Leave it out, or use a denoiser."
            )
    if planner is None and (budget.candidates is not None or budget.iterations is not None):
        raise BudgetError("`candidates` and `iterations` need a planner, which this design does not have")
    if budget.horizon is not None and budget.horizon > horizon:
        raise BudgetError(f"horizon {budget.horizon} must be 1 to {horizon}")
    for factor in graph.factors:
        estimators[factor.estimator].check_budget(factor.generates, budget)
    needed = required(graph, estimators, wanted, given, budget)
    check_known(graph, estimators, needed, given)
    check_rounds(budget, graph, estimators, needed)
    return needed


def check_known(
    graph: FactorGraph, estimators: Mapping[str, Estimator], needed: set[str], given: Sequence[str]
) -> None:
    """Raise :class:`BudgetError` when a needed stream would be sampled as if a given one were unknown.

    A given stream that is generated together with a needed one, or from it, says something about it; only some
    estimators can sample under that condition.
    """
    for known in set(given) - set(graph.known):  # what no factor generates says nothing more
        sources = {*graph.ancestors([known]), *graph.factor_of(known).generates} - {known}
        for factor in graph.factors:
            outputs = [name for name in factor.generates if name in needed & sources]
            if outputs and not estimators[factor.estimator].takes(outputs, known):
                raise BudgetError(
                    f"given {known!r}: estimator {factor.estimator!r} samples {', '.join(outputs)} without reading it "
                    f"({graph.formula()}), so the result would not be conditional on it. Leave it out, or generate "
                    f"{known!r} in an earlier factor, or beside the others by a denoiser or unmasker that reads it."
                )


def revised(outputs: Sequence[str], estimator: Estimator) -> bool:
    """True when ``outputs`` of one factor can be refined in turns."""
    return len(outputs) > 1 and isinstance(estimator, Revises) and estimator.revisable(outputs)


def check_rounds(
    budget: Budget, graph: FactorGraph, estimators: Mapping[str, Estimator], needed: set[str]
) -> None:
    """Raise :class:`BudgetError` when no two streams of this call can be refined in turns."""
    if not budget.rounds:
        return
    refined: list[str] = []
    for factor in graph.factors:
        outputs = [name for name in factor.generates if name in needed]
        if revised(outputs, estimators[factor.estimator]):
            refined += outputs
    if not refined:
        raise BudgetError(
            f"rounds={budget.rounds}: no factor of {graph.formula()} generates two streams in this call that can "
            f"each be given to the other. Generate future and action in one factor of a denoiser or unmasker "
            f"that names both in `clean`, and want both."
        )
    for name in sorted(set(refined) & set(budget.exit)):
        raise BudgetError(
            f"exit for stream {name!r} with rounds={budget.rounds}: a round reads the other streams as clean. Leave "
            f"one of them out."
        )


def check_guide(
    guide: Guide | None, graph: FactorGraph, estimators: Mapping[str, Estimator], needed: set[str]
) -> None:
    """Raise :class:`BudgetError` when the guided stream is not generated, or its estimator cannot be steered."""
    if guide is None:
        return
    if guide.stream not in graph.roles:
        raise BudgetError(
            f"guide: unknown stream {guide.stream!r}. {did_you_mean(guide.stream, graph.roles)}"
        )
    if guide.stream not in needed:
        raise BudgetError(
            f"guide: stream {guide.stream!r} is not generated in this call, which generates {sorted(needed)}. "
            f"Want it, or do not give it."
        )
    estimator = graph.factor_of(guide.stream).estimator
    if not estimators[estimator].guidable:
        raise BudgetError(
            f"guide: estimator {estimator!r} of stream {guide.stream!r} cannot be steered while it generates. Use "
            f"a denoiser for {guide.stream!r}, or choose among samples by the objective."
        )


def required(
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    wanted: Sequence[str],
    given: Sequence[str],
    budget: Budget,
) -> set[str]:
    """Streams in ``wanted`` and all streams that must be generated for them.

    Raises :class:`BudgetError` when a stream must be given and is not, or when ``budget.future`` is False and a future
    is still needed.
    """
    needed = set(wanted) - set(given)
    if graph.scored is not None and graph.goal is not None and graph.acting() & needed:
        needed |= {graph.scored, graph.goal} - set(given)
    todo = sorted(needed)
    while todo:
        stream = todo.pop()
        if stream in graph.known:
            raise BudgetError(
                f"stream {stream!r} is not generated by {graph.formula()}: the caller gives it. Pass its values, "
                f"`given={{{stream!r}: ...}}` (actions: `design.action.encode(action)`)."
            )
        factor = graph.factor_of(stream)
        estimator = estimators[factor.estimator]
        more = [name for name in factor.given if name not in given]
        for name in factor.generates:
            outputs = [n for n in factor.generates if n in needed or n == name]
            if name not in given and not estimator.skippable(outputs, name, budget):
                more.append(name)
        todo += [name for name in more if name not in needed]
        needed.update(more)
    forced = graph.of_role("future") & needed - set(wanted)
    if budget.future is False and forced:
        raise BudgetError(
            f"future=False, but {graph.formula()} needs {', '.join(sorted(forced))} to act. Train the stream absent "
            f"some of the time (denoiser `absent`), or use a coupling that can skip it."
        )
    return needed


@dataclass(frozen=True)
class Sampled:
    """Streams sampled by one call of :meth:`wamkit.design.Design.sample`.

    Attributes:
        values: stream name -> values.
        nfe: stream name -> function evaluations.
        cost: (B,) cost of the planned action, or None without a planner.
        stage_ms: stage name -> milliseconds.
        planned: entries of the carried state that planning has changed.
    """

    values: dict[str, Tensor]
    nfe: dict[str, int]
    cost: Tensor | None
    stage_ms: dict[str, float]
    planned: Carries = field(default_factory=dict)


@dataclass
class SamplingCall:
    """State of one call; it lives as long as the call.

    Attributes:
        graph: chain rule.
        estimators: name -> estimator.
        planner: search over actions, or None.
        context: trunk name -> cache of the context tokens.
        carry: carried state of the design.
        budget: limits on what the call may spend.
        noise: per-row noise.
        rows: B.
        stages: time per stage.
        values: stream name -> values known so far.
        nfe: stream name -> function evaluations so far.
        guide: objective that steers one stream, or None.
        cost: (B,) cost of the planned action, or None before planning.
        planned: entries of the carried state that planning has changed.
    """

    graph: FactorGraph
    estimators: Mapping[str, Estimator]
    planner: Planner | None
    context: Mapping[str, Cache]
    carry: Carries
    budget: Budget
    noise: RowNoise
    rows: int
    stages: Stages
    values: dict[str, Tensor]
    nfe: dict[str, int] = field(default_factory=dict)
    guide: Guide | None = None
    cost: Tensor | None = None
    planned: Carries = field(default_factory=dict)

    def run(self, needed: set[str]) -> None:
        """Generate every stream of ``needed`` that is not known yet."""
        actions = self.graph.acting()
        for factor in self.graph.factors:
            outputs = [n for n in factor.generates if n in needed and n not in self.values]
            if not outputs:
                continue
            if self.planner is not None and actions & set(outputs):
                with self.stages.measure("plan"):
                    self._plan(self.planner, factor)
            else:
                with self.stages.measure("+".join(sorted({self.graph.roles[n] for n in outputs}))):
                    self.values.update(self._generate(factor, outputs, 1, {}).values)
                    self._refine(factor, outputs)

    def _refine(self, factor: Factor, outputs: Sequence[str]) -> None:
        """Regenerate each stream `Budget.rounds` times given the others, actions last (`cp.iterative-refine`).

        A stream starts every round from the same noise, so rounds refine one hypothesis and can converge.
        """
        if not self.budget.rounds or not revised(outputs, self.estimators[factor.estimator]):
            return
        turns = sorted(outputs, key=lambda name: self.graph.roles[name] == "action")
        sources = {name: self.noise.fork() for name in turns}
        for _ in range(self.budget.rounds):
            for name in turns:
                result = self._generate(factor, [name], 1, {}, same_start(sources[name]))
                self.values.update(result.values)

    def _generate(
        self,
        factor: Factor,
        outputs: Sequence[str],
        copies: int,
        known: Mapping[str, Tensor],
        noise: RowNoise | None = None,
    ) -> Generated:
        """Sample one factor for ``copies`` candidates per row; ``known`` values have rows * copies rows already."""
        context = context_of(factor.estimator, self.graph, self.context)
        others = {name: value for name, value in self.values.items() if name not in outputs}
        given = {**repeat_rows(others, copies), **known}
        carry = repeat_rows(self.carry[factor.estimator], copies)
        guide = self.guide if self.guide is not None and self.guide.stream in outputs else None
        call = Call(repeat_rows(context, copies), given, carry, self.rows * copies, guide)
        noise = (self.noise if noise is None else noise).expand(copies)
        result = self.estimators[factor.estimator].generate(outputs, call, self.budget, noise)
        for name, count in result.nfe.items():
            self.nfe[name] = self.nfe.get(name, 0) + count
        return result

    def _plan(self, planner: Planner, factor: Factor) -> None:
        """Plan the action: search for the one whose predicted future is closest to the goal."""
        (action,) = factor.generates
        if planner.goal not in self.values:
            goal = self._generate(self.graph.factor_of(planner.goal), [planner.goal], 1, {})
            self.values.update(goal.values)
        predictor = self.graph.factor_of(planner.future)

        def propose(count: int) -> Tensor:
            result = self._generate(factor, [action], count, {})
            return result.values[action].unflatten(0, (self.rows, count))

        def predict(candidates: Tensor) -> Tensor:
            count = candidates.shape[1]
            result = self._generate(predictor, [planner.future], count, {action: candidates.flatten(0, 1)})
            return result.values[planner.future].unflatten(0, (self.rows, count))

        carry = self.carry.get(PLANNER_CARRY, ())
        result = planner.plan(propose, predict, self.values[planner.goal], self.budget, self.noise, carry)
        self.values[action] = result.action
        self.cost, self.planned = result.cost, {PLANNER_CARRY: result.carry}
