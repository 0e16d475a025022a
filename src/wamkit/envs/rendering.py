"""Small pictures of a MuJoCo model, fast, without touching its physics.

At 64 to 128 pixels a software renderer spends its time on vertices, shadows and multi-sampling, not on
pixels. Three things make it quick and leave the picture alone: no shadows, reflections or multi-sampling;
meshes drawn with few triangles (:func:`cluster_faces`); and one GL context per model for its whole life.
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

from wamkit.envs.cameras import CameraPose
from wamkit.envs.perturbations.base import Shape, StageRenderer
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

if TYPE_CHECKING:
    import mujoco

CELL_M_TIMES_PIXELS = 1.0  # clustering grid: 16 mm at 64 px, below one pixel of a scene picture (20 mm)
DRAWN_GROUP, HIDDEN_GROUP = 0, 5
MOST_SHAPES = 8  # that can be drawn beside the model


def import_mujoco() -> Any:
    """Import ``mujoco`` with a head-less GL backend chosen first (``MUJOCO_GL``, by default ``osmesa``).

    Raises:
        MissingExtraError: MuJoCo is not installed, or it was imported earlier without a head-less backend.
    """
    if "mujoco" in sys.modules and "MUJOCO_GL" not in os.environ:
        raise MissingExtraError(
            "mujoco was imported before MUJOCO_GL was set, so that it cannot render without a display. "
            "Set MUJOCO_GL=osmesa (or egl) in the environment before Python starts."
        )
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    # Mesa's software rasteriser would start a thread per core; at 64 px they only get in each other's way.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        import mujoco
    except ImportError as error:
        raise MissingExtraError(
            "Simulated environments need MuJoCo: pip install 'wamkit[metaworld]'."
        ) from error
    return mujoco


def cluster_faces(
    vertices: NDArray[Any], faces: NDArray[Any], cell: float
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Simplify a triangle mesh by vertex clustering (Rossignac and Borrel 1993), keeping its vertices.

    Every vertex is replaced by the one nearest to the mean of its grid cell; triangles that lose a corner
    disappear, and of those that become equal one stays.

    Args:
        vertices: (V, 3), metres.
        faces: (F, 3), indices into ``vertices``.
        cell: edge of the grid cells, metres.

    Returns:
        The new faces (G, 3), indices into the same ``vertices``, and which old face each one comes from (G,).
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
    # Start every triangle at its smallest index: equal ones then have equal rows, and a front face is never
    # taken for the back face that shares its corners.
    start = moved[kept].argmin(1)[:, None]
    canonical = np.take_along_axis(moved[kept], (start + np.arange(3)) % 3, axis=1)
    _, unique = np.unique(canonical, axis=0, return_index=True)
    kept = kept[np.sort(unique)]
    return moved[kept].astype(np.int32), kept


def _drawable_copy(model: mujoco.MjModel, cell: float, size: tuple[int, int]) -> mujoco.MjModel:
    """A copy of ``model`` for the GL context only: clustered meshes, no multi-sampling, small buffers."""
    drawn = copy.copy(model)
    drawn.vis.quality.offsamples = 0
    drawn.vis.quality.shadowsize = 4 * max(size)  # costs nothing while shadows are off, as they are at first
    rounds = min(28, max(12, size[0] // 5))  # MuJoCo draws a cylinder with 28 sides, at any size
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
        if len(faces) == 0:  # smaller than one cell: cheap as it is
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

    The model's own cameras are re-posed (their number is the limit); the physics does not read them.

    Args:
        model: the model; only its cameras and site groups are changed.
        cameras: name -> pose.
        size: (height, width), pixels.
        visible_sites: names of the sites that are drawn; all others are hidden.
        cell: edge of the mesh clustering grid in metres; None follows the picture size, 0 draws the meshes
            as they are.

    Raises:
        ConfigError: a body or site that the model does not have, or too many cameras.
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
        # A context that Python collects at its leisure would free its objects inside whichever context is
        # current then; this releases it inside its own, when closed or collected.
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
        self.uploaded: set[int] = set()  # textures that may differ from those the renderer was built with

    def _place_cameras(self, cameras: Mapping[str, CameraPose]) -> None:
        model = self._model
        if len(cameras) > model.ncam:
            raise ConfigError(f"{len(cameras)} cameras asked for, the model has room for {model.ncam}.")
        bodies = {model.body(i).name: i for i in range(model.nbody)}
        self._ids: dict[str, int] = {}
        for index, (name, pose) in enumerate(cameras.items()):
            if pose.body not in bodies:
                raise ConfigError(
                    f"camera {name!r} is carried by an unknown body {pose.body!r}. "
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
            raise ConfigError(f"the model has no site {name!r}. {did_you_mean(name, sites)}")
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
        """Draw a shape beside the model in this picture."""
        if self._scene.ngeom >= self._scene.maxgeom:
            raise RuntimeError(f"{self._scene.maxgeom} things are drawn already, there is no room for more")
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
        """Camera name -> its index in the model."""
        return dict(self._ids)

    def upload_texture(self, texture: int) -> None:
        """Draw with the texture's present data in the model from now on."""
        self._gl.make_current()
        self._mujoco.mjr_uploadTexture(self._model, self._context, texture)
        self.uploaded.add(texture)

    def show_shadows(self, shown: bool) -> None:
        """Draw the shadows of the lights that throw any, or none."""
        self._scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = shown

    def decorate(self, shapes: Sequence[Shape]) -> None:
        """Draw these shapes beside the model from now on, in place of earlier ones; at most :data:`MOST_SHAPES`."""
        self._shapes = tuple(shapes)

    def rgb(self, data: mujoco.MjData, camera: str) -> NDArray[np.uint8]:
        """The picture of ``camera``, (height, width, 3) uint8. ``data`` must be forwarded."""
        self._draw(data, camera)
        pixels = np.empty((*self._size, 3), np.uint8)
        self._mujoco.mjr_readPixels(pixels, None, self._rect, self._context)
        return np.ascontiguousarray(pixels[::-1])

    def depth(self, data: mujoco.MjData, camera: str) -> NDArray[np.float32]:
        """Distance along the viewing direction, (height, width) float32, metres; the far plane if empty."""
        self._draw(data, camera)
        raw = np.empty(self._size, np.float32)
        self._mujoco.mjr_readPixels(None, raw, self._rect, self._context)
        extent = self._model.stat.extent
        near, far = self._model.vis.map.znear * extent, self._model.vis.map.zfar * extent
        # MuJoCo renders with reversed depth only when the platform offers it; either way the window value
        # that mjr_readPixels returns is the conventional one (0 near, 1 far).
        metres = near / (1.0 - raw.astype(np.float64) * (1.0 - near / far))
        return np.ascontiguousarray(metres[::-1].astype(np.float32))

    def geoms(self, data: mujoco.MjData, camera: str) -> NDArray[np.int32]:
        """Id of the geom seen at each pixel, (height, width) int32, -1 where there is none (sites, sky)."""
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
        """Where ``camera`` stands and how wide it sees, (8,) float32; see :mod:`wamkit.envs.ground_truth`."""
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
