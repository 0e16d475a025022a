"""Joint path of a robot's arm along displacements of its hand (`ar.motion-recovery`)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, final

import numpy as np

from wamkit.config.ranges import SomeWords, Word
from wamkit.config.values import Config
from wamkit.contract.data import DataSpec
from wamkit.errors import ConfigError, MissingExtraError, did_you_mean
from wamkit.geometry.inverse_kinematics import joint_path
from wamkit.geometry.kinematics import EndEffector, joint_limits

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

PLACE = "estimator 'motion_recovery': arm"


@dataclass(frozen=True)
class ArmConfig(Config):
    """Robot model of joint actions.

    Attributes:
        model: MuJoCo file of the robot alone; its joints are those of the action, in order.
        frame: name of the frame that is the hand.
        kind: type of the frame.
        joints: entries of the state that hold the joints, in the model's order.
        turn: true to turn the hand as the body turns; false to leave its rotation free.
    """

    model: Path
    frame: Word
    joints: SomeWords
    kind: Literal["site", "body", "geom"] = "site"
    turn: bool = True


@final
class Arm:
    """Arm whose hand follows a path; a pose out of reach is approached and said.

    Raises:
        ConfigError: there is no such model or frame, or joints, state and action do not fit.
        MissingExtraError: MuJoCo or mink is not installed.
    """

    def __init__(self, config: ArmConfig, data: DataSpec) -> None:
        try:
            mujoco = importlib.import_module("mujoco")
        except ImportError as error:
            raise MissingExtraError("mujoco is not installed: pip install 'wamkit[kinematics]'.") from error
        if not config.model.is_file():
            raise ConfigError(f"{PLACE}: no robot model at {config.model}. Give a MuJoCo XML file.")
        model = mujoco.MjModel.from_xml_path(str(config.model))
        state = data.observation.state
        for name in config.joints:
            if name not in state:
                raise ConfigError(f"{PLACE}: no state entry {name!r}. {did_you_mean(name, state)}")
        room = len(data.action.arm)
        if not len(config.joints) == model.nq == room:
            raise ConfigError(
                f"{PLACE}: the model has {model.nq} joints, the state names {len(config.joints)} and the action moves "
                f"{room}; all must be the same."
            )
        kinds = {
            "site": mujoco.mjtObj.mjOBJ_SITE,
            "body": mujoco.mjtObj.mjOBJ_BODY,
            "geom": mujoco.mjtObj.mjOBJ_GEOM,
        }
        if mujoco.mj_name2id(model, kinds[config.kind], config.frame) < 0:
            raise ConfigError(f"{PLACE}: {config.model} has no {config.kind} {config.frame!r}.")
        self.config = config
        self.effector = EndEffector(model, config.frame, config.kind)
        self.index = [state.index(name) for name in config.joints]

    def joints(self, state: np.ndarray) -> np.ndarray:
        """Joints (nq,) of a state, within the limits that rounding and sensors may exceed."""
        address, low, high = joint_limits(self.effector.model)
        joints = state[self.index]
        joints[address] = joints[address].clip(low, high)
        return joints

    def pose(self, state: np.ndarray) -> tuple[np.ndarray, Rotation]:
        """Position (3,) and rotation of the hand."""
        return self.effector.pose(self.joints(state))

    def follow(self, state: np.ndarray, shifts: np.ndarray, turns: Rotation) -> tuple[np.ndarray, bool]:
        """Joints (T, nq) along displacements (T, 3) and turns of the hand, and whether one is out of reach."""
        start = self.joints(state)
        position, rotation = self.effector.pose(start)
        rotations = (turns * rotation).as_matrix() if self.config.turn else None
        path = joint_path(self.effector, start, position + shifts, rotations)
        return path.joints, not bool(path.reached.all())
