"""Scripted demonstrations, recorded where the simulator runs."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wamkit.contract.specs import ActionSpec
from wamkit.envs.base import EnvConfig, SimulatedEnv, instructions
from wamkit.envs.worker import WorkerState
from wamkit.errors import ConfigError

# The demonstrator's own action, which a policy should learn, or the one that was executed, disturbed where it was,
# which a world model must be told to know what followed from it.
Recorded = Literal["clean", "executed"]


@dataclass(frozen=True)
class ActionNoise:
    """Disturbances of the executed action, so that the data shows how to recover (as DART, arXiv:1703.09327).

    At a tick without a running burst, one begins with ``probability``. It lasts 1 to ``longest`` ticks
    (uniform); all that time one offset, drawn per burst from a normal distribution, is added to the executed
    action and the sum is clipped to the limits. What is *recorded* is, unless asked otherwise (:data:`Recorded`),
    the demonstrator's clean action for the state it really is in. The gripper entry is never disturbed.

    Attributes:
        probability: chance per tick that a burst begins; 0 switches the noise off.
        scale: standard deviation of the offset, in units of the action.
        longest: longest burst, control ticks.
    """

    probability: float = 0.05
    scale: float = 0.6
    longest: int = 6

    def __post_init__(self) -> None:
        if not 0.0 <= self.probability <= 1.0 or self.scale < 0.0 or self.longest < 1:
            raise ConfigError(
                f"{self}: probability lies in [0, 1], scale is not negative, longest at least 1."
            )


class Disturbance:
    """One episode's worth of :class:`ActionNoise`.

    Args:
        noise: how much.
        spec: limits of the action; the last entry is the gripper's where the spec says there is one.
        rng: source of the draws.
    """

    def __init__(self, noise: ActionNoise, spec: ActionSpec, rng: np.random.Generator) -> None:
        self._noise, self._rng = noise, rng
        self._low, self._high = np.asarray(spec.low, np.float32), np.asarray(spec.high, np.float32)
        self._free = np.ones(spec.width, np.float32)
        if spec.gripper != "none":
            self._free[-1] = 0.0
        self._offset: NDArray[np.float32] = np.zeros(spec.width, np.float32)
        self._left = 0

    def apply(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action to execute in place of ``action`` (A,)."""
        if self._left == 0 and self._rng.random() < self._noise.probability:
            self._left = int(self._rng.integers(1, self._noise.longest + 1))
            draw = self._rng.standard_normal(len(self._free))
            self._offset = (self._noise.scale * draw * self._free).astype(np.float32)
        if self._left == 0:
            return action
        self._left -= 1
        return np.clip(action + self._offset, self._low, self._high).astype(np.float32)


@dataclass(frozen=True)
class DemonstrationAttempt:
    """One attempt at a demonstration, T frames; see :class:`wamkit.data.episode.Episode`.

    Attributes:
        seed: the episode.
        success: whether the task was solved in time. When it was not, the arrays are empty.
        task: the instruction.
        images: camera -> (T, H, W, 3) uint8.
        state: (T, S) float32.
        action: (T, A) float32, the demonstrator's clean actions or the executed ones, see :data:`Recorded`.
        extras: name -> (T, ...).
    """

    seed: int
    success: bool
    task: str
    images: dict[str, NDArray[np.uint8]]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    extras: dict[str, NDArray[Any]]


def record_demonstration(
    session: WorkerState,
    config: EnvConfig,
    seed: int,
    noise: ActionNoise,
    tail_ticks: int,
    recorded: Recorded = "clean",
) -> DemonstrationAttempt:
    """Run the scripted demonstrator through the episode that ``seed`` names.

    The episode is recorded until ``tail_ticks`` ticks after success. The instruction is drawn by seed from
    the canonical one and its paraphrases. To be called in a worker.
    """
    env = session.take(config)
    try:
        recording = demonstrate(env, seed, noise, tail_ticks, recorded)
    except Exception:
        env.close()
        raise
    session.give(config, env)
    return recording


def demonstrate(
    env: SimulatedEnv, seed: int, noise: ActionNoise, tail_ticks: int, recorded: Recorded = "clean"
) -> DemonstrationAttempt:
    """The same, in an environment at hand."""
    rng = np.random.default_rng([seed, zlib.crc32(env.task_name.encode())])
    lines = instructions(env.task_name)
    env.restart(seed, lines[int(rng.integers(len(lines)))])
    expert, disturbance = env.expert(), Disturbance(noise, env.action_spec, rng)
    observations: list[dict[str, Any]] = []
    actions: list[NDArray[np.float32]] = []
    left = None  # ticks still to record after success
    while left != 0:
        observations.append(env.observe())
        clean = expert()
        executed = disturbance.apply(clean)
        actions.append(executed if recorded == "executed" else clean)
        outcome = env.advance(executed)
        if left is not None:
            left -= 1
        elif outcome.success:
            left = tail_ticks
        elif outcome.out_of_time:
            return _stack(seed, env, [], [])
    return _stack(seed, env, observations, actions)


def _stack(
    seed: int,
    env: SimulatedEnv,
    observations: list[dict[str, Any]],
    actions: list[NDArray[np.float32]],
) -> DemonstrationAttempt:
    return DemonstrationAttempt(
        seed=seed,
        success=bool(actions),
        task=env.instruction,
        images={c: np.array([o["images"][c] for o in observations]) for c in env.observation_spec.cameras},
        state=np.array([o["state"] for o in observations], np.float32),
        action=np.array(actions, np.float32),
        extras={n: np.array([o["extras"][n] for o in observations]) for n in env.extras_spec},
    )
