"""Statistics and actions of a dataset as a view shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch

from wamkit.data.catalog import EpisodeRow
from wamkit.data.layout import ACTION_KEY, IMAGE_PREFIX, STATE_KEY
from wamkit.data.stats import FeatureStats, acted_frames, vector_stats
from wamkit.views import View

# Windows that the statistics of relative actions are made of, at most; all where there are fewer.
WINDOWS = 50_000


class Seen(Protocol):
    """Dataset behind its view; the attributes are those of :class:`wamkit.data.Dataset`."""

    view: View
    episodes: tuple[EpisodeRow, ...]
    recorded_stats: Mapping[str, FeatureStats]
    state: np.ndarray
    action: np.ndarray
    acted: np.ndarray
    recorded_state: np.ndarray
    recorded_action: np.ndarray
    resampled: bool


def mean_between(values: np.ndarray, parts: Sequence[np.ndarray], stops: Sequence[int]) -> np.ndarray:
    """Mean of ``values`` (N, D) from each of the frames in ``parts`` to before the next one, (N', D).

    Args:
        values: values of all recorded frames.
        parts: recorded frames that are read, per episode, ascending.
        stops: recorded frame after the last one of each episode.
    """
    means = []
    for part, stop in zip(parts, stops, strict=True):
        first, ends = part[0], np.maximum(np.append(part[1:], stop), part + 1)  # a tick may be read twice
        sums = np.cumsum(values[first:stop], axis=0, dtype=np.float64)
        sums = np.concatenate((np.zeros((1, values.shape[1])), sums))
        means.append((sums[ends - first] - sums[part - first]) / (ends - part)[:, None])
    return np.concatenate(means).astype(values.dtype)


def seen_stats(dataset: Seen, horizon: int) -> Mapping[str, FeatureStats]:
    """Statistics of a dataset after its view; those that it does not change stay as they are stored.

    Args:
        dataset: the dataset, already seen through its view.
        horizon: H, actions per window, which the spread of actions relative to the state at "now" depends on.
    """
    view, stats = dataset.view, dict(dataset.recorded_stats)
    if dataset.resampled or not view.state.same:
        if dataset.state.shape[1]:
            stats[STATE_KEY] = vector_stats(dataset.state)
        else:
            stats.pop(STATE_KEY, None)
    if view.relative:
        acted = np.flatnonzero(dataset.acted) if dataset.acted.any() else np.arange(len(dataset.action))
        stats[ACTION_KEY] = vector_stats(relative_actions(dataset, horizon, acted))
    elif dataset.resampled or not view.action.same:
        stats[ACTION_KEY] = vector_stats(acted_frames(dataset.action, dataset.acted))
    pictures = {key for key in stats if key.startswith(IMAGE_PREFIX)}
    names = {IMAGE_PREFIX + name: IMAGE_PREFIX + camera for name, camera in view.cameras.items()}
    kept = {name: stats[recorded] for name, recorded in names.items() if recorded in stats}
    return {**{key: value for key, value in stats.items() if key not in pictures}, **kept}


def relative_actions(dataset: Seen, horizon: int, frames: np.ndarray) -> np.ndarray:
    """Actions of windows at some frames, (M,), of a dataset, relative to the state at their "now", (K, A)."""
    now = frames[np.linspace(0, len(frames) - 1, min(WINDOWS, len(frames))).astype(np.int64)]
    last = np.repeat([e.stop - 1 for e in dataset.episodes], [len(e) for e in dataset.episodes])
    steps = now[:, None] + np.arange(horizon)
    inside = steps <= last[now][:, None]
    recorded = torch.from_numpy(dataset.recorded_action[np.minimum(steps, last[now][:, None])])
    seen = dataset.view.actions(recorded, torch.from_numpy(dataset.recorded_state[now]))
    return seen.numpy()[inside]
