"""What a design learns from: the fitting of frozen parts, and the losses of its factors on one batch."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, LearnsApart
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Encoder, Estimator, Substrate
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Past, Target, cleared
from wamkit.contract.types import Observation
from wamkit.design.action_streams import ActionStreams
from wamkit.design.graph import Factor, FactorGraph
from wamkit.design.sampling import context_of
from wamkit.nn.named import Named, key_of
from wamkit.progress import stage


def fit_parts(
    encoders: Named[Encoder],
    actions: ActionStreams,
    substrates: Named[Substrate],
    data: DataSpec,
    windows: Windows,
    seed: int,
    labels: Container[str],
    streams: Container[str],
) -> None:
    """Fit the frozen parts with a label in ``labels``: encoders, then actions, then substrates bound to them.

    An action that is none of the ``streams`` is left as it is: nothing reads it.
    """
    for name in sorted(encoders):
        if f"encoders.{key_of(name)}" in labels:
            with stage(f"fit encoder {name}"):
                encoders[name].fit(windows, seed)
    for name, part in actions.parts.items():
        if action_label(name) in labels and name in streams:
            with stage(f"fit {name}"):
                part.fit(windows, seed)
    for name in sorted(substrates):
        if f"substrates.{key_of(name)}" in labels:
            with stage(f"fit substrate {name}"):
                substrates[name].bind(dict(encoders.items()), data)
                substrates[name].fit(windows, seed)


def action_label(stream: str) -> str:
    """Label of an action stream's representation among the parts of a design."""
    return ACTION if stream == ACTION else f"actions.{key_of(stream)}"


def learnable(
    factor: Factor, estimator: Estimator | None, targets: Mapping[str, Target]
) -> Mapping[str, Target]:
    """Targets of a factor, padded in the rows in which it would have to read a stream that was not recorded.

    A clip without actions teaches p(s|c) and not p(s|a,c). Of p(s,a|c) it teaches what the estimator can learn
    without the action (:class:`wamkit.contract.calls.LearnsApart`); nothing without an estimator.
    """
    absent = {name: t.absent for name, t in targets.items() if t.absent is not None and bool(t.absent.any())}
    if not absent:
        return targets
    blind = [absent[name] for name in factor.given if name in absent and factor.read == "target"]
    missing = [name for name in factor.generates if name in absent]
    kept: set[str] = set()
    if isinstance(estimator, LearnsApart):
        kept = estimator.learns_without(factor.generates, missing)
    changed = dict(targets)
    for name in factor.generates:
        rows = [*blind, *(absent[other] for other in missing if name not in kept and name != other)]
        if name in targets and rows:
            unread = torch.stack(rows).any(dim=0)
            changed[name] = replace(targets[name], pad=targets[name].pad | unread[:, None])
    return changed


def factor_losses(
    graph: FactorGraph,
    estimators: Mapping[str, Estimator],
    context: Mapping[str, Cache],
    targets: Mapping[str, Target],
    past: Past | None,
    observation: Observation,
    real: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Losses of all factors in their order, stream -> scalar; a factor may read what an earlier one inferred.

    ``real`` are the features that the rows' robots have (:attr:`wamkit.contract.calls.Call.real`).
    """
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
        cache, rows = context_of(factor.estimator, graph, context), observation.batch_size
        call = Call(cache, given, (), rows, now=now, real=real)
        result = estimator.loss(factor.generates, call, learnable(factor, estimator, targets), past)
        terms.update(result.terms)
        inferred.update({name: cleared(v, real.get(name)) for name, v in result.inferred.items()})
    return terms
