"""Multi-view RGB history -> tokens with view and time embeddings (`oe.rgb-history`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Length, Room, Size, Words
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.specs import CameraSpec, size_option
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.readout import FlatReadout, GridReadout, Keypoints, Norm, Stem, cell_side
from wamkit.errors import ConfigError
from wamkit.nn.named import Named, NamedParameters


@EncoderConfig.register_subclass("images")
@dataclass(frozen=True)
class ImagesConfig(EncoderConfig):
    """Convolutions per camera, of which the map is read as a whole, as keypoints or as a grid (docs/quality.md).

    Attributes:
        patch: stride of the first convolution in pixels. The kernel is twice as wide.
        stride: stride of the second convolution, if there is one.
        channels: output channels of the convolutions; the first reads overlapping patches, the others are 3 x 3.
        norm: ``group`` normalises the output of every convolution (Wu and He 2018), ``none`` leaves it.
        pool: pooling of the feature map. ``flat`` reads all cells at once, each with weights of its own (DrQ,
            Kostrikov et al. 2020). ``keypoints`` takes the position and the content of every keypoint (spatial
            softmax, Finn et al. 2016). ``grid`` makes one token per four patches in each direction, with a learned
            position (Dosovitskiy et al. 2021).
        features: channels that ``flat`` reads of every cell.
        keypoints: number of keypoints per camera.
        tokens: number of tokens per camera and step that ``flat`` and ``keypoints`` are projected to.
        shift: largest random translation of training images in pixels; edge pixels are repeated.
        cameras: names of the cameras; empty for all.
    """

    patch: Size = 4
    stride: Size = 2
    channels: Annotated[tuple[Size, ...], Length(1)] = (32, 64, 64)
    norm: Norm = "group"
    pool: Literal["flat", "grid", "keypoints"] = "flat"
    features: Size = 32
    keypoints: Size = 32
    tokens: Size = 2
    shift: Room = 0
    cameras: Words = ()

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> ImageEncoder:
        """Build; raises :class:`ConfigError` without a camera, for an unknown one, or when patches do not tile one."""
        if not data.observation.cameras:
            raise ConfigError(
                "encoder 'images': the dataset has no camera. Remove the encoder from `encoders`, on the command "
                "line by `--design.encoders.images null`."
            )
        chosen = {name: data.camera(name, "encoder 'images'") for name in self.cameras}
        for name, camera in (chosen or data.observation.cameras).items():
            for side in (camera.height, camera.width):
                if side % (4 * self.patch):
                    raise ConfigError(
                        f"encoder 'images': camera {name!r} is {camera.height} x {camera.width} pixels, which must be "
                        f"multiples of four patches of {self.patch}. "
                        f"{size_option(camera.height, camera.width, 4 * self.patch)}"
                    )
        cell = cell_side(self.patch, self.channels, self.stride)
        if 4 * self.patch % cell:
            raise ConfigError(
                f"encoder 'images': stride {self.stride} of the second convolution must divide 4, so that cells tile "
                f"four patches. Set it to 1, 2 or 4."
            )
        return ImageEncoder(self, data, window, width)

    def head(self, size: CameraSpec, width: int) -> nn.Module:
        """Read-out of the feature map of a camera of this size."""
        cell, last = cell_side(self.patch, self.channels, self.stride), self.channels[-1]
        cells = (size.height // cell) * (size.width // cell)
        if self.pool == "grid":
            side = 4 * self.patch // cell
            return GridReadout(last, cells // side**2, side, width)
        if self.pool == "keypoints":
            return Keypoints(last, self.keypoints, self.tokens, width)
        return FlatReadout(last, cells, self.features, self.tokens, width)


def channels_last(stem: Stem) -> Stem:
    """Store the kernels of ``stem`` in the channels-last layout, which halves the time on CPUs."""
    for parameter in stem.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)
    return stem


@final
class ImageEncoder(Encoder):
    """Camera images as tokens, N = cameras x steps x tokens.

    Every camera has its own stem and head. Tokens carry the embedding of their camera, looked up by name, and of their
    step.
    """

    def __init__(self, config: ImagesConfig, data: DataSpec, window: WindowSpec, width: int) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(sorted(config.cameras or data.observation.cameras))
        stems = {c: Stem(config.patch, config.channels, config.stride, config.norm) for c in self.cameras}
        self.stems = Named({c: channels_last(stem) for c, stem in stems.items()})
        sizes = data.observation.cameras
        self.heads = Named({c: config.head(sizes[c], width) for c in self.cameras})
        self.view = NamedParameters({c: torch.randn(width) * 0.02 for c in self.cameras})
        self.time = nn.Parameter(torch.randn(len(window.observation), width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens, pads = [], []
        for camera in self.cameras:
            images, missing = observation.shown(camera)
            b, t = images.shape[:2]
            x = images.flatten(0, 1)
            if self.training and self.config.shift:
                x = random_shift(x, self.config.shift)
            x = x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)
            steps = self.heads[camera](self.stems[camera](x)).unflatten(0, (b, t))  # (B, T, n, D)
            steps = steps + self.view[camera] + self.time[-t:, None]
            tokens.append(steps.flatten(1, 2))
            pads.append((observation.pad | missing).repeat_interleave(steps.shape[2], dim=1))
        return torch.cat(tokens, dim=1), torch.cat(pads, dim=1)


def random_shift(images: Tensor, pixels: int) -> Tensor:
    """Translate every image by up to ``pixels`` along both axes, repeating edge pixels (DrQ, Kostrikov et al. 2020).

    Shape (B, C, h, w) and type stay.
    """
    b, c, h, w = images.shape
    device = images.device
    dy, dx = torch.randint(-pixels, pixels + 1, (2, b), device=device)
    rows = (dy[:, None] + torch.arange(h, device=device)).clamp(0, h - 1)  # (B, h)
    columns = (dx[:, None] + torch.arange(w, device=device)).clamp(0, w - 1)  # (B, w)
    shifted = images.gather(2, rows[:, None, :, None].expand(b, c, h, w))
    return shifted.gather(3, columns[:, None, None, :].expand(b, c, h, w))
