"""Augmentations of what pixels show: colour, blur, noise and erased rectangles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Probability, Range
from wamkit.contract.augmenting import AugmentConfig, Draws, PictureAugment

MIDDLE = 127.5  # of the range 0 to 255
# Red, green, blue -> luma and two axes of chroma, in the plane of which a hue is an angle (Rec. 601, YIQ).
YIQ = ((0.299, 0.587, 0.114), (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135))


@final
@AugmentConfig.register_subclass("colour")
@dataclass(frozen=True)
class Colour(PictureAugment):
    """Brightness, contrast, saturation and hue, as one linear map of the colours per window.

    A strength v draws the factor from 1 - v to 1 + v.

    Attributes:
        brightness: strength of the factor on all values.
        contrast: strength of the factor on distances from the middle of the range.
        saturation: strength of the factor on distances from grey.
        hue: largest turn of the hues in either direction, as a share of a full turn.
    """

    brightness: Probability = 0.3
    contrast: Probability = 0.3
    saturation: Probability = 0.3
    hue: Annotated[float, Range(0, 0.5)] = 0.03

    @override
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        names = ("brightness", "contrast", "saturation")
        strengths = (self.brightness, self.contrast, self.saturation)
        brightness, contrast, saturation = (
            draws.uniform(n, 1 - v, 1 + v) for n, v in zip(names, strengths, strict=True)
        )
        hue = draws.uniform("hue", -self.hue, self.hue)
        matrix, offset = colour_map(brightness, contrast, saturation, hue)
        changed = (matrix[:, None] @ frames.flatten(3)).view_as(frames)
        return changed.add_(offset.view(-1, 1, 1, 1, 1)).clamp_(0, 255)


def colour_map(
    brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor
) -> tuple[Tensor, Tensor]:
    """Map of colours for B rows: matrices (B, 3, 3) and offsets (B,), in values from 0 to 255.

    Args:
        brightness: (B,) factors on all values.
        contrast: (B,) factors on distances from the middle of the range.
        saturation: (B,) factors on distances from grey; 0 leaves the luma.
        hue: (B,) turns of the hues, 1 for a full turn.
    """
    to_yiq = torch.tensor(YIQ, dtype=torch.float64)
    angle = 2 * math.pi * hue.double()
    turn = torch.zeros(len(hue), 3, 3, dtype=torch.float64)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * angle.cos()
    turn[:, 2, 1] = saturation * angle.sin()
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix = torch.linalg.inv(to_yiq) @ turn @ to_yiq
    return ((brightness * contrast)[:, None, None] * matrix).float(), MIDDLE * (1 - contrast)


@final
@AugmentConfig.register_subclass("blur")
@dataclass(frozen=True)
class Blur(PictureAugment):
    """Gaussian blur; edge pixels are repeated.

    Attributes:
        sigma: largest standard deviation, pixels.
    """

    sigma: Annotated[float, Range(0, 100)] = 1.0

    @override
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        sigma = draws.uniform("sigma", 0.0, self.sigma).clamp(min=1e-3)
        reach = max(1, math.ceil(3 * self.sigma))
        offsets = torch.arange(-reach, reach + 1)
        weights = torch.exp(-0.5 * (offsets / sigma[:, None]).square())
        weights = weights / weights.sum(dim=1, keepdim=True)
        blurred = F.pad(frames.flatten(1, 2), [reach] * 4, mode="replicate")
        taps = weights.T.reshape(-1, len(frames), 1, 1, 1)  # the last three for (N C, h, w)
        for axis, length in enumerate(frames.shape[-2:], start=2):
            parts = [blurred.narrow(axis, k, length) for k in range(len(offsets))]
            blurred = parts[0] * taps[0]
            for part, weight in zip(parts[1:], taps[1:], strict=True):
                blurred.addcmul_(part, weight)
        return blurred.view_as(frames)


@final
@AugmentConfig.register_subclass("noise")
@dataclass(frozen=True)
class Noise(PictureAugment):
    """Gaussian noise on every value, one pattern per window: frames that were equal stay equal.

    Attributes:
        std: largest standard deviation, of values from 0 to 255.
    """

    std: Annotated[float, Range(0, 255)] = 8.0

    @override
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        strength = draws.uniform("strength", 0.0, self.std).view(-1, 1, 1, 1, 1)
        pattern = draws.normal("pattern", 1, *frames.shape[2:])
        return torch.addcmul(frames, pattern, strength).clamp_(0, 255)


@final
@AugmentConfig.register_subclass("erase")
@dataclass(frozen=True)
class Erase(PictureAugment):
    """Grey rectangle at a random place (Zhong et al. 2020).

    Attributes:
        share: largest side of the rectangle as a share of the picture's.
    """

    share: Probability = 0.3

    @override
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        inside = torch.ones(len(frames), *frames.shape[-2:], dtype=torch.bool)
        for axis, name in ((1, "rows"), (2, "columns")):
            length = inside.shape[axis]
            side = draws.uniform(f"{name} side", 0.0, self.share)
            start = (draws.uniform(name, 0.0, 1.0) * (1 - side) * length).round()[:, None]
            places = torch.arange(length)
            span = (places >= start) & (places < start + (side * length).round()[:, None])
            inside &= span.unsqueeze(3 - axis)
        return frames.masked_fill(inside[:, None, None], round(MIDDLE))
