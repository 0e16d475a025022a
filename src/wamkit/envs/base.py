"""The contract of a simulated environment, its configuration, its seeds and its language."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, final

import draccus
import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation, PerturbedEpisode, Scene, Start
from wamkit.errors import ConfigError, DataError, SpecError, did_you_mean

Purpose = Literal["train", "evaluate"]
ExtrasSpec = dict[str, tuple[tuple[int, ...], str]]  # name -> (shape, dtype)
ScriptedExpert = Callable[[], NDArray[np.float32]]

EVALUATION_SEEDS_FROM = 1_000_000
SEEDS_PER_RUN = 10_000
RUNS = EVALUATION_SEEDS_FROM // SEEDS_PER_RUN


def episode_seed(purpose: Purpose, run: int, index: int) -> int:
    """The environment seed of one episode. Training and evaluation never share one.

    A training seed is ``run * 10_000 + index`` and lies below 1_000_000; an evaluation seed is the same plus
    1_000_000. Two runs with different ``run`` share no seed either.

    Args:
        purpose: what the episode is for.
        run: the ``seed`` of a collection or evaluation, 0 to 99.
        index: which episode of it, 0 to 9999.

    Raises:
        ConfigError: ``run`` or ``index`` outside its range.
    """
    if not 0 <= run < RUNS:
        raise ConfigError(f"seed {run}: a run's seed must lie between 0 and {RUNS - 1}.")
    if not 0 <= index < SEEDS_PER_RUN:
        raise ConfigError(f"episode {index}: a run has at most {SEEDS_PER_RUN} episodes; use another seed.")
    return run * SEEDS_PER_RUN + index + (EVALUATION_SEEDS_FROM if purpose == "evaluate" else 0)


@lru_cache(maxsize=1)
def _language() -> dict[str, tuple[str, ...]]:
    text = resources.files("wamkit.envs").joinpath("metaworld_instructions.json").read_text("utf-8")
    return {task: tuple(lines) for task, lines in json.loads(text).items()}


def list_tasks() -> tuple[str, ...]:
    """Names of the embedded benchmark's tasks, sorted."""
    return tuple(sorted(_language()))


def instructions(task: str) -> tuple[str, ...]:
    """Instructions for ``task`` in plain English: the canonical one first, then paraphrases.

    Raises:
        ConfigError: no such task.
    """
    try:
        return _language()[task]
    except KeyError:
        raise ConfigError(f"unknown task {task!r}. {did_you_mean(task, _language())}") from None


@dataclass(frozen=True)
class Outcome:
    """What one control tick did.

    Attributes:
        reward: the simulator's own reward.
        success: whether the task's success criterion held during this tick.
        out_of_time: whether the episode has used up its ticks.
    """

    reward: float
    success: bool
    out_of_time: bool


