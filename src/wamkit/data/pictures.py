"""Pictures stored in the tables themselves (dtype ``image``): exact 8-bit RGB, or refused."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import ExifTags, Image, UnidentifiedImageError

from wamkit.data import tables
from wamkit.data.catalog import EpisodeRow
from wamkit.data.tables import COPY_AGAIN
from wamkit.errors import DataError

# What Pillow raises on damaged files, depending on the format and the place of the damage.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
FORMATS = (
    "PNG",
    "JPEG",
    "WEBP",
    "BMP",
)  # Pillow cuts deeper pictures of other formats to 8 bits without a word
EXACT = ("RGB", "L", "1", "P", "LA", "RGBA", "PA")
AS_RGB = "Store 8-bit RGB pictures, or the values as a numeric feature."


def column_fault(kind: pa.DataType) -> str | None:
    """Why a column of this type holds no pictures; None where it may."""
    if pa.types.is_struct(kind):
        kind = kind.field("bytes").type if "bytes" in [field.name for field in kind] else kind
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return None
    if pa.types.is_struct(kind) and "path" in [field.name for field in kind]:
        return "holds paths of picture files, not the files"
    return f"holds values of type {kind}, but pictures are files of bytes, such as PNG"


def decode_picture(cell: Any, size: tuple[int, int], place: str) -> np.ndarray:
    """Decode one cell of a column of pictures to (H, W, 3), uint8.

    Args:
        cell: ``{"bytes": ..., "path": ...}``, as LeRobot stores it, or the bytes alone.
        size: declared rows and columns.
        place: file, feature, episode and frame, for messages.

    Raises:
        DataError: there is no picture, it is damaged, of another size, or would lose something as 8-bit RGB.
    """
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes) or not data:
        named = cell.get("path") if isinstance(cell, dict) else None
        outside = f" but only the path {named!r}; store the bytes in the table" if named else ""
        raise DataError(f"{place}: contains no image bytes{outside}. {COPY_AGAIN}")
    try:
        Image.open(
            io.BytesIO(data), formats=FORMATS
        ).verify()  # checksums, which decoding alone does not compare
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if (image.height, image.width) != size:
                raise DataError(
                    f"{place}: the picture is {image.height}x{image.width}, but info.json declares "
                    f"{size[0]}x{size[1]}. {COPY_AGAIN}"
                )
            fault = _fault(image, data)
            if fault:
                raise DataError(f"{place}: {fault}. {AS_RGB}")
            if image.has_transparency_data:
                pixels = np.asarray(image.convert("RGBA"))
                if pixels[..., 3].min() < 255:
                    raise DataError(
                        f"{place}: the picture is partly transparent, which RGB cannot say. {AS_RGB}"
                    )
                return np.ascontiguousarray(pixels[..., :3])
            return np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        known = f"It is damaged, or none of {', '.join(FORMATS)}"
        raise DataError(f"{place}: the picture cannot be decoded. {known}. {COPY_AGAIN}") from error
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise DataError(f"{place}: the picture cannot be decoded ({error}). {COPY_AGAIN}") from error


def _fault(image: Image.Image, data: bytes) -> str | None:
    """What of a picture 8-bit RGB cannot hold; None when nothing."""
    # Pillow itself cuts PNG pictures of 3 x 16 bits to 8 without a word.
    depth = data[24] if image.format == "PNG" else 8
    if image.mode not in EXACT or depth > 8:
        return f"the picture has the pixels {image.mode}, {depth} bits, which 8-bit RGB cannot hold"
    if getattr(image, "n_frames", 1) > 1:
        return f"the picture is an animation of {getattr(image, 'n_frames', 1)} pictures"
    turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    if turn != 1:
        return f"the picture is to be shown turned or mirrored (EXIF orientation {turn})"
    return None


class PictureTable:
    """Random access to the pictures of one camera in one table. Not thread-safe.

    Args:
        episodes: all episodes of the file.
        key: feature of the camera.
        size: declared rows and columns.
        name: name of the dataset in messages.
    """

    def __init__(self, episodes: list[EpisodeRow], key: str, size: tuple[int, int], name: str) -> None:
        self._episodes, self._key, self._size, self._name = episodes, key, size, name
        self._path = episodes[0].data
        self._first = min(episode.start for episode in episodes)
        self._starts: np.ndarray | None = None  # first row of each row group
        self._group = -1
        self._cells: pa.ChunkedArray | None = None

    def read(self, frames: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield every one of the global frame numbers ``frames``, ascending, with its picture (H, W, 3), uint8."""
        starts = np.array([episode.start for episode in self._episodes])
        for frame in frames.tolist():
            episode = self._episodes[int(np.searchsorted(starts, frame, side="right")) - 1]
            place = (
                f"{self._name}, {self._path}, episode {episode.index}, frame {frame - episode.start}, "
                f"feature {self._key!r}"
            )
            yield frame, decode_picture(self._cell(frame - self._first, place), self._size, place)

    def close(self) -> None:
        """Forget the rows that were read last."""
        self._group, self._cells = -1, None

    def _cell(self, row: int, place: str) -> Any:
        try:
            with tables.parquet(self._path) as file:
                if self._starts is None:
                    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                    self._starts = np.cumsum([0, *sizes])
                group = int(np.searchsorted(self._starts, row, side="right")) - 1
                if group != self._group or self._cells is None:
                    self._cells = file.read_row_group(group, columns=[self._key]).column(self._key)
                    self._group = group
        except (pa.ArrowException, OSError, KeyError) as error:
            raise DataError(f"{place}: cannot be read ({error}). {COPY_AGAIN}") from error
        return self._cells[row - int(self._starts[group])].as_py()
