"""Jobs of a conversion: which episodes go into which file, and how a file is written.

The list of jobs follows from the source alone, and a file appears under its name when it is whole. So a conversion that
was killed goes on where it stopped: jobs whose result is there are left out.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import layout, tables, video
from wamkit.data.conversion.clips import Clip, Packets, copy_clips
from wamkit.data.conversion.source import Source
from wamkit.data.files import DEFAULT_STORAGE, MB, Position, Storage
from wamkit.data.pictures import decode_picture
from wamkit.data.stats import PixelCounts
from wamkit.data.video_file import VideoFile
from wamkit.errors import DataError
from wamkit.storage import write_atomically

WORK = "meta/conversion"  # results of jobs, while the conversion lasts


@dataclass(frozen=True)
class Job:
    """One file of the new dataset.

    Attributes:
        path: the file, below the dataset.
        place: chunk and number of the file.
        episodes: what it holds, in order.
        key: feature of the video; None for a table.
    """

    path: str
    place: tuple[int, int]
    episodes: tuple[int, ...]
    key: str | None = None


@dataclass(frozen=True)
class Options:
    """What may differ between two conversions of one source.

    Attributes:
        version: layout to write, ``v3.0`` or ``v2.1``.
        reencode: true to encode a part of a video anew where it cannot be cut out without.
        storage: file sizes, and encoding of pictures that are encoded.
    """

    version: str
    reencode: bool = False
    storage: Storage = DEFAULT_STORAGE


def plan(source: Source, options: Options) -> list[Job]:
    """List the files to write: tables first, then the videos of one camera after the other.

    Raises:
        DataError: a video cannot be read, does not fit its episode, or cannot be cut without encoding it anew.
    """
    count = range(len(source.entries))
    if options.version != layout.VERSION:
        chunks = chunks_size(source, options.storage)
        jobs = [_old_job(layout.OLD_DATA, e, chunks) for e in count]
        for key in source.videos:
            for e in count:
                _require_clip(source, key, e, options)
            jobs += [_old_job(layout.OLD_VIDEO, e, chunks, key) for e in count]
        return jobs
    sizes = [entry.table_bytes for entry in source.entries]
    jobs = _grouped(layout.DATA, sizes, ["" for _ in count], options.storage.data_file_mb, options)
    for key in source.videos:
        sizes = [entry.video_bytes[key] for entry in source.entries]
        codings = [_require_clip(source, key, e, options) for e in count]
        jobs += _grouped(layout.VIDEO, sizes, codings, options.storage.video_file_mb, options, key)
    return jobs


def chunks_size(source: Source, storage: Storage) -> int:
    """Number of files in one folder: the source's, where it says one, which v3.0 need not."""
    said: Any = source.info.get("chunks_size")
    usable = isinstance(said, int) and not isinstance(said, bool) and said >= 1
    return said if usable else storage.chunks_size


def _old_job(template: str, episode: int, chunks_size: int, key: str | None = None) -> Job:
    chunk = episode // chunks_size
    path = template.format(episode_chunk=chunk, episode_index=episode, video_key=key)
    return Job(path, (chunk, episode), (episode,), key)


def _require_clip(source: Source, key: str, episode: int, options: Options) -> object:
    """How an episode's pictures are coded; raises :class:`DataError` where they would have to be encoded unasked."""
    clip = source.clip(key, episode)
    if clip is None:
        return "encoded here"
    packets = source.packets(clip.path, clip.place)
    fault = packets.fault(clip)
    if fault is None:
        return packets.coding
    if not options.reencode:
        raise DataError(
            f"{clip.place}, {clip.path}: cannot be copied without encoding it anew: {fault}. Pass --reencode to encode "
            f"the pictures of such episodes anew, which changes them a little, or leave the episode out."
        )
    return "encoded here"


def _grouped(
    template: str,
    sizes: Sequence[int],
    codings: Sequence[object],
    limit_mb: float,
    options: Options,
    key: str | None = None,
) -> list[Job]:
    """Jobs of files that hold episodes of one coding up to a size."""
    position, jobs, group, size = Position(), [], list[int](), 0

    def close() -> None:
        place = position.chunk, position.file
        path = template.format(chunk_index=place[0], file_index=place[1], video_key=key)
        jobs.append(Job(path, place, tuple(group), key))
        position.advance(options.storage.chunks_size)

    for episode, own in enumerate(sizes):
        if group and (size + own > limit_mb * MB or codings[episode] != codings[group[-1]]):
            close()
            group, size = [], 0
        group, size = [*group, episode], size + own
    close()
    return jobs


def result_file(root: Path, number: int) -> Path:
    """File that says that a job is done; it holds the levels of its pictures."""
    return root / WORK / f"{number:06d}.npz"


def run(source: Source, job: Job, number: int, root: Path, options: Options) -> None:
    """Write one file below ``root`` and count the levels of its pictures.

    Raises:
        DataError: the source cannot be read, or the copy is not what was read.
    """
    path = root / job.path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    if job.key is None:
        counts = _write_table(source, job, unfinished)
    else:
        counts = _write_video(source, job, job.key, unfinished, options)
    os.replace(unfinished, path)
    sink = io.BytesIO()
    levels: dict[str, Any] = {name: value.counts for name, value in counts.items()}
    np.savez_compressed(sink, **levels)
    result = result_file(root, number)
    result.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(result, sink.getvalue())