class SimulatedEnv(gymnasium.Env[dict[str, Any], NDArray[np.float32]], ABC):
    """A Gymnasium environment that speaks :mod:`wamkit.contract.specs`.

    An observation is ``{"images": {camera: (H, W, 3) uint8}, "state": (S,) float32, "task": str}``, plus
    ``"extras": {name: array}`` when ground truth is recorded. ``reset`` accepts
    ``options={"instruction": str, "perturbation": Perturbation}``; without an instruction the task's canonical one is
    used, and without a perturbation nothing is changed. An episode ends
    with ``terminated`` at success and with ``truncated`` after ``max_ticks``.

    ``step`` is ``advance`` followed by ``observe``; whoever will not look calls ``advance`` alone and pays
    for no rendering. The same seed gives the same states and pixels, bit for bit, whatever was run before
    and whether or not anybody looked.

    Args:
        task_name: the task.
        instruction: the canonical instruction.
        observation_spec: cameras, state and rate.
        action_spec: entries, limits and conventions of an action.
        max_ticks: control ticks before the episode is out of time.
        extras_spec: shape and dtype of every recorded ground-truth array.
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
        """Control ticks executed since the last reset, -1 before the first one."""
        return self._tick

    @property
    def instruction(self) -> str:
        """The instruction of the current episode."""
        return self._instruction

    @final
    def restart(
        self, seed: int, instruction: str | None = None, perturbation: Perturbation | None = None
    ) -> None:
        """Begin the episode that ``seed`` names, without looking; perturbed, where ``perturbation`` says so."""
        self._episode = PerturbedEpisode(perturbation, seed)
        plain = self._canonical if instruction is None else instruction
        self._instruction = self._episode.instruction(plain, self.phrases())
        self._tick = 0
        self._restore_simulation()
        if perturbation is not None and perturbation.strength:
            self._episode.scene(self.scene())
        self._reset_simulation(seed, self._episode.start())

    def phrases(self) -> Sequence[str]:
        """All known wordings of the task, the canonical one first."""
        return (self._canonical,)

    def scene(self) -> Scene:
        """What perturbations may change.

        Raises:
            ConfigError: this simulator cannot be perturbed.
        """
        raise ConfigError(f"{type(self).__name__} describes no scene and cannot be perturbed.")

    @final
    def advance(self, action: ArrayLike) -> Outcome:
        """Execute one control tick without looking.

        Values outside the action spec's limits are clipped to them, as an actuator would. An episode may be
        driven on after success.

        Raises:
            SpecError: wrong width.
            DataError: NaN or infinity in the action.
            RuntimeError: no reset yet, or the physics became unstable.
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
            bad = self.action_spec.names[int(np.flatnonzero(~np.isfinite(values))[0])]
            raise DataError(
                f"{self.task_name}, tick {self._tick}: action entry {bad!r} is not finite in "
                f"{values.tolist()}. The policy diverged or its statistics are wrong."
            )
        values = np.clip(values, self.action_spec.low, self.action_spec.high).astype(np.float32)
        reward, success = self._advance_simulation(values)
        self._tick += 1
        return Outcome(reward, success, self._tick >= self.max_ticks)

    @final
    def observe(self) -> dict[str, Any]:
        """Look: render the cameras and read the state (and the ground truth, where recorded)."""
        taken = self._images()
        shown = {name: self._episode.picture(image, name, self._tick) for name, image in taken.items()}
        observation: dict[str, Any] = {
            "images": shown,
            "state": self._state(),
            "task": self._instruction,
        }
        if self.extras_spec:
            observation["extras"] = self._extras()
        return observation

    @final
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode; see the class. Without a seed one is drawn from ``np_random``."""
        super().reset(seed=seed)
        if seed is None:
            seed = int(self.np_random.integers(EVALUATION_SEEDS_FROM))
        self.restart(seed, (options or {}).get("instruction"), (options or {}).get("perturbation"))
        return self.observe(), {"success": False, "seed": seed}

    @final
    def step(self, action: NDArray[np.float32]) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """One control tick; see :meth:`advance` for errors."""
        outcome = self.advance(action)
        truncated = outcome.out_of_time and not outcome.success
        return self.observe(), outcome.reward, outcome.success, truncated, {"success": outcome.success}

    def expert(self) -> ScriptedExpert:
        """A scripted demonstrator for the current episode; it may read what no camera shows.

        Raises:
            ConfigError: this simulator has none.
        """
        raise ConfigError(f"{type(self).__name__} has no scripted demonstrator.")

    def facts(self) -> Facts | None:
        """What the simulator knows about this tick, without rendering; None where it does not say."""
        return None

    @abstractmethod
    def _restore_simulation(self) -> None:
        """Undo whatever an earlier episode left behind, in the model, the data and the renderer."""

    @abstractmethod
    def _reset_simulation(self, seed: int, start: Start) -> None:
        """Begin an episode in the restored simulation."""

    @abstractmethod
    def _advance_simulation(self, action: NDArray[np.float32]) -> tuple[float, bool]:
        """Execute a checked action; return reward and success."""

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
class EnvConfig(draccus.ChoiceRegistry, ABC):
    """What it takes to build one environment. Hashable: environments are cached by it.

    Attributes:
        task: task name.
        max_ticks: control ticks before the episode is out of time.
    """

    task: str = ""
    max_ticks: int = 200

    @abstractmethod
    def build(self) -> SimulatedEnv:
        """Construct the environment."""

    @abstractmethod
    def observation_spec(self) -> ObservationSpec:
        """What the environment shows, without building it."""

    @abstractmethod
    def action_spec(self) -> ActionSpec:
        """What its actions mean, without building it."""

    @abstractmethod
    def phrases(self) -> tuple[str, ...]:
        """All known wordings of the task, the canonical one first."""

    def perturbations(self) -> tuple[Perturbation, ...]:
        """What can be changed about it, every kind at strength 1. Empty where it cannot be perturbed."""
        return ()

    def extras_spec(self) -> ExtrasSpec:
        """Shape and dtype of every further array that it delivers, without building it."""
        return {}
