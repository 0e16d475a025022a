"""Several datasets as one: different robots, each through its own view, drawn by weight.

The columns of every robot are scaled by its own statistics before the design sees them, so that the parts of a design
need to know nothing of robots: within [-1, 1] lies what lies between the 1 % and the 99 % quantiles of that robot.
Scalings are stored with the weights, by the robot's name.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from wamkit.contract.data import DataSpec, Recorded, Scaling
from wamkit.contract.rows import join_batches
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Batch, WindowSpec
from wamkit.data.catalog import EpisodeRow
from wamkit.data.dataset import Dataset
from wamkit.data.fingerprint import fingerprint
from wamkit.data.layout import ACTION_KEY, STATE_KEY
from wamkit.data.loader import Draw, drawn
from wamkit.data.spec import data_spec, with_floor
from wamkit.data.stats import FeatureStats, vector_stats
from wamkit.errors import ConfigError
from wamkit.nn.transforms import Normalizer
from wamkit.views.common import common_specs, require_same_shape, require_width

GOLDEN = (5**0.5 - 1) / 2
PIECE = 1 << 20  # draws that are counted at once

# Steps (M,) -> weights (M, number of datasets), none negative and in no step all 0.
Weights = Callable[[np.ndarray], np.ndarray]


def scaling_of(data: DataSpec, feature: str, width: int) -> Scaling:
    """Scaling of the first ``width`` columns of a feature by their quantiles; a constant column is only shifted."""
    if feature not in data.stats:
        return Scaling((0.0,) * width, (1.0,) * width)
    made = Normalizer(data.stats, feature, "quantile")
    return Scaling(tuple(made.shift[:width].tolist()), tuple(made.scale[:width].tolist()))


@final
class Mixture:
    """Datasets of several robots as one dataset. Frames and episodes are counted through, in the order of the robots.

    Args:
        datasets: robot -> its dataset, opened with its view.
        horizon: H, actions per window.
        known: robot -> scalings of its state and action, where they are not those of its dataset.

    Attributes:
        datasets: robot -> its dataset, scaled.
        starts: number of the first frame of every dataset, and the number of all frames.
        observation_spec: what the robots have in common.
        action_spec: what the robots have in common.
        root: folders of the datasets, for messages.
        episodes: episodes of all datasets.
        state: states (N, S).
        action: actions (N, A).
        acted: (N,) bool, True for frames recorded with their action.

    Raises:
        SpecError: the views show different pictures, or columns of different number.
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset],
        horizon: int,
        known: Mapping[str, tuple[Scaling, Scaling]] = {},
    ) -> None:
        self._horizon = horizon
        self.datasets = {
            name: dataset.scaled(*known[name]) if name in known else _scaled(dataset, horizon)
            for name, dataset in datasets.items()
        }
        own = list(self.datasets.values())
        for name, dataset in self.datasets.items():
            require_same_shape(dataset.observation_spec, own[0].observation_spec, f"robot {name!r}")
            require_width(dataset.action_spec, own[0].action_spec, f"robot {name!r}")
        self.observation_spec: ObservationSpec
        self.action_spec: ActionSpec
        self.observation_spec, self.action_spec = common_specs(
            [dataset.observation_spec for dataset in own], [dataset.action_spec for dataset in own]
        )
        self.starts = np.cumsum([0, *(dataset.num_frames for dataset in own)])
        self.root = Path(" + ".join(str(dataset.root) for dataset in own))
        self.state = np.concatenate([dataset.state for dataset in own])
        self.action = np.concatenate([dataset.action for dataset in own])
        self.acted = np.concatenate([dataset.acted for dataset in own])
        self.episodes: tuple[EpisodeRow, ...] = tuple(
            replace(row, start=row.start + start, stop=row.stop + start)
            for dataset, start in zip(own, self.starts.tolist(), strict=False)
            for row in dataset.episodes
        )

    @property
    def num_frames(self) -> int:
        """Number of frames N of all datasets."""
        return int(self.starts[-1])

    @property
    def num_episodes(self) -> int:
        """Number of episodes of all datasets."""
        return len(self.episodes)

    @property
    def first_episodes(self) -> dict[str, int]:
        """Robot -> number of the first episode of its dataset."""
        counts = [dataset.num_episodes for dataset in self.datasets.values()]
        return dict(zip(self.datasets, itertools.accumulate(counts, initial=0), strict=False))

    def with_extras(self, names: Sequence[str]) -> Mixture:
        """Return this mixture with extras in its observations."""
        found = copy.copy(self)
        found.datasets = {name: dataset.with_extras(names) for name, dataset in self.datasets.items()}
        return found

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        """Cut one window per frame number of ``index`` (B,); see :meth:`wamkit.data.Dataset.windows`."""
        owners = np.searchsorted(self.starts, index, side="right") - 1
        order, parts = [], []
        for number, dataset in enumerate(self.datasets.values()):
            rows = np.flatnonzero(owners == number)
            if len(rows):
                order.append(rows)
                parts.append(dataset.windows(index[rows] - self.starts[number], spec))
        place = torch.from_numpy(np.argsort(np.concatenate(order)))
        return replace(join_batches(parts, place), index=torch.from_numpy(np.asarray(index, np.int64)))

    def draw(self, frames: np.ndarray, weights: Weights) -> Draw:
        """Draw of batches by weight: (batch size, seed, step) -> places (B,) in ``frames`` (M,), ascending.

        Every dataset has its own endless sequence of epochs, so each of its frames comes equally often. Which dataset
        a window is of follows a sequence of low discrepancy, so that its share is its weight to within few windows.

        Args:
            frames: frames that may be drawn.
            weights: weights of the datasets at each step, in their order.

        Raises:
            ConfigError: a dataset has no frame left.
        """
        bounds = np.searchsorted(frames, self.starts)
        counts = np.diff(bounds)
        for name, count in zip(self.datasets, counts.tolist(), strict=True):
            if not count:
                raise ConfigError(f"mixture.{name}: no episode is left to learn from. Hold out fewer.")
        owners = Owners(weights)

        def places(batch_size: int, seed: int, step: int) -> np.ndarray:
            own, before = owners.of(step, 1, batch_size), owners.count(step, batch_size)
            out = np.empty(batch_size, np.int64)
            for i, count in enumerate(counts.tolist()):
                rows = np.flatnonzero(own == i)
                out[rows] = bounds[i] + drawn(count, int(before[i]), len(rows), seed)
            return out

        return places

    def marks(self) -> dict[str, Any]:
        """Robot -> parts of its dataset, and the digest of each (:func:`wamkit.data.fingerprint.fingerprint`)."""
        return {name: fingerprint(dataset) for name, dataset in self.datasets.items()}

    def spec(self) -> DataSpec:
        """Spec of what the robots have in common, with each robot by its name."""
        own = [data_spec(dataset, self._horizon) for dataset in self.datasets.values()]
        shared = set.intersection(*({*data.extras.items()} for data in own))
        return DataSpec(
            self.observation_spec, self.action_spec, self._stats, dict(sorted(shared)), self._robots()
        )

    def _robots(self) -> dict[str, Recorded]:
        return {
            name: Recorded(*dataset.view.recorded, *(dataset.view.scaling or ()))
            for name, dataset in self.datasets.items()
        }

    @cached_property
    def _stats(self) -> dict[str, dict[str, np.ndarray]]:
        """Statistics of the scaled columns of all robots together, and of the pictures of the first."""
        own = list(self.datasets.values())
        first = data_spec(own[0], self._horizon).stats
        found = {key: dict(values) for key, values in first.items() if key not in (ACTION_KEY, STATE_KEY)}
        some = bool(self.acted.any())
        actions = [dataset.action[dataset.acted] if some else dataset.action for dataset in own]
        for key, values, real in (
            (ACTION_KEY, actions, [dataset.view.action.real for dataset in own]),
            (STATE_KEY, [dataset.state for dataset in own], [dataset.view.state.real for dataset in own]),
        ):
            if values[0].shape[1]:
                found[key] = with_floor(stats_of_columns(values, real))
        return found


