"""Background Textures: other colours and patterns on table, wall and floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.envs.perturbations.base import Dimension, Perturbation, Picture, Scene, Surface
from wamkit.errors import ConfigError, did_you_mean


@dataclass(frozen=True)
class SurfacePerturbation(Perturbation):
    """Base of all changes of a surface.

    Attributes:
        strength: strength of the change, 0 (none) to 5.
        surface: surface to change: ``table``, ``wall`` or ``floor``.
    """

    dimension: ClassVar[Dimension] = "Background Textures"
    surface: str = "table"

    def chosen(self, scene: Scene) -> Surface:
        """Materials and geoms of the surface.

        Raises:
            ConfigError: the scene does not have the surface.
        """
        if self.surface not in scene.surfaces:
            raise ConfigError(
                f"perturbation {self.kind!r}: the scene does not have a surface {self.surface!r}. "
                f"{did_you_mean(self.surface, scene.surfaces)}"
            )
        return scene.surfaces[self.surface]


@Perturbation.register_subclass("surface_colour")
@dataclass(frozen=True)
class SurfaceColour(SurfacePerturbation):
    """Surface blended into a seeded colour, which hides its texture at full strength.

    A texture multiplies the colour of its material, so both are blended.
    """

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        colour, share, surface = rng.uniform(0, 1, 3), self.grade(1.0), self.chosen(scene)
        for material in surface.materials:
            blend_texture(scene, material, lambda old: np.full_like(old, 255), share)
        painted = [scene.model.mat_rgba[i] for i in surface.materials]
        for rgba in (*painted, *(scene.model.geom_rgba[i] for i in surface.geoms)):
            rgba[:3] += share * (colour - rgba[:3])


@Perturbation.register_subclass("surface_texture")
@dataclass(frozen=True)
class SurfaceTexture(SurfacePerturbation):
    """Texture of a surface blended into a seeded pattern: checks, stripes, blotches or grain."""

    @override
    def on_scene(self, scene: Scene, rng: np.random.Generator) -> None:
        seed, surface = int(rng.integers(2**31)), self.chosen(scene)
        if not surface.materials:
            raise ConfigError(
                f"perturbation 'surface_texture': the surface {self.surface!r} of this scene does not have a texture. "
                f"Use 'surface_colour'."
            )
        for material in surface.materials:
            blend_texture(
                scene, material, lambda old: pattern(old.shape, np.random.default_rng(seed)), self.grade(1.0)
            )


def blend_texture(scene: Scene, material: int, new: Callable[[Picture], Picture], share: float) -> None:
    """Blend the textures of a material with ``new(old)``, both (H, W, 3) uint8, at weight ``share``."""
    model = scene.model
    for texture in sorted({int(t) for t in np.ravel(model.mat_texid[material]) if t >= 0}):
        height, width, channels = (
            int(model.tex_height[texture]),
            int(model.tex_width[texture]),
            int(model.tex_nchannel[texture]),
        )
        first = int(model.tex_adr[texture])
        flat = model.tex_data[first : first + height * width * channels]
        old = flat.reshape(height, width, channels)
        mixed = old[..., :3] + share * (np.asarray(new(old[..., :3]), np.float64) - old[..., :3])
        old[..., :3] = np.round(mixed).astype(np.uint8)
        scene.stage.upload_texture(texture)


def pattern(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Image (H, W, 3) of two colours: checks, stripes, blotches or grain."""
    height, width = shape[:2]
    colours = rng.uniform(0, 255, (2, 3))
    y, x = np.mgrid[0:height, 0:width]
    cells = int(rng.integers(4, 17))
    name = rng.choice(("checks", "stripes", "blotches", "grain"))
    if name == "checks":
        share = ((y * cells // height + x * cells // width) % 2).astype(np.float64)
    elif name == "stripes":
        share = 0.5 + 0.5 * np.sin(2 * np.pi * cells * (x / width + rng.uniform(-1, 1) * y / height))
    else:
        coarse = 8 if name == "blotches" else 64
        noise = rng.standard_normal((coarse, coarse))
        share = scipy.ndimage.zoom(noise, (height / coarse, width / coarse), order=1, mode="grid-wrap")
        share = 1 / (1 + np.exp(-2 * share[:height, :width]))
    return np.round(colours[0] + share[..., None] * (colours[1] - colours[0])).astype(np.uint8)
