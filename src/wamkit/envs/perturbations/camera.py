"""Camera Viewpoints: a camera that stands still is moved, turned, zoomed, or orbited around the scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, direction

SHIFT_M = 0.3
TURN_DEG = 25.0
ZOOM = 0.5
ORBIT_DEG = 30.0  # further on, the arm's own pedestal hides the table


@dataclass(frozen=True)
class CameraPerturbation(Perturbation):
    """What all four share.

    Attributes:
        cameras: which cameras; empty means every one that stands still.
    """

    dimension: ClassVar[Dimension] = "Camera Viewpoints"
    cameras: tuple[str, ...] = ()

    def chosen(self, scene: Scene) -> Iterable[int]:
        """Indices of the cameras that are changed."""
        return [index for name, index in scene.cameras.items() if not self.cameras or name in self.cameras]


def camera_rotation(scene: Scene, camera: int) -> Rotation:
    """Camera frame (right, up, backward) -> world, of a camera that the world carries."""
    return Rotation.from_quat(scene.model.cam_quat[camera], scalar_first=True)


def place(scene: Scene, camera: int, rotation: Rotation, position: NDArray[np.float64] | None = None) -> None:
    """Give a camera another pose."""
    scene.model.cam_quat[camera] = rotation.as_quat(scalar_first=True)
    if position is not None:
        scene.model.cam_pos[camera] = position


@Perturbation.register_subclass("camera_position")
@dataclass(frozen=True)
class CameraPosition(CameraPerturbation):
    """The camera stands up to 30 cm off, across its viewing direction, and looks the same way."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        for camera in self.chosen(scene):
            across = np.append(direction(rng, 2), 0.0)
            scene.model.cam_pos[camera] += self.grade(SHIFT_M) * camera_rotation(scene, camera).apply(across)


@Perturbation.register_subclass("camera_orientation")
@dataclass(frozen=True)
class CameraOrientation(CameraPerturbation):
    """The camera is turned by up to 25 degrees about any axis."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        for camera in self.chosen(scene):
            turn = Rotation.from_rotvec(np.deg2rad(self.grade(TURN_DEG)) * direction(rng))
            place(scene, camera, camera_rotation(scene, camera) * turn)


@Perturbation.register_subclass("camera_field_of_view")
@dataclass(frozen=True)
class CameraFieldOfView(CameraPerturbation):
    """The camera sees up to 50 % more or less (angle of view)."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        for camera in self.chosen(scene):
            scene.model.cam_fovy[camera] *= 1 + self.grade(ZOOM) * rng.choice((-1, 1))


@Perturbation.register_subclass("camera_orbit")
@dataclass(frozen=True)
class CameraOrbit(CameraPerturbation):
    """The camera goes around the scene by up to 30 degrees, at its height and distance, and looks at the same point."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        for camera in self.chosen(scene):
            turn = Rotation.from_euler("z", self.grade(ORBIT_DEG) * rng.choice((-1, 1)), degrees=True)
            position = scene.focus + turn.apply(scene.model.cam_pos[camera] - scene.focus)
            place(scene, camera, turn * camera_rotation(scene, camera), position)
