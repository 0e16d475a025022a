"""Recomputation of missing or incomplete dataset statistics."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from wamkit.contract.specs import CameraSpec
from wamkit.data import catalog, check, layout, spans
from wamkit.data.frames import FrameStore
from wamkit.data.stats import FeatureStats, PixelCounts, vector_stats


def rebuild_stats(root: Path | str) -> dict[str, FeatureStats]:
    """Compute exact statistics of all numeric features and cameras and write ``meta/stats.json``.

    Early v3.0 datasets have no quantiles; this adds them. Every frame is decoded once.

    Returns:
        feature key -> statistics, as written to the file.

    Raises:
        DataError: the dataset is broken in other ways.
    """
    root = Path(root)
    info = catalog.read_info(root)
    features, fps = info["features"], float(info["fps"])
    episodes = catalog.read_episodes(root, info)
    keys = layout.camera_keys(features)
    numeric = [k for k, f in features.items() if f["dtype"] not in ("video", "image", "string")]
    read = [k for k in numeric if k not in layout.INDEX_FEATURES]
    stats = {name: vector_stats(v) for name, v in check.read_frames(episodes, features, read, fps).items()}
    cameras = {name: CameraSpec(*layout.camera_size(features[key])) for name, key in keys.items()}
    spans.check_videos(episodes, cameras, keys, fps)
    frames = FrameStore(episodes, cameras, keys, fps, 0, str(root), spans.recorded_digests(root, info))
    for name, key in keys.items():
        counts = PixelCounts()
        for number in range(len(episodes)):
            counts.add(np.moveaxis(frames.episode(name, number), 1, -1))
        stats[key] = counts.stats()
    target = root / layout.STATS
    draft = target.with_suffix(".json.partial")
    draft.write_text(json.dumps({k: v.to_json() for k, v in stats.items()}, indent=4), encoding="utf-8")
    os.replace(draft, target)
    return stats
