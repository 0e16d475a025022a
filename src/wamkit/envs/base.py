"""Contract of a simulated environment, its configuration and its seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import draccus
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray
from typing_extensions import override

from wamkit.config.ranges import Count
from wamkit.config.values import Config
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation, PerturbedEpisode, Scene, Start
from wamkit.envs.returned import Returned
from wamkit.errors import ConfigError, DataError, SpecError, WamkitError, did_you_mean

Purpose = Literal["train", "evaluate"]
ExtrasSpec = dict[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype)
ScriptedExpert = Callable[[], NDArray[np.float32]]

EVALUATION_SEEDS_FROM = 1_000_000
SEEDS_PER_RUN = 10_000
RUNS = EVALUATION_SEEDS_FROM // SEEDS_PER_RUN


def episode_seed(purpose: Purpose, run: int, index: int) -> int:
    """Environment seed of one episode. Training and evaluation never share one.

    A training seed is ``run * 10_000 + index`` and lies below 1_000_000; an evaluation seed is the same plus
    1_000_000. Two runs with different ``run`` share no seed either.

    Args:
        purpose: training or evaluation.
        run: ``seed`` of the collection or evaluation, 0 to 99.
        index: number of the episode within the run, 0 to 9999.

    Raises:
        ConfigError: ``run`` or ``index`` outside its range.
    """
    if not 0 <= run < RUNS:
        raise ConfigError(f"seed {run}: a run's seed must lie between 0 and {RUNS - 1}.")
    if not 0 <= index < SEEDS_PER_RUN:
        raise ConfigError(f"episode {index}: a run has at most {SEEDS_PER_RUN} episodes; use another seed.")
    return run * SEEDS_PER_RUN + index + (EVALUATION_SEEDS_FROM if purpose == "evaluate" else 0)


class OutOfReachError(WamkitError):
    """The scripted demonstrator cannot solve this episode; the simulator itself is fine."""


@dataclass(frozen=True)
class Outcome:
    """Result of one control tick.

    Attributes:
        reward: the simulator's own reward.
        success: true if the task's success criterion held during this tick.
        out_of_time: true once the episode has used up its ticks.
    """

    reward: float
    success: bool
    out_of_time: bool


class SimulatedEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]], ABC):
    """A Gymnasium environment that speaks :mod:`wamkit.contract.specs`.

    An observation is ``{"images": {camera: (H, W, 3) uint8}, "state": (S,) float32, "task": str}``, plus
    ``"extras": {name: array}`` when ground truth is recorded. ``reset`` accepts
    ``options={"instruction": str, "perturbation": Perturbation}``; the default instruction is the task's canonical
    one, and without a perturbation nothing is changed. An episode ends with ``terminated`` at success and with
    ``truncated`` after ``max_ticks``.

    ``step`` is ``advance`` followed by ``observe``; call ``advance`` alone to skip the rendering. The same seed gives
    the same states and pixels, bit for bit, regardless of what ran before and of which ticks were observed.

    Args:
        task_name: name of the task.
        instruction: canonical instruction.
        observation_spec: cameras, state and rate.
        action_spec: entries, limits and conventions of an action.
        max_ticks: control ticks before the episode is out of time.
        extras_spec: shape and dtype of every recorded ground-truth array.

    Raises:
        ConfigError: ``max_ticks`` is below 1.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        task_name: str,
        instruction: str,
        observation_spec: ObservationSpec,
        action_spec: ActionSpec,
        max_ticks: int,
        extras_spec: ExtrasSpec,
    ) -> None:
        if max_ticks < 1:
            raise ConfigError(f"max_ticks = {max_ticks}: an episode needs at least one tick.")
        self.task_name = task_name
        self.observation_spec = observation_spec
        self.action_spec = action_spec
        self.max_ticks = max_ticks
        self.extras_spec = extras_spec
        self.observation_space = _observation_space(observation_spec, extras_spec)
        self.action_space = spaces.Box(
            np.asarray(action_spec.low, np.float32), np.asarray(action_spec.high, np.float32)
        )
        self._canonical = self._instruction = instruction
        self._tick = -1
        self._episode = PerturbedEpisode(None, 0)

    @property
    def tick(self) -> int:
        """Control ticks executed since the last reset, -1 before the first reset."""
        return self._tick

    @property
    def instruction(self) -> str:
        """Instruction of the current episode."""
        return self._instruction

    @final
    def restart(
        self, seed: int, instruction: str | None = None, perturbation: Perturbation | None = None
    ) -> None:
        """Begin the episode of ``seed`` without observing it, perturbed if a ``perturbation`` is given.

        Raises:
            ConfigError: the perturbation does not apply to this simulator.
        """
        self._episode = PerturbedEpisode(perturbation, seed)
        unperturbed = self._canonical if instruction is None else instruction
        if not isinstance(unperturbed, str):
            raise SpecError(f"{self.task_name}: the instruction {unperturbed!r} must be a text.")
        self._instruction = self._episode.instruction(unperturbed, self.phrases())
        self._tick = 0
        self._restore_simulation()
        if perturbation is not None and perturbation.strength:
            self._episode.scene(self.scene())
        self._reset_simulation(seed, self._episode.start())

    def phrases(self) -> Sequence[str]:
        """All wordings of the instruction, the canonical one first."""
        return (self._canonical,)

    def scene(self) -> Scene:
        """Scene description that perturbations may change.

        Raises:
            ConfigError: this simulator cannot be perturbed.
        """
        raise ConfigError(f"{type(self).__name__} describes no scene and cannot be perturbed.")

    @final
    def advance(self, action: ArrayLike) -> Outcome:
        """Execute one control tick without observing.

        Values outside the action spec's limits are clipped to them, as an actuator would do. An episode may continue
        after success.

        Raises:
            SpecError: wrong action width, or the simulation returned a reward or success of another type.
            DataError: NaN or infinity in the action.
            RuntimeError: ``reset`` was not called yet, or the physics became unstable.
        """
        if self._tick < 0:
            raise RuntimeError(f"{self.task_name}: call reset() before the first step().")
        values = np.asarray(action, np.float32)
        if values.shape != (self.action_spec.width,):
            raise SpecError(
                f"{self.task_name}: an action has the {self.action_spec.width} entries "
                f"{', '.join(self.action_spec.names)}; got an array of shape {values.shape}."
            )
        if not np.isfinite(values).all():
            entry = self.action_spec.names[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise DataError(
                f"{self.task_name}, tick {self._tick}: action entry {entry!r} is not finite in "
                f"{values.tolist()}. The policy diverged or its statistics are wrong."
            )
        values = np.clip(values, self.action_spec.low, self.action_spec.high).astype(np.float32)
        reward, success = self._advance_simulation(values)
        self._tick += 1
        returned = self._returned()
        return Outcome(returned.reward(reward), returned.success(success), self._tick >= self.max_ticks)

    @final
    def observe(self) -> dict[str, Any]:
        """Render the cameras and read the state, plus the ground truth if recorded.

        Raises:
            SpecError: the simulation returned something else than its specs declare.
        """
        returned = self._returned()
        images = returned.images(self._images(), self.observation_spec.cameras)
        observation: dict[str, Any] = {
            "images": {
                name: self._episode.picture(image, name, self._tick) for name, image in images.items()
            },
            "state": returned.state(self._state(), self.observation_spec.state),
            "task": self._instruction,
        }
        if self.extras_spec:
            observation["extras"] = returned.extras(self._extras(), self.extras_spec)
        return observation

    @final
    def demonstrated(self, action: ArrayLike) -> NDArray[np.float32]:
        """Return an action of the demonstrator, (A,); raises :class:`SpecError` outside of the limits."""
        return self._returned().action(action, self.action_spec)

    def _returned(self) -> Returned:
        return Returned(type(self).__name__, self.task_name, self._tick)

    @final
    @override
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode and observe it; options as described for the class. A missing seed is drawn from
        ``np_random``.
        """
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(EVALUATION_SEEDS_FROM))
        self.restart(seed, (options or {}).get("instruction"), (options or {}).get("perturbation"))
        return self.observe(), {"success": False, "seed": seed}

    @final
    @override
    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Execute one control tick and observe; raises the errors of :meth:`advance`."""
        outcome = self.advance(action)
        truncated = outcome.out_of_time and not outcome.success
        return self.observe(), outcome.reward, outcome.success, truncated, {"success": outcome.success}

    def expert(self) -> ScriptedExpert:
        """Scripted demonstrator for the current episode; it may read state that no camera shows.

        Raises:
            ConfigError: this simulator does not have one.
            OutOfReachError: this episode cannot be solved by the demonstrator.
        """
        raise ConfigError(f"{type(self).__name__} has no scripted demonstrator.")

    def disturbance(self) -> NDArray[np.float32]:
        """Unit of the noise added to a demonstrator's actions, (A,); 0 for entries that are never disturbed.

        Raises:
            ConfigError: this simulator does not state one.
        """
        raise ConfigError(
            f"{type(self).__name__} does not state how far its actions may be disturbed. "
            f"Record without noise (probability 0), or override `disturbance`."
        )

    def facts(self) -> Facts | None:
        """Privileged facts about this tick, read without rendering; None if the simulator does not report any."""
        return None

    def landmarks(self) -> NDArray[np.float32] | None:
        """Privileged positions at this tick, read without rendering, (L, 3), metres, world frame.

        The first row is the hand, the second the object, the last the goal; zeros where the task has no such thing.
        None if the simulator does not report any.
        """
        return None

    @abstractmethod
    def _restore_simulation(self) -> None:
        """Restore model, data and renderer to their state after construction."""

    @abstractmethod
    def _reset_simulation(self, seed: int, start: Start) -> None:
        """Begin the episode of ``seed`` in the restored simulation."""

    @abstractmethod
    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        """Execute a validated action and return reward and success."""

    @abstractmethod
    def _images(self) -> dict[str, NDArray[np.uint8]]: ...

    @abstractmethod
    def _state(self) -> NDArray[np.float32]: ...

    @abstractmethod
    def _extras(self) -> dict[str, NDArray[Any]]: ...


def _observation_space(spec: ObservationSpec, extras: ExtrasSpec) -> spaces.Dict:
    images: dict[str, spaces.Space[Any]] = {
        name: spaces.Box(cam.low, cam.high, (cam.height, cam.width, cam.channels), np.uint8)
        for name, cam in spec.cameras.items()
    }
    parts: dict[str, spaces.Space[Any]] = {
        "images": spaces.Dict(images),
        "state": spaces.Box(-np.inf, np.inf, (len(spec.state),), np.float32),
        "task": spaces.Text(max_length=1000, charset="".join(map(chr, range(32, 127)))),
    }
    if extras:
        parts["extras"] = spaces.Dict({name: _box(shape, dtype) for name, (shape, dtype) in extras.items()})
    return spaces.Dict(parts)


def _box(shape: tuple[int, ...], dtype: str) -> spaces.Box:
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = np.iinfo(dtype)
        return spaces.Box(int(limits.min), int(limits.max), shape, np.dtype(dtype).type)
    return spaces.Box(-np.inf, np.inf, shape, np.dtype(dtype).type)


@dataclass(frozen=True)
class EnvConfig(Config, draccus.ChoiceRegistry, ABC):
    """Configuration of one environment. Hashable: workers cache environments by it.

    Attributes:
        task: name of the task, one of :meth:`task_names`.
        max_ticks: control ticks before the episode is out of time.
    """

    task: str = ""
    max_ticks: Count = 200

    def __post_init__(self) -> None:
        if self.task not in self.task_names():
            raise ConfigError(
                f"{type(self).__name__}: unknown task {self.task!r}. {did_you_mean(self.task, self.task_names())}"
            )

    @classmethod
    @abstractmethod
    def task_names(cls) -> tuple[str, ...]:
        """Names of all tasks, sorted."""

    @property
    def robot_type(self) -> str:
        """Name of the robot in the ``info.json`` of a recorded dataset: the registered type by default."""
        return self.get_choice_name(type(self))

    @abstractmethod
    def build(self) -> SimulatedEnv:
        """Construct the environment."""

    @abstractmethod
    def observation_spec(self) -> ObservationSpec:
        """Spec of its observations, without building the environment."""

    @abstractmethod
    def action_spec(self) -> ActionSpec:
        """Spec of its actions, without building the environment."""

    @abstractmethod
    def phrases(self) -> tuple[str, ...]:
        """All wordings of the instruction, the canonical one first."""

    def perturbations(self) -> tuple[Perturbation, ...]:
        """Supported perturbations, every kind at strength 1; empty if the environment cannot be perturbed."""
        return ()

    def extras_spec(self) -> ExtrasSpec:
        """Shape and dtype of every extra array in its observations, without building the environment."""
        return {}
