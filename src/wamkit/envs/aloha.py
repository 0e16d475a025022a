"""ALOHA in simulation (Zhao et al. 2023, arXiv:2304.13705): two arms of six joints that hand a cube over.

The model, the initial state, the range of the cube and the success criterion are those of the package `gym-aloha`. It
is stepped with MuJoCo directly, so that no second binding is needed. State and action are the 14 absolute joint
positions: per arm waist, shoulder, elbow, forearm roll, wrist angle and wrist rotation in radians, and the gripper
(0 closed, 1 open); left arm first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.config.ranges import Count, Range, Words
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.envs.base import EnvConfig, ScriptedExpert, SimulatedEnv
from wamkit.envs.cameras import CameraPose
from wamkit.envs.facts import FactReader, Facts
from wamkit.envs.perturbations import Perturbation, Scene, Start
from wamkit.envs.perturbations.suite import every_kind
from wamkit.envs.rendering import SceneRenderer, import_mujoco
from wamkit.envs.staging import SavedModel, surfaces
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

TASK = "aloha-transfer-cube"
PHRASES = (
    "pick up the red cube with the right arm and hand it to the left arm",
    "pass the red cube from the right gripper to the left one",
    "take the cube on the right and give it to the left hand",
    "let the left arm receive the red block that the right arm lifts",
    "transfer the small red box across",
)
RATE_HZ = 50.0
SUBSTEPS = 10  # of 2 ms
ARMS = ("left", "right")
JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
START = (0.0, -0.96, 1.16, 0.0, -0.3, 0.0)
START_FINGER_M = 0.02239
FINGER_M = (0.01844, 0.058)  # closed, open: limits of the real gripper, slightly beyond those of the model
CUBE_LOW, CUBE_HIGH = np.array([0.0, 0.4, 0.05]), np.array([0.2, 0.6, 0.05])
# Unit of action noise. Under the default `ActionNoise` the demonstrator solves 34 of 40 episodes (training seeds 0 to
# 39), and 10 of 40 with twice this unit.
DISTURBANCE_RAD = 0.05
WORKSPACE = np.array([[-0.3, 0.35, 0.0], [0.3, 0.65, 0.4]])  # world frame

CAMERAS: dict[str, CameraPose] = {
    "top": CameraPose((0.0, 0.6, 0.8), (0.0, 0.6, 0.0), up=(0.0, 1.0, 0.0), fovy_deg=78.0),
    "angle": CameraPose((0.0, 0.0, 0.6), (0.0, 0.6, 0.0), fovy_deg=78.0),
    "left_wrist": CameraPose(
        (-0.1, 0.0, 0.16), (0.15, 0.0, 0.01), fovy_deg=45.0, body="vx300s_left/gripper_link"
    ),
    "right_wrist": CameraPose(
        (-0.1, 0.0, 0.16), (0.15, 0.0, 0.01), fovy_deg=45.0, body="vx300s_right/gripper_link"
    ),
}


@EnvConfig.register_subclass("aloha")
@dataclass(frozen=True)
class AlohaConfig(EnvConfig):
    """Cube handover between two arms, by 14 joint positions (ALOHA, Zhao et al. 2023; the model of gym-aloha).

    Attributes:
        task: name of the task, ``aloha-transfer-cube``.
        max_ticks: control ticks before the episode is out of time.
        image_size: height and width of the square images, pixels.
        cameras: cameras to render, out of ``top``, ``angle``, ``left_wrist`` and ``right_wrist``.
    """

    packages: ClassVar[tuple[str, ...]] = ("aloha",)
    task: str = TASK
    max_ticks: Count = 400
    image_size: Annotated[int, Range(8, 4096)] = 64
    cameras: Words = ("top", "angle")

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.cameras:
            if name not in CAMERAS:
                raise ConfigError(f"camera {name!r}: {did_you_mean(name, CAMERAS)}")

    @classmethod
    @override
    def task_names(cls) -> tuple[str, ...]:
        return (TASK,)

    @override
    def build(self) -> SimulatedEnv:
        return AlohaEnv(self)

    @override
    def observation_spec(self) -> ObservationSpec:
        return ObservationSpec(
            cameras={name: CameraSpec(self.image_size, self.image_size) for name in self.cameras},
            state=self.action_spec().names,
            rate_hz=RATE_HZ,
        )

    @override
    def action_spec(self) -> ActionSpec:
        limits = (3.14158, (-1.85005, 1.25664), (-1.76278, 1.6057), 3.14158, (-1.8675, 2.23402), 3.14158)
        pairs = [pair if isinstance(pair, tuple) else (-pair, pair) for pair in limits] + [(0.0, 1.0)]
        return ActionSpec(
            names=tuple(f"{arm}_{joint}" for arm in ARMS for joint in (*JOINTS, "gripper")),
            low=tuple(low for _ in ARMS for low, _ in pairs),
            high=tuple(high for _ in ARMS for _, high in pairs),
            rate_hz=RATE_HZ,
            mode="absolute",
            frame="joint",
            rotation="joint",
            gripper="negative_closes",
        )

    @override
    def phrases(self) -> tuple[str, ...]:
        return PHRASES

    @override
    def perturbations(self) -> tuple[Perturbation, ...]:
        """Every kind, with the table's colour as the only surface: it has no texture, and there is no wall."""
        return every_kind({"surface_colour": ("table",)})


