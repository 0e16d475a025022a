"""Sensor Noise: image corruptions between the lens and the policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.envs.perturbations.base import Dimension, Perturbation, Picture, Shutter

# Values at full strength.
GAUSSIAN = 100.0  # standard deviation, of 255
BLUR = 0.25  # length of the motion blur, fraction of the width
DEFOCUS = 0.08  # standard deviation of the defocus, fraction of the width
FOG = 0.95
GLARE = 1.0
DEAD = 0.3  # fraction of the pixels
DROPPED = 0.9  # fraction of the frames


@dataclass(frozen=True)
class SensorPerturbation(Perturbation):
    """Base of all kinds of sensor noise."""

    dimension: ClassVar[Dimension] = "Sensor Noise"


def to_bytes(values: NDArray[Any]) -> Picture:
    """Round values and clip them to 0 to 255."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


@Perturbation.register_subclass("gaussian_noise")
@dataclass(frozen=True)
class GaussianNoise(SensorPerturbation):
    """Independent Gaussian noise on every value, with a standard deviation of up to 100 of 255."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        return to_bytes(picture + self.grade(GAUSSIAN) * shutter.now.standard_normal(picture.shape))


@Perturbation.register_subclass("motion_blur")
@dataclass(frozen=True)
class MotionBlur(SensorPerturbation):
    """Motion blur up to a quarter of the image long, in one seeded direction per episode."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        kernel = line(self.grade(BLUR) * picture.shape[1], shutter.episode.uniform(0, np.pi))
        return to_bytes(scipy.ndimage.convolve(picture.astype(np.float64), kernel[..., None], mode="nearest"))


def line(length: float, angle: float) -> NDArray[np.float64]:
    """Kernel (odd, odd) of an antialiased line through its centre, with weights that sum to one."""
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
    """Gaussian blur with a standard deviation of up to 8 % of the width."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        sigma = self.grade(DEFOCUS) * picture.shape[1]
        return to_bytes(scipy.ndimage.gaussian_filter(picture.astype(np.float64), (sigma, sigma, 0)))


@Perturbation.register_subclass("fog")
@dataclass(frozen=True)
class Fog(SensorPerturbation):
    """Grey clouds, constant over an episode, that hide up to 95 % of the image's contrast."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        noise = shutter.episode.standard_normal(picture.shape[:2])
        clouds = scipy.ndimage.gaussian_filter(noise, picture.shape[1] / 8, mode="wrap")
        clouds = (clouds - clouds.min()) / np.ptp(clouds)
        thickness = self.grade(FOG) * (0.7 + 0.3 * clouds)[..., None]
        return to_bytes(picture + thickness * (205.0 - picture))


@Perturbation.register_subclass("glare")
@dataclass(frozen=True)
class Glare(SensorPerturbation):
    """Bright spot a quarter of the image wide, at one seeded position per episode."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        height, width = picture.shape[:2]
        centre = shutter.episode.uniform(0.2, 0.8, 2)
        y, x = np.mgrid[0:height, 0:width]
        square = ((y / height - centre[0]) ** 2 + (x / width - centre[1]) ** 2) / (2 * 0.12**2)
        return to_bytes(picture + self.grade(GLARE) * np.exp(-square)[..., None] * (255.0 - picture))


@Perturbation.register_subclass("dead_pixels")
@dataclass(frozen=True)
class DeadPixels(SensorPerturbation):
    """Black or white pixels, up to 30 % of all and constant over an episode."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        shape = picture.shape[:2]
        dead = shutter.episode.uniform(0, 1, shape) < self.grade(DEAD)
        white = shutter.episode.integers(0, 2, shape, np.uint8) * np.uint8(255)
        return np.where(dead[..., None], white[..., None], picture)


@Perturbation.register_subclass("dropped_frames")
@dataclass(frozen=True)
class DroppedFrames(SensorPerturbation):
    """Frames dropped with a chance of up to 90 % and replaced by the last one delivered."""

    @override
    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        dropped = shutter.now.random() < self.grade(DROPPED)
        return shutter.previous if dropped and shutter.previous is not None else picture
