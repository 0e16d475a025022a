"""Metadata of a dataset, from its ``meta/`` folder: info, episodes, statistics. Reads no frame."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from wamkit.data import layout, tables
from wamkit.data.stats import FeatureStats, stats_from_json
from wamkit.errors import DataError

COPY_AGAIN = "Copy the dataset again."


@dataclass(frozen=True)
class Span:
    """Part of a video file that holds one episode.

    Attributes:
        path: the video file.
        start_s: time of the episode's first frame, seconds.
        end_s: time at which its last frame ends, seconds.
    """

    path: Path
    start_s: float
    end_s: float


@dataclass(frozen=True)
class EpisodeRow:
    """One row of the episode table.

    Attributes:
        index: number of the episode.
        start: global index of its first frame.
        stop: global index after its last frame.
        tasks: its instructions.
        data: parquet file that holds its frames.
        videos: feature key -> its part of a video file.
        success: true if it reached its goal, false if not; None where the dataset does not record it.
    """

    index: int
    start: int
    stop: int
    tasks: tuple[str, ...]
    data: Path
    videos: Mapping[str, Span]
    success: bool | None

    def __len__(self) -> int:
        return self.stop - self.start


def read_info(root: Path) -> dict[str, Any]:
    """Read ``meta/info.json``.

    Raises:
        DataError: the file or an entry is missing, it is not JSON, or the version is not v3.0.
    """
    path = root / layout.INFO
    if not path.is_file():
        partial = root.with_name(root.name + ".partial")
        hint = (
            f" There is an interrupted recording at {partial}: record it again." if partial.exists() else ""
        )
        raise DataError(f"{path}: no such file, so {root} is not a LeRobotDataset.{hint}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}). {COPY_AGAIN}") from error
    version = info.get("codebase_version")
    if version != layout.VERSION:
        way_out = "Update wamkit or write the dataset as v3.0."
        if version == "v2.1":
            converter = "lerobot.datasets.v30.convert_dataset_v21_to_v30"
            way_out = f"Run, with lerobot==0.4.4: python -m {converter} --repo-id=<id> --root=<folder>"
        elif str(version).startswith(("v1", "v2")):
            way_out = "Convert it to v2.1 first and then to v3.0, with the converters of the lerobot package."
        raise DataError(
            f"{path}: codebase_version is {version!r}, but only {layout.VERSION!r} can be read. {way_out}"
        )
    for key in ("fps", "features", "data_path", "total_episodes", "total_frames"):
        if key not in info:
            raise DataError(f"{path}: the entry {key!r} is missing. {COPY_AGAIN}")
    required = (layout.ACTION_KEY, *layout.INDEX_FEATURES)
    missing = [key for key in required if key not in info["features"]]
    if missing:
        raise DataError(
            f"{path}, features: {missing[0]!r} is missing; the features are {', '.join(info['features'])}. "
            f"{COPY_AGAIN}"
        )
    for key in (layout.ACTION_KEY, layout.STATE_KEY):
        shape = info["features"].get(key, {"shape": [0]})["shape"]
        if len(shape) != 1:
            raise DataError(
                f"{path}, features, {key!r}: shape {shape}, but only vectors are supported. Flatten it to one axis."
            )
    return dict(info)


def read_stats(root: Path, wanted: Mapping[str, tuple[int, ...]]) -> dict[str, FeatureStats]:
    """Read the statistics of every feature in ``wanted`` (key -> shape) from ``meta/stats.json``.

    Raises:
        DataError: the file, a feature or a statistic is missing, or has another shape.
    """
    path = root / layout.STATS
    way_out = "Recompute it with wamkit.data.rebuild_stats(root)."
    if not path.is_file():
        raise DataError(f"{path}: no such file, but normalisation needs it. {way_out}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not JSON ({error}). {way_out}") from error
    missing = [key for key in wanted if key not in values]
    if missing:
        raise DataError(f"{path}: the statistics of the feature {missing[0]!r} are missing. {way_out}")
    return {
        key: stats_from_json(values[key], f"{path}, feature {key!r}", shape) for key, shape in wanted.items()
    }


def read_episodes(root: Path, info: Mapping[str, Any]) -> tuple[EpisodeRow, ...]:
    """Read ``meta/episodes/``, without its statistics.

    Raises:
        DataError: there is no file, a column or value is missing, or the rows are inconsistent.
    """
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise DataError(f"{root / 'meta/episodes'}: holds no parquet file. {COPY_AGAIN}")
    rows: list[EpisodeRow] = []
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    for path in paths:
        names = [n for n in tables.names(path) if not n.startswith("stats/")]
        for row in _require_columns(tables.read(path, names), videos, path).to_pylist():
            rows.append(_episode(root, info, row, videos))
            _check_row(rows, row, path)
    _check_totals(rows, info, root)
    return tuple(rows)


def _require_columns(table: pa.Table, videos: list[str], path: Path) -> pa.Table:
    """Return the table itself; every column that is read must be there, with a value for every episode."""
    required = ["episode_index", "tasks", "length", "dataset_from_index", "dataset_to_index"]
    required += ["data/chunk_index", "data/file_index"]
    parts = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
    required += [f"videos/{key}/{part}" for key in videos for part in parts]
    for name in required:
        if name not in table.column_names:
            raise DataError(f"{path}: the column {name!r} is missing. {COPY_AGAIN}")
        values = table.column(name)
        if values.null_count:
            row = values.to_pylist().index(None)
            raise DataError(f"{path}, row {row}, field {name!r}: the episode has no value. {COPY_AGAIN}")
    return table


def _episode(root: Path, info: Mapping[str, Any], row: Mapping[str, Any], videos: list[str]) -> EpisodeRow:
    spans = {}
    for key in videos:
        path = info["video_path"].format(
            video_key=key,
            chunk_index=row[f"videos/{key}/chunk_index"],
            file_index=row[f"videos/{key}/file_index"],
        )
        spans[key] = Span(root / path, row[f"videos/{key}/from_timestamp"], row[f"videos/{key}/to_timestamp"])
    data = info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
    return EpisodeRow(
        index=row["episode_index"],
        start=row["dataset_from_index"],
        stop=row["dataset_to_index"],
        tasks=tuple(row["tasks"]),
        data=root / data,
        videos=spans,
        success=row.get("success"),
    )


def _check_row(rows: list[EpisodeRow], row: Mapping[str, Any], path: Path) -> None:
    episode = rows[-1]
    start = rows[-2].stop if len(rows) > 1 else 0
    place = f"{path}, episode {episode.index}"
    if episode.index != len(rows) - 1:
        raise DataError(
            f"{place}: expected episode {len(rows) - 1}; episodes must count from 0 without gaps. "
            f"{COPY_AGAIN}"
        )
    if episode.start != start or len(episode) != row["length"] or len(episode) < 1:
        raise DataError(
            f"{place}: dataset_from_index {episode.start} and dataset_to_index {episode.stop} do not agree "
            f"with length {row['length']} and the episodes before it, which end at {start}. {COPY_AGAIN}"
        )


def _check_totals(rows: list[EpisodeRow], info: Mapping[str, Any], root: Path) -> None:
    frames = rows[-1].stop if rows else 0
    if (len(rows), frames) != (info["total_episodes"], info["total_frames"]) or not rows:
        raise DataError(
            f"{root / 'meta/episodes'}: the table holds {len(rows)} episodes with {frames} frames, "
            f"but {layout.INFO} declares {info['total_episodes']} with {info['total_frames']}. {COPY_AGAIN}"
        )
