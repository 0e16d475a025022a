"""Multi-view RGB history -> tokens with view and time embeddings (`oe.rgb-history`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Length, Room, Size, Words
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.specs import size_option
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.nn.named import Named, NamedParameters


@EncoderConfig.register_subclass("images")
@dataclass(frozen=True)
class ImagesConfig(EncoderConfig):
    """Convolutions per camera, pooled to keypoints or to a grid (Finn et al. 2016; Dosovitskiy et al. 2021).

    Attributes:
        patch: stride of the first convolution in pixels, so that a side of S pixels becomes S / patch cells. The kernel
            is twice as wide.
        channels: output channels of the convolutions; the first reads overlapping patches, the others are 3 x 3.
        pool: pooling of the feature map. ``keypoints`` takes the position and the content of every keypoint (spatial
            softmax): few tokens with exact positions. ``grid`` makes one token per 4 x 4 cells, with a learned
            position.
        keypoints: number of keypoints per camera.
        tokens: number of tokens per camera and step that the keypoints are projected to.
        shift: largest random translation of training images in pixels; edge pixels are repeated.
        cameras: names of the cameras; empty for all.
    """

    patch: Size = 4
    channels: Annotated[tuple[Size, ...], Length(1)] = (32, 48, 48)
    pool: Literal["grid", "keypoints"] = "keypoints"
    keypoints: Size = 32
    tokens: Size = 2
    shift: Room = 2
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
        return ImageEncoder(self, data, window, width)


class Stem(nn.Module):
    """Overlapping patches, then 3 x 3 convolutions: (B, 3, h, w) -> (B, C, h / patch, w / patch)."""

    def __init__(self, patch: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(3, channels[0], 2 * patch, stride=patch, padding=patch // 2),
            nn.ReLU(),
        ]
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] -> feature map (B, C, h / patch, w / patch)."""
        return self.layers(x)


class Keypoints(nn.Module):
    """Spatial softmax: feature map -> expected position and content of every keypoint -> (B, tokens, width)."""

    def __init__(self, channels: int, keypoints: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        # Per keypoint and cell: attention logit and content.
        self.read = nn.Linear(channels, 2 * keypoints)
        self.sharpness = nn.Parameter(torch.ones(keypoints, 1))
        self.project = nn.Sequential(
            nn.Linear(3 * keypoints, 2 * width), nn.GELU(), nn.Linear(2 * width, tokens * width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Feature map (B, C, h, w) -> tokens (B, tokens, width)."""
        h, w = features.shape[-2:]
        logits, values = self.read(features.flatten(2).transpose(1, 2)).transpose(1, 2).chunk(2, dim=1)
        weights = F.softmax(logits * self.sharpness, dim=-1)  # (B, K, h * w)
        rows = (torch.arange(h, device=features.device) + 0.5) * (2 / h) - 1
        columns = (torch.arange(w, device=features.device) + 0.5) * (2 / w) - 1
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).view(h * w, 2)
        content = (weights * values).sum(dim=-1, keepdim=True)
        points = torch.cat((weights @ grid, content), dim=-1)  # (B, K, 3)
        return self.project(points.flatten(1)).unflatten(1, (self.tokens, -1))


class GridReadout(nn.Module):
    """Grid of tokens: feature map -> (B, h * w / 16, width), one token per 4 x 4 cells with a learned position."""

    def __init__(self, channels: int, cells: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 4, stride=4)
        self.position = nn.Parameter(torch.randn(cells // 16, width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Feature map (B, C, h, w) -> tokens (B, h * w / 16, width)."""
        return self.project(features).flatten(2).transpose(1, 2) + self.position


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
        self.stems = Named({c: channels_last(Stem(config.patch, config.channels)) for c in self.cameras})
        heads: dict[str, GridReadout | Keypoints] = {}
        for camera in self.cameras:
            size = data.observation.cameras[camera]
            cells = (size.height // config.patch) * (size.width // config.patch)
            last = config.channels[-1]
            heads[camera] = (
                GridReadout(last, cells, width)
                if config.pool == "grid"
                else Keypoints(last, config.keypoints, config.tokens, width)
            )
        self.heads = Named(heads)
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
