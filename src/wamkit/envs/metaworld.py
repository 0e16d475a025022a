"""MetaWorld 3.1.1 (Yu et al. 2019, arXiv:1910.10897): 50 tasks of one Sawyer arm in MuJoCo.

State: hand position in metres (world frame) and gripper opening (0 closed, 1 open). Action: three hand
displacements and a gripper effort, all in [-1, 1]. In every physics tick of the package (12.5 ms), a displacement of 1
moves the mocap target that pulls the hand by 1 cm, so a control tick of ``action_repeat`` physics ticks commands at
most ``action_repeat`` centimetres per axis. Effort 1 closes the gripper, -1 opens it.

Goal markers are MuJoCo sites that no real camera would see. All sites are hidden except in the tasks whose goal varies
between episodes and is indicated by a marker alone (:data:`GOAL_MARKERS`): without the marker the goal would be
unobservable.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from wamkit.config.ranges import Count, Range, Size, Words
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.envs.base import EnvConfig, ExtrasSpec, ScriptedExpert, SimulatedEnv
from wamkit.envs.cameras import CameraPose
from wamkit.envs.facts import Facts
from wamkit.envs.ground_truth import GroundTruth, extras_spec, fact_reader
from wamkit.envs.perturbations import Perturbation, Scene, Start
from wamkit.envs.perturbations.suite import every_kind
from wamkit.envs.rendering import SceneRenderer, import_mujoco
from wamkit.envs.staging import SavedModel, surfaces
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean

ARM_JOINTS = 7
# Entries of the package's observation (39,) that hold the positions of :data:`wamkit.envs.ground_truth.LANDMARKS`.
LANDMARK_ENTRIES = ((0, 1, 2), (4, 5, 6), (11, 12, 13), (36, 37, 38))
WORKSPACE = np.array([[-0.35, 0.45, 0.0], [0.35, 0.9, 0.4]])  # the table in front of the arm, world frame
PHYSICS_RATE_HZ = 80.0  # 5 MuJoCo steps of 2.5 ms per step of the package
DISPLACEMENT_M = 0.01  # per physics tick, at action 1

SCENE_POSE = CameraPose(position=(0.70, 0.15, 0.62), target=(-0.01, 0.66, 0.13), fovy_deg=46.0)
GRIPPER_POSE = CameraPose(
    position=(-0.06, -0.14, 0.06), target=(0.06, 0.05, 0.0), up=(-1.0, 0.0, 0.0), fovy_deg=84.0, body="hand"
)

GOAL_MARKERS: dict[str, tuple[str, ...]] = {
    "coffee-pull-v3": ("mug_goal",),
    "hand-insert-v3": ("goal",),
    "pick-out-of-hole-v3": ("goal",),
    "pick-place-v3": ("goal",),
    "pick-place-wall-v3": ("goal",),
    "plate-slide-back-v3": ("goal",),
    "plate-slide-back-side-v3": ("goal",),
    "push-v3": ("goal",),
    "push-back-v3": ("goal",),
    "push-wall-v3": ("goal",),
    "reach-v3": ("goal",),
    "reach-wall-v3": ("goal",),
    "stick-pull-v3": ("goal",),
    "stick-push-v3": ("goal",),
}


@lru_cache(maxsize=1)
def _phrases() -> dict[str, tuple[str, ...]]:
    """Task -> instructions in plain English, the canonical one first, then paraphrases."""
    text = resources.files("wamkit.envs").joinpath("metaworld_instructions.json").read_text("utf-8")
    return {task: tuple(phrases) for task, phrases in json.loads(text).items()}


@EnvConfig.register_subclass("metaworld")
@dataclass(frozen=True)
class MetaWorldConfig(EnvConfig):
    """One MetaWorld manipulation task in MuJoCo, with cameras and ground truth (Yu et al. 2019).

    Attributes:
        task: name of the task with its version, such as ``drawer-open-v3``.
        image_size: height and width of the square images, pixels.
        action_repeat: physics ticks per control tick. 2 gives 40 Hz, as in TD-MPC2 (arXiv:2310.16828).
        max_ticks: control ticks before the episode is out of time.
        cameras: cameras to render, out of ``scene`` and ``gripper``.
        record: kinds of ground truth to record; see :mod:`wamkit.envs.ground_truth`.
        scene_pose: pose of the scene camera, world frame.
        gripper_pose: pose of the gripper camera in the frame of the hand (x points out of the fingers).
    """

    packages: ClassVar[tuple[str, ...]] = ("metaworld",)
    task: str = "drawer-open-v3"
    image_size: Annotated[int, Range(8, 4096)] = 64
    action_repeat: Size = 2
    max_ticks: Count = 200
    cameras: Words = ("scene", "gripper")
    record: Words = ()
    scene_pose: CameraPose = SCENE_POSE
    gripper_pose: CameraPose = GRIPPER_POSE

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.cameras:
            if name not in ("scene", "gripper"):
                raise ConfigError(f"camera {name!r}: {did_you_mean(name, ('scene', 'gripper'))}")
        self.extras_spec()

    @classmethod
    @override
    def task_names(cls) -> tuple[str, ...]:
        return tuple(sorted(_phrases()))

    @property
    @override
    def robot_type(self) -> str:
        return "metaworld_sawyer"

    @override
    def build(self) -> SimulatedEnv:
        """Construct the environment (about 0.2 s)."""
        return MetaWorldEnv(self)

    @override
    def observation_spec(self) -> ObservationSpec:
        return ObservationSpec(
            cameras={name: CameraSpec(self.image_size, self.image_size) for name in self.cameras},
            state=("hand_x_m", "hand_y_m", "hand_z_m", "gripper_open"),
            rate_hz=PHYSICS_RATE_HZ / self.action_repeat,
        )

    @override
    def action_spec(self) -> ActionSpec:
        return ActionSpec(
            names=("hand_dx", "hand_dy", "hand_dz", "gripper_effort"),
            low=(-1.0,) * 4,
            high=(1.0,) * 4,
            rate_hz=PHYSICS_RATE_HZ / self.action_repeat,
            mode="delta",
            frame="world",
            rotation="none",
            gripper="positive_closes",
        )

    @override
    def phrases(self) -> tuple[str, ...]:
        return _phrases()[self.task]

    @override
    def perturbations(self) -> tuple[Perturbation, ...]:
        """Every kind, with surfaces table and wall; no camera sees the floor."""
        return every_kind({"surface_colour": ("table", "wall"), "surface_texture": ("table", "wall")})

    @override
    def extras_spec(self) -> ExtrasSpec:
        """Shape and dtype of every array that ``record`` requests, without building the environment."""
        return extras_spec(self.record, self.cameras, (self.image_size, self.image_size))


class MetaWorldEnv(SimulatedEnv):
    """One MetaWorld task behind :class:`SimulatedEnv`. Build it with :meth:`MetaWorldConfig.build`."""

    def __init__(self, config: MetaWorldConfig) -> None:
        size = (config.image_size, config.image_size)
        extras = config.extras_spec()
        super().__init__(
            task_name=config.task,
            instruction=config.phrases()[0],
            observation_spec=config.observation_spec(),
            action_spec=config.action_spec(),
            max_ticks=config.max_ticks,
            extras_spec=extras,
        )
        self._config = config
        self._mujoco = import_mujoco()
        self._sim = _construct(config.task)
        if round(1.0 / self._sim.dt, 6) != PHYSICS_RATE_HZ or self._sim.action_scale != DISPLACEMENT_M:
            raise ConfigError(
                f"{config.task}: the installed MetaWorld runs at {1.0 / self._sim.dt:g} Hz with an action scale of "
                f"{self._sim.action_scale} m instead of {PHYSICS_RATE_HZ:g} Hz and {DISPLACEMENT_M} m; install 3.1.1."
            )
        poses = {"scene": config.scene_pose, "gripper": config.gripper_pose}
        self._renderer = SceneRenderer(
            self._sim.model,
            {name: poses[name] for name in config.cameras},
            size,
            GOAL_MARKERS.get(config.task, ()),
        )
        self._ground_truth = GroundTruth(self._sim.model, self._renderer, extras)
        self._fact_reader = fact_reader(self._sim.model)
        self._facts = Facts(touching=False, moved_m=0.0, gap_m=0.0)
        self._privileged: NDArray[np.float64] = np.zeros(39)
        self._saved = SavedModel(self._sim.model, self._renderer)
        self._fresh_fields = _plain_fields(self._sim)

    @override
    def phrases(self) -> Sequence[str]:
        return self._config.phrases()

    @override
    def scene(self) -> Scene:
        """Scene description; the gripper camera is left out because it moves with the hand."""
        return Scene(
            model=self._sim.model,
            cameras={name: index for name, index in self._renderer.ids.items() if name == "scene"},
            surfaces=surfaces(self._sim.model),
            workspace=WORKSPACE,
            focus=np.asarray(self._config.scene_pose.target),
            stage=self._renderer,
        )

    @override
    def _reset_simulation(self, seed: int, start: Start) -> None:
        self._sim.seed(seed)
        _set_start(self._sim, start)
        self._sim.reset()
        if any(start.joint_offset_rad):
            # The hand is welded to the mocap target, so it returns there while the arm keeps its new posture.
            self._sim.data.qpos[:ARM_JOINTS] += np.resize(start.joint_offset_rad, ARM_JOINTS)
            self._sim._reset_hand()
        # Several tasks move bodies after their last forward pass; without this one, the first image and the first
        # state would show the bodies at their previous positions.
        self._mujoco.mj_forward(self._sim.model, self._sim.data)
        self._sim._prev_obs = self._sim._get_curr_obs_combined_no_goal()
        self._privileged = self._sim._get_obs()
        self._fact_reader.begin(self._sim.data)
        self._facts = self._fact_reader.read(self._sim.data)

    @override
    def _restore_simulation(self) -> None:
        """Restore model, data, fields and renderer to their state after construction."""
        self._saved.restore()
        for name in vars(self._sim).keys() - self._fresh_fields.keys() - _SHARED:
            delattr(self._sim, name)
        vars(self._sim).update({name: _private(value) for name, value in self._fresh_fields.items()})
        self._mujoco.mj_resetData(self._sim.model, self._sim.data)

    @override
    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        reward, success = 0.0, False
        for _ in range(self._config.action_repeat):
            self._privileged, tick_reward, _, _, info = self._sim.step(action)
            reward += float(tick_reward)
            success = success or bool(info["success"])
        if self._sim.data.warning.number[self._mujoco.mjtWarning.mjWARN_BADQACC.value]:
            raise RuntimeError(f"{self.task_name}, tick {self.tick}: the physics became unstable.")
        self._facts = self._fact_reader.read(self._sim.data)  # at every tick, whether or not it is asked for
        return reward, success

    @override
    def _images(self) -> dict[str, NDArray[np.uint8]]:
        return {name: self._renderer.rgb(self._sim.data, name) for name in self._config.cameras}

    @override
    def _state(self) -> NDArray[np.float32]:
        return self._privileged[:4].astype(np.float32)

    @override
    def _extras(self) -> dict[str, NDArray[Any]]:
        told = {"landmarks": self.landmarks(), "facts": self._facts.values()}
        return self._ground_truth.read(self._sim.data, told)

    @override
    def facts(self) -> Facts:
        return self._facts

    @override
    def landmarks(self) -> NDArray[np.float32]:
        return self._privileged[np.array(LANDMARK_ENTRIES)].astype(np.float32)

    @override
    def expert(self) -> ScriptedExpert:
        """MetaWorld's scripted policy, clipped to the action limits; it reads poses, not images."""
        from metaworld.policies import ENV_POLICY_MAP

        policies: dict[str, Any] = ENV_POLICY_MAP
        policy = policies[self.task_name]()

        def act() -> NDArray[np.float32]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the package warns whenever its own policies saturate
                # Some policies of the package write into what they read.
                unclipped = policy.get_action(self._privileged.copy())
            return np.clip(unclipped, self.action_spec.low, self.action_spec.high).astype(np.float32)

        return act

    @override
    def disturbance(self) -> NDArray[np.float32]:
        """1 for every displacement, 0 for the gripper's effort."""
        return np.array([1.0, 1.0, 1.0, 0.0], np.float32)

    @override
    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


