"""One search of a planner: proposals of the action, what the design predicts of them, and their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from wamkit.contract.calls import Generated, PlanResult, Revises
from wamkit.contract.planning import Objective
from wamkit.contract.protocols import Estimator
from wamkit.contract.types import Budget
from wamkit.design.graph import Factor, FactorGraph
from wamkit.errors import ConfigError

# Generation of outputs of a factor for a number of candidates per row, with known values of all candidates.
Generate = Callable[[Factor, Sequence[str], int, Mapping[str, Tensor]], Generated]


def predicted_for(graph: FactorGraph, reads: Sequence[str]) -> set[str]:
    """Streams that depend on the action and must be predicted for every candidate to know ``reads``."""
    return {*reads, *graph.ancestors(reads)} & graph.consequences()


def proposed(
    factor: Factor, action: str, wanted: set[str], estimator: Estimator, budget: Budget
) -> list[str]:
    """Outputs of a proposal: the action, the wanted streams of its factor, and those that it cannot do without."""
    return [
        name
        for name in factor.generates
        if name == action
        or name in wanted
        or not estimator.skippable(
            [n for n in factor.generates if n in {action, name, *wanted}], name, budget
        )
    ]


def check_search(graph: FactorGraph, estimators: Mapping[str, Estimator], together: bool) -> None:
    """Raise :class:`ConfigError` when the consequences of an action cannot be known as the planner wants to.

    Args:
        graph: factorisation with an objective.
        estimators: name -> estimator.
        together: True to score the streams that were sampled together with the action.
    """
    assert graph.objective is not None
    action = min(graph.of_role("action"))
    proposal = graph.factor_of(action)
    beside = set(proposal.generates) - {action}
    scored = sorted(predicted_for(graph, graph.objective.reads) & beside)
    if together and not scored:
        raise ConfigError(
            f"planner: together scores what is sampled with the action, but {graph.formula()} samples nothing with it "
            f"that the objective reads. Leave it out, or generate the scored stream in the action's factor."
        )
    estimator = estimators[proposal.estimator]
    able = isinstance(estimator, Revises) and estimator.conditional(scored, [action])
    if scored and not together and not able:
        raise ConfigError(
            f"planner: {scored} is generated together with the action by estimator {proposal.estimator!r}, which "
            f"cannot generate it again with the action given. Choose among joint samples (planner candidate_scoring "
            f"with together: true), or let a denoiser with {action!r} in its `clean` generate them, or give the action "
            f"a factor of its own."
        )


def repeat(value: Tensor, copies: int) -> Tensor:
    """Repeat every row ``copies`` times, copies side by side."""
    return value if copies == 1 else value.repeat_interleave(copies, dim=0)


@dataclass
class Search:
    """One planning call over one action stream.

    Attributes:
        graph: factorisation with an objective.
        objective: what the search is for.
        factor: factor of the action.
        action: name of the action stream.
        outputs: streams that a proposal samples.
        together: True to score the streams that were sampled together with the action.
        values: streams known so far, (B, ...); what the objective needs besides the action's consequences is added.
        aims: stream -> encoded goal observation, (B, ...).
        rows: B.
        generate: sampler of a factor.
        beside: streams that were sampled with the last proposals, (B * n, ...).
    """

    graph: FactorGraph
    objective: Objective
    factor: Factor
    action: str
    outputs: Sequence[str]
    together: bool
    values: dict[str, Tensor]
    aims: Mapping[str, Tensor]
    rows: int
    generate: Generate
    beside: dict[str, Tensor] = field(default_factory=dict)

    def prepare(self) -> None:
        """Generate what the objective needs and does not depend on the action, such as a goal, once per row."""
        reads = self.objective.reads
        needed = {*reads, *self.graph.ancestors(reads)} - self.graph.consequences() - {self.action}
        for factor in self.graph.factors:
            missing = [name for name in factor.generates if name in needed and name not in self.values]
            if missing:
                self.values.update(self.generate(factor, missing, 1, {}).values)

    def propose(self, count: int) -> Tensor:
        """Sample ``count`` actions per row, (B, count, T, N, D)."""
        sampled = self.generate(self.factor, self.outputs, count, {}).values
        self.beside = {name: value for name, value in sampled.items() if name != self.action}
        return sampled[self.action].unflatten(0, (self.rows, count))

    def cost(self, candidates: Tensor) -> Tensor:
        """Predict what follows each candidate (B, n, T, N, D), and return the negated score, (B, n)."""
        count = candidates.shape[1]
        known = {self.action: candidates.flatten(0, 1), **(self.beside if self.together else {})}
        wanted = predicted_for(self.graph, self.objective.reads)
        for factor in self.graph.factors:
            outputs = [name for name in factor.generates if name in wanted and name not in known]
            if outputs:
                known.update(self.generate(factor, outputs, count, known).values)
        rest = [name for name in self.objective.reads if name not in known]
        values = {**known, **{name: repeat(self.values[name], count) for name in rest}}
        aims = {name: repeat(value, count) for name, value in self.aims.items()}
        return -self.objective.score(values, aims).unflatten(0, (self.rows, count))

    def settle(self, result: PlanResult) -> None:
        """Keep the chosen action, and the streams that were sampled together with it where they were scored."""
        self.values[self.action] = result.action
        if self.together:
            assert result.chosen is not None
            row = torch.arange(self.rows, device=result.chosen.device)
            for name, value in self.beside.items():
                self.values[name] = value.unflatten(0, (self.rows, -1))[row, result.chosen]
