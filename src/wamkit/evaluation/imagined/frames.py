"""What a solved task looks like: a success probe per task, fitted on frames of demonstrations and of failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from torch import Tensor

from wamkit.contract.types import Observation, WindowSpec
from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.envs import EnvConfig
from wamkit.errors import DataError
from wamkit.evaluation.imagined.scorers import SuccessProbe


@dataclass(frozen=True)
class ProbeRecord:
    """How well "solved" is told from pictures that were really seen, on the demonstrations of ``starts``.

    Attributes:
        solved: mean probability at frames where the task is solved.
        unsolved: mean probability at earlier frames.
        auc: chance that a solved frame scores above an unsolved one.
        n: frames, both kinds.
    """

    solved: float
    unsolved: float
    auc: float
    n: int


@final
class TaskFrames:
    """Frames of a dataset by task, shown as one step each."""

    def __init__(self, dataset: Dataset, env: EnvConfig, tasks: Sequence[str]) -> None:
        self.dataset = dataset
        phrases = {task: replace(env, task=task).phrases() for task in tasks}
        known = {phrase: task for task, said in phrases.items() for phrase in said}
        self.episodes = {
            task: [e for e in dataset.episodes if known.get(e.tasks[0]) == task] for task in tasks
        }

    def ends(self, task: str, tail: int) -> np.ndarray:
        """The last ``tail`` frames of every successful episode."""
        found = [np.arange(max(e.stop - tail, e.start), e.stop) for e in self.episodes[task] if e.success]
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def before(self, task: str, tail: int, gap: int, per_episode: int, failed: bool = False) -> np.ndarray:
        """Frames spread over every episode (or those that failed), in successful ones ``gap`` before the tail."""
        found = []
        for e in self.episodes[task]:
            last = e.stop - 1 - (tail + gap if e.success else 0)
            if last > e.start and (not failed or e.success is False):
                found.append(np.unique(np.linspace(e.start, last, per_episode).round().astype(np.int64)))
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def starts(self, task: str, count: int | None) -> np.ndarray:
        """The first frames of at most ``count`` episodes, None all."""
        return np.array([e.start for e in self.episodes[task][:count]], np.int64)

    def look(self, index: np.ndarray) -> Observation:
        """(M, 1)."""
        return self.dataset.windows(index, WindowSpec(horizon=1)).observation


def joined(parts: Sequence[Observation]) -> Observation:
    """Observations one below the other."""
    return Observation(
        images={c: torch.cat([part.images[c] for part in parts]) for c in parts[0].images},
        state=torch.cat([part.state for part in parts]),
        task=tuple(task for part in parts for task in part.task),
        pad=torch.cat([part.pad for part in parts]),
        extras={name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras},
    )


def fit_probe(
    world: Design,
    stream: str,
    task: str,
    tail: int,
    gap: int,
    shown: TaskFrames,
    rolled: TaskFrames | None = None,
) -> SuccessProbe:
    """Logistic regression of "solved" on all tokens of a future stream; it scores a dream's best step.

    Args:
        world: the world model.
        stream: its stream that is judged.
        task: the task.
        tail: frames at the end of a successful demonstration at which it is solved.
        gap: frames before these which are left out, as they look much the same.
        shown: demonstrations.
        rolled: rollouts; what their failed episodes show is not solved.

    Raises:
        DataError: the demonstrations show no success, or nothing else.
    """
    solved = shown.ends(task, tail)
    parts = [shown.look(index) for index in (solved, shown.before(task, tail, gap, 8)) if len(index)]
    if rolled is not None:
        index = rolled.before(task, tail, gap, 24, failed=True)
        parts += [rolled.look(index)] if len(index) else []
    if not parts:
        raise DataError(f"{shown.dataset.root}: no episode of {task!r} to learn from what solved looks like")
    seen = joined(parts)
    label = torch.arange(seen.batch_size) < len(solved)
    return SuccessProbe(world, stream, seen, label, ridge=1e-2, pool="tokens", when="ever")


def probe_record(probe: SuccessProbe, held: TaskFrames, task: str, tail: int, gap: int) -> ProbeRecord:
    """The probe on demonstrations that it was not fitted on."""
    yes = probe.of(held.look(held.ends(task, tail))).double()
    no = probe.of(held.look(held.before(task, tail, gap, 8))).double()
    return ProbeRecord(yes.mean().item(), no.mean().item(), above(yes, no), len(yes) + len(no))


def above(yes: Tensor, no: Tensor) -> float:
    """Chance that one of ``yes`` (M,) is above one of ``no`` (K,), ties half: the area under the ROC curve."""
    return ((yes[:, None] > no).double() + 0.5 * (yes[:, None] == no).double()).mean().item()
