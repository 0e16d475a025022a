"""Digests of the frames and statistics that wamkit recorded. What nothing else contradicts is not believed either.

They stand in the entry of wamkit in ``meta/info.json``, beside those of the videos (:mod:`wamkit.data.spans`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.data import layout, tables
from wamkit.data.stats import CHANGED, REBUILD
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError

STATS = "stats"
FRAMES = "frames"


def seals(root: Path, features: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """Digests of frames and of their statistics, by feature."""
    vectors = [key for key in layout.VECTORS if key in features]
    keys = [*vectors, *layout.camera_keys(features).values()]
    sealed = [*vectors, *(key for key in features if key.startswith((layout.EXTRA_PREFIX, layout.ACTED_KEY)))]
    return {
        STATS: {key: stats_digest(stats[key]) for key in keys},
        FRAMES: {key: _column_digest(root, key, features[key]) for key in sealed},
    }


def _column_digest(root: Path, key: str, feature: Mapping[str, Any]) -> str:
    paths = sorted(root.glob("data/*/*.parquet"))
    return array_digest(
        np.concatenate([tables.frames(tables.read(p, [key]), key, feature, p) for p in paths])
    )


def array_digest(values: np.ndarray) -> str:
    """Hash of the values of all frames (N, ...)."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()[:16]


def stats_digest(stats: Mapping[str, Any]) -> str:
    """Hash of the statistics of one feature."""
    return hashlib.sha256(json.dumps(stats, sort_keys=True).encode()).hexdigest()[:16]


def stored(info: Mapping[str, Any], kind: str, place: str) -> Mapping[str, str]:
    """Digests that were stored, by name; empty for a dataset written elsewhere.

    Raises:
        DataError: the entry is no such thing.
    """
    block = info.get(layout.SPEC_KEY)
    found = block.get(kind, {}) if isinstance(block, dict) else {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise DataError(f"{place}, key {layout.SPEC_KEY!r}: {kind!r} must map names to digests. {COPY_AGAIN}")
    return found


def intact(
    root: Path, info: Mapping[str, Any], arrays: Mapping[str, np.ndarray], stats: Mapping[str, Any]
) -> bool:
    """Whether all frames (N, ...) and the statistics of actions, states and cameras have the digests they must have."""
    place = str(root / layout.INFO)
    frames, known = stored(info, FRAMES, place), stored(info, STATS, place)
    keys = [key for key in layout.VECTORS if key in arrays] + list(
        layout.camera_keys(info["features"]).values()
    )
    return all(key in stats and stats_digest(stats[key]) == known.get(key) for key in keys) and all(
        array_digest(values) == frames.get(key) for key, values in arrays.items()
    )


def check_stats(root: Path, key: str, digests: Mapping[str, str], stats: Mapping[str, Any]) -> None:
    """Raise :class:`DataError` where the statistics of a feature are not those that were computed when recording."""
    if key in digests and (key not in stats or stats_digest(stats[key]) != digests[key]):
        raise DataError(
            f"{root / layout.STATS}, feature {key!r}: the statistics were changed since they were computed: they "
            f"do not fit their digest in {layout.INFO}. {REBUILD}"
        )


def check_frames(root: Path, key: str, digests: Mapping[str, str], values: np.ndarray) -> None:
    """Raise :class:`DataError` where the frames (N, ...) of a feature are not those that were recorded."""
    if key in digests and digests[key] != array_digest(values):
        raise DataError(
            f"{root / 'data'}, feature {key!r}: the frames were changed since they were recorded: they do not fit "
            f"their digest in {layout.INFO}. {CHANGED}"
        )
