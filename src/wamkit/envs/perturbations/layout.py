"""Objects Layout and Robot Initial States: initial positions of objects and of the arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, get_args

import numpy as np
import scipy
from typing_extensions import override

from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, Shape, ShapeKind, Start, direction

SHAPES: tuple[ShapeKind, ...] = get_args(ShapeKind)
HAND_M = 0.15
JOINT_RAD = 0.35
BEYOND = 0.8  # half ranges between the edge of the object's usual range and its strongest initial position


@Perturbation.register_subclass("hand_position")
@dataclass(frozen=True)
class HandPosition(Perturbation):
    """Initial end effector position up to 15 cm off in a seeded direction, never lower than usual."""

    dimension: ClassVar[Dimension] = "Robot Initial States"

    @override
    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        x, y, z = self.grade(HAND_M) * direction(rng)
        return replace(start, hand_offset_m=(float(x), float(y), float(abs(z))))


@Perturbation.register_subclass("joint_positions")
@dataclass(frozen=True)
class JointPositions(Perturbation):
    """Initial position of every arm joint up to 0.35 rad off, each with a seeded sign."""

    dimension: ClassVar[Dimension] = "Robot Initial States"

    @override
    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        offsets = self.grade(JOINT_RAD) * rng.choice((-1.0, 1.0), 16)
        return replace(start, joint_offset_rad=tuple(float(v) for v in offsets))


@Perturbation.register_subclass("moved_object")
@dataclass(frozen=True)
class MovedObject(Perturbation):
    """Initial object position beyond the range of the demonstrations, by up to 40 % of the range."""

    dimension: ClassVar[Dimension] = "Objects Layout"

    @override
    def on_start(self, start: Start, rng: np.random.Generator) -> Start:
        distance = 1 + self.grade(BEYOND)
        offset = tuple(float(sign * distance) for sign in rng.choice((-1.0, 1.0), 8))
        return replace(start, object_offset=offset)


@Perturbation.register_subclass("distractors")
@dataclass(frozen=True)
class Distractors(Perturbation):
    """One foreign object per strength level on the table, outside the workspace of the task.

    They are drawn but do not collide, so the task stays as feasible as it was.
    """

    dimension: ClassVar[Dimension] = "Objects Layout"

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        scene.stage.decorate([distractor(scene, rng) for _ in range(self.strength)])


def distractor(scene: Scene, rng: np.random.Generator) -> Shape:
    """A coloured object with half lengths of 2 to 5 cm beside the workspace, on its floor."""
    low, high = scene.workspace
    length, width, height = rng.uniform(0.02, 0.05, 3).tolist()
    x, y = beside(low, high, rng)
    rotation = scipy.spatial.transform.Rotation.from_euler("z", rng.uniform(0, 360), degrees=True)
    kind = SHAPES[rng.choice(len(SHAPES))]
    red, green, blue = rng.uniform(0, 1, 3).tolist()
    return Shape(
        kind=kind,
        size=(length, width, height),
        position=(x, y, float(low[2]) + height),
        rotation=tuple(rotation.as_matrix().reshape(-1).tolist()),
        colour=(red, green, blue),
    )


def beside(low: Sequence[float], high: Sequence[float], rng: np.random.Generator) -> tuple[float, float]:
    """Random x and y 5 to 15 cm left or right of a box, metres."""
    gap = float(rng.uniform(0.05, 0.15))
    x = float(high[0]) + gap if rng.random() < 0.5 else float(low[0]) - gap
    return x, float(rng.uniform(low[1], high[1]))
