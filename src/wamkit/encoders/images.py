"""Multi-view RGB history -> tokens with view and time indices (`oe.rgb-history`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import ConfigError
from wamkit.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.types import Observation, WindowSpec


@EncoderConfig.register_subclass("images")
@dataclass(frozen=True)
class ImagesConfig(EncoderConfig):
    """A convolutional stem per view.

    Attributes:
        channels: output channels of the stem's layers; each layer halves the resolution.
        pool: ``grid`` gives one token per cell of the last feature map; ``keypoints`` gives the expected
            position of every last channel (spatial softmax, Finn et al. 2016, "Deep spatial autoencoders") as
            ``tokens`` tokens: 4 to 10 times fewer, and exact about where things are.
        tokens: tokens per view and step with ``keypoints``.
        shift: largest random translation of the training images, pixels (edge pixels repeated).
    """

    channels: tuple[int, ...] = (32, 64, 64)
    pool: Literal["grid", "keypoints"] = "keypoints"
    tokens: int = 2
    shift: int = 0

    def build(self, data: DataSpec, window: WindowSpec, width: int) -> ImageEncoder:
        """Build the encoder; raises :class:`ConfigError` when there is no camera to read."""
        if not data.observation.cameras:
            raise ConfigError("encoder 'images': the dataset has no camera. Remove the encoder from `context`.")
        return ImageEncoder(self, data, window, width)


class Stem(nn.Module):
    """Strided convolutions with group normalisation: (B, 3, h, w) -> (B, C, h', w')."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for i, after in enumerate(channels):
            kernel = 5 if i == 0 else 3
            layers += [
                nn.Conv2d(before, after, kernel, stride=2, padding=kernel // 2),
                nn.GroupNorm(max(1, after // 16), after),
                nn.ReLU(),
            ]
            before = after
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, h, w) in [-1, 1] -> feature map."""
        return self.layers(x)


class SpatialSoftmax(nn.Module):
    """Expected image position of every channel: (B, C, h, w) -> (B, C, 2) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.log_sharpness = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        b, c, h, w = features.shape
        weights = F.softmax(features.flatten(2) * self.log_sharpness.exp(), dim=-1)
        ys = torch.linspace(-1, 1, h, device=features.device)
        xs = torch.linspace(-1, 1, w, device=features.device)
        grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij"), dim=-1).view(h * w, 2)
        return weights @ grid


class Keypoints(nn.Module):
    """Feature map -> (B, tokens, width): where every channel is."""

    def __init__(self, channels: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.softmax = SpatialSoftmax()
        self.project = nn.Sequential(nn.Linear(2 * channels, width * tokens), nn.GELU())

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.project(self.softmax(features).flatten(1)).unflatten(1, (self.tokens, -1))


class Grid(nn.Module):
    """Feature map -> (B, h * w, width): one token per cell, with a learned position."""

    def __init__(self, channels: int, cells: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(cells, width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return self.project(features.flatten(2).transpose(1, 2)) + self.position


@final
class ImageEncoder(Encoder):
    """Every view has its own stem; tokens carry view and time embeddings looked up by camera name."""

    def __init__(self, config: ImagesConfig, data: DataSpec, window: WindowSpec, width: int) -> None:
        super().__init__()
        self.config = config
        self.cameras = tuple(sorted(data.observation.cameras))
        self.stems = nn.ModuleDict({camera: Stem(config.channels) for camera in self.cameras})
        self.heads = nn.ModuleDict()
        for camera in self.cameras:
            size = data.observation.cameras[camera]
            cells = 1
            for extent in (size.height, size.width):
                for _ in config.channels:
                    extent = (extent + 1) // 2
                cells *= extent
            channels = config.channels[-1]
            self.heads[camera] = (
                Grid(channels, cells, width)
                if config.pool == "grid"
                else Keypoints(channels, config.tokens, width)
            )
        self.view = nn.ParameterDict({c: nn.Parameter(torch.randn(width) * 0.02) for c in self.cameras})
        self.time = nn.Parameter(torch.randn(len(window.observation), width) * 0.02)

    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        """See :class:`wamkit.protocols.Encoder`. N = views x steps x tokens."""
        tokens, pads = [], []
        for camera in self.cameras:
            images = observation.images[camera]  # (B, T, 3, h, w) uint8
            b, t = images.shape[:2]
            x = images.flatten(0, 1).float().div_(127.5).sub_(1.0)
            if self.training and self.config.shift:
                x = random_shift(x, self.config.shift)
            seen = self.heads[camera](self.stems[camera](x)).unflatten(0, (b, t))  # (B, T, n, D)
            seen = seen + self.view[camera] + self.time[-t:, None]
            tokens.append(seen.flatten(1, 2))
            pads.append(observation.pad.repeat_interleave(seen.shape[2], dim=1))
        return torch.cat(tokens, dim=1), torch.cat(pads, dim=1)


def random_shift(x: Tensor, pixels: int) -> Tensor:
    """Translate every image by up to ``pixels`` in both axes, repeating the edge (DrQ, Kostrikov et al. 2020)."""
    b, _, h, w = x.shape
    padded = F.pad(x, (pixels,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * pixels + 1, (2, b), device=x.device)
    rows = (dy[:, None] + torch.arange(h, device=x.device))[:, None, :, None]
    cols = (dx[:, None] + torch.arange(w, device=x.device))[:, None, None, :]
    batch = torch.arange(b, device=x.device)[:, None, None, None]
    channel = torch.arange(x.shape[1], device=x.device)[None, :, None, None]
    return padded[batch, channel, rows, cols]
