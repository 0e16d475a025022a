"""Checks that a dataset passes before a window is cut. Errors name file, episode and field."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import layout, tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.episode import require_finite
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError


def specs_match_features(
    observation: ObservationSpec, action: ActionSpec, info: Mapping[str, Any], root: Path
) -> None:
    """Raise :class:`DataError` unless specs and ``features`` of ``info.json`` describe the same arrays."""
    features, place = info["features"], root / layout.INFO
    way_out = f"Correct the specs under the key {layout.SPEC_KEY!r}, or remove it to have them inferred."
    declared = {layout.ACTION_KEY: action.names, layout.STATE_KEY: observation.state}
    for key, names in declared.items():
        feature = features.get(key, {"shape": [0]})  # a robot without proprioception has no state feature
        if [len(names)] != list(feature["shape"]):
            raise DataError(
                f"{place}, field {key!r}: shape {list(feature['shape'])}, but the spec names {len(names)} entries. "
                f"{way_out}"
            )
        listed = [str(name) for name in layout.listed_names(feature)]
        if len(listed) == len(names) and listed != list(names):
            raise DataError(
                f"{place}, field {key!r}: names {listed}, but the spec has {list(names)}. {way_out}"
            )
    keys = layout.camera_keys(features)
    if set(keys) != set(observation.cameras):
        raise DataError(
            f"{place}: the features have cameras {sorted(keys)}, but the spec has {sorted(observation.cameras)}. "
            f"{way_out}"
        )
    for name, camera in observation.cameras.items():
        size = layout.camera_size(features[keys[name]])
        if (*size, 3, 0, 255) != dataclasses.astuple(camera):
            raise DataError(
                f"{place}, field {keys[name]!r}: size {size}, but the spec declares {camera}. {way_out}"
            )
    for rate in (observation.rate_hz, action.rate_hz):
        if abs(rate - info["fps"]) > 1e-6 * rate:
            raise DataError(f"{place}: fps is {info['fps']}, but a spec declares {rate} Hz. {way_out}")


def extras_match_features(info: Mapping[str, Any], root: Path) -> None:
    """Raise :class:`DataError` unless every extra that wamkit recorded is a feature of the same shape and dtype."""
    extras = info[layout.SPEC_KEY].get("extras", {})
    place = f"{root / layout.INFO}, key {layout.SPEC_KEY!r}"
    way_out = f"{COPY_AGAIN} Or remove the key {layout.SPEC_KEY!r} to have all specs inferred."
    if not isinstance(extras, dict):
        raise DataError(f"{place}: 'extras' must be an object, got {extras!r}. {way_out}")
    for name, extra in extras.items():
        feature = info["features"].get(layout.EXTRA_PREFIX + name, {})
        found = {"shape": feature.get("shape"), "dtype": feature.get("dtype")}
        if not isinstance(extra, dict) or found != {**extra, "shape": extra.get("shape") or [1]}:
            raise DataError(
                f"{place}: the extra {name!r} is {extra!r}, but the feature {layout.EXTRA_PREFIX + name!r} has "
                f"{found}. {way_out}"
            )


def read_frames(
    episodes: Sequence[EpisodeRow], features: Mapping[str, Any], keys: Sequence[str], fps: float
) -> dict[str, np.ndarray]:
    """Read the columns ``keys`` and the index columns of all data files, in episode order.

    Returns:
        column -> (N, ...). Vectors stay (N, D) even where D is 1; other columns with shape [1] become (N,).

    Raises:
        DataError: a file cannot be read, or disagrees with ``info.json`` or the episode table.
    """
    names = [*keys, *layout.INDEX_FEATURES]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for path, run in itertools.groupby(episodes, key=lambda episode: episode.data):
        group = list(run)
        table = tables.read(path, names)
        _check_rows(table, group, path)
        for name in names:
            parts[name].append(tables.frames(table, name, features[name], path))
        _check_index({name: parts[name][-1] for name in layout.INDEX_FEATURES}, group, path, fps)
    return {name: np.ascontiguousarray(np.concatenate(arrays)) for name, arrays in parts.items()}


def _check_rows(table: pa.Table, group: Sequence[EpisodeRow], path: Path) -> None:
    expected = group[-1].stop - group[0].start
    if table.num_rows != expected:
        raise DataError(
            f"{path}: holds {table.num_rows} frames, but the episode table declares {expected} "
            f"(episodes {group[0].index} to {group[-1].index}). {COPY_AGAIN}"
        )


def _check_index(
    columns: Mapping[str, np.ndarray], group: Sequence[EpisodeRow], path: Path, fps: float
) -> None:
    """Raise :class:`DataError` unless index columns match the episode table and time runs at ``fps``."""
    lengths = np.array([len(e) for e in group])
    starts = np.repeat([e.start for e in group], lengths)
    index = np.arange(group[0].start, group[-1].stop)
    expected = {
        "index": index,
        "episode_index": np.repeat([e.index for e in group], lengths),
        "frame_index": index - starts,
        "timestamp": (index - starts) / fps,
    }
    for name, values in expected.items():
        slack = 0.1 / fps if name == "timestamp" else 0.0
        bad = np.flatnonzero(~(np.abs(columns[name] - values) <= slack))
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"{path}, episode {expected['episode_index'][row]}, field {name!r}: "
                f"frame {expected['frame_index'][row]} has {columns[name][row]}, but the episode table "
                f"implies {values[row]:g}. {COPY_AGAIN}"
            )


def read_feature(episodes: Sequence[EpisodeRow], key: str, feature: Mapping[str, Any]) -> np.ndarray:
    """Read one column of all data files, (N, ...), in episode order, without the checks of :func:`read_frames`."""
    paths = dict.fromkeys(episode.data for episode in episodes)
    return np.concatenate([tables.frames(tables.read(path, [key]), key, feature, path) for path in paths])


def finite(episodes: Sequence[EpisodeRow], key: str, array: np.ndarray, names: tuple[str, ...]) -> None:
    """Raise :class:`DataError` naming episode, frame and entry unless all values of a vector (N, D) are finite."""
    if not np.isfinite(array).all():
        for episode in episodes:
            place = f"{episode.data}, episode {episode.index}"
            require_finite(array[episode.start : episode.stop], names, key, place)


def acted(episodes: Sequence[EpisodeRow], flags: np.ndarray, action: np.ndarray) -> None:
    """Raise :class:`DataError` unless every episode has actions in all of its frames or in none.

    Args:
        episodes: the episodes.
        flags: (N,) bool, feature ``has_action``.
        action: actions (N, A).
    """
    for episode in episodes:
        said, values = flags[episode.start : episode.stop], action[episode.start : episode.stop]
        place = f"{episode.data}, episode {episode.index}, field {layout.ACTED_KEY!r}"
        if said.all():
            continue
        if said.any():
            frame = int(np.flatnonzero(said != said[0])[0])
            raise DataError(
                f"{place}: frame {frame} says {bool(said[frame])}, the frames before it {bool(said[0])}, but an "
                f"episode has actions or none. Record the parts as episodes of their own."
            )
        stray = np.argwhere(values != 0)
        if len(stray):
            raise DataError(
                f"{place}: the episode says that it has no actions, but the action of frame {int(stray[0][0])} is not "
                f"zero. Set {layout.ACTED_KEY!r} to true, or the actions to zero."
            )


def limits(episodes: Sequence[EpisodeRow], action: np.ndarray, spec: ActionSpec, acted: np.ndarray) -> None:
    """Raise :class:`DataError` where an action lies outside the limits of the spec that was recorded with it.

    Frames without an action (``acted``, (N,) bool, is False) are left out.
    """
    low, high = np.array(spec.low, dtype=np.float64), np.array(spec.high, dtype=np.float64)
    slack = 1e-5 * (
        1.0 + np.maximum(np.abs(low), np.abs(high))
    )  # as when recording: float32 rounding of a limit
    known = action if acted.all() else action[acted]
    if not len(known) or not ((known.min(axis=0) < low - slack) | (known.max(axis=0) > high + slack)).any():
        return
    outside = ((action < low - slack) | (action > high + slack)) & acted[:, None]
    frame, entry = (int(i) for i in np.argwhere(outside)[0])
    episode = next(e for e in episodes if e.start <= frame < e.stop)
    raise DataError(
        f"{episode.data}, episode {episode.index}, field 'action': frame {frame - episode.start}, entry "
        f"{spec.names[entry]!r} is {action[frame, entry]:g}, outside the limits [{low[entry]:g}, {high[entry]:g}] of "
        f"the action spec in {layout.INFO}. {COPY_AGAIN}"
    )


def task_count(info: Mapping[str, Any], tasks: Sequence[str], root: Path) -> None:
    """Raise :class:`DataError` unless ``total_tasks``, where ``info.json`` has it, is the number of tasks."""
    if "total_tasks" in info and info["total_tasks"] != len(tasks):
        raise DataError(
            f"{root / layout.INFO}, entry 'total_tasks': {info['total_tasks']!r}, but the list of tasks in meta/ has "
            f"{len(tasks)}. {COPY_AGAIN}"
        )


def tasks_listed(
    episodes: Sequence[EpisodeRow], index: np.ndarray, tasks: Sequence[str], field: str = "task_index"
) -> None:
    """Raise :class:`DataError` unless every entry of ``index`` (N,), read from ``field``, is the index of a task."""
    bad = np.flatnonzero((index < 0) | (index >= len(tasks)))
    if len(bad):
        episode = next(e for e in episodes if e.start <= bad[0] < e.stop)
        raise DataError(
            f"{episode.data}, episode {episode.index}, field {field!r}: frame {bad[0] - episode.start} has "
            f"{index[bad[0]]}, but the list of tasks in meta/ has {len(tasks)}. {COPY_AGAIN}"
        )


def tasks_known(episodes: Sequence[EpisodeRow], task_index: np.ndarray, tasks: Sequence[str]) -> None:
    """Raise :class:`DataError` unless every frame's task is in the list of tasks and is one of its episode's."""
    tasks_listed(episodes, task_index, tasks)
    starts = np.array([e.start for e in episodes])
    changes = np.flatnonzero(np.diff(task_index)) + 1
    runs = np.union1d(starts, changes)  # first frames of stretches with one task
    owners = np.searchsorted(starts, runs, side="right") - 1
    for frame, owner in zip(runs.tolist(), owners.tolist(), strict=True):
        episode, task = episodes[owner], tasks[task_index[frame]]
        if task not in episode.tasks:
            raise DataError(
                f"{episode.data}, episode {episode.index}, field 'task_index': frame {frame - episode.start} has the "
                f"task {task!r}, but the episode table lists {list(episode.tasks)}. {COPY_AGAIN}"
            )