# Fields of the package's environment that are shared by reference, never changed and therefore not restored.
_SHARED = {"model", "data", "mujoco_renderer", "_np_random", "_np_random_seed"}


def _construct(task: str) -> Any:
    """Construct the package's environment, seedable and fully observable (its expert reads the goal)."""
    try:
        from metaworld.env_dict import ALL_V3_ENVIRONMENTS
    except ImportError as error:
        raise MissingExtraError("MetaWorld is not installed: pip install 'wamkit[metaworld]'.") from error
    sim = ALL_V3_ENVIRONMENTS[task]()
    sim._freeze_rand_vec = False
    sim.seeded_rand_vec = True
    sim._set_task_called = True
    sim._partially_observable = False
    vars(sim).pop("sawyer_observation_space", None)  # cached for partial observability
    sim.max_path_length = np.iinfo(np.int32).max  # `SimulatedEnv` keeps the time limit
    return sim


def _set_start(sim: Any, start: Start) -> None:
    """Change the initial state of the package's next reset; the changed fields are restored before every episode."""
    sim.hand_init_pos = np.asarray(sim.hand_init_pos, np.float64) + start.hand_offset_m
    if start.object_offset:
        space = sim._random_reset_space
        middle, half = (space.low + space.high) / 2, (space.high - space.low) / 2
        offsets = np.resize(start.object_offset, middle.shape)
        position = (middle + offsets * half).astype(space.low.dtype)
        sim._random_reset_space = type(space)(position, position, dtype=space.low.dtype)


def _plain_fields(sim: Any) -> dict[str, Any]:
    return {name: _private(value) for name, value in vars(sim).items() if name not in _SHARED}


def _private(value: Any) -> Any:
    """A copy, except of arrays that are views of MuJoCo's memory, which must stay views."""
    if isinstance(value, np.ndarray) and not value.flags.owndata:
        return value
    return copy.deepcopy(value)
