"""Context of a call: observations through the encoders and through the trunks that the call runs."""

from __future__ import annotations

from collections.abc import Collection, Container

import torch
from torch import nn

from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Encoder, Trunk
from wamkit.contract.types import Observation
from wamkit.design.graph import FactorGraph
from wamkit.nn.named import Named


def encode(
    observation: Observation,
    encoders: Named[Encoder],
    context: Named[nn.Module],
    trunks: Named[Trunk],
    only: Container[str | None] | None,
) -> dict[str, Cache]:
    """Encode the context once and run it through all trunks, or ``only`` the named: trunk name -> cache."""
    chosen = {name: trunk for name, trunk in trunks.items() if only is None or name in only}
    if not chosen:
        return {}
    encoded = [encoder(observation) for encoder in encoders.values()]
    tokens = torch.cat([t for t, _ in encoded], dim=1)
    pads = torch.cat([p for _, p in encoded], dim=1)
    pad = pads if bool(pads.any()) else None
    return {name: trunk(context[name](tokens), pad=pad)[1] for name, trunk in chosen.items()}


def running(graph: FactorGraph, streams: Collection[str]) -> set[str | None]:
    """Trunks of the estimators that generate ``streams``: a call of these streams leaves the others alone."""
    factors = [factor for factor in graph.factors if any(name in streams for name in factor.generates)]
    return {graph.estimators[factor.estimator].trunk for factor in factors}
