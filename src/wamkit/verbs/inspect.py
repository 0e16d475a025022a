"""Verb ``inspect``: description of a design as plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wamkit.design.config import DesignConfig
from wamkit.verbs.load import load


def inspect(design: DesignConfig | str | Path, dataset: Path | None = None) -> dict[str, Any]:
    """Describe a design as plain values: tuple, factorisation, WAM status, parameters per part, and specs.

    Args:
        design: config, recipe, file, checkpoint folder or hub id, as :func:`wamkit.verbs.load.load` takes it.
        dataset: dataset that a config, recipe or file is built for.
    """
    built = load(design, dataset)
    observation, action = built.observation_spec, built.action_spec
    cameras = {c: [s.height, s.width, s.channels] for c, s in observation.cameras.items()}
    inputs: dict[str, Any] = {
        "cameras": cameras,
        "state": list(observation.state),
        "rate_hz": observation.rate_hz,
    }
    window, given = built.window, list(built.config.given)
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
        **built.describe(),
        "inputs": {**inputs, **({"given": given} if given else {})},
        # A design that does not act puts out its futures alone.
        "outputs": outputs if built.graph.acting() else {"futures": list(built.config.futures)},
    }
