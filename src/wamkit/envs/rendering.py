"""Fast rendering of small images of a MuJoCo model, without side effects on its physics.

At 64 to 128 pixels, a software renderer spends its time on vertices, shadows and multi-sampling, not on pixels. Three
measures make it fast and hardly change the image: no shadows, reflections or multi-sampling; meshes drawn with few
triangles (:func:`cluster_faces`); and one GL context per model for its whole lifetime.
"""

from __future__ import annotations

import copy
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.envs.cameras import CameraPose
from wamkit.envs.perturbations.base import Shape, StageRenderer
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

if TYPE_CHECKING:
    import mujoco

CELL_M_TIMES_PIXELS = 1.0  # clustering grid: 16 mm at 64 px, below one pixel of a scene image (20 mm)
DRAWN_GROUP, HIDDEN_GROUP = 0, 5
MOST_SHAPES = 8  # decorations that can be drawn in addition to the model


def import_mujoco() -> Any:
    """Import ``mujoco`` after selecting a headless GL backend (``MUJOCO_GL``, by default ``osmesa``).

    Raises:
        MissingExtraError: MuJoCo is not installed, or was imported earlier without a headless backend.
    """
    if "mujoco" in sys.modules and "MUJOCO_GL" not in os.environ:
        raise MissingExtraError(
            "mujoco was imported before MUJOCO_GL was set, so that it cannot render without a display. "
            "Set MUJOCO_GL=osmesa (or egl) in the environment before Python starts."
        )
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    # Mesa's software rasteriser would start a thread per core, which only slows it down at 64 px.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError(
            "Simulated environments need MuJoCo: pip install 'wamkit[metaworld]' or 'wamkit[aloha]'."
        ) from error
    return mujoco


