"""The checks that a dataset passes before a window is cut. Each names file, episode and field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.data import layout, tables, video
from wamkit.data.catalog import EpisodeRow
from wamkit.data.episode import require_finite
from wamkit.errors import DataError


def specs_match_features(
    observation: ObservationSpec, action: ActionSpec, info: Mapping[str, Any], root: Path
) -> None:
    """The stored specs and the ``features`` of ``info.json`` describe the same arrays."""
    features, place = info["features"], root / layout.INFO
    declared = {"action": (action.width, features[layout.ACTION_KEY]["shape"])}
    if layout.STATE_KEY in features:
        declared[layout.STATE_KEY] = (len(observation.state), features[layout.STATE_KEY]["shape"])
    for key, (width, shape) in declared.items():
        if [width] != list(shape):
            raise DataError(
                f"{place}, field {key!r}: shape {list(shape)}, but the spec names {width} entries"
            )
    keys = layout.camera_keys(features)
    if set(keys) != set(observation.cameras):
        raise DataError(
            f"{place}: features have cameras {sorted(keys)}, the spec {sorted(observation.cameras)}"
        )
    for name, camera in observation.cameras.items():
        size = layout.camera_size(features[keys[name]])
        if size != (camera.height, camera.width):
            raise DataError(f"{place}, field {keys[name]!r}: size {size}, but the spec says {camera}")
    for rate in (observation.rate_hz, action.rate_hz):
        if abs(rate - info["fps"]) > 1e-6 * rate:
            raise DataError(f"{place}: fps is {info['fps']}, but a spec says {rate} Hz")


def read_frames(
    episodes: Sequence[EpisodeRow], features: Mapping[str, Any], keys: Sequence[str], fps: float
) -> dict[str, np.ndarray]:
    """Read the columns ``keys`` and the index columns of all data files, in episode order.

    Returns:
        column -> (N, ...). Vectors stay (N, D) also where D is 1; other columns with shape [1] become (N,).

    Raises:
        DataError: a file cannot be read, or disagrees with ``info.json`` or the episode table.
    """
    names = [*keys, *layout.INDEX_FEATURES]
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    done = 0
    for path in dict.fromkeys(e.data for e in episodes):
        mine = (
            [e for e in episodes if e.data == path] if len(episodes) < 2 else _of_file(episodes, done, path)
        )
        table = tables.read(path, names)
        _check_rows(table, mine, path)
        for name in names:
            parts[name].append(_column(table, name, features[name], path))
        _check_index({name: parts[name][-1] for name in layout.INDEX_FEATURES}, mine, path, fps)
        done += len(mine)
    return {name: np.ascontiguousarray(np.concatenate(arrays)) for name, arrays in parts.items()}


def _of_file(episodes: Sequence[EpisodeRow], done: int, path: Path) -> list[EpisodeRow]:
    """The episodes from number ``done`` on that lie in ``path``."""
    stop = done
    while stop < len(episodes) and episodes[stop].data == path:
        stop += 1
    if stop == done:
        raise DataError(f"{path}: the episode table goes back to this file in episode {done}")
    return list(episodes[done:stop])


def _column(table: pa.Table, name: str, feature: Mapping[str, Any], path: Path) -> np.ndarray:
    shape = tuple(feature["shape"])
    vector = name in (layout.ACTION_KEY, layout.STATE_KEY)
    dtype = "float32" if vector else feature["dtype"]
    return tables.to_numpy(table, name, () if shape == (1,) and not vector else shape, dtype, path)


def _check_rows(table: pa.Table, mine: Sequence[EpisodeRow], path: Path) -> None:
    due = mine[-1].stop - mine[0].start
    if table.num_rows != due:
        raise DataError(
            f"{path}: holds {table.num_rows} frames, the episode table says {due} "
            f"(episodes {mine[0].index} to {mine[-1].index}). Copy the dataset again."
        )


def _check_index(
    columns: Mapping[str, np.ndarray], mine: Sequence[EpisodeRow], path: Path, fps: float
) -> None:
    """Index columns must be what the episode table says, and time must run at ``fps``."""
    lengths = np.array([len(e) for e in mine])
    starts = np.repeat([e.start for e in mine], lengths)
    index = np.arange(mine[0].start, mine[-1].stop)
    due = {
        "index": index,
        "episode_index": np.repeat([e.index for e in mine], lengths),
        "frame_index": index - starts,
        "timestamp": (index - starts) / fps,
    }
    for name, values in due.items():
        slack = 0.1 / fps if name == "timestamp" else 0.0
        bad = np.flatnonzero(~(np.abs(columns[name] - values) <= slack))
        if len(bad):
            row = int(bad[0])
            raise DataError(
                f"{path}, episode {due['episode_index'][row]}, field {name!r}: "
                f"frame {due['frame_index'][row]} has {columns[name][row]}, "
                f"expected {values[row]:g}; the file and the episode table do not agree"
            )


def values(
    episodes: Sequence[EpisodeRow],
    state: np.ndarray,
    action: np.ndarray,
    observation_spec: ObservationSpec,
    action_spec: ActionSpec,
) -> None:
    """Every action and state is finite."""
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
    """Every frame's task index is in ``meta/tasks.parquet``."""
    bad = np.flatnonzero((task_index < 0) | (task_index >= len(tasks)))
    if len(bad):
        episode = next(e for e in episodes if e.start <= bad[0] < e.stop)
        raise DataError(
            f"{episode.data}, episode {episode.index}, field 'task_index': frame {bad[0] - episode.start} "
            f"has {task_index[bad[0]]}, {layout.TASKS} lists {len(tasks)} tasks"
        )


def videos(
    episodes: Sequence[EpisodeRow], cameras: Mapping[str, CameraSpec], keys: Mapping[str, str], fps: float
) -> None:
    """Every video file exists, has its camera's size, and lasts as long as its episodes. Decodes nothing."""
    for name, camera in cameras.items():
        facts: dict[Path, video.VideoFacts] = {}
        for episode in episodes:
            span = episode.videos.get(keys[name])
            if span is None:  # images stored in the table itself
                continue
            if span.path not in facts:
                facts[span.path] = video.probe_video(span.path, fps)
            _check_span(episode, name, camera, facts[span.path], fps, keys[name])


def _check_span(
    episode: EpisodeRow, name: str, camera: CameraSpec, facts: video.VideoFacts, fps: float, key: str
) -> None:
    span = episode.videos[key]
    place = f"{span.path}, episode {episode.index}, camera {name!r}"
    if (facts.height, facts.width) != (camera.height, camera.width):
        raise DataError(f"{place}: the video is {facts.height}x{facts.width}, info.json declares {camera}")
    for end, source in ((span.start_s + len(episode) / fps, "its frames"), (span.end_s, "to_timestamp")):
        missing = round((end - facts.end_s) * fps)
        if missing > 0:
            raise DataError(
                f"{place}: the video ends at {facts.end_s:.3f} s, {source} of the table need {end:.3f} s "
                f"({missing} frames too few). Copy the dataset again, or record the episode again."
            )
