"""Metadata of a dataset, from its ``meta/`` folder: episodes and statistics. Reads no frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import faults, layout, tables
from wamkit.data.layout import VECTORS
from wamkit.data.stats import REBUILD, FeatureStats, stats_from_json
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError
from wamkit.storage import read_json

EPISODE_STATS = ("min", "max", "mean")
OUTCOME = f"stats/{layout.SUCCESS_KEY}/max"  # of `next.success`, true in the last frame of a success


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


def read_stats(
    root: Path, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, FeatureStats], dict[str, Any]]:
    """Read ``meta/stats.json``.

    Returns:
        the statistics of every feature in ``wanted`` (key -> shape), without those that a fault was reported of
        (:mod:`wamkit.data.faults`); and the whole file.

    Raises:
        DataError: the file, a feature or a statistic is missing, has another shape, or contradicts itself.
    """
    path = root / layout.STATS
    if not path.is_file():
        raise DataError(f"{path}: no such file, but normalisation needs it. {REBUILD}")
    values = read_json(path, REBUILD)
    stats = {}
    for key, shape in wanted.items():
        scale = None if key in VECTORS else (0.0, 1.0)
        with faults.apart("statistics", file=path, feature=key):
            if key not in values:
                raise DataError(f"{path}: the statistics of the feature {key!r} are missing. {REBUILD}")
            stats[key] = stats_from_json(values[key], f"{path}, feature {key!r}", shape, scale)
    return stats, values


def episode_files(root: Path) -> list[Path]:
    """The files of the episode table, in its order; raises :class:`DataError` where there is none."""
    paths = tables.numbered(root / "meta/episodes")
    if not paths:
        raise DataError(f"{root / 'meta/episodes'}: holds no parquet file. {COPY_AGAIN}")
    return paths


def read_episodes(
    root: Path, info: Mapping[str, Any], stats_of: Sequence[str] = ()
) -> tuple[tuple[EpisodeRow, ...], dict[str, dict[str, np.ndarray]]]:
    """Read ``meta/episodes/``: every file once.

    Args:
        root: the dataset folder.
        info: content of ``meta/info.json``.
        stats_of: keys of vector features of width D, whose range and mean per episode are read as well.

    Returns:
        the E episodes; feature key -> statistic -> values (E, D), float64, as far as every file has them for all its
        episodes.

    Raises:
        DataError: there is no file, a column or value is missing or of a wrong type, or the rows are inconsistent.
    """
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    optional = ["success", OUTCOME, *(f"stats/{key}/{name}" for key in stats_of for name in EPISODE_STATS)]
    rows: list[EpisodeRow] = []
    read: dict[Path, pa.Table] = {}
    files = episode_files(root)
    for path in files:
        with faults.apart("episodes", file=path):
            table = tables.read(path, lambda names: _chosen(names, videos, optional))
            with faults.together():
                columns = _columns(table, videos, path)
            mended = _check_rows(columns, len(rows), rows[-1].stop if rows else 0, info, path)
            rows += _rows(root, info, mended, _tasks(table, path), _successes(table, path))
            read[path] = table
    if len(read) < len(files):
        raise faults.UnusableError(f"{root}: a file of the episode table cannot be read.")
    check_totals(rows, info, root / "meta/episodes", root)
    return tuple(rows), {key: _stats(read, key, info["features"][key]) for key in stats_of}


def read_further(root: Path, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the episode table holds of every episode beside places, lengths, instructions and statistics."""
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    known = {"tasks", *_required(videos), "meta/episodes/chunk_index", "meta/episodes/file_index"}
    rows: list[dict[str, Any]] = []
    for path in episode_files(root):
        table = tables.read(
            path,
            lambda names: [n for n in names if n not in known and not n.startswith("stats/")] or names[:1],
        )
        rows += [{key: value for key, value in row.items() if key not in known} for row in table.to_pylist()]
    return rows


