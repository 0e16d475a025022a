"""Loop of studies: trainings that are each judged on the same episodes, resumable, with a row per training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import Clock
from rich.console import Console
from table import evaluate_apart, publish_rows, published, row, sittings, train_missing

from wamkit.api import CollectConfig, EvaluateConfig, EvaluationConfig, TrainConfig, collect
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.evaluation.report.report import Report

# Yu et al. 2019 (arXiv:1910.10897), figure 4.
MT10 = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3",
    "button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3",
)  # fmt: skip
# Tasks in which something must be grasped and brought to a place, or met within a few millimetres.
HARD = (
    "assembly-v3", "hammer-v3", "basketball-v3", "bin-picking-v3", "stick-pull-v3", "peg-unplug-side-v3",
    "shelf-place-v3", "pick-place-wall-v3",
)  # fmt: skip
SUITES = {"mt10": MT10, "hard": HARD, "mt50": MetaWorldConfig.task_names()}
JOBS = 2  # trainings at the same time, one core each


@dataclass(frozen=True)
class Run:
    """One training, and how it is judged.

    Attributes:
        name: key of its row.
        training: the training.
        evaluation: settings of its evaluation.
    """

    name: str
    training: TrainConfig
    evaluation: EvaluationConfig


def tasks_of(names: Sequence[str]) -> tuple[str, ...]:
    """Tasks of suites and single names; raises :class:`ConfigError` for an unknown one."""
    found: dict[str, None] = {}
    for name in names:
        if name not in SUITES and name not in SUITES["mt50"]:
            raise ConfigError(f"--tasks: no {name!r}. {did_you_mean(name, (*SUITES, *SUITES['mt50']))}")
        found |= dict.fromkeys(SUITES.get(name, (name,)))
    return tuple(found)


def machine() -> str:
    """What a record says of the computer."""
    return f"{os.cpu_count()} cores, one torch thread per process"


def collected(config: CollectConfig, clock: Clock) -> Path:
    """Demonstrations at ``config.out``, collected where they are not there yet."""
    if not config.out.exists():
        with clock.phase(f"collect {config.out.name}"):
            collect(config)
    return config.out


def judged(run: Run) -> dict[str, Any]:
    """Row of one trained run."""
    where = run.training.out / "on-tasks"
    where.mkdir(parents=True, exist_ok=True)
    model = str(run.training.out / "model")
    report = evaluate_apart(
        EvaluateConfig(model, where, run.evaluation, run.training.dataset, overwrite=True)
    )
    Console().print(f"{run.name}: {report.headline()}")
    return {
        **row(report, report.design["parameters"]["total"]),
        "steps": run.training.steps,
        "outcomes": {
            task: "".join(str(int(e.status == "success")) for e in report.episodes if e.task == task)
            for task in report.tasks
        },
    }


def study(
    runs: Sequence[Run], publish: Path, head: Mapping[str, Any], minutes: float, clock: Clock
) -> dict[str, Any]:
    """Train and judge the runs without a row, two at a time; returns all rows of the record."""
    rows = published(publish, head, "runs")
    wanted = [run for run in runs if run.name not in rows]
    for group in sittings(wanted, JOBS, minutes, clock):
        train_missing(run.training for run in group)
        for run in group:
            rows[run.name] = judged(run)
            publish_rows(publish, head, "runs", rows)
    return rows


def reports(runs: Sequence[Run]) -> list[Report]:
    """Reports of the runs that were judged on this machine."""
    found = [run.training.out / "on-tasks" / "report.json" for run in runs]
    return [Report.load(page) for page in found if page.exists()]
