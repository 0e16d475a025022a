"""One call of a design: run the needed factors in order, under a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, Generated, Guide, PlanResult
from wamkit.contract.planning import Planner
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import RowNoise, cleared
from wamkit.contract.types import Budget, Carries, Observation, map_tensors
from wamkit.design.graph import Factor, FactorGraph
from wamkit.design.guiding import Steering, with_known
from wamkit.design.limits import revised, unsearched
from wamkit.design.searching import Search, proposed
from wamkit.design.timing import Stages

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


def repeat_observation(observation: Observation, copies: int) -> Observation:
    """Repeat every row of an observation ``copies`` times, its instruction too."""
    if copies == 1:
        return observation
    tasks = tuple(task for task in observation.task for _ in range(copies))
    return replace(repeat_rows(replace(observation, goal=None), copies), task=tasks)


def same_start(noise: RowNoise) -> RowNoise:
    """Copy of ``noise`` that draws the same numbers without advancing the original."""
    twin = noise.expand(1)
    twin.generators = [torch.Generator().set_state(g.get_state()) for g in noise.generators]
    return twin


@dataclass(frozen=True)
class Sampled:
    """Streams sampled by one call of :meth:`wamkit.design.Design.sample`.

    Attributes:
        values: stream name -> values.
        nfe: stream name -> function evaluations.
        cost: (B,) cost of the planned action, or None without a planner.
        stage_ms: stage name -> milliseconds.
        planned: entries of the carried state that planning has changed.
        costs: (B, n) costs of all candidates, or None without a planner.
        flags: stream name -> (B,) bool, True in rows whose values of this stream must not be trusted.
    """

    values: dict[str, Tensor]
    nfe: dict[str, int]
    cost: Tensor | None
    stage_ms: dict[str, float]
    planned: Carries = field(default_factory=dict)
    costs: Tensor | None = None
    flags: dict[str, Tensor] = field(default_factory=dict)

    def untrusted(self) -> Tensor | None:
        """Rows (B,) with a flag, or None where nothing is flagged."""
        flagged = [flag for flag in self.flags.values() if bool(flag.any())]
        return torch.stack(flagged).any(dim=0) if flagged else None

    def mended(self, rows: Tensor, again: Sampled) -> Sampled:
        """Take ``rows`` (B,) from another sample of the same call; evaluations add up."""

        def merge(old: Tensor, new: Tensor) -> Tensor:
            return torch.where(rows.view(-1, *[1] * (old.dim() - 1)), new, old)

        return replace(
            again,
            values={name: merge(value, again.values[name]) for name, value in self.values.items()},
            flags={name: merge(flag, again.flags[name]) for name, flag in self.flags.items()},
            nfe={name: count + again.nfe[name] for name, count in self.nfe.items()},
        )


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
        guide: the caller's guidance of one stream, or None.
        steering: the design's own guidance, where the caller gives none, or None.
        together: True when the planner scores what was sampled together with the action.
        aims: stream -> encoded goal observation of the caller.
        observation: observed window (B, T), for estimators that observe its last step, or None.
        planned: result of planning, or None before it.
        flags: stream name -> (B,) bool, True in rows whose values of this stream must not be trusted.
        real: features that the rows' robots have (:attr:`wamkit.contract.calls.Call.real`).
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
    steering: Steering | None = None
    together: bool = False
    aims: Mapping[str, Tensor] = field(default_factory=dict)
    observation: Observation | None = None
    planned: PlanResult | None = None
    flags: dict[str, Tensor] = field(default_factory=dict)
    real: Mapping[str, Tensor] = field(default_factory=dict)

    def attempted(self, needed: set[str], given: Mapping[str, Tensor]) -> Sampled:
        """Sample, and sample flagged rows again, `Budget.attempts` times at most (`ge.rollout-filter`)."""
        noise, result = self.noise, self._once(self.noise, needed, given)
        for _ in range(self.budget.attempts or 0):
            rows = result.untrusted()
            if rows is None:
                break
            noise = noise.fork()
            result = result.mended(rows, self._once(noise, needed, given))
        return result

    def _once(self, noise: RowNoise, needed: set[str], given: Mapping[str, Tensor]) -> Sampled:
        call = replace(self, noise=noise, values=dict(self.values), nfe={}, flags={})
        call.run(needed)
        return call.sampled(given)

    def run(self, needed: set[str]) -> None:
        """Generate every stream of ``needed`` that is not known yet."""
        actions = self.graph.acting()
        searches = self.planner is not None and not unsearched(self.graph, self.budget)
        for factor in self.graph.factors:
            outputs = [n for n in factor.generates if n in needed and n not in self.values]
            if not outputs:
                continue
            if searches and self.planner is not None and actions & set(outputs):
                with self.stages.measure("plan"):
                    self._plan(self.planner, factor, needed)
                outputs = [n for n in outputs if n not in self.values]
                if not outputs:
                    continue
            with self.stages.measure("+".join(sorted({self.graph.roles[n] for n in outputs}))):
                sampled = self._generate(factor, outputs, 1, {})
                self.values.update(sampled.values)
                self.flags.update(sampled.flags)
                self._refine(factor, outputs)

    def sampled(self, given: Mapping[str, Tensor]) -> Sampled:
        """What the call has sampled, besides the ``given`` streams."""
        values = {name: value for name, value in self.values.items() if name not in given}
        plan, taken = self.planned, self.stages.milliseconds
        if plan is None:
            return Sampled(values, self.nfe, None, taken, flags=self.flags)
        carried = {PLANNER_CARRY: plan.carry}
        return Sampled(values, self.nfe, plan.cost, taken, carried, plan.costs, self.flags)

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
        graded: bool = False,
    ) -> Generated:
        """Sample one factor for ``copies`` candidates per row; ``known`` values have rows * copies rows already.

        With ``graded``, gradients pass through it.
        """
        context = context_of(factor.estimator, self.graph, self.context)
        others = {name: value for name, value in self.values.items() if name not in outputs}
        real = repeat_rows(dict(self.real), copies)
        given = {**repeat_rows(others, copies), **{n: cleared(v, real.get(n)) for n, v in known.items()}}
        carry = repeat_rows(self.carry[factor.estimator], copies)
        guide = None if graded else self._guide(factor, given, copies)
        estimator = self.estimators[factor.estimator]
        now = None
        if estimator.observes is not None and self.observation is not None:
            now = repeat_observation(self.observation.steps([-1]), copies)
        call = Call(repeat_rows(context, copies), given, carry, self.rows * copies, guide, now, real)
        if graded:  # what was computed without gradients cannot be saved for them
            call = map_tensors(call, lambda value: value if value.requires_grad else value.clone())
        noise = (self.noise if noise is None else noise).expand(copies)
        result = estimator.generate(outputs, call, self.budget, noise)
        for name, count in result.nfe.items():
            self.nfe[name] = self.nfe.get(name, 0) + count
        return replace(result, values={n: cleared(v, real.get(n)) for n, v in result.values.items()})

    def _ahead(
        self, factor: Factor, outputs: Sequence[str], copies: int, known: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Generate what follows from estimates, with gradients; its draws are the same at every step of a walk."""
        noise = same_start(self.noise)
        return self._generate(factor, outputs, copies, known, noise, graded=True).values

    def _guide(self, factor: Factor, given: Mapping[str, Tensor], copies: int) -> Guide | None:
        """Guidance of one factor: the caller's, or else the design's own."""
        if self.guide is not None:
            return with_known(self.guide, given) if self.guide.stream in factor.generates else None
        steering = self.steering
        if steering is None or steering.stream not in factor.generates:
            return None
        aims = repeat_rows(dict(self.aims), copies)
        return steering.guide(
            self.graph, given, aims, lambda f, outs, known: self._ahead(f, outs, copies, known)
        )

    def _plan(self, planner: Planner, factor: Factor, needed: set[str]) -> None:
        """Plan the action: search for the one whose predicted consequences score best."""
        assert self.graph.objective is not None
        action = next(name for name in factor.generates if self.graph.roles[name] == "action")
        beside = needed & {*factor.generates} - {action} if self.together else set()
        estimator = self.estimators[factor.estimator]
        outputs = proposed(factor, action, beside, estimator, self.budget)
        search = Search(
            self.graph, self.graph.objective, factor, action, outputs, self.together, self.values, self.aims,
            self.rows, self._generate,
        )  # fmt: skip
        search.prepare()
        carry = self.carry.get(PLANNER_CARRY, ())
        result = planner.plan(search.propose, search.cost, self.budget, self.noise, carry)
        search.settle(result)
        self.planned = result
        if result.weak is not None:
            self.flags[action] = result.weak
