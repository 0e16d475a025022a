"""The contract of augmentations: changes of training windows, drawn once per window and camera."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import draccus
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Probability, Words
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Batch
from wamkit.errors import ConfigError

GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix 64-bit integers so that neighbours become unrelated (finaliser of SplitMix64; Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


@final
@dataclass(frozen=True)
class Draws:
    """Random numbers of B windows: a function of a key and of a window's row, and of nothing else.

    No global generator is read or moved, and a row draws the same whatever the other rows are.

    Attributes:
        key: 64 bits made of seed, step and place.
        rows: row numbers of the windows, B of them.
    """

    key: int
    rows: tuple[int, ...]

    @classmethod
    def of(cls, seed: int, step: int, rows: Sequence[int]) -> Draws:
        """Draws of the rows of the batch at ``step``."""
        return cls(0, tuple(rows)).at(seed).at(step)

    def at(self, place: int | str) -> Draws:
        """Draws at a place of its own, such as a camera, unrelated to those of other places."""
        digest = hashlib.blake2b(f"{self.key}/{place!r}".encode(), digest_size=8).digest()
        return replace(self, key=int.from_bytes(digest, "little"))

    def only(self, chosen: Tensor) -> Draws:
        """Draws of the rows that ``chosen`` (B,) bool marks."""
        return replace(
            self, rows=tuple(r for r, kept in zip(self.rows, chosen.tolist(), strict=True) if kept)
        )

    def uniform(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        """Numbers in [low, high) under a name of their own, (B, *shape) float32."""
        counts = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64)
        bits = mixed(self._states(name)[:, None] + GOLDEN * counts) >> np.uint64(40)
        unit = torch.from_numpy(bits.astype(np.float32) * np.float32(2.0**-24))
        return (low + (high - low) * unit).view(len(self.rows), *shape)

    def integers(self, name: str, low: int, high: int, *shape: int) -> Tensor:
        """Integers from ``low`` to ``high``, both included, (B, *shape) int64."""
        return self.uniform(name, low, high + 1, *shape).floor().clamp(low, high).long()

    def chance(self, name: str, probability: float) -> Tensor:
        """True with the given probability, (B,) bool."""
        return self.uniform(name, 0.0, 1.0) < probability

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal numbers, (B, *shape) float32."""
        values = torch.empty(len(self.rows), *shape)
        generator = torch.Generator()
        for row, state in zip(values, self._states(name).tolist(), strict=True):
            torch.randn(shape, generator=generator.manual_seed(state >> 1), out=row)
        return values

    def _states(self, name: str) -> NDArray[np.uint64]:
        """64 bits per row."""
        rows = np.array(self.rows, dtype=np.uint64) + np.uint64(1)
        return mixed(np.array([self.at(name).key], dtype=np.uint64) + GOLDEN * rows)


@dataclass(frozen=True)
class Scope:
    """What a list of augmentations is checked against.

    Attributes:
        data: description of the data.
        extras: extra that the design reads in training -> name of a part that reads it.
        pixels: those of ``extras`` that hold coordinates of pixels -> name of a part that reads it.
        texts: true when the design learns to write texts.
    """

    data: DataSpec
    extras: Mapping[str, str] = field(default_factory=dict)
    pixels: Mapping[str, str] = field(default_factory=dict)
    texts: bool = False


@dataclass(frozen=True)
class AugmentConfig(Config, draccus.ChoiceRegistry):
    """Base of all augmentations: one change of training windows, with its strength. It is its own part."""

    def check(self, scope: Scope) -> None:
        """Raise :class:`ConfigError` when it cannot be applied to these data or for this design."""


@dataclass(frozen=True)
class WindowAugment(AugmentConfig, ABC):
    """Augmentation of anything but pixels."""

    @abstractmethod
    def apply(self, batch: Batch, draws: Draws, data: DataSpec) -> Batch:
        """Change a batch."""


@dataclass(frozen=True)
class PictureAugment(AugmentConfig, ABC):
    """Augmentation of pictures; the same change for all frames of a window and camera.

    Attributes:
        cameras: names of the cameras whose pictures change; empty for all.
        probability: probability that the pictures of a window and camera change.
    """

    cameras: Words = ()
    probability: Probability = 1.0

    @override
    def check(self, scope: Scope) -> None:
        """Check the cameras; raises :class:`ConfigError` for an unknown one."""
        for name in self.cameras:
            scope.data.camera(name, self.label)

    @property
    def label(self) -> str:
        """Name in messages."""
        return f"augment {self.get_choice_name(type(self))!r}"

    @abstractmethod
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        """Change the pictures of one camera.

        Args:
            frames: (B, N, 3, h, w) float32, about 0 to 255: all pictures of each window, whatever their time.
            draws: draws of these windows and this camera.
        """


@dataclass(frozen=True)
class GeometricAugment(PictureAugment):
    """Augmentation that moves pixels, and with them the maps of the same camera (depth, labels).

    What else lies in the picture plane cannot be moved: the pose and lens of the camera, and coordinates of pixels. A
    design that reads such an extra is refused.
    """

    @override
    def check(self, scope: Scope) -> None:
        """Check; raises :class:`ConfigError` for an extra that the design reads and that cannot be moved."""
        super().check(scope)
        cameras = scope.data.observation.cameras
        for name, reader in scope.extras.items():
            camera = name.rpartition(".")[2]
            tied = camera in cameras and not is_map(name, scope.data)
            if (tied and camera in (self.cameras or cameras)) or name in scope.pixels:
                raise ConfigError(
                    f"{self.label} moves pixels, but {scope.pixels.get(name, reader)} reads the extra {name!r}, which "
                    f"belongs to the picture as it was recorded and cannot be moved with it. Remove this augmentation, "
                    f"or name in its `cameras` those that no such extra belongs to."
                )

    @abstractmethod
    def move(self, values: Tensor, draws: Draws, nearest: bool) -> Tensor:
        """Move (B, N, C, h, w) float32; ``nearest`` takes the nearest pixel instead of mixing neighbours."""

    @override
    def pictures(self, frames: Tensor, draws: Draws) -> Tensor:
        return self.move(frames, draws, nearest=False)


def is_map(name: str, data: DataSpec) -> bool:
    """Whether an extra ``kind.camera`` has one value per pixel of that camera."""
    camera = data.observation.cameras.get(name.rpartition(".")[2])
    return camera is not None and tuple(data.extras.get(name, ())) == (camera.height, camera.width)
