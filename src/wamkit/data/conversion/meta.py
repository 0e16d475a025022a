"""``meta/`` of a converted dataset: statistics of what was written, tasks, episodes, ``info.json``."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import layout, seals, spans, tables, video
from wamkit.data.conversion.further import types_of
from wamkit.data.conversion.jobs import Job, Options, chunks_size, result_file
from wamkit.data.conversion.source import Source
from wamkit.data.files import Storage, TableFiles
from wamkit.data.info import check_extra
from wamkit.data.stats import STATISTICS, FeatureStats, PixelCounts, acted_frames, vector_stats
from wamkit.data.video_file import digest
from wamkit.errors import DataError
from wamkit.storage import write_atomically

LOG = logging.getLogger(__name__)
OLD_STATISTICS = ("min", "max", "mean", "std", "count")
NEW_ENTRIES = ("data_files_size_in_mb", "video_files_size_in_mb")
OLD_ENTRIES = ("total_chunks", "total_videos")
GROUP = 50  # episodes that are written, and rolled over, together

Stats = dict[str, FeatureStats]


def write_meta(source: Source, jobs: Sequence[Job], root: Path, options: Options) -> None:
    """Write ``meta/`` below ``root``, where every job's file is in place; ``info.json`` comes last.

    Raises:
        DataError: a file cannot be read back.
    """
    whole, per_episode = measure(source, jobs, root)
    (root / "meta").mkdir(exist_ok=True)
    for name, path in source.beside.items():
        shutil.copyfile(path, root / name)
    content = {key: value.to_json() for key, value in whole.items()}
    info = _common_info(source)
    if options.version == layout.VERSION:
        tables.write_tasks(root / layout.TASKS, list(source.tasks))
        _write_table(source, jobs, per_episode, root, options.storage)
        write_atomically(root / layout.STATS, json.dumps(content, indent=4).encode())
        info |= _new_info(source, jobs, root, content, options.storage)
    else:
        rows = [{"task_index": i, "task": task} for i, task in enumerate(source.tasks)]
        _write_lines(root / layout.OLD_TASKS, rows)
        _write_lines(root / layout.OLD_EPISODES, _old_rows(source))
        _write_lines(root / layout.OLD_EPISODE_STATS, _old_stats(per_episode))
        info |= _old_info(source, options.storage)
    write_atomically(root / layout.INFO, json.dumps(info, indent=4, ensure_ascii=False).encode())


def measure(source: Source, jobs: Sequence[Job], root: Path) -> tuple[Stats, list[Stats]]:
    """Compute exact statistics of all frames, and of every episode, from what was written.

    Features without numbers have none; a feature whose values are not all finite has none either, with a warning.
    """
    features = source.info["features"]
    paths = [root / job.path for job in jobs if job.key is None]
    ends = [0, *accumulate(entry.length for entry in source.entries)]
    whole: Stats = {}
    parts: list[Stats] = [{} for _ in source.entries]
    for key, feature in features.items():
        if not _numeric(feature["dtype"]):
            continue
        try:
            check_extra(key, feature, str(source.root / layout.INFO))
            values = np.concatenate([tables.frames(tables.read(p, [key]), key, feature, p) for p in paths])
        except DataError as error:
            LOG.warning("%s gets no statistics: %s", key, error)
            continue
        if not np.isfinite(values).all():
            LOG.warning("%s gets no statistics: not all of its values are finite.", key)
            continue
        whole[key] = vector_stats(values)
        for number, part in enumerate(parts):
            part[key] = vector_stats(values[ends[number] : ends[number + 1]])
    if layout.ACTED_KEY in features and layout.ACTION_KEY in whole:
        both = (layout.ACTION_KEY, layout.ACTED_KEY)
        action, acted = (
            np.concatenate([tables.frames(tables.read(p, [k]), k, features[k], p) for p in paths])
            for k in both
        )
        whole[layout.ACTION_KEY] = vector_stats(acted_frames(action, acted))
    for key, counts in _levels(jobs, root, [entry.length for entry in source.entries]).items():
        total = PixelCounts()
        for episode, levels in counts.items():
            total.merge(levels)
            parts[episode][key] = levels.stats()
        whole[key] = total.stats()
    return whole, parts


def _numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def _levels(jobs: Sequence[Job], root: Path, lengths: Sequence[int]) -> dict[str, dict[int, PixelCounts]]:
    """Camera -> episode -> levels of its pictures, from the results of the jobs."""
    found: dict[str, dict[int, PixelCounts]] = {}
    for number in range(len(jobs)):
        with np.load(result_file(root, number)) as counts:
            for name in counts.files:
                episode, _, key = name.partition(" ")
                levels = PixelCounts()
                levels.counts, levels.frames = counts[name], lengths[int(episode)]
                found.setdefault(key, {})[int(episode)] = levels
    return found


def _common_info(source: Source) -> dict[str, Any]:
    """Entries of ``info.json`` that are those of the source, and the totals."""
    skipped = (*NEW_ENTRIES, *OLD_ENTRIES, "codebase_version", "data_path", "video_path", layout.SPEC_KEY)
    info = {"codebase_version": None, **{k: v for k, v in source.info.items() if k not in skipped}}
    return info | {
        "total_episodes": len(source.entries),
        "total_frames": sum(entry.length for entry in source.entries),
        "total_tasks": len(source.tasks),
        "splits": source.info.get("splits") or {"train": f"0:{len(source.entries)}"},
    }


def _new_info(
    source: Source, jobs: Sequence[Job], root: Path, stats: Mapping[str, Any], storage: Storage
) -> dict[str, Any]:
    """Entries of v3.0; the digests of wamkit where the source has specs of wamkit."""
    info: dict[str, Any] = {
        "codebase_version": layout.VERSION,
        "chunks_size": chunks_size(source, storage),
        "data_files_size_in_mb": storage.data_file_mb,
        "video_files_size_in_mb": storage.video_file_mb,
        "data_path": layout.DATA,
        "video_path": layout.VIDEO if source.videos else None,
    }
    if layout.SPEC_KEY in source.info:
        videos = {job.path: digest(root / job.path) for job in jobs if job.key is not None}
        sealed = seals.seals(root, source.info["features"], stats)
        info[layout.SPEC_KEY] = {**source.info[layout.SPEC_KEY], **sealed, spans.DIGESTS: videos}
    return info


def _old_info(source: Source, storage: Storage) -> dict[str, Any]:
    """Entries of v2.1; of the digests of wamkit those of the frames, which say nothing of files."""
    chunks = chunks_size(source, storage)
    info: dict[str, Any] = {
        "codebase_version": layout.OLD_VERSION,
        "total_videos": len(source.videos) * len(source.entries),
        "total_chunks": -(-len(source.entries) // chunks),
        "chunks_size": chunks,
        "data_path": layout.OLD_DATA,
        "video_path": layout.OLD_VIDEO if source.videos else None,
    }
    if layout.SPEC_KEY in source.info:
        gone = (spans.DIGESTS, seals.STATS)
        info[layout.SPEC_KEY] = {k: v for k, v in source.info[layout.SPEC_KEY].items() if k not in gone}
    return info


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _old_rows(source: Source) -> list[dict[str, Any]]:
    return [
        {"episode_index": i, "tasks": list(entry.tasks), "length": entry.length, **entry.further}
        for i, entry in enumerate(source.entries)
    ]


def _old_stats(per_episode: Sequence[Stats]) -> list[dict[str, Any]]:
    rows = []
    for index, stats in enumerate(per_episode):
        plain = {key: value.to_json() for key, value in stats.items()}
        kept = {key: {name: value[name] for name in OLD_STATISTICS} for key, value in plain.items()}
        rows.append({"episode_index": index, "stats": kept})
    return rows


def _write_table(
    source: Source, jobs: Sequence[Job], per_episode: Sequence[Stats], root: Path, storage: Storage
) -> None:
    """Write the episode table of v3.0."""
    rows = [_row(entry.length, entry.tasks, entry.further) for entry in source.entries]
    rate, start, types = video.frame_rate(source.info["fps"]), 0, types_of(source)
    for job in jobs:
        prefix, frames = "data" if job.key is None else f"videos/{job.key}", 0
        for episode in job.episodes:
            row, length = rows[episode], source.entries[episode].length
            row |= {f"{prefix}/chunk_index": job.place[0], f"{prefix}/file_index": job.place[1]}
            if job.key is not None:
                row[f"{prefix}/from_timestamp"] = float(frames / rate)
                row[f"{prefix}/to_timestamp"] = float((frames + length) / rate)
            frames += length
    for index, (row, stats) in enumerate(zip(rows, per_episode, strict=True)):
        stop = start + source.entries[index].length
        row |= {"episode_index": index, "dataset_from_index": start, "dataset_to_index": stop}
        for key, value in stats.items():
            row |= {f"stats/{key}/{name}": tables.nested(getattr(value, name)) for name in STATISTICS}
        start = stop
    shutil.rmtree(root / "meta/episodes", ignore_errors=True)  # of a conversion that was killed here
    files = TableFiles(root, layout.EPISODES, storage)
    plain = [{key: v for key, v in row.items() if key not in types} for row in rows]
    schema = pa.Table.from_pylist(_samples(plain)).schema
    for key, kind in types.items():
        schema = schema.append(pa.field(key, kind))
    for begin in range(0, len(rows), GROUP):
        group = rows[begin : begin + GROUP]
        place = files.place(len(group))
        for row in group:
            row |= {"meta/episodes/chunk_index": place[0], "meta/episodes/file_index": place[1]}
        files.add(pa.Table.from_pylist(group, schema=schema))
    files.close()


def _row(length: int, tasks: Sequence[str], further: Mapping[str, Any]) -> dict[str, Any]:
    return {"episode_index": 0, "tasks": list(tasks), "length": length, **further}


def _samples(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row with a value of every column, from which the types of the columns follow."""
    sample: dict[str, Any] = {}
    for row in rows:
        sample |= {key: value for key, value in row.items() if sample.get(key) is None}
    return [sample]
