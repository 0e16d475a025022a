"""Objects Layout and Robot Initial States: where things and the arm are when an episode begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, Shape, Start, direction

HAND_M = 0.15
JOINT_RAD = 0.35
BEYOND = 0.8  # the strongest start is so many half ranges beyond the edge of the object's usual range
DISTRACTORS = 5
KINDS = ("box", "sphere", "cylinder", "capsule", "ellipsoid")


@Perturbation.register_subclass("hand_position")
@dataclass(frozen=True)
class HandPosition(Perturbation):
    """The end effector begins up to 15 cm off, in a direction drawn by seed (not below where it would)."""

    dimension: ClassVar[Dimension] = "Robot Initial States"

    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        """See :class:`Perturbation`."""
        x, y, z = self.grade(HAND_M) * direction(rng)
        return replace(start, hand_offset_m=(float(x), float(y), float(abs(z))))


@Perturbation.register_subclass("joint_positions")
@dataclass(frozen=True)
class JointPositions(Perturbation):
    """Every joint of the arm begins up to 0.35 rad off, each to a side drawn by seed."""

    dimension: ClassVar[Dimension] = "Robot Initial States"

    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        """See :class:`Perturbation`."""
        offsets = self.grade(JOINT_RAD) * rng.choice((-1.0, 1.0), 16)
        return replace(start, joint_offset_rad=tuple(float(v) for v in offsets))


@Perturbation.register_subclass("moved_object")
@dataclass(frozen=True)
class MovedObject(Perturbation):
    """The object begins beyond the range of the demonstrations, by up to 40 % of the range."""

    dimension: ClassVar[Dimension] = "Objects Layout"

    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        """See :class:`Perturbation`."""
        distance = 1 + self.grade(BEYOND)
        offset = tuple(float(side * distance) for side in rng.choice((-1.0, 1.0), 8))
        return replace(start, object_offset=offset)


@Perturbation.register_subclass("distractors")
@dataclass(frozen=True)
class Distractors(Perturbation):
    """As many foreign objects as the strength lie on the table, outside the box in which the task happens.

    They are drawn and cannot be touched, so that the task stays as feasible as it was.
    """

    dimension: ClassVar[Dimension] = "Objects Layout"

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        scene.stage.decorate([distractor(scene, rng) for _ in range(self.strength)])


def distractor(scene: Scene, rng: np.random.Generator) -> Shape:
    """A coloured thing of 2 to 5 cm beside the workspace, on its floor."""
    low, high = scene.workspace
    size = tuple(float(v) for v in rng.uniform(0.02, 0.05, 3))
    x, y = beside(low, high, rng)
    turn = Rotation.from_euler("z", rng.uniform(0, 360), degrees=True)
    return Shape(
        kind=str(rng.choice(KINDS)),  # type: ignore[arg-type]
        size=size,  # type: ignore[arg-type]
        position=(x, y, float(low[2]) + size[2]),
        rotation=tuple(float(v) for v in turn.as_matrix().reshape(-1)),
        colour=tuple(float(v) for v in rng.uniform(0, 1, 3)),  # type: ignore[arg-type]
    )


def beside(low: Sequence[float], high: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    """A place on the ground 5 to 15 cm left or right of a box, metres."""
    away = float(rng.uniform(0.05, 0.15))
    x = float(high[0]) + away if rng.random() < 0.5 else float(low[0]) - away
    return x, float(rng.uniform(low[1], high[1]))
