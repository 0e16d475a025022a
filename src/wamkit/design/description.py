"""Description of a design: the survey's tuple, the formula, the parameters. Derived, never typed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from wamkit.contract.protocols import Standing, Substrate
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import StreamSpec
from wamkit.contract.types import Budget
from wamkit.design.config import DesignConfig, GuideConfig
from wamkit.design.graph import FactorGraph

# Futures that a cell names: those of the first of these kinds that the action faces.
STANDINGS: tuple[Standing, ...] = ("world", "body", "score")
# Order of the categories in a cell that names several, as in the survey's tables; others come last, by name.
CATEGORY_ORDER = ("Pixel", "Feature", "Geometric", "Affordance")


def substrate_cell(graph: FactorGraph, substrates: Mapping[str, Substrate]) -> str:
    """Cell of the futures that the action faces, in the survey's words.

    The robot's own sensors are named only where no future of the world is faced, and scores where neither is. Scores
    that are read off other futures, and choose the action, stand for these (DreamAvoid).
    """
    names = graph.facing()
    if all(substrates[name].standing == "score" for name in names):
        names |= graph.ancestors(names) & graph.futures()
    faced = [substrates[name] for name in sorted(names)]
    groups = ([part for part in faced if part.standing == kind] for kind in STANDINGS)
    named = next((group for group in groups if group), [])
    entries = {entry for part in named for entry in part.cell()}
    entries |= {("Feature", kind) for kind in graph.tapped().values()}
    variants: dict[str, list[str]] = {}
    for category, variant in sorted(entries):
        variants.setdefault(category, []).append(variant)
    order = {category: i for i, category in enumerate(CATEGORY_ORDER)}
    cells = []
    for category in sorted(variants, key=lambda name: (order.get(name, len(order)), name)):
        words = " / ".join(variant for variant in variants[category] if variant)
        cells.append(f"{category} ({words})" if words else category)
    return " ∧ ".join(cells) or "None"


def survey_tuple(
    config: DesignConfig, graph: FactorGraph, substrates: Mapping[str, Substrate]
) -> dict[str, str]:
    """Tuple of the survey (eq. 37): substrate, coupling, backbone, deployment.

    Args:
        config: config of the design.
        graph: factorisation of the design.
        substrates: future or goal stream -> its substrate.
    """
    return {
        "substrate": substrate_cell(graph, substrates),
        "coupling": graph.coupling(),
        "backbone": graph.backbone(),
        "deployment": config.controller.regime(config.horizon) if graph.acting() else "None",
    }


def parameter_counts(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Trainable parameters per part; a shared trunk is counted once, at its first label.

    Action representations have no entry: they have nothing to train.
    """
    counted: set[int] = set()
    counts = {}
    for label, part in parts.items():
        if label != ACTION and not label.startswith("actions."):
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
    faced = graph.facing()
    return {
        "name": config.name,
        "tuple": survey_tuple(config, graph, substrates),
        "futures": {name: substrates[name].label() for name in sorted(graph.futures())},
        "faced": sorted(faced),
        "controller": config.controller.get_choice_name(type(config.controller)),
        "action_sees": {name: [sorted(step) for step in graph.sees(name)] for name in sorted(graph.acting())},
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
