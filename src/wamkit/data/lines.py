"""Metadata of LeRobotDataset v2.1 and v2.0: files of one JSON object per line, one parquet file per episode."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wamkit.data import layout
from wamkit.data.catalog import EPISODE_STATS, EpisodeRow, Span, check_totals, outcome
from wamkit.data.faults import PlacedError, placed
from wamkit.data.stats import as_numbers
from wamkit.data.tables import COPY_AGAIN, storable
from wamkit.errors import DataError
from wamkit.storage.documents import read_text, unique_keys

LINE_END = re.compile(r"\r\n|\n|\r")
TEXTS = "a list of texts, with one or more"


def read_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """Read a file of JSON objects, one per line; empty lines are passed over.

    Returns:
        number of the line, from 1, and its object.

    Raises:
        DataError: the file is missing, or a line is no JSON object.
    """
    try:
        text = read_text(path, COPY_AGAIN)
    except DataError as error:
        raise PlacedError(str(error), file=path) from error
    rows = []
    # Not `splitlines`: JSON text may hold the other characters that it ends a line at, such as U+2028.
    for number, line in enumerate(LINE_END.split(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as error:
            raise PlacedError(
                f"{path}, line {number}: not JSON, probably cut off ({error}). {COPY_AGAIN}", file=path
            ) from error
        if not isinstance(row, dict):
            raise PlacedError(
                f"{path}, line {number}: must be a JSON object, got {type(row).__name__}. {COPY_AGAIN}",
                file=path,
            )
        rows.append((number, row))
    return rows


def read_episodes(root: Path, info: Mapping[str, Any]) -> tuple[tuple[EpisodeRow, ...], list[dict[str, Any]]]:
    """Read ``meta/episodes.jsonl``.

    Returns:
        the episodes, and the further entries of each line, which the format does not know.

    Raises:
        DataError: a line is broken, or the episodes do not count from 0 without gaps.
    """
    path = root / layout.OLD_EPISODES
    lines = _counted(path, "episode_index", "episode")
    rows: list[EpisodeRow] = []
    stop = 0
    for index, (number, line) in enumerate(lines):
        place = f"{path}, line {number}, episode {index}"
        tasks, length = line.get("tasks"), line.get("length", 0)
        if not isinstance(tasks, list) or not tasks or not all(storable(task) for task in tasks):
            raise PlacedError(
                f"{place}: 'tasks' must be {TEXTS}, got {tasks!r}. {COPY_AGAIN}", file=path, episode=index
            )
        if not _is_int(length) or not 1 <= length < 2**31:
            raise PlacedError(
                f"{place}: 'length' must be a number of frames from 1 up, got {length!r}. {COPY_AGAIN}",
                file=path,
                episode=index,
            )
        with placed(file=path, episode=index):
            success = outcome(line.get("success"), f"{place}: 'success'")
        rows.append(_row(root, info, index, (stop, stop + length), tuple(tasks), success))
        stop += length
    check_totals(rows, info, path, root)
    known = {"episode_index", "tasks", "length"}
    return tuple(rows), [{k: v for k, v in line.items() if k not in known} for _, line in lines]


def _row(
    root: Path,
    info: Mapping[str, Any],
    index: int,
    frames: tuple[int, int],
    tasks: tuple[str, ...],
    success: bool | None,
) -> EpisodeRow:
    place = {"episode_chunk": index // info["chunks_size"], "episode_index": index}
    end = (frames[1] - frames[0]) / info["fps"]
    videos = {
        key: Span(root / info["video_path"].format(video_key=key, **place), 0.0, end)
        for key, feature in info["features"].items()
        if feature["dtype"] == "video"
    }
    data = root / info["data_path"].format(**place)
    return EpisodeRow(index, *frames, tasks, data, videos, success)


def _counted(path: Path, key: str, what: str) -> list[tuple[int, dict[str, Any]]]:
    """Lines in the order of a number that counts from 0; raises :class:`DataError` where one is missing or twice."""
    lines = read_lines(path)
    for number, line in lines:
        if not _is_int(line.get(key)) or line[key] < 0:
            raise PlacedError(
                f"{path}, line {number}: {key!r} must be a whole number from 0 up, got {line.get(key)!r}. {COPY_AGAIN}",
                file=path,
            )
    lines.sort(key=lambda pair: pair[1][key])
    for expected, (number, line) in enumerate(lines):
        if line[key] < expected:
            raise PlacedError(
                f"{path}, line {number}: {what} {line[key]} is listed twice. {COPY_AGAIN}",
                file=path,
                **({"episode": line[key]} if what == "episode" else {}),
            )
        if line[key] > expected:
            raise PlacedError(
                f"{path}, line {number}: {what} {line[key]} is listed, but {what} {expected} is missing; they must "
                f"count from 0 without gaps. {COPY_AGAIN}",
                file=path,
                **({"episode": expected} if what == "episode" else {}),
            )
    if not lines:
        raise PlacedError(f"{path}: lists no {what}. {COPY_AGAIN}", file=path)
    return lines


def read_tasks(root: Path) -> tuple[str, ...]:
    """Read the instructions from ``meta/tasks.jsonl``, ordered by task index.

    Raises:
        DataError: a line is broken, an index is missing or given twice, or an instruction comes twice.
    """
    path = root / layout.OLD_TASKS
    tasks: dict[str, int] = {}
    for number, line in _counted(path, "task_index", "task"):
        task = line.get("task")
        if not storable(task):
            raise PlacedError(
                f"{path}, line {number}: 'task' must be a text, got {task!r}. {COPY_AGAIN}", file=path
            )
        if task in tasks:
            raise PlacedError(
                f"{path}, line {number}: the task {task!r} is listed twice. {COPY_AGAIN}", file=path
            )
        tasks[task] = line["task_index"]
    return tuple(tasks)


def episode_stats(
    root: Path, info: Mapping[str, Any], keys: Sequence[str], count: int
) -> dict[str, dict[str, np.ndarray]]:
    """Range and mean of each of ``count`` episodes from ``meta/episodes_stats.jsonl``, which v2.0 does not have.

    Returns:
        feature key -> statistic -> values (E, D), as far as the file has them for all episodes.

    Raises:
        DataError: the file is missing or broken, or an episode is missing.
    """
    path = root / layout.OLD_EPISODE_STATS
    if info["codebase_version"] != layout.OLD_VERSION:
        return {}
    lines = _counted(path, "episode_index", "episode")
    if len(lines) != count:
        raise PlacedError(
            f"{path}: lists {len(lines)} episodes, but {layout.OLD_EPISODES} lists {count}. {COPY_AGAIN}",
            file=path,
        )
    found: dict[str, dict[str, np.ndarray]] = {key: {} for key in keys}
    for key in keys:
        width = int(info["features"][key]["shape"][0])
        for name in EPISODE_STATS:
            parts = [_statistic(line, key, name, width, path, number) for number, line in lines]
            if all(part is not None for part in parts):
                found[key][name] = np.stack([part for part in parts if part is not None])
    return found


def _statistic(
    line: Mapping[str, Any], key: str, name: str, width: int, path: Path, number: int
) -> np.ndarray | None:
    """One statistic (D,) of one episode; None where the line does not have it."""
    stats = line.get("stats")
    feature = stats.get(key) if isinstance(stats, dict) else None
    if not isinstance(feature, dict) or name not in feature:
        return None
    values = as_numbers(feature[name])
    if values is None or values.shape != (width,):
        raise PlacedError(
            f"{path}, line {number}, feature {key!r}: {name!r} must be {width} numbers, got "
            f"{str(feature[name])[:80]}. {COPY_AGAIN}",
            file=path,
            episode=line["episode_index"],
            feature=key,
        )
    return values


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
