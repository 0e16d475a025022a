"""Light Conditions: strength and position of the lights, specular highlights and shadows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy
from typing_extensions import override

from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, direction

DIMMED = 0.9  # fraction of the light removed at full strength
TILT_DEG = 75.0
SHINE = 1.0
WIDE = 0.1  # shininess at full strength: highlights that cover much of an object


@dataclass(frozen=True)
class LightPerturbation(Perturbation):
    """Base of all changes of the light."""

    dimension: ClassVar[Dimension] = "Light Conditions"


@Perturbation.register_subclass("light_diffuse")
@dataclass(frozen=True)
class LightDiffuse(LightPerturbation):
    """Lights dimmed by up to 90 %, with a random tint of up to half as much."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        tint = rng.uniform(0, 1, 3)
        kept = (1 - self.grade(DIMMED)) * (1 - self.grade(DIMMED / 2) * tint)
        head = scene.model.vis.headlight
        head.diffuse[:] *= kept
        head.ambient[:] *= kept
        scene.model.light_diffuse[:] *= kept


@Perturbation.register_subclass("light_direction")
@dataclass(frozen=True)
class LightDirection(LightPerturbation):
    """Fixed lights tilted by up to 75 degrees, with the headlight faded into them.

    The headlight moves with the camera and would otherwise outshine every other light.
    """

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        model = scene.model
        azimuth = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        turn = scipy.spatial.transform.Rotation.from_rotvec(np.deg2rad(self.grade(TILT_DEG)) * axis)
        model.light_dir[:] = turn.apply(np.asarray(model.light_dir))
        model.light_pos[:] = scene.focus + turn.apply(np.asarray(model.light_pos) - scene.focus)
        moved = self.grade(1.0)
        model.light_diffuse[:] += moved * np.asarray(model.vis.headlight.diffuse) / max(model.nlight, 1)
        model.vis.headlight.diffuse[:] *= 1 - moved


@Perturbation.register_subclass("light_specular")
@dataclass(frozen=True)
class LightSpecular(LightPerturbation):
    """Stronger and wider specular highlights on every surface."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        model, share = scene.model, self.grade(SHINE)
        tint = 1 - 0.3 * rng.uniform(0, 1, 3)
        model.vis.headlight.specular[:] += share * (tint - model.vis.headlight.specular)
        model.light_specular[:] += share * (tint - model.light_specular)
        model.mat_specular[:] += share * (1 - model.mat_specular)
        model.mat_shininess[:] += share * (WIDE - model.mat_shininess)


@Perturbation.register_subclass("light_shadow")
@dataclass(frozen=True)
class LightShadow(LightPerturbation):
    """One light from a seeded direction that casts shadows, up to all of the headlight's strength."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        model, share = scene.model, self.grade(1.0)
        if not model.nlight:
            return
        lateral = direction(rng, 2)
        down = np.array([0.6 * lateral[0], 0.6 * lateral[1], -1.0])
        model.light_dir[0] = down / np.linalg.norm(down)
        model.light_pos[0] = scene.focus - 1.5 * model.light_dir[0]
        model.light_castshadow[0] = True
        model.light_diffuse[0] += share * np.asarray(model.vis.headlight.diffuse)
        model.vis.headlight.diffuse[:] *= 1 - share
        scene.stage.show_shadows(True)
