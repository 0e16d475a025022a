"""A MuJoCo model as it was constructed, to come back to; and which of its materials are table, wall and floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wamkit.envs.perturbations import Surface
from wamkit.envs.rendering import SceneRenderer

if TYPE_CHECKING:
    import mujoco

# Meshes are never changed; textures are many megabytes and restored one by one, when they were.
LARGE = ("mesh_", "tex_", "hfield_", "skin_", "bvh_")
HEADLIGHT = ("ambient", "diffuse", "specular")
SURFACE_WORDS = {"table": ("table",), "wall": ("wall",), "floor": ("floor", "ground")}


class SavedModel:
    """Numbers, textures and lamps of a model and its renderer at the time of construction.

    Args:
        model: the model, as it is to be again.
        renderer: draws it.
    """

    def __init__(self, model: mujoco.MjModel, renderer: SceneRenderer) -> None:
        self._model, self._renderer = model, renderer
        self._arrays = {name: getattr(model, name).copy() for name in _changeable(model)}
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in HEADLIGHT}
        self._textures = model.tex_data.copy()

    def restore(self) -> None:
        """Put everything back that differs."""
        for name, value in self._arrays.items():
            getattr(self._model, name)[...] = value
        for name, value in self._headlight.items():
            getattr(self._model.vis.headlight, name)[...] = value
        self._renderer.show_shadows(False)
        self._renderer.decorate(())
        for texture in self._renderer.uploaded:
            first = int(self._model.tex_adr[texture])
            length = int(
                self._model.tex_height[texture]
                * self._model.tex_width[texture]
                * self._model.tex_nchannel[texture]
            )
            self._model.tex_data[first : first + length] = self._textures[first : first + length]
            self._renderer.upload_texture(texture)
        self._renderer.uploaded.clear()


def _changeable(model: Any) -> list[str]:
    """Names of the arrays of floats and switches."""
    names = [n for n in dir(model) if not n.startswith(("_", *LARGE))]
    arrays = {n: v for n in names if isinstance(v := getattr(model, n), np.ndarray)}
    return [n for n, v in arrays.items() if np.issubdtype(v.dtype, np.floating) or v.dtype == np.bool_]


def surfaces(model: Any) -> dict[str, Surface]:
    """``table``, ``wall`` and ``floor``, as far as materials with a texture or plain geoms are named so."""
    found = {}
    textured = [bool((np.asarray(model.mat_texid[i]) >= 0).any()) for i in range(model.nmat)]
    for name, words in SURFACE_WORDS.items():

        def named(thing: str, words: tuple[str, ...] = words) -> bool:
            return any(word in thing for word in words)

        surface = Surface(
            materials=tuple(i for i in range(model.nmat) if textured[i] and named(model.mat(i).name)),
            geoms=tuple(
                i for i in range(model.ngeom) if model.geom_matid[i] < 0 and named(model.geom(i).name)
            ),
        )
        if surface.materials or surface.geoms:
            found[name] = surface
    return found
