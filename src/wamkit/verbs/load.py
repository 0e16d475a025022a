"""Loading of designs by recipe name, file, checkpoint folder or hub id."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wamkit.config import decode, read_config
from wamkit.contract.data import DataSpec, Recorded
from wamkit.contract.specs import DERIVED
from wamkit.data import Dataset
from wamkit.data.spec import ROBOT, data_spec
from wamkit.design import Design, from_pretrained
from wamkit.design.checkpoint import find_checkpoint
from wamkit.design.config import DesignConfig
from wamkit.envs import MetaWorldConfig
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.errors import ConfigError, nearest
from wamkit.views import View
from wamkit.zoo import RECIPES, recipe
from wamkit.zoo.system import PREFIX


def load(design: DesignConfig | str | Path, dataset: Path | None = None) -> Design:
    """Load a design: a config, or by recipe name, YAML or JSON file, checkpoint folder or hub id.

    Designs from configs, recipes and files are untrained, built for ``dataset`` or else for the embedded benchmark.

    Raises:
        ConfigError: the name is none of these (the message names the closest recipe), a checkpoint is to be built for
            a dataset, or the design does not fit.
    """
    config = design if isinstance(design, DesignConfig) else read_design(design)
    if config is None and dataset is None:
        return load_checkpoint(str(design))
    if config is None:
        load_checkpoint(str(design))
        raise ConfigError(
            f"{design}: a checkpoint carries the specs and statistics of the data that it was built for. Leave "
            f"`dataset` {dataset} out."
        )
    if dataset is not None:
        return Design(config, data_spec(Dataset(dataset, view=config.view), config.horizon))
    env = MetaWorldConfig(
        record=RECORDABLE
    )  # a design may predict any of the simulator's ground-truth arrays
    view = View(config.view, env.observation_spec(), env.action_spec())
    observation, action = view.observation_spec, view.action_spec
    stats = {"action": unit_stats(action.width), "observation.state": unit_stats(len(observation.state))}
    extras = view.extras.shapes({extra: shape for extra, (shape, _) in env.extras_spec().items()})
    robots = {} if view.same else {ROBOT: Recorded(*view.recorded)}
    return Design(config, DataSpec(observation, action, stats, {**extras, **DERIVED}, robots))


def read_design(name: str | Path) -> DesignConfig | None:
    """Config of a recipe, or of a YAML or JSON file; None where the name is neither."""
    if str(name) in RECIPES or str(name).startswith(PREFIX):
        return recipe(str(name))
    if Path(name).suffix not in (".yaml", ".yml", ".json") or not Path(name).exists():
        return None
    return decode(DesignConfig, read_config(Path(name)), str(name))


def load_checkpoint(name: str) -> Design:
    """Design of a checkpoint folder or hub id; the error for an unknown name also covers recipes and files."""
    try:
        folder = find_checkpoint(name)
    except ConfigError as error:
        hint = nearest(name, RECIPES) or "`wamkit list` shows the recipes."
        raise ConfigError(f"no recipe or design file {name!r}. {hint} As a checkpoint: {error}") from error
    return from_pretrained(folder)


def unit_stats(width: int) -> dict[str, np.ndarray]:
    """Statistics of data in [-1, 1], to inspect a design before there is data."""
    rows = {"mean": 0.0, "std": 1.0, "min": -1.0, "max": 1.0, "q01": -1.0, "q50": 0.0, "q99": 1.0}
    return {name: np.full(width, value) for name, value in rows.items()}
