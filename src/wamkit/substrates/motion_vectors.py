"""Block motion as a video codec sees it (`ps.motion-geometry`, survey eq. 15; HiF-VLA 2025)."""

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

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, did_you_mean

CODEC = "mpeg4"  # FFmpeg's own encoder: in every build of it, and the same bytes every time on one thread
LUMA = np.array([0.299, 0.587, 0.114])
RATE = 25  # frames per second, which the vectors do not depend on


@SubstrateConfig.register_subclass("motion_vectors")
@dataclass(frozen=True)
class MotionVectorsConfig(SubstrateConfig):
    """The motion vectors of a video codec between now and a future frame (HiF-VLA, 2025; survey eq. 15).

    Attributes:
        camera: the view.
        block: side of a block, pixels: a macroblock (16) or its quarter (8).
        unit: part of the picture's width that counts as one.
        tolerance: mean difference in grey levels up to which a block counts as found again. A codec takes the least
            bad block where the right one is hidden; such vectors are dropped.
    """

    camera: str = "scene"
    block: Literal[8, 16] = 16
    unit: float = 0.1
    tolerance: float = 8.0

    @override
    def build(self, data: DataSpec) -> MotionVectors:
        """Build; raises :class:`ConfigError` on an unknown camera or a picture that blocks do not tile."""
        reader, cameras = "substrate 'motion_vectors'", data.observation.cameras
        if self.camera not in cameras:
            raise ConfigError(f"{reader}: no camera {self.camera!r}. {did_you_mean(self.camera, cameras)}")
        size = cameras[self.camera]
        if self.block not in (8, 16) or size.height % 16 or size.width % 16:
            raise ConfigError(
                f"{reader}: blocks have 8 or 16 pixels, not {self.block}, and the {size.height} x {size.width} pixels "
                f"of camera {self.camera!r} must be multiples of 16"
            )
        return MotionVectors(self, size.height, size.width)


@final
class MotionVectors(Substrate):
    """(B, T, rows, columns * 3): a token per row of blocks of the future frame; each block has its displacement
    since now in x and y in ``unit``, and 1, or -1 and zeros where the codec found nothing that it came from.
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
        """Pictures (h, w, 3) uint8 -> (rows, columns, 3): where each block of ``after`` moved, pixels, and whether."""
        shift, known = np.zeros((self.height, self.width, 2)), np.zeros((self.height, self.width), bool)
        for vector in vectors(_compress([before, after], self.config.block)):
            width, height = int(vector["w"]), int(vector["h"])
            left, top = int(vector["dst_x"]) - width // 2, int(vector["dst_y"]) - height // 2
            where = np.s_[top : top + height, left : left + width]
            shift[where] = -np.array([vector["motion_x"], vector["motion_y"]]) / vector["motion_scale"]
            known[where] = True
        error = np.abs(after @ LUMA - motion_compensated(before @ LUMA, shift))
        found = (self._blocks(known) & (self._blocks(error) <= self.config.tolerance))[..., None]
        mean = np.stack([self._blocks(shift[..., i]) for i in (0, 1)], axis=-1)
        return np.concatenate((np.where(found, mean, 0.0), found * 2.0 - 1), axis=-1)

    def _blocks(self, pixels: np.ndarray) -> np.ndarray:
        """Mean of every block (h, w) -> (rows, columns); for a mask, whether all of it is set."""
        cells = pixels.reshape(self.rows, self.config.block, self.columns, self.config.block)
        return np.asarray(cells.all(axis=(1, 3)) if pixels.dtype == bool else cells.mean(axis=(1, 3)))

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        assert now is not None
        later, before = (
            frames.images[self.config.camera].permute(0, 1, 3, 4, 2).contiguous().cpu().numpy()
            for frames in (observation, now)
        )
        found = np.stack(
            [
                np.stack([self.between(start[0], end) for end in ends])
                for start, ends in zip(before, later, strict=True)
            ]
        )
        found[..., :2] /= self.width * self.config.unit
        return torch.from_numpy(found).float().flatten(3).to(observation.state.device)

    def field(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values -> displacement (B, T, rows, columns, 2) as x, y in pixels, and whether it is known (...)."""
        parts = values.unflatten(3, (self.columns, 3))
        return parts[..., :2] * (self.width * self.config.unit), parts[..., 2] > 0

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        shift, known = (part.flatten(2, 3) for part in self.field(values))
        return {"flow": Reading("displacement", shift, "px", known)}


def motion_compensated(picture: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(h, w) moved by (h, w, 2) as x, y in pixels, each where it arrives; bilinear, edges repeated as codecs do."""
    height, width = picture.shape
    x = (np.arange(width)[None, :] - shift[..., 0]).clip(0, width - 1)
    y = (np.arange(height)[:, None] - shift[..., 1]).clip(0, height - 1)
    left, top = np.minimum(x.astype(int), width - 2), np.minimum(y.astype(int), height - 2)
    right, down = x - left, y - top
    upper = picture[top, left] * (1 - right) + picture[top, left + 1] * right
    lower = picture[top + 1, left] * (1 - right) + picture[top + 1, left + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)


def vectors(packets: Sequence[av.Packet]) -> Any:
    """The motion vectors of the last picture of a compressed clip, FFmpeg's records; none where nothing is known."""
    decoder: Any = av.CodecContext.create(CODEC, "r")
    decoder.thread_count = 1
    decoder.options = {"flags2": "+export_mvs"}
    frames = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
    found = frames[-1].side_data.get("MOTION_VECTORS")
    return () if found is None else found.to_ndarray()


def _compress(pictures: Sequence[np.ndarray], block: int) -> list[av.Packet]:
    """Pictures (h, w, 3) uint8 -> a clip in which every picture is predicted from the one before."""
    height, width = pictures[0].shape[:2]
    encoder: Any = av.CodecContext.create(CODEC, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, RATE), Fraction(RATE, 1)
    encoder.thread_count, encoder.gop_size, encoder.max_b_frames = 1, 1000, 0
    # Fine quantisation, and no new key frame however much has changed.
    encoder.options = {"qmin": "2", "qmax": "2", "sc_threshold": "1000000000"}
    if block == 8:
        encoder.options |= {"flags": "+mv4"}  # a vector per quarter of a macroblock
    packets: list[av.Packet] = []
    for i, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts = i
        packets += encoder.encode(frame)
    return packets + list(encoder.encode(None))
