"""Verb ``inspect``: description of a design as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wamkit.config import parse
from wamkit.config.values import Config
from wamkit.design.agreement import view_of
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError
from wamkit.training.config import TrainConfig
from wamkit.verbs.load import load, read_design
from wamkit.views import describe_view


@dataclass(frozen=True)
class InspectConfig(Config):
    """Changes of a design before it is described. The file of a training is read as well, with all its fields.

    Attributes:
        design: the design.
    """

    design: DesignConfig = field(default_factory=DesignConfig)


def changed(
    design: str, options: Sequence[str], dataset: Path | None = None
) -> tuple[DesignConfig | str, Path | None]:
    """Apply options of a training, such as ``--design.view.relative state``, to a recipe or a file.

    Args:
        design: what ``wamkit inspect`` was given.
        options: options, ``--config_path`` of a training's file among them.
        dataset: dataset that was given; None for the one that the file names, if any.

    Returns:
        the design and the dataset to build it for.

    Raises:
        ConfigError: an option is unknown, or the design is a checkpoint, which stays as it was trained.
    """
    if not options:
        return design, dataset
    config = read_design(design)
    if config is None:
        raise ConfigError(
            f"{design}: neither a recipe nor a file, and a checkpoint stays as it was trained. Leave {options[0]} out."
        )
    training = parse(TrainConfig, options, TrainConfig(design=config))
    named = training.dataset if training.dataset != TrainConfig().dataset else None
    return training.design, dataset or named


def inspect(design: DesignConfig | str | Path, dataset: Path | None = None) -> dict[str, Any]:
    """Describe a design as plain values: tuple, formula, WAM status, parameters per part, what it sees, and specs.

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
    robots = built.data.robots or {"": built.data.recorded[0]}
    sees = {
        f"{what} of {name}" if name and len(robots) > 1 else what: lines
        for name, robot in robots.items()
        for what, lines in describe_view(view_of(built.config, name, robot)).items()
    }
    return {
        **built.describe(),
        "sees": {what: "; ".join(lines) for what, lines in sees.items()},
        "inputs": {**inputs, **({"given": given} if given else {})},
        # A design that does not act puts out its futures alone.
        "outputs": outputs if built.graph.acting() else {"futures": list(built.config.futures)},
    }