def assets() -> Path:
    """Folder of the package's models.

    Raises:
        MissingExtraError: gym-aloha is not installed.
    """
    package = find_spec("gym_aloha")  # not imported: it would load a second binding of MuJoCo
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError("gym-aloha is not installed: pip install 'wamkit[aloha]'.")
    return Path(package.submodule_search_locations[0]) / "assets"


def to_finger(opening: NDArray[np.float64] | float) -> Any:
    """Convert a gripper opening in [0, 1] to the position of the left finger, metres."""
    return FINGER_M[0] + np.asarray(opening) * (FINGER_M[1] - FINGER_M[0])


def to_opening(finger: NDArray[np.float64] | float) -> Any:
    """Inverse of :func:`to_finger`."""
    return (np.asarray(finger) - FINGER_M[0]) / (FINGER_M[1] - FINGER_M[0])


@final
class AlohaEnv(SimulatedEnv):
    """ALOHA's cube transfer behind :class:`SimulatedEnv`. Build it with :meth:`AlohaConfig.build`."""

    def __init__(self, config: AlohaConfig) -> None:
        super().__init__(
            task_name=config.task,
            instruction=PHRASES[0],
            observation_spec=config.observation_spec(),
            action_spec=config.action_spec(),
            max_ticks=config.max_ticks,
            extras_spec={},
        )
        self._config = config
        self._mujoco = import_mujoco()
        self.model = self._mujoco.MjModel.from_xml_path(str(assets() / "bimanual_viperx_transfer_cube.xml"))
        self.data = self._mujoco.MjData(self.model)
        size = (config.image_size, config.image_size)
        poses = {name: CAMERAS[name] for name in config.cameras}
        self._renderer = SceneRenderer(self.model, poses, size)
        self._saved = SavedModel(self.model, self._renderer)
        self._geoms = {name: self.model.geom(name).id for name in ("red_box", "table")}
        self._left_finger = self.model.geom("vx300s_left/10_left_gripper_finger").id

        names = [self.model.body(i).name for i in range(self.model.nbody)]
        hands = [names.index(f"vx300s_{arm}/gripper_link") for arm in ARMS]
        gripping = np.array(
            [name.endswith(("gripper_link", "gripper_prop_link", "finger_link")) for name in names]
        )
        self._facts = FactReader(self.model, hands, gripping, np.array([name == "box" for name in names]))

    @override
    def phrases(self) -> Sequence[str]:
        return PHRASES

    @override
    def scene(self) -> Scene:
        """Scene description; the wrist cameras are left out because they move with the arms."""
        fixed = {name: index for name, index in self._renderer.ids.items() if CAMERAS[name].body == "world"}
        return Scene(
            model=self.model,
            cameras=fixed,
            surfaces=surfaces(self.model),
            workspace=WORKSPACE,
            focus=np.array([0.0, 0.6, 0.0]),
            stage=self._renderer,
        )

    @property
    def cube(self) -> NDArray[np.float64]:
        """Position of the cube, metres, world frame, (3,)."""
        return self.data.qpos[16:19].copy()

    @override
    def _restore_simulation(self) -> None:
        self._saved.restore()
        self._mujoco.mj_resetData(self.model, self.data)

    @override
    def _reset_simulation(self, seed: int, start: Start) -> None:
        arms = np.array([*START, START_FINGER_M, -START_FINGER_M] * 2)
        arms[[i for i in range(16) if i % 8 < 6]] += np.resize(start.joint_offset_rad or (0.0,), 12)
        self.data.qpos[:16] = arms
        self.data.ctrl[:] = arms
        # The package draws with RandomState, so the same seed places the cube as the package does.
        cube = np.random.RandomState(seed).uniform(CUBE_LOW, CUBE_HIGH)
        if start.object_offset:
            middle, half = (CUBE_LOW + CUBE_HIGH) / 2, (CUBE_HIGH - CUBE_LOW) / 2
            cube = middle + np.resize(start.object_offset, 3) * half
        self.data.qpos[16:] = [*cube, 1.0, 0.0, 0.0, 0.0]
        self._mujoco.mj_forward(self.model, self.data)
        self._move_hands(start.hand_offset_m)
        self._facts.begin(self.data)

    def _move_hands(self, offset_m: tuple[float, float, float]) -> None:
        """Move both hands by ``offset_m``, as closely as the joints allow."""
        if not any(offset_m):
            return
        from wamkit.envs.aloha_expert import ArmKinematics  # needs a solver, an extra

        for arm in ARMS:
            kinematics = ArmKinematics(self.model, arm)
            position, rotation = kinematics.pose(self.data.qpos)
            self.data.qpos[:] = kinematics.solve(self.data.qpos, position + offset_m, rotation)
        self.data.ctrl[:] = self.data.qpos[:16]
        self._mujoco.mj_forward(self.model, self.data)

    @override
    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        self.data.ctrl[:] = to_control(action)
        self._mujoco.mj_step(self.model, self.data, SUBSTEPS)
        # Updates positions and contacts to the new state, which is what the package reads.
        self._mujoco.mj_step1(self.model, self.data)
        if self.data.warning.number[self._mujoco.mjtWarning.mjWARN_BADQACC.value]:
            raise RuntimeError(f"{self.task_name}, tick {self.tick}: the physics became unstable.")
        touching = self._touching()
        success = self._left_finger in touching and self._geoms["table"] not in touching
        return float(success), success

    def _touching(self) -> set[int]:
        """Geoms in contact with the cube."""
        cube, touching = self._geoms["red_box"], set()
        for contact in self.data.contact[: self.data.ncon]:
            if cube in (contact.geom1, contact.geom2):
                touching.add(int(contact.geom1 + contact.geom2 - cube))
        return touching

    @override
    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return {name: self._renderer.rgb(self.data, name) for name in self._config.cameras}

    @override
    def _state(self) -> NDArray[np.float32]:
        arms = self.data.qpos[:16].reshape(2, 8)
        return np.concatenate([[*arm[:6], to_opening(arm[6])] for arm in arms]).astype(np.float32)

    @override
    def _extras(self) -> dict[str, NDArray[Any]]:
        return {}

    @override
    def facts(self) -> Facts:
        return self._facts.read(self.data)

    @override
    def expert(self) -> ScriptedExpert:
        """wamkit's scripted demonstrator, as the package has none; it reads the position of the cube."""
        from wamkit.envs.aloha_expert import transfer  # needs a solver, an extra

        return transfer(self.model, self.data)

    @override
    def disturbance(self) -> NDArray[np.float32]:
        """:data:`DISTURBANCE_RAD` for every arm joint, 0 for both grippers."""
        return np.array(([DISTURBANCE_RAD] * len(JOINTS) + [0.0]) * len(ARMS), np.float32)

    @override
    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


def to_control(action: NDArray[Any]) -> NDArray[np.float64]:
    """Convert an action (14,) to the positions of the 16 actuators."""
    arms = np.asarray(action, np.float64).reshape(2, 7)
    fingers = to_finger(arms[:, 6:])
    return np.concatenate([arms[:, :6], fingers, -fingers], axis=1).reshape(-1)
