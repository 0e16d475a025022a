"""Recomputation of dataset statistics that are missing, incomplete or those of other data."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.contract.specs import CameraSpec
from wamkit.data import catalog, check, layout, seals, spans, tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.frame_reader import FrameReader
from wamkit.data.frames import FrameStore
from wamkit.data.info import PICTURES, check_extra, read_info
from wamkit.data.metadata import metadata
from wamkit.data.stats import STATISTICS, FeatureStats, PixelCounts, acted_frames, vector_stats
from wamkit.data.video_file import digest as video_digest
from wamkit.errors import DataError
from wamkit.storage import write_atomically

LOG = logging.getLogger(__name__)


def rebuild_stats(root: Path | str) -> dict[str, FeatureStats]:
    """Compute exact statistics of all numeric features and cameras and write ``meta/stats.json``.

    Early v3.0 datasets have no quantiles; this adds them. Statistics of actions and states in the episode table
    are computed again as well, and the digests of the videos in a dataset of wamkit. Every frame is decoded once. Each
    file is replaced whole: after a kill, run it again.

    A feature that training does not need and whose values are no plain numbers (text, lists of varying length, nulls)
    is left out, with a warning.

    Returns:
        feature key -> statistics, as written to the file.

    Raises:
        DataError: the dataset is broken in other ways.
    """
    root = Path(root)
    info = read_info(root)
    features, fps = info["features"], float(info["fps"])
    if info["codebase_version"] != layout.VERSION:
        raise DataError(
            f"{root}: of {info['codebase_version']} statistics are computed when it is opened, so there is nothing to "
            f"rebuild. Convert it with `wamkit data convert {root} NEW` to store them."
        )
    episodes, _ = metadata(root, info).episodes()
    vectors = [key for key in layout.VECTORS if key in features]
    declared = [layout.ACTED_KEY] if layout.ACTED_KEY in features else []
    keys = [*vectors, *declared, *layout.INDEX_FEATURES]
    parts = check.read_parts(episodes, features, keys, fps)
    for part in parts:
        check.acted(part)
        for key in vectors:
            check.finite(part, key, layout.entry_names(features[key], "entry"))
    columns = {key: check.joined(parts, key, episodes) for key in keys}
    stats = {name: vector_stats(values) for name, values in columns.items()}
    if declared:
        acted, action = columns[layout.ACTED_KEY], columns[layout.ACTION_KEY]
        stats[layout.ACTION_KEY] = vector_stats(acted_frames(action, acted))
    for key, feature in features.items():
        if key not in stats and feature["dtype"] not in PICTURES:
            found = _optional(root, key, feature, episodes)
            if found is not None:
                stats[key] = found
    stats |= _cameras(root, features, episodes, fps)
    _renew_episodes(root, episodes, {key: columns[key] for key in vectors})
    content = {key: value.to_json() for key, value in stats.items()}
    write_atomically(root / layout.STATS, json.dumps(content, indent=4).encode())
    if isinstance(info.get(layout.SPEC_KEY), dict):
        block = {**info[layout.SPEC_KEY], **seals.seals(root, features, content)}
        paths = sorted({span.path for episode in episodes for span in episode.videos.values()})
        block[spans.DIGESTS] = {path.relative_to(root).as_posix(): video_digest(path) for path in paths}
        if block != info[layout.SPEC_KEY]:
            info[layout.SPEC_KEY] = block
            write_atomically(root / layout.INFO, json.dumps(info, indent=4, ensure_ascii=False).encode())
    return stats


def _optional(
    root: Path, key: str, feature: Mapping[str, Any], episodes: Sequence[EpisodeRow]
) -> FeatureStats | None:
    """Statistics of a feature that training can do without; None, with a warning, where it has none."""
    try:
        check_extra(key, feature, str(root / layout.INFO))
        values = check.read_feature(episodes, key, feature)
    except DataError as error:
        LOG.warning("%s gets no statistics for the feature %r: %s", root / layout.STATS, key, error)
        return None
    if not np.isfinite(values).all():
        LOG.warning(
            "%s gets no statistics for the feature %r: not all values are finite", root / layout.STATS, key
        )
        return None
    return vector_stats(values)


def _cameras(
    root: Path, features: Mapping[str, Any], episodes: Sequence[EpisodeRow], fps: float
) -> dict[str, FeatureStats]:
    keys = layout.camera_keys(features)
    cameras = {name: CameraSpec(*layout.camera_size(features[key])) for name, key in keys.items()}
    spans.check_videos(episodes, cameras, keys, fps)
    # Other videos are accepted: no digests.
    frames = FrameStore(FrameReader(episodes, cameras, keys, fps, str(root)), 0)
    stats = {}
    for name, key in keys.items():
        counts = PixelCounts()
        for number in range(len(episodes)):
            counts.add(np.moveaxis(frames.episode(name, number), 1, -1))
        stats[key] = counts.stats()
    return stats


def _renew_episodes(root: Path, episodes: Sequence[EpisodeRow], arrays: Mapping[str, np.ndarray]) -> None:
    """Write the statistics of ``arrays`` (key -> (N, D)) into the columns that the episode table has for them."""
    for path in catalog.episode_files(root):
        table = tables.read(path)
        numbers = tables.to_numpy(table, "episode_index", (), "int64", path).tolist()
        renewed = table
        for key, values in arrays.items():
            parts = [vector_stats(values[episodes[n].start : episodes[n].stop]) for n in numbers]
            for name in STATISTICS:
                field = f"stats/{key}/{name}"
                if field in table.column_names:
                    cells = [tables.nested(getattr(part, name)) for part in parts]
                    kind = pa.list_(pa.int64() if name == "count" else pa.float64())
                    place = table.column_names.index(field)
                    renewed = renewed.set_column(place, field, pa.array(cells, kind))
        if not renewed.equals(table):
            sink = io.BytesIO()
            pq.write_table(renewed, sink, compression="snappy", write_page_checksum=True)
            write_atomically(path, sink.getvalue())
