"""Convolutions over a picture, and read-outs of their feature map as tokens."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["group", "none"]
GROUPS = 8  # of channels that are normalised together, fewer where they do not divide
SHARPNESS = 5.0  # factor on the logits of a keypoint at the start


class Stem(nn.Module):
    """Overlapping patches, then 3 x 3 convolutions: (B, 3, h, w) -> (B, C, h / cell, w / cell).

    Args:
        patch: stride of the first convolution in pixels; its kernel is twice as wide.
        channels: output channels of the convolutions.
        stride: stride of the second convolution, if there is one.
        norm: ``group`` normalises the output of every convolution (Wu and He 2018).

    Attributes:
        cell: side of a cell of the feature map, pixels.
    """

    def __init__(self, patch: int, channels: tuple[int, ...], stride: int = 1, norm: Norm = "group") -> None:
        super().__init__()
        convolutions = [nn.Conv2d(3, channels[0], 2 * patch, stride=patch, padding=patch // 2)]
        for i, (before, after) in enumerate(pairwise(channels)):
            convolutions.append(nn.Conv2d(before, after, 3, stride=stride if i == 0 else 1, padding=1))
        layers: list[nn.Module] = []
        for convolution in convolutions:
            # Variance is kept from layer to layer (He et al. 2015). The default of the library loses most of it, and
            # what reads a nearly constant map learns from its pictures last.
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            layers.append(convolution)
            if norm == "group":
                width = convolution.out_channels
                layers.append(nn.GroupNorm(math.gcd(GROUPS, width), width))
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)
        self.cell = cell_side(patch, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pictures (B, 3, h, w) in [-1, 1] -> feature map (B, C, h / cell, w / cell)."""
        return self.layers(x)


def cell_side(patch: int, channels: tuple[int, ...], stride: int) -> int:
    """Side of a cell of the feature map of such a :class:`Stem`, pixels."""
    return patch * (stride if len(channels) > 1 else 1)


class FlatReadout(nn.Module):
    """Whole feature map through a perceptron: (B, C, h, w) -> (B, tokens, width).

    Every cell has weights of its own, so that a position is read from where its content stands (as in DrQ, Kostrikov
    et al. 2020).

    Args:
        channels: C.
        cells: h * w.
        features: channels that the map is reduced to before it is flattened.
        tokens: number of tokens.
        width: features per token.
    """

    def __init__(self, channels: int, cells: int, features: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.reduce = nn.Conv2d(channels, features, 1)
        self.project = nn.Sequential(
            nn.LayerNorm(features * cells),
            nn.Linear(features * cells, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, tokens * width),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Feature map (B, C, h, w) -> tokens (B, tokens, width)."""
        return self.project(self.reduce(features).flatten(1)).unflatten(1, (self.tokens, -1))


class Keypoints(nn.Module):
    """Spatial softmax: feature map -> expected position and content of every keypoint -> (B, tokens, width)."""

    def __init__(self, channels: int, keypoints: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = tokens
        # Per keypoint and cell: attention logit and content.
        self.read = nn.Linear(channels, 2 * keypoints)
        # Above 1, so that keypoints begin at some cells: of equal weights over all, gradients nearly cancel.
        self.sharpness = nn.Parameter(torch.full((keypoints, 1), SHARPNESS))
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
    """Grid of tokens: feature map -> (B, h * w / cells^2, width), with learned positions.

    Args:
        channels: channels of the map.
        tokens: number of tokens.
        cells: cells of the map along a side of a token.
        width: features per token.
    """

    def __init__(self, channels: int, tokens: int, cells: int, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(channels, width, cells, stride=cells)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Feature map (B, C, h, w) -> tokens (B, tokens, width)."""
        return self.project(features).flatten(2).transpose(1, 2) + self.position
