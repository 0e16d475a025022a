"""Exact ground truth of a MetaWorld scene from MuJoCo: depth, segmentation, poses, contacts.

==============  ==================  ========  ================================================================
record          arrays              dtype     content
==============  ==================  ========  ================================================================
depth           depth.<camera>      float32   (H, W), metres along the viewing direction
segmentation    segmentation.<cam>  uint8     (H, W), a :class:`SegmentClass` per pixel
object_id       object_id.<camera>  uint8     (H, W), k + 1 on pixels that move with ``object_pose[k]``, else 0
camera          camera.<camera>     float32   (8,), camera pose: x, y, z in metres and quaternion w, x, y, z
                                              (camera axes: right, up, backward), world frame; then the vertical
                                              field of view in degrees
object_pose     object_pose         float32   (2, 7), poses of the first two movable task bodies: x, y, z in
                                              metres and quaternion w, x, y, z, world frame; zeros if missing
object_base     object_base         float32   (2, 7), poses of their parent bodies in the same format, such as
                                              a drawer's case or a window's frame
gripper_pose    gripper_pose        float32   (7,), pose of the hand body in the same format
gripper_motion  gripper_motion      float32   (6,), world frame: velocity of the hand body in m/s, and offset
                                              from the hand body to the mocap target that pulls it, in metres
contact         contact             uint8     (3,), 1 if the left finger, the right finger or the palm touches a
                                              task body
contact_force   contact_force       float32   (3, 3), newton, world frame: total force of the task bodies on
                                              each of these three parts
landmarks       landmarks           float32   (4, 3), metres, world frame: what the scripted expert is told of the
                                              scene, one row per name in :data:`LANDMARKS`; zeros if missing
facts           facts               float32   (3,), the fields of :class:`wamkit.envs.facts.Facts`
==============  ==================  ========  ================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wamkit.envs.base import ExtrasSpec
from wamkit.envs.facts import FactReader
from wamkit.envs.rendering import SceneRenderer, import_mujoco
from wamkit.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import mujoco

OBJECTS = 2
PARTS = ("leftclaw", "rightclaw", "right_hand")  # roots of left finger, right finger and palm
PER_CAMERA = {"depth": "float32", "segmentation": "uint8", "object_id": "uint8", "camera": "float32"}
CAMERA_ENTRIES = 8
LANDMARKS = ("hand", "object", "second object", "goal")
PER_SCENE: ExtrasSpec = {
    "object_pose": ((OBJECTS, 7), "float32"),
    "object_base": ((OBJECTS, 7), "float32"),
    "gripper_pose": ((7,), "float32"),
    "gripper_motion": ((6,), "float32"),
    "contact": ((len(PARTS),), "uint8"),
    "contact_force": ((len(PARTS), 3), "float32"),
    "landmarks": ((len(LANDMARKS), 3), "float32"),
    "facts": ((3,), "float32"),
}
RECORDABLE = (*PER_CAMERA, *PER_SCENE)


class SegmentClass(IntEnum):
    """Classes of the segmentation; the same in every task."""

    BACKGROUND = 0
    SCENE = 1
    ARM = 2
    GRIPPER = 3
    OBJECT = 4


def extras_spec(record: Sequence[str], cameras: Sequence[str], size: tuple[int, int]) -> ExtrasSpec:
    """Names, shapes and dtypes of the arrays that ``record`` requests.

    Args:
        record: kinds of ground truth, from :data:`RECORDABLE`.
        cameras: names of the rendered cameras.
        size: height and width of the images, pixels.

    Raises:
        ConfigError: an unknown kind of ground truth.
    """
    spec: ExtrasSpec = {}
    for kind in record:
        if kind in PER_CAMERA:
            shape = (CAMERA_ENTRIES,) if kind == "camera" else size
            spec.update({f"{kind}.{camera}": (shape, PER_CAMERA[kind]) for camera in cameras})
        elif kind in PER_SCENE:
            spec[kind] = PER_SCENE[kind]
        else:
            raise ConfigError(f"record: {kind!r} is unknown. {did_you_mean(kind, RECORDABLE)}")
    return spec


class GroundTruth:
    """Reads ground truth of one MetaWorld model.

    Args:
        model: a MetaWorld model (its robot starts at the body ``base``, its gripper at ``right_hand``).
        renderer: renders depth and segmentation.
        spec: arrays to read, from :func:`extras_spec`.
    """

    def __init__(self, model: mujoco.MjModel, renderer: SceneRenderer, spec: ExtrasSpec) -> None:
        self._mujoco = import_mujoco()
        self._model, self._renderer, self._spec = model, renderer, spec
        self._body_class = _body_classes(model)
        joints = model.body_jntnum > 0
        self._objects = np.flatnonzero(joints & (self._body_class == SegmentClass.OBJECT))[:OBJECTS]
        self._object_of = _carried_by(model, self._objects)
        self._part = np.full(model.nbody, -1)
        for root in reversed(PARTS):  # the palm first: the fingers are attached to it
            self._part[_subtree(model, root)] = PARTS.index(root)

    def read(self, data: mujoco.MjData, told: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All arrays of the spec for the current state. ``data`` must be forwarded.

        Args:
            data: state of the simulation.
            told: arrays that the environment keeps itself, by name.
        """
        forces, touching = self._contacts(data)
        poses = np.concatenate([data.xpos, data.xquat], axis=1).astype(np.float32)
        objects, bases = np.zeros((2, OBJECTS, 7), np.float32)
        objects[: len(self._objects)] = poses[self._objects]
        bases[: len(self._objects)] = poses[self._model.body_parentid[self._objects]]
        values: dict[str, NDArray[Any]] = {
            **told,
            "object_pose": objects,
            "object_base": bases,
            "gripper_pose": poses[self._model.body("hand").id],
            "gripper_motion": self._motion(data),
            "contact": touching,
            "contact_force": forces,
        }
        for name in self._spec:
            kind, _, camera = name.partition(".")
            if kind == "depth":
                values[name] = self._renderer.depth(data, camera)
            elif kind == "segmentation":
                values[name] = self._of_bodies(data, camera, self._body_class, SegmentClass.BACKGROUND)
            elif kind == "object_id":
                values[name] = self._of_bodies(data, camera, self._object_of, 0)
            elif kind == "camera":
                values[name] = self._renderer.camera(data, camera)
        return {name: values[name] for name in self._spec}

    def _motion(self, data: mujoco.MjData) -> NDArray[np.float32]:
        """Velocity of the hand and its lag behind the mocap target, (6,); with its pose, all that actions drive."""
        hand, velocity = self._model.body("hand").id, np.zeros(6)
        kind = self._mujoco.mjtObj.mjOBJ_XBODY
        self._mujoco.mj_objectVelocity(self._model, data, kind, hand, velocity, 0)
        return np.concatenate([velocity[3:], data.mocap_pos[0] - data.xpos[hand]]).astype(np.float32)

    def _of_bodies(
        self, data: mujoco.MjData, camera: str, labels: NDArray[np.uint8], background: int
    ) -> NDArray[np.uint8]:
        """Entry of ``labels`` (nbody,) for the body at every pixel, ``background`` on pixels without one."""
        geoms = self._renderer.geoms(data, camera)
        return np.where(geoms < 0, np.uint8(background), labels[self._model.geom_bodyid[geoms]])

    def _contacts(self, data: mujoco.MjData) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Total force of the task bodies on each part (3, 3), and contact flags (3,)."""
        forces, touching = np.zeros((len(PARTS), 3)), np.zeros(len(PARTS), np.uint8)
        wrench = np.zeros(6)
        for index in range(data.ncon):
            contact = data.contact[index]
            bodies = self._model.geom_bodyid[list(contact.geom)]
            parts, classes = self._part[bodies], self._body_class[bodies]
            for side in (0, 1):
                if parts[side] < 0 or classes[1 - side] != SegmentClass.OBJECT:
                    continue
                self._mujoco.mj_contactForce(self._model, data, index, wrench)
                # The wrench acts on the second geom, in the contact frame, whose rows are its axes.
                world = np.asarray(contact.frame).reshape(3, 3).T @ wrench[:3]
                forces[parts[side]] += world if side == 1 else -world
                touching[parts[side]] = 1
        return forces.astype(np.float32), touching


def fact_reader(model: mujoco.MjModel) -> FactReader:
    """Reader of privileged facts about a MetaWorld model's gripper and task objects."""
    classes = _body_classes(model)
    gripper, objects = classes == SegmentClass.GRIPPER, classes == SegmentClass.OBJECT
    return FactReader(model, [model.body("hand").id], gripper, objects)


