"""Camera Viewpoints: a fixed camera is moved, rotated, zoomed, or orbited around the scene."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.config.ranges import Words
from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, direction

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

SHIFT_M = 0.3
TURN_DEG = 25.0
ZOOM = 0.5
ORBIT_DEG = 30.0  # beyond this, the arm's own pedestal occludes the table


@dataclass(frozen=True)
class CameraPerturbation(Perturbation):
    """Base of all changes of a camera.

    Attributes:
        strength: strength of the change, 0 (none) to 5.
        cameras: names of the cameras to change; empty changes every fixed camera.
    """

    dimension: ClassVar[Dimension] = "Camera Viewpoints"
    cameras: Words = ()

    def chosen(self, scene: Scene) -> Iterable[int]:
        """Indices in the model of the cameras to change."""
        return [index for name, index in scene.cameras.items() if not self.cameras or name in self.cameras]


def camera_rotation(scene: Scene, camera: int) -> Rotation:
    """Rotation from the camera frame (right, up, backward) to the world, of a camera fixed to the world."""
    return scipy.spatial.transform.Rotation.from_quat(scene.model.cam_quat[camera], scalar_first=True)


def place(scene: Scene, camera: int, rotation: Rotation, position: NDArray[np.float64] | None = None) -> None:
    """Set the rotation of a camera and, if given, its position."""
    scene.model.cam_quat[camera] = rotation.as_quat(scalar_first=True)
    if position is not None:
        scene.model.cam_pos[camera] = position


@Perturbation.register_subclass("camera_position")
@dataclass(frozen=True)
class CameraPosition(CameraPerturbation):
    """Camera shifted by up to 30 cm across its viewing direction, which is kept."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        for camera in self.chosen(scene):
            across = np.append(direction(rng, 2), 0.0)
            scene.model.cam_pos[camera] += self.grade(SHIFT_M) * camera_rotation(scene, camera).apply(across)


@Perturbation.register_subclass("camera_orientation")
@dataclass(frozen=True)
class CameraOrientation(CameraPerturbation):
    """Camera rotated by up to 25 degrees about a random axis."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        for camera in self.chosen(scene):
            turn = scipy.spatial.transform.Rotation.from_rotvec(
                np.deg2rad(self.grade(TURN_DEG)) * direction(rng)
            )
            place(scene, camera, camera_rotation(scene, camera) * turn)


@Perturbation.register_subclass("camera_field_of_view")
@dataclass(frozen=True)
class CameraFieldOfView(CameraPerturbation):
    """Field of view up to 50 % wider or narrower."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        for camera in self.chosen(scene):
            scene.model.cam_fovy[camera] *= 1 + self.grade(ZOOM) * rng.choice((-1, 1))


@Perturbation.register_subclass("camera_orbit")
@dataclass(frozen=True)
class CameraOrbit(CameraPerturbation):
    """Camera orbited around the scene by up to 30 degrees, with its height, distance and focus kept."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        for camera in self.chosen(scene):
            turn = scipy.spatial.transform.Rotation.from_euler(
                "z", self.grade(ORBIT_DEG) * rng.choice((-1, 1)), degrees=True
            )
            position = scene.focus + turn.apply(scene.model.cam_pos[camera] - scene.focus)
            place(scene, camera, turn * camera_rotation(scene, camera), position)
