"""Where dreams begin: start frames of every task, the words that go with them, and what judges how they end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Batch, Observation
from wamkit.design import Design
from wamkit.envs import EnvConfig
from wamkit.errors import DataError
from wamkit.evaluation.imagined.frames import TaskFrames
from wamkit.evaluation.imagined.proxy import ImaginedScore, score_dream
from wamkit.evaluation.imagined.scorers import PerInstruction, Scorer
from wamkit.evaluation.prediction.windows import acting
from wamkit.imagination.dreams import Dream, DreamPolicy, dream, step_ticks


@dataclass(frozen=True)
class DreamSetup:
    """What all dreams of one call share.

    Attributes:
        world: the world model.
        batch: B windows at the start frames, as the world is trained on.
        start: B observations as it is shown when acting, canonical instructions.
        scorer: what judges.
        steps: at which steps.
        seed: of all noise.
        fixed: sensors that stay in every dream as they were at its start.
    """

    world: Design
    batch: Batch
    start: Observation
    scorer: Scorer
    steps: tuple[int, ...]
    seed: int
    fixed: tuple[str, ...] = ()

    @property
    def seeds(self) -> list[int]:
        """One per row."""
        return [row_seed(self.seed, row) for row in range(self.start.batch_size)]

    def dream(self, policy: DreamPolicy) -> Dream:
        """As far as the last of ``steps``."""
        return dream(self.world, policy, self.start, self.steps[-1], seeds=self.seeds, fixed=self.fixed)

    def scores(self, name: str, policy: DreamPolicy) -> list[ImaginedScore]:
        """One per entry of ``steps``, all of one dream."""
        begin = time.perf_counter()
        finished = self.dream(policy)
        rate = self.steps[-1] / (time.perf_counter() - begin)
        return [score_dream(finished.until(k), name, self.scorer, rate) for k in self.steps]


def said(env: EnvConfig, task: str) -> str:
    """The canonical instruction of a task."""
    return replace(env, task=task).phrases()[0]


def set_stage(
    world: Design,
    env: EnvConfig,
    shown: TaskFrames,
    count: int | None,
    scorers: Mapping[str, Scorer],
    steps: Sequence[int],
    seed: int,
    fixed: Sequence[str] = (),
) -> DreamSetup:
    """Start windows of at most ``count`` episodes per task, each with its task's canonical instruction.

    Raises:
        DataError: there is no episode of the tasks.
    """
    index, words = [], []
    for task in scorers:
        firsts = shown.starts(task, count).tolist()
        index += firsts
        words += [said(env, task)] * len(firsts)
    if not index:
        raise DataError(f"{shown.dataset.root}: no episode of the tasks {sorted(scorers)} to start from")
    ahead = step_ticks(world) * steps[-1]
    futures = tuple(range(step_ticks(world), ahead + 1, step_ticks(world)))
    window = replace(world.training_window, future=futures, horizon=ahead)
    batch = shown.dataset.windows(np.array(index), window)
    seen = acting(world, batch)
    sensed = {name: seen.extras[name] for name in world.sensors}
    start = replace(seen, task=tuple(words), extras=sensed, goal=None)
    by_words = {said(env, task): scorer for task, scorer in scorers.items()}
    return DreamSetup(world, batch, start, PerInstruction(by_words), tuple(steps), seed, tuple(fixed))
