"""Setups of dreams: start frames of every task, their instructions, and the scorer of the imagined rollouts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.streams import row_seed
from wamkit.contract.types import Observation
from wamkit.design import Design
from wamkit.errors import DataError
from wamkit.evaluation.imagined.frames import TaskFrames
from wamkit.evaluation.imagined.proxy import ImaginedScore, score_dream
from wamkit.evaluation.imagined.scorers import PerInstruction, Scorer
from wamkit.evaluation.prediction.windows import future_of
from wamkit.imagination.dreams import Dream, DreamPolicy, dream, step_ticks


@dataclass(frozen=True)
class DreamPlan:
    """Length, noise and fixed sensors of dreams.

    Attributes:
        steps: numbers of imagined steps after which a dream is scored, ascending.
        seed: seed of all noise draws.
        fixed: names of sensors that keep their start values throughout a dream.
    """

    steps: tuple[int, ...]
    seed: int
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class DreamSetup:
    """World, start observations, scorer and plan shared by all dreams that are compared with each other.

    Attributes:
        world: world model.
        start: B start observations, as the world sees them when acting.
        scorer: scorer of finished dreams.
        plan: length, noise and fixed sensors of the dreams.
    """

    world: Design
    start: Observation
    scorer: Scorer
    plan: DreamPlan

    @property
    def seeds(self) -> list[int]:
        """Seed of every row. All policies dream with the same seeds, so that their scores differ by policy only."""
        return [row_seed(self.plan.seed, row) for row in range(self.start.batch_size)]

    def dream(self, policy: DreamPolicy) -> Dream:
        """Dream of a policy, as long as the last of the planned steps."""
        steps, fixed = self.plan.steps[-1], self.plan.fixed
        return dream(self.world, policy, self.start, steps, seeds=self.seeds, fixed=fixed)

    def scores(self, name: str, policy: DreamPolicy) -> list[ImaginedScore]:
        """Scores of one dream of the policy ``name``, one per planned number of steps."""
        begin = time.perf_counter()
        finished = self.dream(policy)
        rate = self.plan.steps[-1] / (time.perf_counter() - begin)
        return [score_dream(finished.until(k), name, self.scorer, rate) for k in self.plan.steps]


@dataclass(frozen=True)
class Executed:
    """Recorded continuation of the start frames of a setup.

    Attributes:
        action: actions (B, T, A) that the episodes executed, T the control ticks of the longest dream; the last action
            is repeated after the end of an episode.
        future: recorded observations at the end of each imagined step, padded after the end of an episode.
    """

    action: Tensor
    future: Observation

    def replay(self, so_far: Dream) -> Tensor:
        """Recorded actions (B, H, A) of the next ticks, the last one repeated; a policy to dream with."""
        horizon = so_far.world.config.horizon
        chunk = self.action[:, so_far.ticks : so_far.ticks + horizon]
        return torch.cat((chunk, chunk[:, -1:].expand(-1, horizon - chunk.shape[1], -1)), dim=1)


def set_up_dreams(
    world: Design, shown: TaskFrames, count: int | None, scorers: Mapping[str, Scorer], plan: DreamPlan
) -> tuple[DreamSetup, Executed]:
    """Start dreams at the first frames of episodes, each with the canonical instruction of its task.

    Args:
        world: world model.
        shown: episodes by task.
        count: largest number of episodes per task; None for all.
        scorers: task -> scorer of its dreams. Only these tasks are dreamt.
        plan: length, noise and fixed sensors of the dreams.

    Returns:
        the setup, and what the episodes did from the same start frames.

    Raises:
        DataError: there is no episode of these tasks.
    """
    index, instructions = [], []
    for task in scorers:
        firsts = shown.starts(task, count).tolist()
        index += firsts
        instructions += [shown.instruction(task)] * len(firsts)
    if not index:
        raise DataError(f"{shown.dataset.root}: no episode of the tasks {sorted(scorers)} to start from")
    ahead = step_ticks(world) * plan.steps[-1]
    futures = tuple(range(step_ticks(world), ahead + 1, step_ticks(world)))
    window = replace(world.training_window, future=futures, horizon=ahead)
    batch = shown.dataset.windows(np.array(index), window)
    observation = batch.acting(world.window)
    sensed = {name: observation.extras[name] for name in world.sensors}
    start = replace(observation, task=tuple(instructions), extras=sensed, goal=None)
    clips = [row for row in index if not shown.dataset.acted[row]]
    if clips:
        raise DataError(
            f"{shown.dataset.root}: the episode at frame {clips[0]} was recorded without actions, so a dream cannot "
            f"follow what it did. Give episodes with actions."
        )
    scorer = PerInstruction({shown.instruction(task): scorer for task, scorer in scorers.items()})
    executed = Executed(batch.action[:, batch.past :], future_of(batch))
    return DreamSetup(world, start, scorer, plan), executed
