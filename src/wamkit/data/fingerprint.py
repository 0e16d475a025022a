"""Fingerprint of a dataset: what it is made of, part by part, wherever it lies."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.data import layout
from wamkit.data.dataset import Dataset
from wamkit.storage import read_json
from wamkit.storage.fingerprint import digest

BLOCK = 1 << 16  # bytes of a video that are read at its beginning, middle and end


def fingerprint(dataset: Dataset) -> dict[str, str | int]:
    """Part of a dataset -> its value, or the digest of its values. Two equal ones are the same demonstrations.

    Values of actions and states count in full, every other feature by its statistics, and a video by its size and
    three blocks of its file: reading all videos would take longer than the start of a training may.
    """
    episodes = dataset.episodes
    return {
        "episodes": dataset.num_episodes,
        "frames": dataset.num_frames,
        "features": _plain(dataset.info["features"]),
        "observation specs": _plain(dataclasses.asdict(dataset.observation_spec)),
        "action specs": _plain(dataclasses.asdict(dataset.action_spec)),
        "tasks": digest(
            _plain([dataset.tasks, [e.tasks for e in episodes]]).encode(), _bytes(dataset._task_index)
        ),
        "episode lengths": _plain([len(e) for e in episodes]),
        "successes": _plain([e.success for e in episodes]),
        "statistics": _plain(_statistics(dataset)),
        "action values": digest(
            _bytes(dataset.action), *([] if dataset.acted.all() else [_bytes(dataset.acted)])
        ),
        "state values": digest(_bytes(dataset.state)),
        "pictures": _pictures(dataset),
    }


def _statistics(dataset: Dataset) -> dict[str, Any]:
    """What the dataset says of all features; v2.1 has no file of that, so what was computed of its frames."""
    path = dataset.root / layout.STATS
    if path.is_file():
        return read_json(path, "Copy the dataset again.")
    return {key: stats.to_json() for key, stats in dataset.stats.items()}


def _plain(values: Any) -> str:
    """Digest of plain values."""
    return digest(json.dumps(values, sort_keys=True).encode())


def _bytes(values: np.ndarray) -> bytes:
    """Bytes of an array."""
    return np.ascontiguousarray(values).tobytes()


def _pictures(dataset: Dataset) -> str:
    """Digest of the episodes' places in the videos and of the video files, or of the tables that hold pictures."""
    files: dict[Path, int] = {}
    places: list[Any] = []
    for episode in dataset.episodes:
        for key, span in sorted(episode.videos.items()):
            number = files.setdefault(span.path, len(files))
            places.append([key, number, round(span.start_s, 6), round(span.end_s, 6)])
    if any(feature["dtype"] == "image" for feature in dataset.info["features"].values()):
        files.update((episode.data, 0) for episode in dataset.episodes)
    return digest(_plain(places).encode(), *(_blocks(path) for path in files))


def _blocks(path: Path) -> bytes:
    """Size of a file and three blocks of it."""
    size = path.stat().st_size
    with path.open("rb") as file:
        blocks = [size.to_bytes(8, "big")]
        for start in sorted({0, max(0, size // 2 - BLOCK // 2), max(0, size - BLOCK)}):
            file.seek(start)
            blocks.append(file.read(BLOCK))
    return b"".join(blocks)
