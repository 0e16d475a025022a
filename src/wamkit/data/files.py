"""Files that roll over by size: which chunk and file the next episode goes to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import layout, tables, video

MB = 1024**2


@dataclass
class Position:
    """Which chunk and file are being written."""

    chunk: int = 0
    file: int = 0

    def advance(self, chunks_size: int) -> None:
        """Go on to the next file, and to the next chunk when this one is full."""
        self.file += 1
        if self.file == chunks_size:
            self.chunk, self.file = self.chunk + 1, 0

    def path(self, root: Path, template: str, **keys: str) -> Path:
        """The file's path below ``root``."""
        return root / template.format(chunk_index=self.chunk, file_index=self.file, **keys)


class VideoFiles:
    """The mp4 files of one camera."""

    def __init__(self, root: Path, key: str, coding: video.Coding, limit_mb: float, chunks: int) -> None:
        self._root, self._key, self._coding = root, key, coding
        self._limit, self._chunks = limit_mb * MB, chunks
        self._position = Position()
        self._file: video.VideoAppender | None = None

    def add(self, images: np.ndarray) -> dict[str, Any]:
        """Append one episode; returns its entries of the episode table."""
        clip = video.encode_video(images, self._coding)
        if self._file is not None and self._file.size + len(clip) > self._limit:
            self.close()
            self._position.advance(self._chunks)
        if self._file is None:
            path = self._position.path(self._root, layout.VIDEO, video_key=self._key)
            self._file = video.VideoAppender(path, self._coding.rate)
        start = self._file.frames
        self._file.append(clip, len(images))
        return {
            f"videos/{self._key}/chunk_index": self._position.chunk,
            f"videos/{self._key}/file_index": self._position.file,
            f"videos/{self._key}/from_timestamp": float(start / self._coding.rate),
            f"videos/{self._key}/to_timestamp": float((start + len(images)) / self._coding.rate),
        }

    def close(self) -> None:
        """Finish the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TableFiles:
    """The parquet files below ``data/`` or ``meta/episodes/``."""

    def __init__(self, root: Path, template: str, limit_mb: float, chunks: int) -> None:
        self._root, self._template, self._limit, self._chunks = root, template, limit_mb * MB, chunks
        self._position = Position()
        self._file: tables.TableFile | None = None

    def place(self, rows: int) -> tuple[int, int]:
        """Chunk and file that the next ``rows`` rows go to; rolls over when they would exceed the limit."""
        if self._file is not None:
            # LeRobot's rule: what the rows will take is estimated from the rows before them.
            expected = self._file.size * (1 + rows / self._file.rows)
            if expected > self._limit:
                self.close()
                self._position.advance(self._chunks)
        return self._position.chunk, self._position.file

    def add(self, table: pa.Table) -> None:
        """Append ``table`` to the file that :meth:`place` named."""
        if self._file is None:
            self._file = tables.TableFile(self._position.path(self._root, self._template), table.schema)
        self._file.append(table)

    def close(self) -> None:
        """Finish the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None
