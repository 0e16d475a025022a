"""What a design learns from: the fitting of frozen parts, and the losses of its factors on one batch."""

from __future__ import annotations

from collections.abc import Container, Mapping

from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call
from wamkit.contract.protocols import ActionRepresentation, DataSpec, Encoder, Estimator, Substrate, Windows
from wamkit.contract.streams import Past, Target
from wamkit.contract.types import Observation
from wamkit.design.graph import FactorGraph
from wamkit.design.sampling import context_of
from wamkit.nn.named import Named, key_of


def fit_parts(
    encoders: Named[Encoder],
    action: ActionRepresentation,
    substrates: Named[Substrate],
    data: DataSpec,
    windows: Windows,
    seed: int,
    labels: Container[str],
) -> None:
    """Fit the frozen parts with a label in ``labels``: encoders, then the action, then substrates bound to them."""
    for name in sorted(encoders):
        if f"encoders.{key_of(name)}" in labels:
            encoders[name].fit(windows, seed)
    if "action" in labels:
        action.fit(windows, seed)
    for name in sorted(substrates):
        if f"substrates.{key_of(name)}" in labels:
            substrates[name].bind(dict(encoders.items()), data)
            substrates[name].fit(windows, seed)


def factor_losses(
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    context: Mapping[str, Cache],
    targets: Mapping[str, Target],
    past: Past | None,
    observation: Observation,
) -> dict[str, Tensor]:
    """Losses of all factors in their order, stream -> scalar; a factor may read what an earlier one inferred."""
    terms: dict[str, Tensor] = {}
    inferred: dict[str, Tensor] = {}
    for factor in graph.factors:
        given = {}
        for name in factor.given:
            if factor.read == "prediction" and name in inferred:
                given[name] = inferred[name].detach()
            else:
                given[name] = targets[name].values if name in targets else inferred[name]
        estimator = estimators[factor.estimator]
        now = None if estimator.observes is None else observation.steps([-1])
        call = Call(context_of(factor.estimator, graph, context), given, (), observation.batch_size, now=now)
        result = estimator.loss(factor.generates, call, targets, past)
        terms.update(result.terms)
        inferred.update(result.inferred)
    return terms
