"""Description of a dataset for the design that is built for it."""

from __future__ import annotations

import dataclasses
from typing import Any

from wamkit.contract.data import DataSpec, Recorded
from wamkit.contract.specs import DERIVED
from wamkit.data.dataset import Dataset
from wamkit.data.layout import ACTION_KEY, EXTRA_PREFIX, STATE_KEY
from wamkit.data.seen import seen_stats
from wamkit.data.stats import FeatureStats
from wamkit.nn.transforms import FLOOR, least_scale

ROBOT = "robot"  # name of the only robot of a design


def data_spec(dataset: Dataset, horizon: int = 1) -> DataSpec:
    """Describe a dataset as its view shows it: its specs, statistics, and the shapes of its extras.

    Args:
        dataset: the dataset.
        horizon: H, actions per window; relative actions spread the more the longer it is.
    """
    seen = seen_stats(dataset, horizon) if dataset.view.relative else dataset.stats
    vectors = (ACTION_KEY, STATE_KEY)
    stats = {n: with_floor(s) if n in vectors else dataclasses.asdict(s) for n, s in seen.items()}
    # One number per frame is stored with the shape [1], as LeRobot does, and cut as (B, T).
    extras = {
        key.removeprefix(EXTRA_PREFIX): () if list(feature["shape"]) == [1] else tuple(feature["shape"])
        for key, feature in dataset.info["features"].items()
        if key.startswith(EXTRA_PREFIX)
    }
    robots = {} if dataset.view.same else {ROBOT: Recorded(*dataset.view.recorded)}
    extras = {**dataset.view.extras.shapes(extras), **DERIVED}
    return DataSpec(dataset.observation_spec, dataset.action_spec, stats, extras, robots)


def with_floor(stats: FeatureStats) -> dict[str, Any]:
    """Statistics of a vector by name, with the least scale that its quantiles may be divided by."""
    return {**dataclasses.asdict(stats), FLOOR: least_scale(stats.min, stats.max)}
