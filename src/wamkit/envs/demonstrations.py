"""Scripted demonstrations, recorded in the process that runs the simulator."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wamkit.config.ranges import Count, NonNegative, Probability
from wamkit.config.values import Config
from wamkit.contract.specs import ActionSpec
from wamkit.envs.base import EnvConfig, OutOfReachError, SimulatedEnv
from wamkit.envs.worker import WorkerState

# Action that is stored: the demonstrator's undisturbed one, the target of a policy, or the executed one with its
# disturbance, which a world model needs because the next observation follows from it.
Recorded = Literal["clean", "executed"]


@dataclass(frozen=True)
class ActionNoise(Config):
    """Disturbances of the executed action, so that the data shows recoveries (as in DART, arXiv:1703.09327).

    At a tick without an ongoing burst, a burst begins with ``probability``. It lasts 1 to ``longest`` ticks (uniform).
    During a burst, one offset, drawn per burst from a normal distribution, is added to the executed action, and the
    sum is clipped to the action limits. By default (:data:`Recorded`) the *recorded* action is the demonstrator's
    undisturbed one for the actual state. Grippers are never disturbed.

    Attributes:
        probability: chance per tick that a burst begins; 0 switches the noise off.
        scale: standard deviation of the offset, in units of :meth:`wamkit.envs.SimulatedEnv.disturbance`.
        longest: longest burst, control ticks.
    """

    probability: Probability = 0.05
    scale: NonNegative = 0.6
    longest: Count = 6


class Disturbance:
    """Action noise of one episode.

    Args:
        noise: distribution of the noise.
        spec: spec of the action, for its limits.
        unit: (A,), offset per unit of ``noise.scale``; see :meth:`wamkit.envs.SimulatedEnv.disturbance`.
        rng: source of all draws.
    """

    def __init__(
        self, noise: ActionNoise, spec: ActionSpec, unit: NDArray[np.float32], rng: np.random.Generator
    ) -> None:
        self._noise, self._unit, self._rng = noise, unit, rng
        self._low, self._high = np.asarray(spec.low, np.float32), np.asarray(spec.high, np.float32)
        self._offset: NDArray[np.float32] = np.zeros(spec.width, np.float32)
        self._remaining = 0

    def apply(self, action: NDArray[np.float32]) -> NDArray[np.float32]:
        """Action to execute in place of ``action`` (A,)."""
        if self._remaining == 0 and self._rng.random() < self._noise.probability:
            self._remaining = int(self._rng.integers(1, self._noise.longest + 1))
            draw = self._rng.standard_normal(len(self._unit))
            self._offset = (self._noise.scale * draw * self._unit).astype(np.float32)
        if self._remaining == 0:
            return action
        self._remaining -= 1
        return np.clip(action + self._offset, self._low, self._high).astype(np.float32)


@dataclass(frozen=True)
class DemonstrationAttempt:
    """One attempt at a demonstration, T frames.

    Attributes:
        seed: environment seed of the episode.
        success: true if the task was solved in time; the arrays of a failed attempt are empty.
        task: instruction.
        images: images by camera, (T, H, W, 3) uint8.
        state: robot states, (T, S) float32.
        action: undisturbed or executed actions (:data:`Recorded`), (T, A) float32.
        extras: ground truth by name, (T, ...).
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
    """Record the scripted demonstrator in the episode of ``seed``; runs in a worker.

    The episode is recorded until ``tail_ticks`` ticks after success. The instruction is drawn by seed from the
    canonical one and its paraphrases.
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
    """Record the demonstrator as :func:`record_demonstration` does, in an existing environment.

    Raises:
        ConfigError: the environment does not have a demonstrator, or does not state a unit of its disturbances.
    """
    rng = np.random.default_rng([seed, zlib.crc32(env.task_name.encode())])
    phrases = env.phrases()
    env.restart(seed, phrases[int(rng.integers(len(phrases)))])
    try:
        expert = env.expert()
    except OutOfReachError:
        return _stack(seed, env, [], [])
    unit = env.disturbance() if noise.probability else np.zeros(env.action_spec.width, np.float32)
    disturbance = Disturbance(noise, env.action_spec, unit, rng)
    observations: list[dict[str, Any]] = []
    actions: list[NDArray[np.float32]] = []
    remaining = None  # ticks still to record after success
    while remaining != 0:
        observations.append(env.observe())
        clean = env.demonstrated(expert())
        executed = disturbance.apply(clean)
        actions.append(executed if recorded == "executed" else clean)
        outcome = env.advance(executed)
        if remaining is not None:
            remaining -= 1
        elif outcome.success:
            remaining = tail_ticks
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
