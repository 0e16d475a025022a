"""A LeRobotDataset as the source of a conversion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
from typing_extensions import override

from wamkit.data import check, layout, spans, tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.conversion.clips import Clip, Packets, read_packets
from wamkit.data.conversion.source import Entry, Source
from wamkit.data.dataset import Dataset
from wamkit.data.metadata import metadata
from wamkit.data.video_file import VideoFile, require_recorded
from wamkit.storage import read_json

# Files of ``meta/`` that a conversion writes anew, or that say what a recording of wamkit was made of.
KNOWN = {
    *(layout.INFO, layout.STATS, layout.TASKS, layout.INPUTS),
    *(layout.OLD_EPISODES, layout.OLD_EPISODE_STATS, layout.OLD_TASKS),
}


@final
class LeRobotSource(Source):
    """A LeRobotDataset of any version that can be read, checked as :class:`Dataset` checks it.

    Args:
        root: the dataset folder.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        dataset = Dataset(root)
        self.info: dict[str, Any] = read_json(root / layout.INFO, tables.COPY_AGAIN)
        self.tasks, self._rows = dataset.tasks, dataset.episodes
        stored = [key for key, feature in self.info["features"].items() if feature["dtype"] != "video"]
        check.declared_columns(self._rows, self.info["features"], stored)
        self._digests = spans.recorded_digests(root, self.info)
        self._starts: dict[Path, int] = {}
        for row in self._rows:
            self._starts.setdefault(row.data, row.start)
        self._packets: dict[Path, Packets] = {}
        self._by_file: dict[str, dict[Path, list[EpisodeRow]]] = {}
        self._first: dict[tuple[str, int], int] = {}
        self._table: tuple[Path, pa.Table] | None = None
        self._open: tuple[Path, VideoFile] | None = None
        self.entries, files = self._list(metadata(root, dataset.info).further())
        inside = [path for path in (root / "meta").rglob("*") if path.is_file()]
        self.files = tuple(sorted({*files, *inside}))
        names = {path.relative_to(root).as_posix(): path for path in inside if path.parent == root / "meta"}
        self.beside: Mapping[str, Path] = {name: path for name, path in names.items() if name not in KNOWN}

    def _list(self, further: list[dict[str, Any]]) -> tuple[tuple[Entry, ...], list[Path]]:
        """The episodes, and the files that hold them."""
        frames: Counter[Path] = Counter()
        for row in self._rows:
            frames[row.data] += len(row)
            for key, span in row.videos.items():
                if not span.path.is_file():  # of a depth camera, which training does not read
                    read_packets(span.path, self._place(row.index, key))
                frames[span.path] += len(row)
        size = {path: path.stat().st_size / count for path, count in frames.items()}
        entries = tuple(
            Entry(
                length=len(row),
                tasks=row.tasks,
                table_bytes=round(size[row.data] * len(row)),
                video_bytes={key: round(size[span.path] * len(row)) for key, span in row.videos.items()},
                further=more,
                place=f"{row.data}, episode {row.index}",
            )
            for row, more in zip(self._rows, further, strict=True)
        )
        return entries, list(frames)

    def _place(self, episode: int, key: str) -> str:
        return f"{self.root}, episode {episode}, camera {key!r}"

    @override
    def table(self, episode: int) -> pa.Table:
        row = self._rows[episode]
        if self._table is None or self._table[0] != row.data:
            self._table = row.data, tables.read(row.data)
        return self._table[1].slice(row.start - self._starts[row.data], len(row))

    @override
    def clip(self, key: str, episode: int) -> Clip:
        path, place = self._rows[episode].videos[key].path, self._place(episode, key)
        if (key, episode) not in self._first:
            packets = self.packets(path, place)
            if key not in self._by_file:
                self._by_file[key] = spans.by_file(self._rows, key)
            rows = self._by_file[key][path]
            found = spans.find_pictures(packets.times, rows, key, key, float(self.info["fps"]))
            self._first.update({(key, index): first for index, first in found.items()})
        return Clip(path, self._first[key, episode], len(self._rows[episode]), place)

    @override
    def packets(self, path: Path, place: str) -> Packets:
        if path not in self._packets:
            if path in self._digests:
                require_recorded(path, self._digests[path], place)
            self._packets[path] = read_packets(path, place)
        return self._packets[path]

    @override
    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
        self._open = None

    @override
    def pictures(self, key: str, episode: int, count: int | None = None) -> np.ndarray:
        clip = self.clip(key, episode)
        if self._open is None or self._open[0] != clip.path:
            self.close()
            self._open = clip.path, VideoFile(clip.path, clip.place)
        where = partial(str, clip.place)
        return np.stack([self._open[1].picture(clip.first + k, where) for k in range(count or clip.count)])
