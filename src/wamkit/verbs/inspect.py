"""Verb ``inspect``: description of a design as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wamkit.verbs.load import load


def inspect(name: str, dataset: Path | None = None) -> dict[str, Any]:
    """Describe a design as plain values: tuple, factorisation, WAM status, parameters per part, and specs.

    Args:
        name: recipe, file, checkpoint folder or hub id, as :func:`wamkit.verbs.load.load` takes it.
        dataset: dataset that a recipe or file is built for.
    """
    design = load(name, dataset)
    observation, action = design.observation_spec, design.action_spec
    cameras = {c: [s.height, s.width, s.channels] for c, s in observation.cameras.items()}
    inputs: dict[str, Any] = {
        "cameras": cameras,
        "state": list(observation.state),
        "rate_hz": observation.rate_hz,
    }
    window, given = design.window, list(design.config.given)
    inputs |= {"observed_ticks": list(window.observation), "past_actions": window.past_actions}
    outputs = {
        "action": list(action.names),
        "low": list(action.low),
        "high": list(action.high),
        "mode": action.mode,
        "frame": action.frame,
        "rotation": action.rotation,
        "gripper": action.gripper,
    }
    return {
        **design.describe(),
        "inputs": {**inputs, **({"given": given} if given else {})},
        # A design that does not act puts out its futures alone.
        "outputs": outputs if design.graph.acting() else {"futures": list(design.config.futures)},
    }


def to_json(value: Any) -> str:
    """Indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
