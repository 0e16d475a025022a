"""Contract of a perturbation: a seeded change of one factor of a scene, with a known strength.

The seven dimensions have the names and the order of LIBERO-Plus (Fei et al. 2025, arXiv:2510.13626) and of the
two-benchmark comparison in the field's tables. A perturbation acts on a :class:`Scene`, which any MuJoCo environment
can describe, so no simulator needs perturbations of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

import draccus
import numpy as np
from numpy.typing import NDArray

from wamkit.config.ranges import Range
from wamkit.config.values import Config

Dimension = Literal[
    "Camera Viewpoints",
    "Robot Initial States",
    "Language Instructions",
    "Light Conditions",
    "Background Textures",
    "Sensor Noise",
    "Objects Layout",
]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
STRONGEST = 5

ShapeKind = Literal["box", "sphere", "cylinder", "capsule", "ellipsoid"]
Picture = NDArray[np.uint8]


class StageRenderer(ABC):
    """Renderer features that are not part of the MuJoCo model."""

    @abstractmethod
    def upload_texture(self, texture: int) -> None:
        """Draw with the texture's current data in the model from now on."""

    @abstractmethod
    def show_shadows(self, shown: bool) -> None:
        """Switch shadows on or off."""

    @abstractmethod
    def decorate(self, shapes: Sequence[Shape]) -> None:
        """Draw these shapes in addition to the model from now on; they do not take part in the physics."""


@dataclass(frozen=True)
class Shape:
    """A decoration that is drawn but does not collide.

    Attributes:
        kind: MuJoCo geom type.
        size: (3,), half lengths, or radius and half length, metres.
        position: (3,), metres, world frame.
        rotation: (9,), rotation matrix in row-major order, world frame.
        colour: red, green and blue in [0, 1].
    """

    kind: ShapeKind
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    rotation: tuple[float, ...]
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """Materials and geoms that determine the appearance of a surface.

    Attributes:
        materials: ids of its textured materials.
        geoms: ids of its geoms with a colour of their own instead of a material.
    """

    materials: tuple[int, ...] = ()
    geoms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """Parts of a MuJoCo environment that a perturbation may change.

    Attributes:
        model: the simulated and rendered ``MjModel``, in its state after construction.
        cameras: indices in the model of the fixed cameras, by name.
        surfaces: existing surfaces out of ``table``, ``wall`` and ``floor``, by name.
        workspace: (2, 3), corners of the task's bounding box, metres, world frame.
        focus: (3,), point that the cameras look at, metres, world frame.
        stage: renderer of the model.
    """

    model: Any
    cameras: Mapping[str, int]
    surfaces: Mapping[str, Surface]
    workspace: NDArray[np.float64]
    focus: NDArray[np.float64]
    stage: StageRenderer


@dataclass(frozen=True)
class Start:
    """Changes of an episode's initial state.

    Attributes:
        hand_offset_m: offset of the end effector's initial position, metres, world frame.
        joint_offset_rad: offset of every arm joint's initial position, radians; cut or repeated to the arm's joints.
        object_offset: initial object position per axis, relative to its usual range: 0 is the middle, -1 and 1 are the
            edges, 1.5 lies beyond the edge by half the distance from middle to edge. Empty: unchanged.
    """

    hand_offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    joint_offset_rad: tuple[float, ...] = ()
    object_offset: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shutter:
    """Random generators and previous image for the capture of one image.

    Attributes:
        now: generator of this tick and camera.
        episode: generator of this episode and camera, restarted for every image.
        previous: image that this camera delivered last, or None. Images are rendered on request only, so a dropped
            frame repeats the last requested one.
    """

    now: np.random.Generator
    episode: np.random.Generator
    previous: Picture | None = None


@dataclass(frozen=True)
class Perturbation(Config, draccus.ChoiceRegistry, ABC):
    """A seeded change of one factor of an episode.

    Every hook receives a generator that depends only on the episode's seed and the kind of perturbation. At strength 0
    no hook is called: the episode equals the clean one bit for bit.

    Attributes:
        strength: strength of the change, 0 (none) to 5.
    """

    dimension: ClassVar[Dimension]
    strength: Annotated[int, Range(0, 5)] = 1

    @property
    def kind(self) -> str:
        """Registered type, such as ``camera_orbit``."""
        return self.get_choice_name(type(self))

    def grade(self, strongest: float) -> float:
        """Linear interpolation between 0 and ``strongest`` by strength."""
        return strongest * self.strength / STRONGEST

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """Change the model or the stage before the episode begins."""

    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        """Changed initial state of the episode."""
        return start

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """Changed instruction; ``phrases`` are all wordings of the task's instruction, the canonical one first."""
        return text

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """Changed image (H, W, 3), as the sensor delivers it."""
        return picture


def direction(rng: np.random.Generator, size: int = 3) -> NDArray[np.float64]:
    """Unit vector drawn uniformly over all directions."""
    vector = rng.standard_normal(size)
    return vector / np.linalg.norm(vector)
