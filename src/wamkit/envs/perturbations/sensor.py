"""Sensor Noise: what happens to a picture between the lens and the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from wamkit.envs.perturbations.base import Dimension, Perturbation, Picture, Shutter

GAUSSIAN = 100.0  # standard deviation at full strength, of 255
BLUR = 0.25  # length of the strongest motion blur, part of the width
DEFOCUS = 0.08  # standard deviation of the strongest defocus, part of the width
FOG = 0.95
GLARE = 1.0
DEAD = 0.3  # part of the pixels
DROPPED = 0.9  # part of the frames


@dataclass(frozen=True)
class SensorPerturbation(Perturbation):
    """What all kinds of sensor noise share."""

    dimension: ClassVar[Dimension] = "Sensor Noise"


def to_bytes(values: NDArray[Any]) -> Picture:
    """Values of 0 to 255, cut and rounded."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@Perturbation.register_subclass("gaussian_noise")
@dataclass(frozen=True)
class GaussianNoise(SensorPerturbation):
    """Independent normal noise on every value, up to a standard deviation of 100 of 255."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        return to_bytes(picture + self.grade(GAUSSIAN) * shutter.now.standard_normal(picture.shape))


@Perturbation.register_subclass("motion_blur")
@dataclass(frozen=True)
class MotionBlur(SensorPerturbation):
    """Mean along a line, up to a quarter of the picture long, in a direction drawn once per episode."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        kernel = line(self.grade(BLUR) * picture.shape[1], shutter.episode.uniform(0, np.pi))
        return to_bytes(ndimage.convolve(picture.astype(np.float64), kernel[..., None], mode="nearest"))


def line(length: float, angle: float) -> NDArray[np.float64]:
    """A line through the middle of a square, (odd, odd), of weight one; its points are shared by their neighbours."""
    middle = int(np.ceil(length / 2)) + 1
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1))
    steps = np.linspace(-length / 2, length / 2, 8 * middle + 1)
    y, x = middle + steps * np.sin(angle), middle + steps * np.cos(angle)
    rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
    for down in (0, 1):
        for right in (0, 1):
            share = np.abs(1 - down - (y - rows)) * np.abs(1 - right - (x - columns))
            np.add.at(kernel, (rows + down, columns + right), share)
    return kernel / kernel.sum()


@Perturbation.register_subclass("defocus")
@dataclass(frozen=True)
class Defocus(SensorPerturbation):
    """Gaussian blur, up to a standard deviation of 8 % of the width."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        sigma = self.grade(DEFOCUS) * picture.shape[1]
        return to_bytes(ndimage.gaussian_filter(picture.astype(np.float64), (sigma, sigma, 0)))


@Perturbation.register_subclass("fog")
@dataclass(frozen=True)
class Fog(SensorPerturbation):
    """Grey clouds, the same over an episode, that hide up to 95 % of the picture's contrast."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        noise = shutter.episode.standard_normal(picture.shape[:2])
        clouds = ndimage.gaussian_filter(noise, picture.shape[1] / 8, mode="wrap")
        clouds = (clouds - clouds.min()) / np.ptp(clouds)
        thickness = self.grade(FOG) * (0.7 + 0.3 * clouds)[..., None]
        return to_bytes(picture + thickness * (205.0 - picture))


@Perturbation.register_subclass("glare")
@dataclass(frozen=True)
class Glare(SensorPerturbation):
    """A bright spot a quarter of the picture wide, at a place drawn once per episode."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        height, width = picture.shape[:2]
        place = shutter.episode.uniform(0.2, 0.8, 2)
        y, x = np.mgrid[0:height, 0:width]
        square = ((y / height - place[0]) ** 2 + (x / width - place[1]) ** 2) / (2 * 0.12**2)
        return to_bytes(picture + self.grade(GLARE) * np.exp(-square)[..., None] * (255.0 - picture))


@Perturbation.register_subclass("dead_pixels")
@dataclass(frozen=True)
class DeadPixels(SensorPerturbation):
    """Up to 30 % of the pixels are black or white, the same ones over an episode."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        shape = picture.shape[:2]
        dead = shutter.episode.uniform(0, 1, shape) < self.grade(DEAD)
        white = shutter.episode.integers(0, 2, shape, np.uint8) * np.uint8(255)
        return np.where(dead[..., None], white[..., None], picture)


@Perturbation.register_subclass("dropped_frames")
@dataclass(frozen=True)
class DroppedFrames(SensorPerturbation):
    """Up to 90 % of the pictures do not arrive; the last one that did is seen again."""

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """See :class:`Perturbation`."""
        dropped = shutter.now.random() < self.grade(DROPPED)
        return shutter.previous if dropped and shutter.previous is not None else picture
