"""Multi-view RGB history -> tokens with view and time indices (`oe.rgb-history`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError
from wamkit.nn.named import Named


@EncoderConfig.register_subclass("images")
@dataclass(frozen=True)
class ImagesConfig(EncoderConfig):
    """Convolutions per camera view, read out as keypoints or as a grid (Finn et al. 2016; Dosovitskiy et al. 2021).

    Attributes:
        patch: stride of the first convolution, pixels, so that an image of S pixels becomes S / patch cells; its
            kernel is twice as wide.
        channels: output channels of the convolutions; the first one reads patches, the others are 3 x 3.
        pool: readout of the feature map. ``keypoints`` gives position and content of each keypoint (spatial
            softmax): few tokens, exact positions. ``grid`` gives one token per 4 x 4 cells, with a learned position.
        keypoints: number of keypoints per camera.
        tokens: number of tokens per camera and step into which the keypoints are projected.
        shift: largest random translation of the training images, pixels; edge pixels are repeated.
    """

    patch: int = 4
    channels: tuple[int, ...] = (32, 48, 48)
    pool: Literal["grid", "keypoints"] = "keypoints"
    keypoints: int = 32
    tokens: int = 2
    shift: int = 2

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> ImageEncoder:
        """Build the encoder; raises :class:`ConfigError` when there is no camera to read."""
        if not data.observation.cameras:
            raise ConfigError(
                "encoder 'images': the dataset has no camera. Remove the encoder from `encoders`."
            )
        for name, camera in data.observation.cameras.items():
            for side in (camera.height, camera.width):
                if side % (4 * self.patch):
                    raise ConfigError(
                        f"encoder 'images': camera {name!r} is {camera.height} x {camera.width} pixels, which must be "
                        f"multiples of four patches of {self.patch}"
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
        """(B, 3, h, w) in [-1, 1] -> feature map."""
        return self.layers(x)


class Keypoints(nn.Module):
    """Feature map -> (B, tokens, width), through the expected position and content of every keypoint."""

    def __init__(self, channels: int, keypoints: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        # Per keypoint: attention logit and content of each cell.
        self.read = nn.Linear(channels, 2 * keypoints)
        self.sharpness = nn.Parameter(torch.ones(keypoints, 1))
        self.project = nn.Sequential(
            nn.Linear(3 * keypoints, 2 * width), nn.GELU(), nn.Linear(2 * width, tokens * width)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, tokens, width)."""
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
    """Feature map -> (B, h * w / 16, width): one token per 4 x 4 cells, with a learned position."""

    def __init__(self, channels: int, cells: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, 4, stride=4)
        self.position = nn.Parameter(torch.randn(cells // 16, width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, h * w / 16, width)."""
        return self.project(features).flatten(2).transpose(1, 2) + self.position


@final
class ImageEncoder(Encoder):
    """One stem per camera; tokens carry camera and time embeddings. N = views x steps x tokens."""

    def __init__(self, config: ImagesConfig, data: DataSpec, window: WindowSpec, width: int) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(sorted(data.observation.cameras))
        self.stems = Named({camera: Stem(config.patch, config.channels) for camera in self.cameras})
        for weight in self.stems.parameters():
            if weight.dim() == 4:
                # Takes half the time of the default layout on CPUs.
                weight.data = weight.data.to(weight.dtype, memory_format=torch.channels_last)
        heads: dict[str, nn.Module] = {}
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
        self.view = nn.ParameterDict({c: nn.Parameter(torch.randn(width) * 0.02) for c in self.cameras})
        self.time = nn.Parameter(torch.randn(len(window.observation), width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """Tokens and their padding; N = views x steps x tokens."""
        tokens, pads = [], []
        for camera in self.cameras:
            images = observation.view(camera)  # (B, T, 3, h, w) uint8
            b, t = images.shape[:2]
            x = images.flatten(0, 1)
            if self.training and self.config.shift:
                x = random_shift(x, self.config.shift)
            x = x.to(torch.float32, memory_format=torch.channels_last).div_(127.5).sub_(1.0)
            views = self.heads[camera](self.stems[camera](x)).unflatten(0, (b, t))  # (B, T, n, D)
            views = views + self.view[camera] + self.time[-t:, None]
            tokens.append(views.flatten(1, 2))
            pads.append(observation.pad.repeat_interleave(views.shape[2], dim=1))
        return torch.cat(tokens, dim=1), torch.cat(pads, dim=1)


def random_shift(images: Tensor, pixels: int) -> Tensor:
    """Translate every image by up to ``pixels`` in both axes, repeating the edge (DrQ, Kostrikov et al. 2020).

    (B, C, h, w) of any type -> the same shape and type.
    """
    b, c, h, w = images.shape
    device = images.device
    dy, dx = torch.randint(-pixels, pixels + 1, (2, b), device=device)
    rows = (dy[:, None] + torch.arange(h, device=device)).clamp(0, h - 1)  # (B, h)
    columns = (dx[:, None] + torch.arange(w, device=device)).clamp(0, w - 1)  # (B, w)
    shifted = images.gather(2, rows[:, None, :, None].expand(b, c, h, w))
    return shifted.gather(3, columns[:, None, None, :].expand(b, c, h, w))
