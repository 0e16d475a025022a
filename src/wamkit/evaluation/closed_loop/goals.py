"""Goals of an episode, taken from a demonstration of the same task: its end, or its milestones in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np

from wamkit.contract.specs import ObservationSpec, require_same
from wamkit.contract.types import Aim, Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.data.catalog import EpisodeRow
from wamkit.envs import EnvConfig
from wamkit.errors import ConfigError, SpecError

GOAL_MEMORY_GB = (
    0.25  # few frames per episode are needed; whole episodes are decoded for them and then dropped
)
PACE = 2  # largest number of demonstration frames passed in one tick (slope limit of Sakoe and Chiba 1978)


def advance(states: np.ndarray, at: int, state: np.ndarray, ticks: int) -> int:
    """Progress of an episode along a demonstration: the frame nearest to its state, never an earlier one than before.

    Only the next ``PACE * ticks`` frames are considered. Among frames that are equally near, up to half an average
    step of the demonstration, the first contiguous run counts, so that a later passage through the same position is
    not mistaken for this one. The result is the last frame of that run, so that a robot at a position where the
    demonstration paused does not wait there forever.

    Args:
        states: (T, S), states of the demonstration, in comparable units.
        at: frame reached so far.
        state: (S,), current state of the episode.
        ticks: ticks since ``at`` was computed.

    Returns:
        A frame from ``at`` to ``at + PACE * ticks``.
    """
    distance = np.linalg.norm(states[at : at + PACE * ticks + 1] - state, axis=1)
    slack = np.linalg.norm(np.diff(states, axis=0), axis=1).sum() / max(len(states) - 1, 1) / 2
    near = distance <= distance.min() + slack
    first = int(np.argmax(near))
    beyond = np.flatnonzero(~near[first:])
    return at + (first + int(beyond[0]) if len(beyond) else len(near)) - 1


@final
class Course:
    """Sequence of goals of one episode; progress along it never goes back.

    Args:
        goals: M goal observations (1, 1).
        marks: (M,), frames of the demonstration that the goals show, ascending. A goal is passed once the episode has
            progressed to its frame (:func:`advance`); the last goal is never passed.
        states: (T, S), states of the demonstration; not used with a single goal.
        scale: (S,), unit of distance of each state entry; infinite for entries that do not matter.
    """

    def __init__(
        self, goals: Sequence[Observation], marks: np.ndarray, states: np.ndarray, scale: np.ndarray
    ) -> None:
        self._goals, self._marks, self._scale = tuple(goals), marks, scale
        self._states = states / scale
        self._at = self._tick = 0

    @property
    def passed(self) -> int:
        """Number of goals passed; the last one never is."""
        return min(int(np.searchsorted(self._marks, self._at, side="right")), len(self._goals) - 1)

    @property
    def goal(self) -> Observation:
        """Goal to reach now, (1, 1)."""
        return self._goals[self.passed]

    def follow(self, state: np.ndarray, tick: int) -> Observation:
        """Update the progress and return the goal at ``tick`` of the episode, given its ``state`` (S,).

        Raises:
            SpecError: the state is not finite.
        """
        if not np.isfinite(state).all():
            raise SpecError(
                f"the robot's state is not finite at tick {tick}: {state}; goals cannot be chosen by it."
            )
        if len(self._goals) > 1:
            self._at = advance(self._states, self._at, state / self._scale, tick - self._tick)
            self._tick = tick
        return self.goal


@final
class Goals:
    """Courses of goals by task and seed.

    Args:
        root: dataset with at least one demonstration of every task.
        env: environment of the tasks, for the wordings of their instructions.
        tasks: names of the tasks.
        spec: observation spec of the design, which the dataset must match.
        aim: ``end`` for the last frame of a demonstration, ``next`` for its milestones in turn.

    Raises:
        DataError: the dataset cannot be read.
        SpecError: the dataset's observations differ from those the design was trained on.
        ConfigError: an unknown task, a task without a demonstration, or milestones without a robot state to follow
            them by.
    """

    def __init__(
        self, root: Path, env: EnvConfig, tasks: Sequence[str], spec: ObservationSpec, aim: Aim = "end"
    ) -> None:
        if aim == "next" and not spec.state:
            raise ConfigError(
                f"goals in {root}: the design aims at the next milestone, and the progress of an episode is measured "
                f"by the robot's state, which is empty. Record a state, or train with aim: end."
            )
        self._data = Dataset(root, image_memory_gb=GOAL_MEMORY_GB)
        require_same(spec, self._data.observation_spec, "the design", f"goals in {root}")
        self._aim = aim
        solved = [episode for episode in self._data.episodes if episode.success is not False]
        self._demonstrations: dict[str, list[EpisodeRow]] = {}
        for task in tasks:
            phrases = set(replace(env, task=task).phrases())
            self._demonstrations[task] = [episode for episode in solved if phrases & set(episode.tasks)]
            if not self._demonstrations[task]:
                raise ConfigError(
                    f"{root} has no demonstration of task {task!r} that reached its goal; it shows "
                    f"{sorted({text for episode in solved for text in episode.tasks})}. "
                    f"Collect one with the same cameras."
                )

    def course(self, task: str, seed: int) -> Course:
        """A new course through the goals of the demonstration of ``task`` that ``seed`` selects."""
        rows = self._demonstrations[task]
        row = rows[int(np.random.default_rng(seed).integers(len(rows)))]
        frames = np.array([row.stop - 1])
        if self._aim == "next":
            milestones = self._data.milestones
            frames = milestones[(milestones >= row.start) & (milestones < row.stop)]
        goals = [self._data.windows(np.array([frame]), WindowSpec(horizon=1)).observation for frame in frames]
        spread = self._data.state.std(axis=0, dtype=np.float64)
        scale = np.where(spread > 0, spread, np.inf)  # a constant entry carries no information
        return Course(goals, frames - row.start, self._data.state[row.start : row.stop], scale)
