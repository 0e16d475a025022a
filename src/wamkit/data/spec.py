"""Description of a dataset for the design that is built for it."""

from __future__ import annotations

import dataclasses

from wamkit.contract.protocols import DataSpec
from wamkit.contract.specs import CLOCK
from wamkit.data import Dataset
from wamkit.data.layout import EXTRA_PREFIX


def data_spec(dataset: Dataset) -> DataSpec:
    """Describe a dataset: its specs, statistics, and the shapes of its extras."""
    stats = {name: dataclasses.asdict(values) for name, values in dataset.stats.items()}
    extras = {
        key.removeprefix(EXTRA_PREFIX): tuple(feature["shape"])
        for key, feature in dataset.info["features"].items()
        if key.startswith(EXTRA_PREFIX)
    }
    return DataSpec(dataset.observation_spec, dataset.action_spec, stats, {**extras, CLOCK: (3,)})
