"""Checks that a dataset passes before a window is cut. Errors name file, episode and field."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.data import layout, tables
from wamkit.data.catalog import COPY_AGAIN, EpisodeRow
from wamkit.data.episode import require_finite
from wamkit.errors import DataError


def specs_match_features(
    observation: ObservationSpec, action: ActionSpec, info: Mapping[str, Any], root: Path
) -> None:
    """Raise :class:`DataError` unless specs and ``features`` of ``info.json`` describe the same arrays."""
    features, place = info["features"], root / layout.INFO
    way_out = f"Correct the specs under the key {layout.SPEC_KEY!r}, or remove it to have them inferred."
    declared = {"action": (action.width, features[layout.ACTION_KEY]["shape"])}
    if layout.STATE_KEY in features:
        declared[layout.STATE_KEY] = (len(observation.state), features[layout.STATE_KEY]["shape"])
    for key, (width, shape) in declared.items():
        if [width] != list(shape):
            raise DataError(
                f"{place}, field {key!r}: shape {list(shape)}, but the spec names {width} entries. {way_out}"
            )
    keys = layout.camera_keys(features)
    if set(keys) != set(observation.cameras):
        raise DataError(
            f"{place}: the features have cameras {sorted(keys)}, but the spec has {sorted(observation.cameras)}. "
            f"{way_out}"
        )
    for name, camera in observation.cameras.items():
        size = layout.camera_size(features[keys[name]])
        if size != (camera.height, camera.width):
            raise DataError(
                f"{place}, field {keys[name]!r}: size {size}, but the spec declares {camera}. {way_out}"
            )
    for rate in (observation.rate_hz, action.rate_hz):
        if abs(rate - info["fps"]) > 1e-6 * rate:
            raise DataError(f"{place}: fps is {info['fps']}, but a spec declares {rate} Hz. {way_out}")


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
            parts[name].append(_column(table, name, features[name], path))
        _check_index({name: parts[name][-1] for name in layout.INDEX_FEATURES}, group, path, fps)
    return {name: np.ascontiguousarray(np.concatenate(arrays)) for name, arrays in parts.items()}


def _column(table: pa.Table, name: str, feature: Mapping[str, Any], path: Path) -> np.ndarray:
    shape = tuple(feature["shape"])
    vector = name in (layout.ACTION_KEY, layout.STATE_KEY)
    dtype = "float32" if vector else feature["dtype"]
    return tables.to_numpy(table, name, () if shape == (1,) and not vector else shape, dtype, path)


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


def values(
    episodes: Sequence[EpisodeRow],
    state: np.ndarray,
    action: np.ndarray,
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
) -> None:
    """Raise :class:`DataError` unless every action and state is finite."""
    fields = (
        (layout.STATE_KEY, state, observation_spec.state),
        (layout.ACTION_KEY, action, action_spec.names),
    )
    for key, array, names in fields:
        if np.isfinite(array).all():
            continue
        for episode in episodes:
            place = f"{episode.data}, episode {episode.index}"
            require_finite(array[episode.start : episode.stop], names, key, place)


def tasks_known(episodes: Sequence[EpisodeRow], task_index: np.ndarray, tasks: Sequence[str]) -> None:
    """Raise :class:`DataError` unless every frame's task index is in ``meta/tasks.parquet``."""
    bad = np.flatnonzero((task_index < 0) | (task_index >= len(tasks)))
    if len(bad):
        episode = next(e for e in episodes if e.start <= bad[0] < e.stop)
        raise DataError(
            f"{episode.data}, episode {episode.index}, field 'task_index': frame {bad[0] - episode.start} "
            f"has {task_index[bad[0]]}, but {layout.TASKS} lists {len(tasks)} tasks. {COPY_AGAIN}"
        )
