"""Files of a dataset under construction, which roll over by size."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wamkit.data import layout, tables, video
from wamkit.data.video_file import digest
from wamkit.errors import SpecError, did_you_mean

MB = 1024**2


@dataclass(frozen=True)
class Storage:
    """Sizes of a dataset's files and encoding of its videos.

    Attributes:
        data_file_mb: size at which a parquet file is closed and the next one begun, MiB.
        video_file_mb: size at which an mp4 file is closed and the next one begun, MiB.
        chunks_size: number of files in one ``chunk-XXX`` folder.
        gop: largest distance between two video key frames; small values make single frames cheap to reach.
        crf: constant rate factor of x264; smaller is more faithful and larger on disk.
        pixel_format: ``yuv444p``, or ``yuv420p`` for players that support nothing else.

    Raises:
        SpecError: the pixel format cannot be written.
    """

    data_file_mb: float = 100
    video_file_mb: float = 200
    chunks_size: int = 1000
    gop: int = video.GOP
    crf: int = video.CRF
    pixel_format: str = video.PIXEL_FORMAT

    def __post_init__(self) -> None:
        if self.pixel_format not in video.PIXEL_FORMATS:
            hint = did_you_mean(self.pixel_format, video.PIXEL_FORMATS)
            raise SpecError(f"pixel_format {self.pixel_format!r}. {hint}")

    def coding(self, rate: Fraction) -> video.Coding:
        """Video encoding at ``rate`` frames per second."""
        return video.Coding(rate, self.gop, self.crf, self.pixel_format)


DEFAULT_STORAGE = Storage()


@dataclass
class Position:
    """Position in the numbering of files.

    Attributes:
        chunk: number of the chunk folder.
        file: number of the file within it.
    """

    chunk: int = 0
    file: int = 0

    def advance(self, chunks_size: int) -> None:
        """Advance to the next file, and to the next chunk when this one is full."""
        self.file += 1
        if self.file == chunks_size:
            self.chunk, self.file = self.chunk + 1, 0

    def path(self, root: Path, template: str, **keys: str) -> Path:
        """Return the file's path below ``root``."""
        return root / template.format(chunk_index=self.chunk, file_index=self.file, **keys)


class VideoFiles:
    """Writer of one camera's mp4 files.

    Attributes:
        digests: finished file -> SHA-256 of its bytes.
    """

    def __init__(self, root: Path, key: str, rate: Fraction, storage: Storage) -> None:
        self._root, self._key, self._coding = root, key, storage.coding(rate)
        self._limit, self._chunks = storage.video_file_mb * MB, storage.chunks_size
        self._position, self._path = Position(), root
        self._file: video.VideoAppender | None = None
        self.digests: dict[Path, str] = {}

    def add(self, images: np.ndarray) -> dict[str, Any]:
        """Append one episode and return its entries of the episode table."""
        clip = video.encode_video(images, self._coding)
        if self._file is not None and self._file.size + len(clip) > self._limit:
            self.close()
            self._position.advance(self._chunks)
        if self._file is None:
            path = self._position.path(self._root, layout.VIDEO, video_key=self._key)
            self._path = path
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
            file, self._file = self._file, None
            file.close()
            self.digests[self._path] = digest(self._path)


class TableFiles:
    """Writer of the parquet files below ``data/`` or ``meta/episodes/``."""

    def __init__(self, root: Path, template: str, storage: Storage) -> None:
        self._root, self._template = root, template
        self._limit, self._chunks = storage.data_file_mb * MB, storage.chunks_size
        self._position = Position()
        self._file: tables.TableFile | None = None

    def place(self, rows: int) -> tuple[int, int]:
        """Return chunk and file of the next ``rows`` rows, after rolling over if they would exceed the limit."""
        if self._file is not None:
            # LeRobot's rule: the size of the new rows is estimated from the rows before them.
            expected = self._file.size * (1 + rows / self._file.rows)
            if expected > self._limit:
                self.close()
                self._position.advance(self._chunks)
        return self._position.chunk, self._position.file

    def add(self, table: pa.Table) -> None:
        """Append ``table`` to the file that :meth:`place` returned."""
        if self._file is None:
            self._file = tables.TableFile(self._position.path(self._root, self._template), table.schema)
        self._file.append(table)

    def close(self) -> None:
        """Finish the current file."""
        if self._file is not None:
            self._file.close()
            self._file = None