def stats_of_columns(values: Sequence[np.ndarray], real: Sequence[int]) -> FeatureStats:
    """Statistics of the columns of several robots, each column of the robots that have it.

    Args:
        values: values (N, D) of every robot.
        real: number of columns that each robot has; the rest is padding. A column of none is 0.
    """
    ends = sorted({*real, values[0].shape[1]} - {0})
    parts = []
    for start, stop in itertools.pairwise((0, *ends)):
        having = [v for v, count in zip(values, real, strict=True) if count >= stop and len(v)]
        having = having or [np.zeros((1, values[0].shape[1]))]
        parts.append(vector_stats(np.concatenate([v[:, start:stop] for v in having])))
    names = [field.name for field in fields(FeatureStats) if field.name != "count"]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return FeatureStats(**joined, count=sum(map(len, values)))


def _scaled(dataset: Dataset, horizon: int) -> Dataset:
    data = data_spec(dataset, horizon)
    state = scaling_of(data, STATE_KEY, dataset.view.state.real)
    return dataset.scaled(state, scaling_of(data, ACTION_KEY, dataset.view.action.real))


class Owners:
    """Datasets that windows are drawn from, by the number of the draw: multiples of the golden ratio, modulo 1.

    Args:
        weights: weights of the datasets at each step; they may change from step to step.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        # Batch size, number of steps, and draws of every dataset in these steps.
        self._known = (0, 0, np.zeros(0, np.int64))

    def of(self, step: int, steps: int, batch_size: int) -> np.ndarray:
        """Dataset of each draw of ``steps`` steps from ``step`` on, (steps * batch_size,)."""
        weights = self._weights(np.arange(step, step + steps))
        ends = np.cumsum(weights, axis=1)[:, :-1] / weights.sum(axis=1, keepdims=True)
        number = np.arange(step * batch_size, (step + steps) * batch_size).reshape(steps, batch_size)
        places = (number + 0.5) * GOLDEN % 1.0
        return np.asarray((places[:, :, None] >= ends[:, None]).sum(axis=2).reshape(-1))

    def count(self, step: int, batch_size: int) -> np.ndarray:
        """Number of draws of every dataset before ``step``."""
        size, known, counts = self._known
        if size != batch_size or known > step:
            known, counts = 0, np.zeros(self._weights(np.zeros(1, np.int64)).shape[1], np.int64)
        while known < step:  # in pieces: a resumed run counts all draws before it once
            more = min(step - known, max(1, PIECE // batch_size))
            counts = counts + np.bincount(self.of(known, more, batch_size), minlength=len(counts))
            known += more
        self._known = batch_size, known, counts
        return counts


# What a design is trained on.
Recordings = Dataset | Mixture


def marks(recordings: Recordings) -> dict[str, Any]:
    """Parts of a dataset, or of every dataset of a mixture, and the digest of each."""
    return recordings.marks() if isinstance(recordings, Mixture) else fingerprint(recordings)
