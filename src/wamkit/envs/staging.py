"""Snapshots of a MuJoCo model for restoring it, and its table, wall and floor surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from wamkit.envs.perturbations import Surface
from wamkit.envs.rendering import SceneRenderer

if TYPE_CHECKING:
    import mujoco

# Meshes are never changed; textures are large and therefore restored one by one, only if they were changed.
LARGE = ("mesh_", "tex_", "hfield_", "skin_", "bvh_")
HEADLIGHT = ("ambient", "diffuse", "specular")
SURFACE_WORDS = {"table": ("table",), "wall": ("wall",), "floor": ("floor", "ground")}


class SavedModel:
    """Snapshot of a model's arrays, textures and headlight.

    Args:
        model: model in the state to restore later.
        renderer: renderer of the model; its shadows and decorations are switched off on restoring.
    """

    def __init__(self, model: mujoco.MjModel, renderer: SceneRenderer) -> None:
        self._model, self._renderer = model, renderer
        self._arrays = {name: getattr(model, name).copy() for name in _changeable(model)}
        self._headlight = {name: getattr(model.vis.headlight, name).copy() for name in HEADLIGHT}
        self._textures = model.tex_data.copy()

    def restore(self) -> None:
        """Restore the model and the renderer."""
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
    """Names of the model's float and bool arrays, without :data:`LARGE` ones."""
    names = [name for name in dir(model) if not name.startswith(("_", *LARGE))]
    arrays = {name: array for name in names if isinstance(array := getattr(model, name), np.ndarray)}
    return [
        name
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating) or array.dtype == np.bool_
    ]


def surfaces(model: Any) -> dict[str, Surface]:
    """Surfaces ``table``, ``wall`` and ``floor``: textured materials and geoms without material whose name says so."""
    surfaces_by_name = {}
    textured = [bool((np.asarray(model.mat_texid[i]) >= 0).any()) for i in range(model.nmat)]
    for name, words in SURFACE_WORDS.items():

        def matches(name: str, words: tuple[str, ...] = words) -> bool:
            return any(word in name for word in words)

        surface = Surface(
            materials=tuple(i for i in range(model.nmat) if textured[i] and matches(model.mat(i).name)),
            geoms=tuple(
                i for i in range(model.ngeom) if model.geom_matid[i] < 0 and matches(model.geom(i).name)
            ),
        )
        if surface.materials or surface.geoms:
            surfaces_by_name[name] = surface
    return surfaces_by_name
