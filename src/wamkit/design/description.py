"""Description of a design: the survey's tuple, the formula, the parameters. Derived, never typed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from wamkit.contract.protocols import Substrate
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Budget
from wamkit.design.config import DesignConfig, GuideConfig
from wamkit.design.graph import FactorGraph


def survey_tuple(
    config: DesignConfig, graph: FactorGraph, substrates: Mapping[str, Substrate]
) -> dict[str, str]:
    """Tuple of the survey (eq. 37): substrate, coupling, backbone, deployment.

    Args:
        config: config of the design.
        graph: factorisation of the design.
        substrates: future or goal stream -> its substrate.
    """
    cells = {substrates[name].label() for name in graph.facing()}
    cells |= {f"Feature ({kind})" for kind in graph.tapped().values()}
    regime = config.controller.get_choice_name(type(config.controller))
    return {
        "substrate": " ∧ ".join(sorted(cells)) or "None",
        "coupling": graph.coupling(),
        "backbone": graph.backbone(),
        "deployment": regime.replace("_", "-").capitalize(),
    }


def parameter_counts(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Trainable parameters per part; a shared trunk is counted once, at its first label.

    The action representation has no entry: it has nothing to train.
    """
    counted: set[int] = set()
    counts = {}
    for label, part in parts.items():
        if label != "action":
            fresh = [p for p in part.parameters() if p.requires_grad and id(p) not in counted]
            counted.update(id(p) for p in fresh)
            counts[label] = sum(p.numel() for p in fresh)
    return counts


def describe_budget(budget: Budget) -> dict[str, Any]:
    """Fields of a budget that are set."""
    return {name: value for name, value in asdict(budget).items() if value not in (None, {})}


def describe_guide(guide: GuideConfig | None) -> dict[str, Any] | None:
    """Steered stream, name of the objective and weight, or None without a guide."""
    if guide is None:
        return None
    objective = guide.objective.get_choice_name(type(guide.objective))
    return {"stream": guide.stream, "objective": objective, "weight": guide.weight}


def describe(
    config: DesignConfig,
    graph: FactorGraph,
    substrates: Mapping[str, Substrate],
    streams: Mapping[str, StreamSpec],
    parts: Mapping[str, nn.Module],
) -> dict[str, Any]:
    """Everything that `wamkit inspect` prints, as plain values.

    Args:
        config: config of the design.
        graph: factorisation of the design.
        substrates: future or goal stream -> its substrate.
        streams: stream name -> its spec.
        parts: label -> part, as :meth:`Design.parts` returns them.
    """
    status = graph.wam()
    counts = parameter_counts(parts)
    return {
        "name": config.name,
        "tuple": survey_tuple(config, graph, substrates),
        "formula": graph.formula(),
        "is_wam": status.is_wam,
        "kind": status.kind,
        "wam_paths": list(status.paths),
        "parameters": {**counts, "total": sum(counts.values())},
        "horizon": {"predict": config.horizon},
        "budget": describe_budget(config.budget),
        "guide": describe_guide(config.guide),
        "streams": {s.name: [s.steps, s.tokens, s.features] for s in streams.values()},
    }
