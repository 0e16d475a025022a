"""Light Conditions: how strong the lamps are, where they stand, how much things shine, whether they throw shadows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.spatial.transform import Rotation

from wamkit.envs.perturbations.base import Dimension, Perturbation, Scene, direction

DIMMED = 0.9  # part of the light that the strongest dimming takes away
TILT_DEG = 75.0
SHINE = 1.0
WIDE = 0.1  # shininess of a highlight that covers much of a thing


@dataclass(frozen=True)
class LightPerturbation(Perturbation):
    """What all kinds of light share."""

    dimension: ClassVar[Dimension] = "Light Conditions"


@Perturbation.register_subclass("light_diffuse")
@dataclass(frozen=True)
class LightDiffuse(LightPerturbation):
    """All lamps are dimmed by up to 90 %, and tinted at random by half as much."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        tint = rng.uniform(0, 1, 3)
        kept = (1 - self.grade(DIMMED)) * (1 - self.grade(DIMMED / 2) * tint)
        head = scene.model.vis.headlight
        head.diffuse[:] *= kept
        head.ambient[:] *= kept
        scene.model.light_diffuse[:] *= kept


@Perturbation.register_subclass("light_direction")
@dataclass(frozen=True)
class LightDirection(LightPerturbation):
    """The lamps that stand still shine from elsewhere, tilted by up to 75 degrees, and the camera's own lamp is off.

    With the lamp on the camera as strong as it is, no other lamp would be seen.
    """

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        model = scene.model
        azimuth = rng.uniform(0, 2 * np.pi)
        axis = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        turn = Rotation.from_rotvec(np.deg2rad(self.grade(TILT_DEG)) * axis)
        model.light_dir[:] = turn.apply(np.asarray(model.light_dir))
        model.light_pos[:] = scene.focus + turn.apply(np.asarray(model.light_pos) - scene.focus)
        moved = self.grade(1.0)
        model.light_diffuse[:] += moved * np.asarray(model.vis.headlight.diffuse) / max(model.nlight, 1)
        model.vis.headlight.diffuse[:] *= 1 - moved


@Perturbation.register_subclass("light_specular")
@dataclass(frozen=True)
class LightSpecular(LightPerturbation):
    """Every surface shines more, in wide highlights up to full strength."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
        model, share = scene.model, self.grade(SHINE)
        tint = 1 - 0.3 * rng.uniform(0, 1, 3)
        model.vis.headlight.specular[:] += share * (tint - model.vis.headlight.specular)
        model.light_specular[:] += share * (tint - model.light_specular)
        model.mat_specular[:] += share * (1 - model.mat_specular)
        model.mat_shininess[:] += share * (WIDE - model.mat_shininess)


@Perturbation.register_subclass("light_shadow")
@dataclass(frozen=True)
class LightShadow(LightPerturbation):
    """One lamp throws shadows, up to all of the light, from a direction drawn by seed."""

    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        """See :class:`Perturbation`."""
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
