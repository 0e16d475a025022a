"""Guidance that a design declares: one stream is steered towards an objective in every call (`ss.guided-inference`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from wamkit.contract.calls import Guide
from wamkit.contract.planning import Objective
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import map_tensors
from wamkit.design.graph import Factor, FactorGraph
from wamkit.errors import BudgetError, ConfigError, did_you_mean

# Differentiable generation of outputs of a factor with known values.
Ahead = Callable[[Factor, Sequence[str], Mapping[str, Tensor]], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Steering:
    """A declared guide, built.

    Attributes:
        stream: name of the steered stream.
        objective: what it is steered towards.
        weight: factor on the gradient.
        behind: streams that are generated from the steered one and that the objective needs.
        before: the other streams that the objective reads.
    """

    stream: str
    objective: Objective
    weight: float
    behind: frozenset[str]
    before: tuple[str, ...]

    def active(self, graph: FactorGraph, estimators: Mapping[str, Estimator], needed: set[str]) -> bool:
        """Whether a call that generates ``needed`` walks the steered stream; a weight of zero steers nothing."""
        return self.weight != 0 and walked(self.stream, graph, estimators, needed)

    def guide(
        self, graph: FactorGraph, given: Mapping[str, Tensor], aims: Mapping[str, Tensor], ahead: Ahead
    ) -> Guide:
        """Guide of one factor in one call.

        Args:
            graph: factorisation.
            given: streams that are known before the factor.
            aims: stream -> encoded goal observation.
            ahead: generation of what follows from the steered stream, with gradients.
        """

        def objective(estimates: Mapping[str, Tensor]) -> Tensor:
            known = {**fresh(given), **estimates}
            for factor in graph.factors:
                outputs = [n for n in factor.generates if n in self.behind]
                if outputs:
                    known.update(ahead(factor, outputs, known))
            return self.objective.score(known, fresh(aims))

        return Guide(self.stream, objective, self.weight)


def fresh(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies that gradients may pass by; values made without gradients cannot be saved for them."""
    return map_tensors(dict(values), lambda value: value.clone())


def with_known(guide: Guide, given: Mapping[str, Tensor]) -> Guide:
    """Let a caller's objective see the streams that other factors generated before."""
    return Guide(guide.stream, lambda estimates: guide.objective({**fresh(given), **estimates}), guide.weight)


def walked(stream: str, graph: FactorGraph, estimators: Mapping[str, Estimator], needed: set[str]) -> bool:
    """Whether a call that generates ``needed`` walks ``stream``: itself, or on the way to a tap of its network."""
    factor = graph.factor_of(stream)
    taps = {name for name, kind in estimators[factor.estimator].exposes.items() if kind == "tap"}
    return stream in needed or bool(taps & needed & {*factor.generates})


def followers(graph: FactorGraph, stream: str) -> set[str]:
    """Streams that are generated from ``stream``, directly or indirectly."""
    found: set[str] = set()
    for factor in graph.factors:
        if {stream, *found} & {*factor.given}:
            found |= {*factor.generates}
    return found


def build_steering(
    stream: str,
    objective: Objective,
    weight: float,
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    streams: Mapping[str, StreamSpec],
) -> Steering:
    """Build the guide of a design; raises :class:`ConfigError` when it cannot steer or says nothing of the stream."""
    if stream not in streams:
        raise ConfigError(f"guide: unknown stream {stream!r}. {did_you_mean(stream, streams)}")
    factor = graph.factor_of(stream)
    if not estimators[factor.estimator].guidable:
        raise ConfigError(
            f"guide: estimator {factor.estimator!r} of stream {stream!r} cannot be steered while it generates. Use a "
            f"denoiser for {stream!r}, or choose among samples by the objective (planner candidate_scoring)."
        )
    after = followers(graph, stream)
    reads = set(objective.reads)
    if not reads & ({stream} | after):
        raise ConfigError(
            f"guide: the objective reads {sorted(reads)}, none of which is {stream!r} or generated from it, so there "
            f"is no gradient. Steer what it reads, or give a factor of it the stream {stream!r}."
        )
    known = {n for f in graph.factors[: graph.factors.index(factor) + 1] for n in f.generates}
    behind = {*reads, *graph.ancestors(reads)} & after
    before = {*reads, *(n for name in behind for n in graph.factor_of(name).given)} - after - {stream}
    late = sorted(before - known)
    if late:
        raise ConfigError(
            f"guide: {', '.join(late)} is read by the objective, but generated after {stream!r}. Move its factor up."
        )
    return Steering(stream, objective, weight, frozenset(behind), tuple(sorted(before)))


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
    if not walked(guide.stream, graph, estimators, needed):
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
