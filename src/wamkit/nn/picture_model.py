"""Pictures read by a pretrained vision model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.errors import ConfigError
from wamkit.nn.pretrained import Host, Source, facts_of

# Part of the main input's name in video models of `transformers` (V-JEPA 2: ``pixel_values_videos``). They can skip
# their predictor of masked patches, which does not contribute to the features.
VIDEO_INPUT = "videos"


@dataclass(frozen=True)
class Preprocessing:
    """Resizing and normalisation of pictures before a model sees them.

    Attributes:
        size: side of the resized square picture, in pixels; 0 for the model's own.
        mean: mean per channel of pictures in [0, 1]; empty for the model's own.
        deviation: standard deviation per channel of pictures in [0, 1]; empty for the model's own.
    """

    size: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


@final
class PictureModel(nn.Module):
    """Pictures (M, 3, h, w) uint8 -> tokens (M, N, D) of any vision model of `transformers`.

    Pictures are resized to the model's own size. A video model sees each picture as a still clip.

    Args:
        source: model and part that reads it.
        preprocessing: size and normalisation of pictures.
        grid: side of the grid that the patches are averaged to; 0 keeps every token of the model, class and register
            tokens included.

    Attributes:
        tokens: N, tokens per picture.
        width: D, features per token.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, source: Source, preprocessing: Preprocessing, grid: int = 0) -> None:
        super().__init__()
        pictures = facts_of(source.name, source.architecture, source.part).get("pictures", {})
        mean = preprocessing.mean or tuple(pictures.get("image_mean", ()))
        deviation = preprocessing.deviation or tuple(pictures.get("image_std", ()))
        if len(mean) != 3 or len(deviation) != 3:
            raise ConfigError(
                f"{source.part}: {source.name!r} does not say how pictures are normalised (no preprocessor_config.json "
                f"beside it). Set `mean` and `deviation`, three values each, for pictures in [0, 1]."
            )
        self.host = Host(source, "vision")
        settings = self.host.settings
        own = getattr(settings, "image_size", None) or getattr(settings, "crop_size", None) or 224
        self.size = preprocessing.size or (own if isinstance(own, int) else int(own[0]))
        self.grid = grid
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(3, 1, 1), persistent=False)
        with torch.no_grad():
            # Shapes do not depend on weights, so absent ones are no obstacle to this probe.
            absent, self.host.absent = self.host.absent, ""
            shape = self(torch.zeros(1, 3, self.size, self.size, dtype=torch.uint8)).shape
            self.host.absent = absent
        self.tokens, self.width = int(shape[1]), int(shape[2])

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (M, 3, h, w) uint8 -> tokens (M, N, D)."""
        x = images.float() / 255
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True).clamp(0, 1)
        x = (x - self.mean) / self.deviation
        key = str(self.host.model.main_input_name)
        inputs = {key: x[:, None], "skip_predictor": True} if VIDEO_INPUT in key else {key: x}
        hidden = self.host(**inputs)
        if hidden.dim() == 3 and not self.grid:
            return hidden
        cells = hidden if hidden.dim() == 4 else self._patches(hidden)
        if self.grid:
            cells = F.adaptive_avg_pool2d(cells, self.grid)
        return cells.flatten(2).transpose(1, 2)

    def _patches(self, hidden: Tensor) -> Tensor:
        """Tokens (M, N, D) -> map of the patches (M, D, side, side); other tokens come before the patches."""
        patch = getattr(self.host.settings, "patch_size", 0)
        patch = patch if isinstance(patch, int) else int(patch[0])
        side = self.size // patch if patch else math.isqrt(hidden.shape[1])
        if side**2 > hidden.shape[1]:
            raise ConfigError(
                f"{self.host.source.part}: {hidden.shape[1]} tokens of {self.host.source.name!r} are not a map of "
                f"{side} x {side} patches, so they have no grid. Set grid = 0."
            )
        return hidden[:, -(side**2) :].transpose(1, 2).unflatten(2, (side, side))
