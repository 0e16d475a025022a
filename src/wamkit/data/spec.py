"""Description of a dataset for the design that is built for it."""

from __future__ import annotations

import dataclasses

from wamkit.contract.data import DataSpec
from wamkit.contract.specs import DERIVED
from wamkit.data.dataset import Dataset
from wamkit.data.layout import ACTION_KEY, EXTRA_PREFIX, STATE_KEY
from wamkit.nn.transforms import FLOOR, least_scale


def data_spec(dataset: Dataset) -> DataSpec:
    """Describe a dataset: its specs, statistics, and the shapes of its extras."""
    stats = {name: dataclasses.asdict(values) for name, values in dataset.stats.items()}
    for feature in (ACTION_KEY, STATE_KEY):
        if feature in stats:
            stats[feature][FLOOR] = least_scale(stats[feature]["min"], stats[feature]["max"])
    extras = {
        # One number per frame is read without an axis of its own (:func:`wamkit.data.tables.frames`).
        key.removeprefix(EXTRA_PREFIX): () if feature["shape"] == [1] else tuple(feature["shape"])
        for key, feature in dataset.info["features"].items()
        if key.startswith(EXTRA_PREFIX)
    }
    return DataSpec(dataset.observation_spec, dataset.action_spec, stats, {**extras, **DERIVED})