def cluster_faces(
    vertices: NDArray[Any], faces: NDArray[Any], cell: float
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Simplify a triangle mesh by vertex clustering (Rossignac and Borrel 1993), keeping its vertices.

    Every vertex is replaced by the vertex nearest to the mean of its grid cell. Degenerate triangles are dropped, and
    so are all but one of the triangles that become equal.

    Args:
        vertices: (V, 3), metres.
        faces: (F, 3), indices into ``vertices``.
        cell: edge of the grid cells, metres.

    Returns:
        The new faces (G, 3), indices into the same ``vertices``, and the index of the original face of each (G,).
    """
    keys = np.floor((vertices - vertices.min(0)) / cell).astype(np.int64)
    _, cluster = np.unique(keys, axis=0, return_inverse=True)
    cluster = cluster.reshape(-1)
    counts = np.bincount(cluster)
    means = np.stack([np.bincount(cluster, vertices[:, k]) / counts for k in range(3)], axis=1)
    distance = np.linalg.norm(vertices - means[cluster], axis=1)
    order = np.lexsort((distance, cluster))  # first of each cluster: the vertex nearest to its mean
    _, first = np.unique(cluster[order], return_index=True)
    representative = order[first][cluster]
    moved = representative[faces]
    whole = (moved[:, 0] != moved[:, 1]) & (moved[:, 1] != moved[:, 2]) & (moved[:, 0] != moved[:, 2])
    kept = np.flatnonzero(whole)
    # Rotate every triangle to start at its smallest index: equal triangles then have equal rows, while a front face
    # differs from the back face that shares its corners.
    start = moved[kept].argmin(1)[:, None]
    canonical = np.take_along_axis(moved[kept], (start + np.arange(3)) % 3, axis=1)
    _, unique = np.unique(canonical, axis=0, return_index=True)
    kept = kept[np.sort(unique)]
    return moved[kept].astype(np.int32), kept


def _drawable_copy(model: mujoco.MjModel, cell: float, size: tuple[int, int]) -> mujoco.MjModel:
    """Copy of ``model`` for the GL context only: clustered meshes, no multi-sampling, small buffers."""
    drawn = copy.copy(model)
    drawn.vis.quality.offsamples = 0
    drawn.vis.quality.shadowsize = 4 * max(size)  # costs nothing while shadows are off, the initial state
    rounds = min(28, max(12, size[0] // 5))  # MuJoCo's default is 28 sides per cylinder, at any size
    drawn.vis.quality.numslices, drawn.vis.quality.numstacks, drawn.vis.quality.numquads = (
        rounds,
        rounds // 2,
        2,
    )
    drawn.vis.global_.offheight, drawn.vis.global_.offwidth = size
    for mesh in range(model.nmesh if cell > 0 else 0):
        start, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        first, vertices = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        faces, source = cluster_faces(
            np.asarray(model.mesh_vert[first : first + vertices], np.float64),
            model.mesh_face[start : start + count],
            cell,
        )
        if len(faces) == 0:  # smaller than one cell: already cheap
            continue
        drawn.mesh_face[start : start + len(faces)] = faces
        drawn.mesh_facenormal[start : start + len(faces)] = model.mesh_facenormal[start + source]
        if model.nmeshtexcoord:
            drawn.mesh_facetexcoord[start : start + len(faces)] = model.mesh_facetexcoord[start + source]
        drawn.mesh_facenum[mesh] = len(faces)
    return drawn


@final
class SceneRenderer(StageRenderer):
    """Renders named cameras of one model.

    The model's own cameras are re-posed, so their number is the limit; the physics does not read them.

    Args:
        model: MuJoCo model; only its cameras and site groups are changed.
        cameras: poses by camera name.
        size: (height, width), pixels.
        visible_sites: names of the sites to draw; all others are hidden.
        cell: edge of the mesh clustering grid, metres; None derives it from the image size, 0 draws the original
            meshes.

    Raises:
        ConfigError: a body or site does not exist in the model, or there are more cameras than the model has.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        cameras: Mapping[str, CameraPose],
        size: tuple[int, int],
        visible_sites: Sequence[str] = (),
        cell: float | None = None,
    ) -> None:
        self._mujoco = import_mujoco()
        self._model = model
        self._size = size
        cell = CELL_M_TIMES_PIXELS / max(size) if cell is None else cell
        self._place_cameras(cameras)
        self._show_sites(visible_sites)
        self._gl: Any = self._mujoco.GLContext(size[1], size[0])
        self._gl.make_current()
        self._context: Any = self._mujoco.MjrContext(
            _drawable_copy(model, cell, size), self._mujoco.mjtFontScale.mjFONTSCALE_50.value
        )
        # Garbage collection alone would free the context's objects while another context is current; this finalizer
        # makes the right one current first.
        self._release = weakref.finalize(self, _release, self._gl, self._context)
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._scene: Any = self._mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + MOST_SHAPES)
        for flag in ("SHADOW", "REFLECTION", "HAZE", "CULL_FACE"):
            self._scene.flags[getattr(self._mujoco.mjtRndFlag, f"mjRND_{flag}")] = flag == "CULL_FACE"
        self._option: Any = self._mujoco.MjvOption()
        self._perturb: Any = self._mujoco.MjvPerturb()
        self._camera: Any = self._mujoco.MjvCamera()
        self._camera.type = self._mujoco.mjtCamera.mjCAMERA_FIXED
        self._rect: Any = self._mujoco.MjrRect(0, 0, size[1], size[0])
        self._shapes: tuple[Shape, ...] = ()
        self.uploaded: set[int] = set()  # textures that may differ from those at construction

    def _place_cameras(self, cameras: Mapping[str, CameraPose]) -> None:
        model = self._model
        if len(cameras) > model.ncam:
            raise ConfigError(
                f"{len(cameras)} cameras requested, but the model has {model.ncam}; render fewer of them."
            )
        bodies = {model.body(i).name: i for i in range(model.nbody)}
        self._ids: dict[str, int] = {}
        for index, (name, pose) in enumerate(cameras.items()):
            if pose.body not in bodies:
                raise ConfigError(
                    f"camera {name!r} is attached to an unknown body {pose.body!r}. "
                    f"{did_you_mean(pose.body, bodies)}"
                )
            quaternion = np.zeros(4)
            self._mujoco.mju_mat2Quat(quaternion, pose.rotation().reshape(-1))
            model.cam_mode[index] = self._mujoco.mjtCamLight.mjCAMLIGHT_FIXED.value
            model.cam_bodyid[index] = bodies[pose.body]
            model.cam_pos[index], model.cam_quat[index] = pose.position, quaternion
            model.cam_fovy[index] = pose.fovy_deg
            self._ids[name] = index

    def _show_sites(self, visible: Sequence[str]) -> None:
        sites = [self._model.site(i).name for i in range(self._model.nsite)]
        unknown = set(visible) - set(sites)
        if unknown:
            name = min(unknown)
            raise ConfigError(f"the model does not have a site {name!r}. {did_you_mean(name, sites)}")
        self._model.site_group[:] = [DRAWN_GROUP if s in visible else HIDDEN_GROUP for s in sites]

    def _draw(self, data: mujoco.MjData, camera: str) -> None:
        self._gl.make_current()
        self._camera.fixedcamid = self._ids[camera]
        self._mujoco.mjv_updateScene(
            self._model,
            data,
            self._option,
            self._perturb,
            self._camera,
            self._mujoco.mjtCatBit.mjCAT_ALL.value,
            self._scene,
        )
        for shape in self._shapes:
            self._append(shape)
        self._mujoco.mjr_render(self._rect, self._scene, self._context)

    def _append(self, shape: Shape) -> None:
        """Add a shape to the scene of the current image."""
        if self._scene.ngeom >= self._scene.maxgeom:
            raise RuntimeError(
                f"the scene already holds its maximum of {self._scene.maxgeom} geoms; decorate it with fewer shapes"
            )
        self._mujoco.mjv_initGeom(
            self._scene.geoms[self._scene.ngeom],
            getattr(self._mujoco.mjtGeom, f"mjGEOM_{shape.kind.upper()}").value,
            np.asarray(shape.size),
            np.asarray(shape.position),
            np.asarray(shape.rotation),
            np.asarray((*shape.colour, 1.0), np.float32),
        )
        self._scene.ngeom += 1

    @property
    def ids(self) -> dict[str, int]:
        """Index in the model by camera name."""
        return dict(self._ids)

    @override
    def upload_texture(self, texture: int) -> None:
        self._gl.make_current()
        self._mujoco.mjr_uploadTexture(self._model, self._context, texture)
        self.uploaded.add(texture)

    @override
    def show_shadows(self, shown: bool) -> None:
        """Switch the shadows of all shadow-casting lights on or off."""
        self._scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = shown

    @override
    def decorate(self, shapes: Sequence[Shape]) -> None:
        """Draw at most :data:`MOST_SHAPES` shapes in addition to the model from now on, replacing earlier ones."""
        self._shapes = tuple(shapes)

    def rgb(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """Image of ``camera``, (height, width, 3) uint8. ``data`` must be forwarded."""
        self._draw(data, camera)
        pixels = np.empty((*self._size, 3), np.uint8)
        self._mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def depth(self, data: mujoco.MjData, camera: str) -> NDArray[np.float32]:
        """Distance along the viewing direction, (height, width) float32, metres; that of the far plane if empty."""
        self._draw(data, camera)
        window = np.empty(self._size, np.float32)
        self._mujoco.mjr_readPixels(None, window, self._rect, self._context)
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        # MuJoCo renders with reversed depth only if the platform supports it; either way the window depth that
        # mjr_readPixels returns is the conventional one (0 near, 1 far).
        metres = near / (1.0 - window.astype(np.float64) * (1.0 - near / far))
        return np.ascontiguousarray(metres[::-1].astype(np.float32))

    def geoms(self, data: mujoco.MjData, camera: str) -> NDArray[np.int32]:
        """Id of the geom at each pixel, (height, width) int32, -1 on pixels without one (sites, sky)."""
        flags = self._mujoco.mjtRndFlag
        self._scene.flags[flags.mjRND_SEGMENT] = self._scene.flags[flags.mjRND_IDCOLOR] = True
        try:
            self._draw(data, camera)
        finally:
            self._scene.flags[flags.mjRND_SEGMENT] = self._scene.flags[flags.mjRND_IDCOLOR] = False
        pixels = np.empty((*self._size, 3), np.uint8)
        self._mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        ids = pixels[::-1].astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.segid >= 0 and geom.objtype == self._mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        return np.ascontiguousarray(table[ids])

    def camera(self, data: mujoco.MjData, camera: str) -> NDArray[np.float32]:
        """Pose and field of view of ``camera``, (8,) float32, as in :mod:`wamkit.envs.ground_truth`."""
        index = self._ids[camera]
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, data.cam_xmat[index])
        fovy = self._model.cam_fovy[index]
        return np.array([*data.cam_xpos[index], *quaternion, fovy], np.float32)

    def close(self) -> None:
        """Free the GL context. Safe to call twice."""
        self._release()


def _release(gl: Any, context: Any) -> None:
    gl.make_current()
    context.free()
    gl.free()
