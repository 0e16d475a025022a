"""What a conversion reads: episodes of tables and pictures, whatever they lie in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data.conversion.clips import Clip, Packets


@dataclass(frozen=True)
class Entry:
    """What is known of an episode before its frames are read.

    Attributes:
        length: number of frames.
        tasks: its instructions.
        table_bytes: size of its rows on disk, about.
        video_bytes: feature key -> size of its pictures on disk, about.
        further: what the source says of it beyond that, such as ``success``.
        place: file and episode, for messages.
    """

    length: int
    tasks: tuple[str, ...]
    table_bytes: int
    video_bytes: Mapping[str, int]
    further: Mapping[str, Any] = field(default_factory=dict)
    place: str = ""


class Source(ABC):
    """A dataset that has been checked and can be read episode by episode.

    Attributes:
        root: file or folder of the source.
        info: entries for ``meta/info.json`` that do not depend on the layout: ``fps``, ``robot_type``, ``features``.
        tasks: instructions by task index.
        entries: one per episode.
        files: all files that it reads, for telling whether it has changed.
        beside: files in ``meta/`` that no layout knows, which are copied as they are: name -> file.
    """

    root: Path
    info: dict[str, Any]
    tasks: tuple[str, ...]
    entries: tuple[Entry, ...]
    files: tuple[Path, ...]
    beside: Mapping[str, Path]

    @property
    def videos(self) -> list[str]:
        """Keys of the features that are videos."""
        return [key for key, feature in self.info["features"].items() if feature["dtype"] == "video"]

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the first episode's table, which those of the others must have."""
        return self.table(0).schema

    @abstractmethod
    def table(self, episode: int) -> pa.Table:
        """Return the rows of an episode, with every column that is stored in a table.

        Raises:
            DataError: they cannot be read.
        """

    @abstractmethod
    def clip(self, key: str, episode: int) -> Clip | None:
        """Return an episode's part of a video file, or None where its pictures are not encoded."""

    @abstractmethod
    def packets(self, path: Path, place: str) -> Packets:
        """Return the packets of a file that :meth:`clip` named; raises :class:`DataError` when it cannot be read."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open."""

    @abstractmethod
    def pictures(self, key: str, episode: int, count: int | None = None) -> np.ndarray:
        """Decode the pictures (T, H, W, 3), uint8, of an episode; its first ``count`` where that is given.

        Raises:
            DataError: they cannot be read as such.
        """
