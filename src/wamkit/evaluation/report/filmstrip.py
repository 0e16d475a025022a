"""Filmstrips: imagined futures beside the frames that were rendered later."""

from __future__ import annotations

import dataclasses
import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

import draccus
import draccus.utils
import numpy as np
from numpy.typing import NDArray

from wamkit.errors import DataError, reason
from wamkit.evaluation.report.fidelity import frame_psnr
from wamkit.storage.documents import write_atomically

Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Filmstrip:
    """One forecast of one camera, decoded, and the same ticks as they were rendered later.

    Attributes:
        task: task name.
        seed: episode seed.
        camera: camera name.
        tick: tick of the model call.
        offsets: F, future ticks relative to the call that were reached before the episode ended.
        psnr_db: F, peak signal-to-noise ratio of imagined against real, dB; None if they are equal.
        still_db: F, PSNR of the frame at the call against real, the score of "nothing moves", dB.
        acted: false if the future was generated for the picture only and the action did not use it.
        now: frame at the call, (H, W, 3) uint8.
        imagined: imagined frames, (F, H, W, 3) uint8.
        real: rendered frames, (F, H, W, 3) uint8.
    """

    task: str
    seed: int
    camera: str
    tick: int
    offsets: tuple[int, ...]
    psnr_db: tuple[float | None, ...]
    still_db: tuple[float | None, ...]
    acted: bool
    now: Frames = field(compare=False, repr=False)
    imagined: Frames = field(compare=False, repr=False)
    real: Frames = field(compare=False, repr=False)

    def caption(self) -> dict[str, object]:
        """Plain values of all fields but the pictures."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in PICTURES}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


DAMAGED = (zipfile.BadZipFile, zlib.error)  # raised for an archive whose bytes were changed
CLOSE_DB = 1e-3
PICTURES = ("now", "imagined", "real")
# The plain fields of a strip, as they stand in a report.
CAPTION = dataclasses.make_dataclass(
    "Caption", [(name, hint) for name, hint in get_type_hints(Filmstrip).items() if name not in PICTURES]
)


def make_strip(
    task: str,
    seed: int,
    camera: str,
    tick: int,
    acted: bool,
    now: Frames,
    pairs: Sequence[tuple[int, Frames, Frames]],
) -> Filmstrip:
    """Build a strip from ``(offset, imagined (H, W, 3), real (H, W, 3))`` triples.

    Raises:
        DataError: a decoded frame has another size than the camera's.
    """
    return Filmstrip(
        task=task,
        seed=seed,
        camera=camera,
        tick=tick,
        offsets=tuple(offset for offset, _, _ in pairs),
        psnr_db=tuple(frame_psnr(imagined, real) for _, imagined, real in pairs),
        still_db=tuple(frame_psnr(now, real) for _, _, real in pairs),
        acted=acted,
        now=now,
        imagined=np.stack([imagined for _, imagined, _ in pairs]),
        real=np.stack([real for _, _, real in pairs]),
    )


def save_pictures(path: Path, strips: Sequence[Filmstrip]) -> None:
    """Write the pictures of all strips into one compressed ``.npz``, atomically."""
    arrays = {f"{i:04d}.{name}": getattr(s, name) for i, s in enumerate(strips) for name in PICTURES}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def load_strips(path: Path, captions: Sequence[dict[str, object]]) -> tuple[Filmstrip, ...]:
    """Join the captions of a report with the pictures stored beside it.

    Raises:
        DataError: the file is missing, broken, or holds other strips than the report names.
    """
    way_out = "Copy it again with its report, or evaluate again."
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, *DAMAGED) as error:
        raise DataError(f"{path}: cannot read the filmstrips ({reason(error)}). {way_out}") from error
    if len(arrays) != len(PICTURES) * len(captions):
        raise DataError(
            f"{path}: holds {len(arrays)} blocks of pictures, and {len(captions)} filmstrips need "
            f"{len(PICTURES) * len(captions)}. {way_out}"
        )
    return tuple(_join(path, i, caption, arrays, way_out) for i, caption in enumerate(captions))


def _join(
    path: Path, i: int, caption: dict[str, object], arrays: Mapping[str, Frames], way_out: str
) -> Filmstrip:
    place = f"{path}, filmstrip {i}"
    missing = [name for name in PICTURES if f"{i:04d}.{name}" not in arrays]
    if missing:
        raise DataError(f"{place}: lacks {', '.join(missing)}. {way_out}")
    pictures = {name: arrays[f"{i:04d}.{name}"] for name in PICTURES}
    try:
        strip = draccus.decode(CAPTION, caption)
    except (draccus.utils.ParsingError, TypeError) as error:
        raise DataError(f"{place}: its caption cannot be read ({reason(error)}). {way_out}") from error
    frames = (len(strip.offsets), *pictures["now"].shape)
    shapes = {"now": frames[1:], "imagined": frames, "real": frames}
    if any(pictures[n].dtype != np.uint8 or pictures[n].shape != shape for n, shape in shapes.items()):
        found = {name: f"{picture.dtype} {picture.shape}" for name, picture in pictures.items()}
        raise DataError(
            f"{place}: pictures of other sizes than {len(strip.offsets)} frames: {found}. {way_out}"
        )
    for pairs, told in (
        (zip(pictures["imagined"], pictures["real"], strict=True), strip.psnr_db),
        (((pictures["now"], real) for real in pictures["real"]), strip.still_db),
    ):
        if not _close([_psnr(*pair) for pair in pairs], told):
            raise DataError(
                f"{place}: the pictures are not those that its caption was measured on. {way_out}"
            )
    values: dict[str, Any] = {**vars(strip), **pictures}
    return Filmstrip(**values)


def _close(ours: Sequence[float | None], told: Sequence[float | None]) -> bool:
    """Whether two rows of PSNR are equal; the libraries that compute them differ in the last digits."""
    return len(ours) == len(told) and all(
        a == b or (a is not None and b is not None and abs(a - b) < CLOSE_DB)
        for a, b in zip(ours, told, strict=True)
    )


def _psnr(image: Frames, truth: Frames) -> float | None:
    """The same as :func:`frame_psnr`, without a library that takes two seconds to load."""
    error = np.square((image / 255.0) - (truth / 255.0)).mean()
    return float(10 * np.log10(1 / error)) if error else None
