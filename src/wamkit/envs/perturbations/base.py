"""What a perturbation is: one factor of a scene changed, by a known strength, by seed.

Seven dimensions, with the names and the order of LIBERO-Plus (Fei et al. 2025, arXiv:2510.13626) and of the
two-benchmark comparison that the field's tables use. A perturbation works on a :class:`Scene`, which any MuJoCo
environment can describe, so that no simulator has perturbations of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import draccus
import numpy as np
from numpy.typing import NDArray

from wamkit.errors import ConfigError

Dimension = Literal[
    "Camera Viewpoints",
    "Robot Initial States",
    "Language Instructions",
    "Light Conditions",
    "Background Textures",
    "Sensor Noise",
    "Objects Layout",
]
DIMENSIONS: tuple[Dimension, ...] = Dimension.__args__  # type: ignore[attr-defined]
STRONGEST = 5

Picture = NDArray[np.uint8]


class StageRenderer(ABC):
    """What a renderer can do that the model's numbers do not say."""

    @abstractmethod
    def upload_texture(self, texture: int) -> None:
        """Draw with the texture's present data from now on."""

    @abstractmethod
    def show_shadows(self, shown: bool) -> None:
        """Draw shadows or not."""

    @abstractmethod
    def decorate(self, shapes: Sequence[Shape]) -> None:
        """Draw these shapes beside the model, from now on; they take no part in the physics."""


@dataclass(frozen=True)
class Shape:
    """A thing that is drawn but cannot be touched.

    Attributes:
        kind: a MuJoCo geom type: ``box``, ``sphere``, ``cylinder``, ``capsule`` or ``ellipsoid``.
        size: half lengths or radius and half length, metres, (3,).
        position: world frame, metres.
        rotation: (3, 3), row by row.
        colour: red, green, blue, in [0, 1].
    """

    kind: Literal["box", "sphere", "cylinder", "capsule", "ellipsoid"]
    size: tuple[float, float, float]
    position: tuple[float, float, float]
    rotation: tuple[float, ...]
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """How a surface gets its looks.

    Attributes:
        materials: ids of its materials that have a texture.
        geoms: ids of its geoms that have a colour of their own and no material.
    """

    materials: tuple[int, ...] = ()
    geoms: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What of a MuJoCo environment a perturbation may change.

    Attributes:
        model: the ``MjModel`` that is simulated and drawn; its numbers are as constructed.
        cameras: name of a camera that stands still -> its index in the model.
        surfaces: ``table``, ``wall``, ``floor``, those that the scene has.
        workspace: (2, 3), corners of the box in which the task happens, metres, world frame.
        focus: (3,), the point that the cameras look at, metres, world frame.
        stage: the renderer.
    """

    model: Any
    cameras: Mapping[str, int]
    surfaces: Mapping[str, Surface]
    workspace: NDArray[np.float64]
    focus: NDArray[np.float64]
    stage: StageRenderer


@dataclass(frozen=True)
class Start:
    """What an episode begins with, as far as a simulator lets it be chosen.

    Attributes:
        hand_offset_m: the end effector's first position is moved by this, metres, world frame.
        joint_offset_rad: every arm joint's first position is moved by this, radians; cut or padded to the arm.
        object_offset: the object's first position, as part of the distance from the middle of its usual range to the
            range's edge and in a direction per axis: 0 leaves it, 1.5 is half a range beyond the edge.
    """

    hand_offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    joint_offset_rad: tuple[float, ...] = ()
    object_offset: tuple[float, ...] = ()


@dataclass(frozen=True)
class Shutter:
    """One picture being taken.

    Attributes:
        now: noise of this tick and camera.
        episode: what is drawn once per episode and camera; a new generator, at its start, for every picture.
        previous: the last picture that was delivered, or None. Only a picture that somebody asks for is taken, so a
            lost one repeats the last that was asked for.
    """

    now: np.random.Generator
    episode: np.random.Generator
    previous: Picture | None = None


@dataclass(frozen=True)
class Perturbation(draccus.ChoiceRegistry, ABC):
    """One factor, changed.

    Every hook gets a generator that follows the episode's seed and the perturbation alone. At strength 0 no hook is
    called: the episode is the clean one bit for bit.

    Attributes:
        strength: 0 (nothing) to 5.
    """

    dimension: ClassVar[Dimension]
    strength: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= STRONGEST:
            raise ConfigError(f"perturbation strength {self.strength} must be 0 to {STRONGEST}")

    @property
    def kind(self) -> str:
        """The name that a config uses, e.g. ``camera_orbit``."""
        return self.get_choice_name(type(self))

    def grade(self, strongest: float) -> float:
        """The strength as a part of ``strongest``, linear."""
        return strongest * self.strength / STRONGEST

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """Change the model or the stage, before the episode begins."""

    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        """What the episode begins with."""
        return start

    def on_instruction(self, text: str, phrases: Sequence[str], rng: np.random.Generator) -> str:
        """The instruction; ``phrases`` are all known wordings of the task, the canonical one first."""
        return text

    def on_picture(self, picture: Picture, shutter: Shutter) -> Picture:
        """A picture (H, W, 3) as the sensor delivers it."""
        return picture


def direction(rng: np.random.Generator, size: int = 3) -> NDArray[np.float64]:
    """A unit vector, uniform over all directions."""
    drawn = rng.standard_normal(size)
    return drawn / np.linalg.norm(drawn)