def _stats(read: Mapping[Path, pa.Table], key: str, feature: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Statistics of one feature, by name, that all files have for all their episodes."""
    found = {}
    for name in EPISODE_STATS:
        field = f"stats/{key}/{name}"
        if all(field in t.column_names and not t.column(field).null_count for t in read.values()):
            parts = [
                tables.to_numpy(t, field, tuple(feature["shape"]), "float64", p) for p, t in read.items()
            ]
            found[name] = np.concatenate(parts)
    return found


def _columns(table: pa.Table, videos: list[str], path: Path) -> dict[str, np.ndarray]:
    """Columns of plain numbers, each with its faults."""
    columns = {}
    for name, dtype in _required(videos).items():
        with faults.apart("episodes", feature=name):
            columns[name] = tables.to_numpy(table, name, (), dtype, path)
    return columns


def _required(videos: list[str]) -> dict[str, str]:
    """Columns of plain numbers that every episode table has, with their dtypes."""
    names = ["episode_index", "length", "dataset_from_index", "dataset_to_index"]
    names += ["data/chunk_index", "data/file_index"]
    names += [f"videos/{key}/{part}" for key in videos for part in ("chunk_index", "file_index")]
    times = [f"videos/{key}/{part}" for key in videos for part in ("from_timestamp", "to_timestamp")]
    return dict.fromkeys(names, "int64") | dict.fromkeys(times, "float64")


def _chosen(names: list[str], videos: list[str], optional: list[str]) -> list[str]:
    known = set(names)
    return ["tasks", *_required(videos), *(name for name in optional if name in known)]


def _tasks(table: pa.Table, path: Path) -> list[tuple[str, ...]]:
    """The instructions of every episode."""
    kind = table.schema.field("tasks").type
    texts = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not texts or not tables.is_text(kind.value_type):
        raise DataError(f"{path}, field 'tasks': must hold lists of texts, but holds {kind}. {COPY_AGAIN}")
    tasks = table.column("tasks").to_pylist()
    for row, listed in enumerate(tasks):
        if not listed or None in listed:
            faults.report(
                "episodes",
                f"{path}, row {row}, field 'tasks': {listed!r} names no instruction. {COPY_AGAIN}",
                feature="tasks",
            )
    return [tuple(listed or ()) for listed in tasks]


def outcome(value: Any, place: str) -> bool | None:
    """The outcome that an entry of an episode says, as true, false or null, or as 1 or 0.

    Raises:
        DataError: it says something else.
    """
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or value not in (0, 1):
        raise DataError(
            f"{place}: must be true, false or null, or 1 or 0, got {value!r}. Write it so, or call it otherwise."
        )
    return bool(value)


def _successes(table: pa.Table, path: Path) -> list[bool | None]:
    """The outcome of every episode; None where it is not recorded."""
    if "success" not in table.column_names:
        return [None] * table.num_rows
    found = []
    for row, value in enumerate(table.column("success").to_pylist()):
        found.append(outcome(value, f"{path}, row {row}, field 'success'"))
    if OUTCOME in table.column_names and not table.column(OUTCOME).null_count:
        frames = tables.to_numpy(table, OUTCOME, (), "float64", path).tolist()
        for row, (success, last) in enumerate(zip(found, frames, strict=True)):
            if success is not None and success != last:
                faults.report(
                    "episodes",
                    f"{path}, row {row}, field 'success': {success}, but {OUTCOME!r}, of the frames of the episode, is "
                    f"{last:g}. {COPY_AGAIN}",
                    feature="success",
                )
    return found


def _rows(
    root: Path,
    info: Mapping[str, Any],
    columns: Mapping[str, np.ndarray],
    tasks: list[tuple[str, ...]],
    successes: list[bool | None],
) -> list[EpisodeRow]:
    videos = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    data = _paths(root, info["data_path"], columns, "data")
    plain = {name: values.tolist() for name, values in columns.items()}
    spans: list[dict[str, Span]] = [{} for _ in tasks]
    for key in videos:
        files = _paths(root, info["video_path"], columns, f"videos/{key}", video_key=key)
        starts, ends = (plain[f"videos/{key}/{part}"] for part in ("from_timestamp", "to_timestamp"))
        for row, path in enumerate(files):
            spans[row][key] = Span(path, starts[row], ends[row])
    return [
        EpisodeRow(
            index=plain["episode_index"][row],
            start=plain["dataset_from_index"][row],
            stop=plain["dataset_to_index"][row],
            tasks=tasks[row],
            data=data[row],
            videos=spans[row],
            success=successes[row],
        )
        for row in range(len(tasks))
    ]


def _paths(
    root: Path, template: str, columns: Mapping[str, np.ndarray], prefix: str, **keys: str
) -> list[Path]:
    """File of every episode; episodes of one file share one path."""
    known: dict[tuple[int, int], Path] = {}
    out = []
    for place in zip(
        columns[f"{prefix}/chunk_index"].tolist(), columns[f"{prefix}/file_index"].tolist(), strict=True
    ):
        if place not in known:
            known[place] = root / template.format(chunk_index=place[0], file_index=place[1], **keys)
        out.append(known[place])
    return out


def _check_rows(
    columns: Mapping[str, np.ndarray], count: int, stop: int, info: Mapping[str, Any], path: Path
) -> dict[str, np.ndarray]:
    """Report episodes that do not count on from ``count``, or their frames from ``stop``, without gaps.

    Returns:
        the columns; where they do not add up, as they most likely were, so that what follows can be checked.
    """
    number, length = columns["episode_index"], columns["length"]
    start, end = columns["dataset_from_index"], columns["dataset_to_index"]
    before = np.concatenate([[stop], end[:-1]])[: len(end)]
    counted = count + np.arange(len(number))
    for row in np.flatnonzero(number != counted).tolist():
        faults.report(
            "episodes",
            f"{path}, episode {number[row]}: expected episode {count + row}; episodes must count from 0 without "
            f"gaps. {COPY_AGAIN}",
            episode=count + row,
        )
    alone = (end - start != length) | (length < 1)
    # A row that is wrong by itself is not reported of the next one again.
    after_wrong = np.concatenate([[False], alone[:-1]])[: len(end)]
    for row in np.flatnonzero(alone | ((start != before) & ~after_wrong)).tolist():
        faults.report(
            "episodes",
            f"{path}, episode {number[row]}: dataset_from_index {start[row]} and dataset_to_index {end[row]} do not "
            f"agree with length {length[row]} and the episodes before it, which end at {before[row]}. {COPY_AGAIN}",
            episode=count + row,
        )
    if not alone.any() and (start == before).all():
        return {**columns, "episode_index": counted}
    bounds = _mended(start, end, length, stop, info)
    return {
        **columns,
        "episode_index": counted,
        "dataset_from_index": bounds[:-1],
        "dataset_to_index": bounds[1:],
        "length": np.diff(bounds),
    }


def _mended(
    start: np.ndarray, end: np.ndarray, length: np.ndarray, stop: int, info: Mapping[str, Any]
) -> np.ndarray:
    """Bounds (E + 1,) of the episodes of a table that does not add up: each end that two of three columns agree on."""
    total = info.get("total_frames")
    following = np.append(start[1:], total if isinstance(total, int) else -1)
    bounds = [stop]
    for row in range(len(start)):
        votes = [int(end[row]), bounds[-1] + int(length[row]), int(following[row])]
        agreed = [vote for vote in votes if votes.count(vote) > 1 and vote > bounds[-1]]
        if not agreed:
            raise faults.UnusableError("the bounds of the episodes are not known")
        bounds.append(agreed[0])
    return np.array(bounds)


def check_totals(rows: Sequence[EpisodeRow], info: Mapping[str, Any], listed: Path, root: Path) -> None:
    """Report it unless there are as many episodes and frames as ``info.json`` declares; ``listed`` is their table."""
    frames = rows[-1].stop if rows else 0
    stated = info.get("total_episodes"), info.get("total_frames")
    known = all(isinstance(number, int) and number > 0 for number in stated)  # others were reported
    if (known and (len(rows), frames) != stated) or not rows:
        message = (
            f"{listed}: the table holds {len(rows)} episodes with {frames} frames, "
            f"but {layout.INFO} declares total_episodes {stated[0]} and total_frames {stated[1]}. {COPY_AGAIN}"
        )
        if not rows:
            raise DataError(message)
        faults.report("totals", message, file=root / layout.INFO)
