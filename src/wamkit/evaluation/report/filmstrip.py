"""Filmstrips: imagined futures beside the frames that were rendered later."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wamkit.errors import DataError
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


PICTURES = ("now", "imagined", "real")


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
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = dict(stored)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot read the filmstrips of the report beside it ({error}).") from error
    strips = []
    for i, caption in enumerate(captions):
        missing = [name for name in PICTURES if f"{i:04d}.{name}" not in arrays]
        if missing:
            raise DataError(f"{path}: filmstrip {i} lacks {', '.join(missing)}. Evaluate again.")
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in caption.items()}
        pictures = {name: arrays[f"{i:04d}.{name}"] for name in PICTURES}
        strips.append(Filmstrip(**values, **pictures))  # type: ignore[arg-type]
    return tuple(strips)