def _write_table(source: Source, job: Job, out: Path) -> dict[str, PixelCounts]:
    features = source.info["features"]
    cameras = [k for k in layout.camera_keys(features).values() if features[k]["dtype"] == "image"]
    counts = {}
    file: tables.TableFile | None = None
    schema = source.schema
    try:
        for episode in job.episodes:
            table = source.table(episode)
            _require_schema(table.schema, schema, source.entries[episode].place)
            if file is None:
                file = tables.TableFile(out, schema)
            same = table.schema.equals(schema, check_metadata=True)
            file.append(table if same else table.select(schema.names).cast(schema))
            for key in cameras:
                counts[f"{episode} {key}"] = _count_cells(
                    table, key, features[key], source.entries[episode].place
                )
    finally:
        if file is not None:
            file.close()
    return counts


def _require_schema(found: pa.Schema, wanted: pa.Schema, place: str) -> None:
    """Raise :class:`DataError` unless two tables have the same columns of the same types, but for the kind of lists."""
    for name in dict.fromkeys([*wanted.names, *found.names]):
        here = found.field(name).type if name in found.names else None
        there = wanted.field(name).type if name in wanted.names else None
        if _unlisted(here) != _unlisted(there):
            kinds = [kind or "no such column" for kind in (here, there)]
            raise DataError(
                f"{place}, feature {name!r}: {kinds[0]}, but episode 0 has {kinds[1]}. Write all episodes with one "
                f"type."
            )


def _unlisted(kind: pa.DataType | None) -> tuple[int, pa.DataType | None]:
    """Depth and values of a type of nested lists: lists of fixed and of any length hold the same values."""
    depth = 0
    while kind is not None and (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    ):
        kind, depth = kind.value_type, depth + 1
    return depth, kind


def _count_cells(table: pa.Table, key: str, feature: Mapping[str, Any], place: str) -> PixelCounts:
    counts, size = PixelCounts(), layout.camera_size(feature)
    for frame, cell in enumerate(table.column(key)):
        counts.add(decode_picture(cell.as_py(), size, f"{place}, frame {frame}, feature {key!r}")[None])
    return counts


def _write_video(source: Source, job: Job, key: str, out: Path, options: Options) -> dict[str, PixelCounts]:
    clips = [_copied(source, key, episode) for episode in job.episodes]
    copied = [pair for pair in clips if pair is not None]
    if len(copied) < len(clips):
        _encode(source, job, key, out, options)
        return _counted(source, job, key, out)
    copy_clips(copied, out, video.frame_rate(source.info["fps"]))
    try:
        return _counted(source, job, key, out, copied)
    except _OtherError:
        if not options.reencode:
            raise
    _encode(source, job, key, out, options)
    return _counted(source, job, key, out)


def _encode(source: Source, job: Job, key: str, out: Path, options: Options) -> None:
    rate = video.frame_rate(source.info["fps"])
    file = video.VideoAppender(out, rate)
    try:
        for episode in job.episodes:
            images = source.pictures(key, episode)
            file.append(video.encode_video(images, options.storage.coding(rate)), len(images))
    finally:
        file.close()


def _copied(source: Source, key: str, episode: int) -> tuple[Clip, Packets] | None:
    """An episode's clip and the packets of its file; None where it is encoded."""
    clip = source.clip(key, episode)
    if clip is None:
        return None
    packets = source.packets(clip.path, clip.place)
    return None if packets.fault(clip) else (clip, packets)


def _counted(
    source: Source, job: Job, key: str, path: Path, copied: Sequence[tuple[Clip, Packets]] = ()
) -> dict[str, PixelCounts]:
    """Levels of every episode's pictures in the new file; those of clips cut out of a file are compared with it."""
    if key not in layout.camera_keys(source.info["features"]).values():
        return {}  # depth and the like: their pictures are not read as RGB
    file, start = VideoFile(path, f"{path}, camera {key!r}"), 0
    counts = {}
    try:
        for place_of, episode in enumerate(job.episodes):
            length = source.entries[episode].length
            place = f"{path}, episode {episode}, camera {key!r}"
            if start + length > len(file.times):
                raise DataError(
                    f"{place}: the copy has only {len(file.times)} pictures, so nothing was converted."
                )
            images = np.stack([file.picture(start + k, partial(str, place)) for k in range(length)])
            if copied:
                clip, packets = copied[place_of]
                # Of a whole file no picture can refer to another file's, but its container may say more than packets
                # do, such as that it is shown turned: the first picture tells.
                count = 1 if packets.whole(clip) else length
                _require_same(images[:count], source.pictures(key, episode, count), clip)
            levels = counts[f"{episode} {key}"] = PixelCounts()
            levels.add(images)
            start += length
    finally:
        file.close()
    return counts


class _OtherError(DataError):
    """A clip that does not decode to the pictures it was cut out of."""


def _require_same(copy: np.ndarray, original: np.ndarray, clip: Clip) -> None:
    """Raise :class:`_OtherError` unless a copied clip decodes to the pictures (T, H, W, 3) it was cut out of."""
    wrong = np.flatnonzero((copy != original).reshape(len(copy), -1).any(axis=1))
    if len(wrong):
        raise _OtherError(
            f"{clip.place}, {clip.path}: frame {wrong[0]} is another picture when the episode is cut out of the file. "
            f"Pass --reencode to encode such episodes anew, which changes their pictures a little."
        )
