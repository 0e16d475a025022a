"""A report with perturbed episodes, for tests."""

import dataclasses
from collections.abc import Callable, Sequence

from reports import small_report

from wamkit.envs.perturbations import DIMENSIONS
from wamkit.envs.perturbations.suite import CLEAN
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.scores import score
from wamkit.evaluation.report.shifts import shift_table

TASKS = ("push-v3", "open-the-long-named-drawer-v3")


def report_of(records: Sequence[EpisodeRecord], name: str = "joint") -> Report:
    """The small report with other episodes; scores and table follow from them."""
    tasks, overall, mean = score(records)
    seeds = {task: tuple(r.seed for r in records if r.task == task) for task in tasks}
    return dataclasses.replace(
        small_report(name),
        tasks=tasks,
        overall=overall,
        mean_over_tasks=mean,
        shifts=shift_table(records),
        seeds=seeds,
        episodes=tuple(records),
    )


def shifted_report(
    name: str = "joint", per_dimension: int = 10, status: Callable[[int, int], str] | None = None
) -> Report:
    """Clean arm and the seven dimensions, kinds ``first_kind`` and ``second_kind``, strengths 1 to 5 in turn.

    Args:
        name: of the policy.
        per_dimension: episodes.
        status: (number of the episode, strength) -> how it ended; by default it succeeds below strength 4.
    """
    ends = status or (lambda index, strength: "success" if strength < 4 else "timeout")
    records = []
    for dimension in (CLEAN, *DIMENSIONS):
        for index in range(per_dimension):
            kind, strength = ("clean", 0) if dimension == CLEAN else (f"kind_{index % 2}", index % 5 + 1)
            task, end = TASKS[index % 2], ends(index, strength)
            trace = "Traceback: it broke" if end == "error" else None
            id_ = f"{dimension}-{kind}-s{strength}/{task}/{index:03d}"
            records.append(
                EpisodeRecord(task, index, "go", end, 30, 4, 0.0, trace, id_, dimension, kind, strength)
            )
    return report_of(records, name)
