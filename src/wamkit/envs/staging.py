"""A MuJoCo model as it was constructed, to come back to; and which of its materials are table, wall and floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

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


def surfaces(model: Any) -> dict[str, tuple[int, ...]]:
    """``table``, ``wall`` and ``floor`` -> ids of the textured materials that are named so."""
    found: dict[str, tuple[int, ...]] = {}
    textured: NDArray[np.bool_] = (model.mat_texid >= 0).reshape(model.nmat, -1).any(axis=1)
    for surface, words in SURFACE_WORDS.items():
        ids = tuple(
            i for i in range(model.nmat) if textured[i] and any(word in model.mat(i).name for word in words)
        )
        if ids:
            found[surface] = ids
    return found
