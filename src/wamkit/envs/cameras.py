"""Pose of a simulated camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from wamkit.config.ranges import Finite, Range, Word
from wamkit.config.values import Config
from wamkit.errors import ConfigError

Vector = tuple[Finite, Finite, Finite]


@dataclass(frozen=True)
class CameraPose(Config):
    """Pose of a pinhole camera at ``position`` that looks at ``target``.

    Attributes:
        position: position of the camera, metres, in the frame of ``body``.
        target: point at the centre of the image, metres, in the frame of ``body``.
        up: direction that points up in the image, in the frame of ``body``; need not be normalised.
        fovy_deg: vertical field of view, degrees.
        body: name of the MuJoCo body that carries the camera, ``world`` for a fixed camera.
    """

    position: Vector
    target: Vector
    up: Vector = (0.0, 0.0, 1.0)
    fovy_deg: Annotated[float, Range(1, 170)] = 45.0
    body: Word = "world"

    def __post_init__(self) -> None:
        forward = np.subtract(self.target, self.position)
        if np.linalg.norm(np.cross(forward, self.up)) < 1e-9:
            raise ConfigError(
                f"CameraPose: from position {self.position} to target {self.target} with up {self.up} "
                f"does not define an orientation. Position and target must differ and `up` must not be parallel to the "
                f"viewing direction."
            )

    def rotation(self) -> NDArray[np.float64]:
        """Camera axes in the frame of ``body``, (3, 3): columns right, up, backward."""
        forward = np.subtract(self.target, self.position).astype(np.float64)
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, self.up)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(right, forward), -forward], axis=1)
