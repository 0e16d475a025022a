"""Videos whose every picture carries its number in its pixels, and datasets around them that another program wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode

KEY = "observation.images.scene"
FILM = f"videos/{KEY}/chunk-000/file-000.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
SIDE = 16
TICKS = 90_000  # per second


def draw(number: int) -> np.ndarray:
    """Picture (16, 16, 3) of sixteen squares, black or white: the bits of ``number``."""
    bits = (number >> np.arange(16) & 1).astype(np.uint8).reshape(4, 4)
    return np.repeat(np.kron(bits * 255, np.ones((4, 4), np.uint8))[..., None], 3, axis=2).astype(np.uint8)


def numbers_in(images: np.ndarray) -> list[int]:
    """Numbers of pictures (N, 3, 16, 16)."""
    bits = images.astype(float).mean(axis=1).reshape(-1, 4, 4, 4, 4).mean(axis=(2, 4)).reshape(-1, 16) > 127
    return [int(n) for n in (bits * (1 << np.arange(16))).sum(axis=1)]


def shoot(
    path: Path,
    numbers: Sequence[int],
    times: Sequence[float],
    codec: str = "libx264",
    pixels: str = "yuv444p",
    mux: dict[str, str] | None = None,
    picture: Callable[[int], np.ndarray] = draw,
    **options: str,
) -> None:
    """Encode pictures shown at ``times``, seconds."""
    with av.open(str(path), "w", options=mux or {}) as output:
        stream = output.add_stream(codec, rate=Fraction(30), options={"g": "5", "bf": "0"} | options)
        first = picture(0)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        for number, seconds in zip(numbers, times, strict=True):
            image = picture(number)
            kind = {3: "rgb24", 4: "rgba"}.get(image.shape[-1], "gray16le") if image.ndim == 3 else "gray16le"
            frame = av.VideoFrame.from_ndarray(image, format=kind).reformat(format=pixels)
            frame.pts, frame.time_base = round(seconds * TICKS), Fraction(1, TICKS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def foreign_set(root: Path, lengths: Sequence[int], rate: float) -> Path:
    """A dataset of numbered pictures (global frame numbers) without anything that only wamkit stores."""
    observation = ObservationSpec({"scene": CameraSpec(SIDE, SIDE)}, ("x",), rate)
    action = ActionSpec(("dx",), (-1,), (1,), rate)
    rng, start = np.random.default_rng(0), 0
    with DatasetWriter(root, observation, action) as writer:
        for length in lengths:
            images = np.stack([draw(start + k) for k in range(length)])
            vectors = rng.uniform(-1, 1, (2, length, 1)).astype(np.float32)
            writer.add(Episode({"scene": images}, *vectors, "look"))
            start += length
    edit_info(root, lambda info: info.pop("wamkit"))
    return root


def edit_info(root: Path, change: Callable[[Any], Any]) -> None:
    info = json.loads((root / "meta/info.json").read_text(encoding="utf-8"))
    change(info)
    (root / "meta/info.json").write_text(json.dumps(info), encoding="utf-8")


def edit_episodes(root: Path, column: str, change: Callable[[list[Any]], list[Any]]) -> None:
    table = pq.read_table(root / EPISODES)
    name = f"videos/{KEY}/{column}"
    values = pa.array(change(table[name].to_pylist()))
    pq.write_table(table.set_column(table.column_names.index(name), name, values), root / EPISODES)


def seen(root: Path, memory: float = 4.0) -> list[int]:
    """Numbers of the pictures that every frame is read as."""
    data = Dataset(root, image_memory_gb=memory)
    images = data.windows(np.arange(data.num_frames), WindowSpec(horizon=1)).observation.images["scene"]
    return numbers_in(images[:, 0].numpy())