def _subtree(model: mujoco.MjModel, root: str) -> list[int]:
    """Ids of ``root`` and of all its descendants."""
    inside = {model.body(root).id}
    for body in range(model.nbody):  # parents come before their children
        if model.body_parentid[body] in inside and body != 0:
            inside.add(body)
    return sorted(inside)


def _carried_by(model: mujoco.MjModel, objects: NDArray[Any]) -> NDArray[np.uint8]:
    """Object that carries each body, (nbody,): k + 1 for the k-th object and all bodies fixed to it, else 0."""
    carried = np.zeros(model.nbody, np.uint8)
    carried[objects] = np.arange(1, len(objects) + 1)
    for body in range(1, model.nbody):  # parents come before their children
        if not carried[body] and not model.body_jntnum[body]:
            carried[body] = carried[model.body_parentid[body]]
    return carried


def _body_classes(model: mujoco.MjModel) -> NDArray[np.uint8]:
    """:class:`SegmentClass` of every body, (nbody,) uint8."""
    classes = np.full(model.nbody, SegmentClass.OBJECT, np.uint8)
    classes[0] = SegmentClass.SCENE
    for name in ("tablelink", "RetainingWall"):
        if any(model.body(i).name == name for i in range(model.nbody)):
            classes[_subtree(model, name)] = SegmentClass.SCENE
    classes[_subtree(model, "base")] = SegmentClass.ARM
    classes[_subtree(model, "right_hand")] = SegmentClass.GRIPPER
    classes[model.body("mocap").id] = SegmentClass.ARM
    return classes
