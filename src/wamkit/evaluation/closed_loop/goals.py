"""Where the goals of an episode come from: a demonstration of the same task, its end or its milestones in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np

from wamkit.contract.specs import ObservationSpec, require_same
from wamkit.contract.types import Aim, Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.data.catalog import EpisodeRow
from wamkit.envs import instructions
from wamkit.errors import ConfigError, SpecError

GOAL_MEMORY_GB = 0.25  # one frame per episode is needed; whole episodes are decoded for it and then dropped
PACE = 2  # frames of a demonstration that are passed in one tick at most (slope of Sakoe and Chiba 1978)


def advance(states: np.ndarray, at: int, state: np.ndarray, ticks: int) -> int:
    """How far into a demonstration an episode has come: the frame nearest to its state, never an earlier one.

    Only the next ``PACE * ticks`` frames are looked at, and of frames that are equally near, to half an average step
    of the demonstration, the first stretch counts, so that a later passage through the same place is not taken for
    this one. Of that stretch it is the last frame, so that a robot that stands where the demonstration stood does
    not wait there for ever.

    Args:
        states: (T, S), of the demonstration, in comparable units.
        at: frame that was reached before.
        state: (S,), of the episode now.
        ticks: since ``at`` was found.

    Returns:
        a frame from ``at`` to ``at + PACE * ticks``.
    """
    away = np.linalg.norm(states[at : at + PACE * ticks + 1] - state, axis=1)
    slack = np.linalg.norm(np.diff(states, axis=0), axis=1).sum() / max(len(states) - 1, 1) / 2
    near = away <= away.min() + slack
    first = int(np.argmax(near))
    beyond = np.flatnonzero(~near[first:])
    return at + (first + int(beyond[0]) if len(beyond) else len(near)) - 1


@final
class Course:
    """The goals of one episode, one after the other; it goes forward only.

    Args:
        goals: M observations (1, 1).
        marks: (M,), the frames of the demonstration that they show, ascending. A goal is passed when the episode has
            come as far as its frame (:func:`advance`); the last one stays.
        states: (T, S), of the demonstration; not used when there is one goal.
        scale: (S,), what counts as far in each entry; infinite where an entry does not matter.
    """

    def __init__(
        self, goals: Sequence[Observation], marks: np.ndarray, states: np.ndarray, scale: np.ndarray
    ) -> None:
        self._goals, self._marks, self._scale = tuple(goals), marks, scale
        self._states = states / scale
        self._at = self._tick = 0

    @property
    def passed(self) -> int:
        """How many goals lie behind, the last one never."""
        return min(int(np.searchsorted(self._marks, self._at, side="right")), len(self._goals) - 1)

    @property
    def goal(self) -> Observation:
        """The goal that is to be reached now, (1, 1)."""
        return self._goals[self.passed]

    def follow(self, state: np.ndarray, tick: int) -> Observation:
        """The goal at ``tick`` of the episode, where its state is ``state`` (S,).

        Raises:
            SpecError: the state is not finite.
        """
        if not np.isfinite(state).all():
            raise SpecError(
                f"the robot's state is not finite at tick {tick}: {state}; no goal can be chosen by it"
            )
        if len(self._goals) > 1:
            self._at = advance(self._states, self._at, state / self._scale, tick - self._tick)
            self._tick = tick
        return self.goal


@final
class Goals:
    """Courses of goals by task and seed.

    Args:
        root: a dataset with at least one demonstration of every task.
        tasks: task names.
        spec: what the design was trained to see; the goal is seen in the same way.
        aim: ``end`` for the last frame of a demonstration, ``next`` for its milestones in turn.

    Raises:
        DataError: the dataset cannot be used.
        SpecError: the dataset shows something else than the design was trained to see.
        ConfigError: a task has no demonstration, or milestones are to be followed without a robot state.
    """

    def __init__(self, root: Path, tasks: Sequence[str], spec: ObservationSpec, aim: Aim = "end") -> None:
        if aim == "next" and not spec.state:
            raise ConfigError(
                f"goals in {root}: the design aims at the next milestone, and how far an episode has come is read off "
                f"the robot's state, of which there is none. Record one, or train with aim: end."
            )
        self._data = Dataset(root, image_memory_gb=GOAL_MEMORY_GB)
        require_same(spec, self._data.observation_spec, "the design", f"goals in {root}")
        self._aim = aim
        solved = [episode for episode in self._data.episodes if episode.success is not False]
        self._shown: dict[str, list[EpisodeRow]] = {}
        for task in tasks:
            wordings = set(instructions(task))
            self._shown[task] = [e for e in solved if wordings & set(e.tasks)]
            if not self._shown[task]:
                raise ConfigError(
                    f"{root} has no demonstration of task {task!r} that reached its goal; it shows "
                    f"{sorted({words for e in solved for words in e.tasks})}. Collect one with the same cameras."
                )

    def course(self, task: str, seed: int) -> Course:
        """The goals of a demonstration of ``task``, the same one for the same ``seed``, from the first on."""
        shown = self._shown[task]
        row = shown[int(np.random.default_rng(seed).integers(len(shown)))]
        frames = np.array([row.stop - 1])
        if self._aim == "next":
            known = self._data.milestones
            frames = known[(known >= row.start) & (known < row.stop)]
        seen = [self._data.windows(np.array([frame]), WindowSpec(horizon=1)).observation for frame in frames]
        spread = self._data.state.std(axis=0, dtype=np.float64)
        scale = np.where(spread > 0, spread, np.inf)  # an entry that never changes says nothing
        return Course(seen, frames - row.start, self._data.state[row.start : row.stop], scale)
