"""Limits of one call: what a budget, the wanted streams and a guide ask of a design, checked before it runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from wamkit.contract.calls import Distrusts, Guide, Revises
from wamkit.contract.planning import Planner
from wamkit.contract.protocols import Estimator
from wamkit.contract.types import Budget
from wamkit.controllers import Controller
from wamkit.design.graph import FactorGraph
from wamkit.design.guiding import Steering, check_guide
from wamkit.errors import BudgetError, did_you_mean


@dataclass(frozen=True)
class Limits:
    """What a design can honour.

    Attributes:
        graph: factorisation.
        estimators: name -> estimator.
        planner: search over actions, or None.
        horizon: H, number of predicted actions.
        default: budget of the design, which a call's own overrides.
    """

    graph: FactorGraph
    estimators: Mapping[str, Estimator]
    planner: Planner | None
    horizon: int
    default: Budget

    def resolve(
        self,
        budget: Budget,
        want: Sequence[str],
        given: Collection[str],
        guide: Guide | None,
        steering: Steering | None,
    ) -> tuple[set[str], Steering | None, Budget]:
        """Resolve one call: the streams to generate, the design's own guide where it acts, and the whole budget.

        Args:
            budget: the call's own budget.
            want: streams that are wanted.
            given: streams that are known.
            guide: the caller's guide, which replaces the design's.
            steering: the design's own guide.

        Raises:
            BudgetError: the design cannot honour it.
        """
        # Rounds of the design's own budget need not fit a call of one stream; those that a caller asks for must.
        whole, turns = budget.over(self.default), bool(budget.rounds)
        needed = self._check(whole, want, given, turns)
        check_guide(guide, self.graph, self.estimators, needed)
        if steering is None or guide is not None or not steering.active(self.graph, self.estimators, needed):
            return needed, None, whole
        return self._check(whole, [*want, *steering.before], given, turns), steering, whole

    def wanted(self, budget: Budget) -> list[str]:
        """Streams that a call of the policy with this budget asks for."""
        return self.graph.wanted(budget.over(self.default))

    def check_default(self, want: Sequence[str], controller: Controller) -> None:
        """Raise :class:`BudgetError` when the design's own budget does not fit the design or its controller."""
        self._check(self.default, want, self.graph.known, turns=True)
        used, limit = controller.horizon(self.horizon).used, self.default.horizon
        if limit is not None and used is not None and limit < used:
            raise BudgetError(
                f"budget: horizon {limit}: the controller executes {used} actions of each call. "
                f"Raise it, or execute less."
            )

    def _check(self, budget: Budget, want: Sequence[str], given: Collection[str], turns: bool) -> set[str]:
        return check_budget(
            budget, self.graph, self.estimators, self.planner, self.horizon, want, tuple(given), turns
        )


def check_budget(
    budget: Budget,
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    planner: Planner | None,
    horizon: int,
    wanted: Sequence[str],
    given: Sequence[str] = (),
    turns: bool = True,
) -> set[str]:
    """Streams to generate; raises :class:`BudgetError` when a design of these parts cannot honour ``budget``.

    ``turns`` is False where `rounds` come from the design itself and need not fit this call.
    """
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
    if budget.attempts:
        check_attempts(budget.attempts, estimators, planner)
    for factor in graph.factors:
        estimators[factor.estimator].check_budget(factor.generates, budget)
    needed = required(graph, estimators, wanted, given, budget)
    check_known(graph, estimators, needed, given)
    if turns:
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
        if graph.objective is not None and graph.acting() & needed and known in graph.consequences():
            raise BudgetError(
                f"given {known!r}: the planner chooses the action by what it predicts of {known!r} itself, so a given "
                f"value would be ignored. Leave it out, or give the action."
            )
        sources = {*graph.ancestors([known]), *graph.factor_of(known).generates} - {known}
        for factor in graph.factors:
            outputs = [name for name in factor.generates if name in needed & sources]
            if outputs and not estimators[factor.estimator].takes(outputs, known):
                raise BudgetError(
                    f"given {known!r}: estimator {factor.estimator!r} samples {', '.join(outputs)} without reading it "
                    f"({graph.formula()}), so the result would not be conditional on it. Leave it out, or generate "
                    f"{known!r} in an earlier factor, or beside the others by a denoiser or unmasker that reads it."
                )


def check_attempts(attempts: int, estimators: Mapping[str, Estimator], planner: Planner | None) -> None:
    """Raise :class:`BudgetError` when nothing is flagged that could be sampled again."""
    if not any(isinstance(estimator, Distrusts) for estimator in estimators.values()):
        raise BudgetError(
            f"attempts={attempts}: no estimator of this design flags its results. Leave it out, or recover the action "
            f"by motion ('motion_recovery')."
        )
    if planner is not None:
        raise BudgetError(
            f"attempts={attempts}: the planner chooses among candidates. Raise `candidates` instead."
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
        if graph.objective is not None and graph.acting() & {*outputs}:
            continue  # turns would change the action after the planner has chosen it
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


def unsearched(graph: FactorGraph, budget: Budget) -> bool:
    """True when a call may not predict the futures that its planner chooses by: its first proposal is the action."""
    if graph.objective is None or budget.future is not False:
        return False
    reads = graph.objective.reads
    return bool({*reads, *graph.ancestors(reads)} & graph.of_role("future"))


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
    if graph.objective is not None and graph.acting() & needed and not unsearched(graph, budget):
        needed |= {*graph.objective.reads} - set(given)
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
