"""Motion vectors of a video codec (`ps.motion-geometry`, survey eq. 15; HiF-VLA 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, final

import av
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Positive, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Category, Substrate, SubstrateConfig
from wamkit.contract.specs import size_option
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.substrates.views import since_now

CODEC = "mpeg4"  # FFmpeg's own encoder: part of every build, and deterministic on one thread
LUMA = np.array([0.299, 0.587, 0.114])
RATE = 25  # frames per second; the vectors do not depend on it


@SubstrateConfig.register_subclass("motion_vectors")
@dataclass(frozen=True)
class MotionVectorsConfig(SubstrateConfig):
    """Motion vectors of a video codec between now and a future frame (HiF-VLA, 2025; survey eq. 15).

    Attributes:
        camera: camera whose pictures are compared.
        block: side of a block in pixels: 16 for a macroblock, 8 for its quarter.
        unit: displacement that counts as one, as a fraction of the picture's width.
        tolerance: largest mean difference in grey levels at which a block counts as matched. Where the matching block
            is hidden, a codec takes the least different one; such vectors are dropped.
    """

    camera: Word = "scene"
    block: Literal[8, 16] = 16
    unit: Positive = 0.1
    tolerance: NonNegative = 8.0

    @override
    def build(self, data: DataSpec) -> MotionVectors:
        """Build; raises :class:`ConfigError` on an unknown camera or a picture that blocks do not tile."""
        reader = "substrate 'motion_vectors'"
        size = data.camera(self.camera, reader)
        if size.height % 16 or size.width % 16:
            raise ConfigError(
                f"{reader}: the {size.height} x {size.width} pixels of camera {self.camera!r} must be multiples of "
                f"16. {size_option(size.height, size.width, 16)}"
            )
        return MotionVectors(self, size.height, size.width)


@final
class MotionVectors(Substrate):
    """Block motion (B, T, rows, columns * 3), one token per row of blocks of the future frame.

    A block holds its displacement since now in x and y, in ``unit``, and the flag 1; or zeros and -1 where the codec
    found no matching block.
    """

    category: ClassVar[Category] = "geometric"
    variant: ClassVar[str] = "motion vectors"
    relative = True

    def __init__(self, config: MotionVectorsConfig, height: int, width: int) -> None:
        super().__init__()
        self.config, self.height, self.width = config, height, width
        self.rows, self.columns = height // config.block, width // config.block

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        return StreamSpec(name, role, steps, self.rows, self.columns * 3)

    def between(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Displacement in pixels of each block of ``after`` since ``before``, and a flag, (rows, columns, 3).

        Args:
            before: earlier picture, (h, w, 3) uint8.
            after: later picture, (h, w, 3) uint8.
        """
        shift, known = np.zeros((self.height, self.width, 2)), np.zeros((self.height, self.width), bool)
        for vector in vectors(_compress([before, after], self.config.block)):
            width, height = int(vector["w"]), int(vector["h"])
            left, top = int(vector["dst_x"]) - width // 2, int(vector["dst_y"]) - height // 2
            area = np.s_[top : top + height, left : left + width]
            shift[area] = -np.array([vector["motion_x"], vector["motion_y"]]) / vector["motion_scale"]
            known[area] = True
        error = np.abs(after @ LUMA - motion_compensated(before @ LUMA, shift))
        matched = (self._blocks(known) & (self._blocks(error) <= self.config.tolerance))[..., None]
        mean = np.stack([self._blocks(shift[..., i]) for i in (0, 1)], axis=-1)
        return np.concatenate((np.where(matched, mean, 0.0), matched * 2.0 - 1), axis=-1)

    def _blocks(self, pixels: np.ndarray) -> np.ndarray:
        """Mean (rows, columns) of every block of ``pixels`` (h, w); for a mask, true where all of it is set."""
        cells = pixels.reshape(self.rows, self.config.block, self.columns, self.config.block)
        return np.asarray(cells.all(axis=(1, 3)) if pixels.dtype == bool else cells.mean(axis=(1, 3)))

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        later, before = (
            frames.view(self.config.camera).permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
            for frames in (observation, now)
        )
        motion = since_now(self.between, before, later)
        motion[..., :2] /= self.width * self.config.unit
        return torch.from_numpy(motion).float().flatten(3).to(observation.state.device)

    def field(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Displacement (B, T, rows, columns, 2), x and y in pixels, and mask of blocks that have one."""
        parts = values.unflatten(3, (self.columns, 3))
        return parts[..., :2] * (self.width * self.config.unit), parts[..., 2] > 0

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        shift, known = (part.flatten(2, 3) for part in self.field(values))
        return {"flow": Reading("displacement", shift, "px", known)}


def motion_compensated(picture: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Picture (h, w) warped by ``shift`` (h, w, 2), x and y in pixels, given where each pixel arrives.

    Bilinear; edges are repeated, as codecs do.
    """
    height, width = picture.shape
    x = (np.arange(width)[None, :] - shift[..., 0]).clip(0, width - 1)
    y = (np.arange(height)[:, None] - shift[..., 1]).clip(0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    right, down = x - left, y - top
    upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def vectors(packets: Sequence[av.Packet]) -> Any:
    """Motion vectors of the last picture of a compressed clip, as FFmpeg's records; empty if it has none."""
    decoder: Any = av.CodecContext.create(CODEC, "r")
    decoder.thread_count = 1
    decoder.options = {"flags2": "+export_mvs"}
    frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    records = frames[-1].side_data.get("MOTION_VECTORS")
    return () if records is None else records.to_ndarray()


def _compress(pictures: Sequence[np.ndarray], block: int) -> list[av.Packet]:
    """Clip of pictures (h, w, 3) uint8 in which every picture is predicted from the previous one."""
    height, width = pictures[0].shape[:2]
    encoder: Any = av.CodecContext.create(CODEC, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE, 1)
    encoder.thread_count, encoder.gop_size, encoder.max_b_frames = 1, 1000, 0
    # Fine quantisation, and no new key frame at scene changes.
    encoder.options = {"qmin": "2", "qmax": "2", "sc_threshold": "1000000000"}
    if block == 8:
        encoder.options |= {"flags": "+mv4"}  # one vector per quarter of a macroblock
    packets: list[av.Packet] = []
    for i, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = i
        packets += encoder.encode(frame)
    return packets + list(encoder.encode(None))
