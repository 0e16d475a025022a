"""Success probes: one per task, fitted on frames of solved and unsolved episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import scipy
import torch

from wamkit.contract.rows import join_observations
from wamkit.contract.types import Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.envs import EnvConfig
from wamkit.errors import DataError
from wamkit.evaluation.imagined.scorers import SuccessProbe


@dataclass(frozen=True)
class ProbeRecord:
    """Quality of a success probe on recorded frames of held-out demonstrations.

    Attributes:
        solved: mean predicted probability of success at frames where the task is solved.
        unsolved: mean predicted probability of success at earlier frames.
        auc: ROC AUC, the chance that a solved frame scores above an unsolved one.
        n: number of frames of both kinds.
    """

    solved: float
    unsolved: float
    auc: float
    n: int


@final
class TaskFrames:
    """Frames of a dataset by task, shown as one step each.

    Args:
        dataset: episodes whose instructions are phrases of the tasks; other episodes are ignored.
        env: environment of the tasks; gives the phrases of each, the canonical one first.
        tasks: task names.
    """

    def __init__(self, dataset: Dataset, env: EnvConfig, tasks: Sequence[str]) -> None:
        self.dataset = dataset
        self._phrases = {task: replace(env, task=task).phrases() for task in tasks}
        task_of = {phrase: task for task, phrases in self._phrases.items() for phrase in phrases}
        self.episodes = {
            task: [e for e in dataset.episodes if task_of.get(e.tasks[0]) == task] for task in tasks
        }

    def instruction(self, task: str) -> str:
        """Canonical instruction of a task."""
        return self._phrases[task][0]

    def ends(self, task: str, tail: int) -> np.ndarray:
        """Frame numbers of the last ``tail`` frames of every successful episode."""
        tails = [np.arange(max(e.stop - tail, e.start), e.stop) for e in self.episodes[task] if e.success]
        return np.concatenate(tails) if tails else np.zeros(0, np.int64)

    def before(self, task: str, tail: int, gap: int, per_episode: int, failed: bool = False) -> np.ndarray:
        """Frame numbers of unsolved frames, spread evenly over the episodes.

        Args:
            task: task name.
            tail: number of frames at the end of a successful episode that show the solved task.
            gap: number of frames before the tail that are skipped as well.
            per_episode: largest number of frames per episode.
            failed: true to use failed episodes only.
        """
        spread = []
        for e in self.episodes[task]:
            last = e.stop - 1 - (tail + gap if e.success else 0)
            if last > e.start and (not failed or e.success is False):
                spread.append(np.unique(np.linspace(e.start, last, per_episode).round().astype(np.int64)))
        return np.concatenate(spread) if spread else np.zeros(0, np.int64)

    def starts(self, task: str, count: int | None) -> np.ndarray:
        """Frame numbers of the first frames of at most ``count`` episodes; None for all."""
        return np.array([e.start for e in self.episodes[task][:count]], np.int64)

    def look(self, index: np.ndarray) -> Observation:
        """Observations (M, 1) at these frame numbers."""
        return self.dataset.windows(index, WindowSpec(horizon=1)).observation


def fit_probe(
    world: Design,
    stream: str,
    task: str,
    tail: int,
    gap: int,
    shown: TaskFrames,
    rolled: TaskFrames | None = None,
) -> SuccessProbe:
    """Logistic regression of "solved" on all tokens of a future stream; scores a dream by its best step.

    Args:
        world: world model.
        stream: name of its future stream that the probe reads.
        task: task name.
        tail: number of frames at the end of a successful demonstration that show the solved task.
        gap: number of frames before these that are skipped, because they look much the same.
        shown: demonstrations.
        rolled: rollouts whose failed episodes give further unsolved frames; None for none.

    Raises:
        DataError: the demonstrations show no solved frame, or no unsolved one.
    """
    solved = shown.ends(task, tail)
    parts = [shown.look(index) for index in (solved, shown.before(task, tail, gap, 8)) if len(index)]
    if rolled is not None:
        index = rolled.before(task, tail, gap, 24, failed=True)
        parts += [rolled.look(index)] if len(index) else []
    if not parts:
        raise DataError(f"{shown.dataset.root}: no episode of {task!r} to fit the success probe on")
    observations = join_observations(parts)
    label = torch.arange(observations.batch_size) < len(solved)
    return SuccessProbe(world, stream, observations, label, ridge=1e-2, pool="tokens", when="ever")


def probe_record(probe: SuccessProbe, held: TaskFrames, task: str, tail: int, gap: int) -> ProbeRecord:
    """Evaluate a probe on demonstrations that it was not fitted on."""
    yes = probe.of(held.look(held.ends(task, tail))).double()
    no = probe.of(held.look(held.before(task, tail, gap, 8))).double()
    return ProbeRecord(
        yes.mean().item(), no.mean().item(), roc_auc(yes.cpu().numpy(), no.cpu().numpy()), len(yes) + len(no)
    )


def roc_auc(yes: np.ndarray, no: np.ndarray) -> float:
    """Area under the ROC curve: chance that one of ``yes`` (M,) is above one of ``no`` (K,), ties counted half.

    NaN where either is empty.
    """
    if not len(yes) or not len(no):
        return float("nan")
    # The method chooses the p-value, which nobody reads: the exact one takes seconds on thousands of values.
    return float(scipy.stats.mannwhitneyu(yes, no, method="asymptotic").statistic / (len(yes) * len(no)))
