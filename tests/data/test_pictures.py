"""Pictures in tables come back as exact 8-bit RGB, or are refused with feature, episode and frame."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from films import edit_info, foreign_set
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, rebuild_stats
from wamkit.data.pictures import decode_picture
from wamkit.errors import DataError

SIZE = (6, 5)
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
GREY = RGB[..., 0]
DEEP = RNG.integers(0, 65536, SIZE).astype(np.uint16)
DATA = "data/chunk-000/file-000.parquet"


def coded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_16_bit_rgb() -> bytes:

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + bytes(6 * SIZE[1]) for _ in range(SIZE[0]))
    head = struct.pack(">IIBBBBB", SIZE[1], SIZE[0], 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def rgba(alpha: int) -> Image.Image:
    return Image.fromarray(np.dstack((RGB, np.full(SIZE, alpha, np.uint8))), "RGBA")


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return coded(Image.fromarray(RGB), "JPEG", exif=exif)


PALETTE = Image.fromarray(RGB).quantize(8)
EXACT: dict[str, tuple[bytes, np.ndarray]] = {
    "RGB": (coded(Image.fromarray(RGB)), RGB),
    "grey": (coded(Image.fromarray(GREY)), np.repeat(GREY[..., None], 3, -1)),
    "1 bit": (coded(Image.fromarray(GREY > 127)), np.repeat((GREY > 127)[..., None] * np.uint8(255), 3, -1)),
    "palette": (coded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "opaque": (coded(rgba(255)), RGB),
    "webp": (coded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "bmp": (coded(Image.fromarray(RGB), "BMP"), RGB),
    "jpeg": (
        coded(Image.fromarray(RGB), "JPEG"),
        np.asarray(Image.open(io.BytesIO(coded(Image.fromarray(RGB), "JPEG")))),
    ),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "16 bits": (coded(Image.fromarray(DEEP)), "16 bits"),
    "16-bit RGB": (png_of_16_bit_rgb(), "16 bits"),
    "float": (coded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "cannot be decoded"),
    "transparent": (coded(rgba(254)), "partly transparent"),
    "transparent palette": (coded(PALETTE, transparency=0), "partly transparent"),
    "CMYK": (coded(Image.fromarray(RGB).convert("CMYK"), "JPEG"), "CMYK"),
    "turned": (turned(), "EXIF orientation 6"),
    "animated": (
        coded(Image.fromarray(RGB), save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        "animation",
    ),
    "size": (coded(Image.fromarray(RGB[:5])), "5x5, but info.json declares 6x5"),
    "cut": (coded(Image.fromarray(RGB))[:-20], "cannot be decoded"),
    "text": (b"not a picture", "cannot be decoded"),
    "nothing": (b"", "no image bytes"),
}


@pytest.mark.parametrize("kind", EXACT)
def test_exact(kind: str) -> None:
    data, expected = EXACT[kind]
    np.testing.assert_array_equal(decode_picture({"bytes": data, "path": None}, SIZE, "here"), expected)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str) -> None:
    data, words = REFUSED[kind]
    with pytest.raises(DataError, match=f"here: .*{words}"):
        decode_picture({"bytes": data, "path": None}, SIZE, "here")


@pytest.mark.parametrize("cell", [None, {}, {"bytes": None, "path": "a.png"}, b"", "a.png", {"bytes": "abc"}])
def test_cells_without_a_picture(cell: Any) -> None:
    with pytest.raises(DataError, match="here: contains no image bytes"):
        decode_picture(cell, SIZE, "here")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(["RGB", "grey", "palette", "opaque"]), st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_of_a_png_is_another_picture(kind: str, place: int, bit: int) -> None:
    data, expected = EXACT[kind]
    damaged = bytearray(data)
    damaged[place % len(data)] ^= 1 << bit
    try:
        got = decode_picture({"bytes": bytes(damaged)}, SIZE, "here")
    except DataError:
        return
    np.testing.assert_array_equal(got, expected)


def with_pictures(
    root: Path, draw: Callable[[int], Any], shape: list[int], key: str = "observation.images.wrist"
) -> Path:
    """Add a camera to a dataset whose pictures lie in the table."""
    table = pq.read_table(root / DATA)
    cells = [{"bytes": draw(number), "path": None} for number in range(table.num_rows)]
    column = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(table.append_column(key, column), root / DATA, row_group_size=3)
    feature = {"dtype": "image", "shape": shape, "names": ["height", "width", "channels"]}
    edit_info(root, lambda info: info["features"].update({key: feature}))
    return root


@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_a_camera_in_the_table(tmp_path: Path, memory: float) -> None:
    shades = RNG.integers(0, 256, (9, *SIZE, 3), dtype=np.uint8)
    root = with_pictures(
        foreign_set(tmp_path / "set", [4, 5], 10), lambda n: coded(Image.fromarray(shades[n])), [*SIZE, 3]
    )
    rebuild_stats(root)
    data = Dataset(root, image_memory_gb=memory)
    for index in (np.arange(9), np.array([8, 0, 3, 3, 7, 1])):
        got = data.windows(index, WindowSpec(horizon=1)).observation.images["wrist"]
        np.testing.assert_array_equal(got[:, 0].numpy().transpose(0, 2, 3, 1), shades[index])


@pytest.mark.parametrize("memory", [4.0, 1e-6])
def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path, memory: float) -> None:
    root = foreign_set(tmp_path / "set", [4, 5], 10)
    with_pictures(root, lambda n: REFUSED["CMYK"][0] if n == 6 else EXACT["RGB"][0], [*SIZE, 3])
    with pytest.raises(
        DataError, match=r"episode 1, frame 2, feature 'observation\.images\.wrist': .*CMYK.*Store 8-bit"
    ):
        rebuild_stats(root)
    edit_info(root, lambda info: info["features"].pop("observation.images.wrist"))
    rebuild_stats(root)
    assert list(Dataset(root, image_memory_gb=memory).observation_spec.cameras) == ["scene"]


def test_a_depth_camera_is_left_out_and_the_others_are_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = with_pictures(
        foreign_set(tmp_path / "set", [4, 5], 10), lambda n: coded(Image.fromarray(DEEP)), [*SIZE, 1]
    )
    rebuild_stats(root)
    caplog.set_level(logging.WARNING)
    assert list(Dataset(root).observation_spec.cameras) == ["scene"]
    assert "'observation.images.wrist' is a picture of 1 channel" in caplog.text
