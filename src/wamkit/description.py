"""What a design says of itself: the survey's tuple, the formula, the parameters. Derived, never typed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from wamkit.contract.protocols import Substrate

if TYPE_CHECKING:
    from wamkit.design import Design


def survey_tuple(design: Design) -> dict[str, str]:
    """The survey's tuple (eq. 37): substrate, coupling, backbone, deployment."""
    graph, config = design.graph, design.config
    cells = set()
    for name in graph.facing():
        substrate = design.substrates[config.substrate_of(name)]
        assert isinstance(substrate, Substrate)
        cells.add(substrate.label())
    cells |= {f"Feature ({kind})" for kind in graph.tapped().values()}
    regime = config.controller.get_choice_name(type(config.controller))
    return {
        "substrate": " ∧ ".join(sorted(cells)) or "None",
        "coupling": graph.coupling(),
        "backbone": graph.backbone(),
        "deployment": regime.replace("_", "-").capitalize(),
    }


def parameter_counts(design: Design) -> dict[str, int]:
    """Trainable parameters per part; a shared trunk is counted once."""
    groups: dict[str, nn.Module] = {}
    for kind in ("encoders", "substrates", "trunks", "context", "estimators"):
        part = getattr(design, kind)
        groups.update({f"{kind}.{name}": module for name, module in part.items()})
    seen: set[int] = set()
    counts = {}
    for label, module in groups.items():
        fresh = [p for p in module.parameters() if p.requires_grad and id(p) not in seen]
        seen.update(id(p) for p in fresh)
        counts[label] = sum(p.numel() for p in fresh)
    return counts


def describe(design: Design) -> dict[str, Any]:
    """Everything `wamkit inspect` prints, as plain values."""
    status = design.graph.wam()
    counts = parameter_counts(design)
    return {
        "name": design.name,
        "tuple": survey_tuple(design),
        "formula": design.factorisation(),
        "is_wam": status.is_wam,
        "kind": status.kind,
        "wam_paths": list(status.paths),
        "parameters": {**counts, "total": sum(counts.values())},
        "horizon": {"predict": design.config.horizon},
        "streams": {s.name: [s.steps, s.tokens, s.features] for s in design.streams.values()},
    }
