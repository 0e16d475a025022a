"""`make mt10`: one language-conditioned model of ten tasks of MetaWorld (MT10), judged on unseen episodes.

Collects scripted demonstrations once, trains the joint design and the direct baseline side by side (one core each) and
runs both on every task. ``--tasks mt50`` does the same for all fifty tasks, and names of tasks for others. What is
there is kept: demonstrations, trainings (which go on where they stopped) and rows of ``docs/results/mt10.json``, of
which ``python docs/generate.py`` makes the table.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from demo import Clock
from rich.console import Console
from table import evaluate_apart, publish_rows, published, sittings, train_missing

from wamkit.api import CollectConfig, EvaluateConfig, EvaluationConfig, TrainConfig, collect, recipe
from wamkit.contract.types import Budget
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.evaluation.output.report_page import write_html
from wamkit.evaluation.report.report import Report

# Yu et al. 2019 (arXiv:1910.10897), figure 4.
MT10 = (
    "reach-v3", "push-v3", "pick-place-v3", "door-open-v3", "drawer-open-v3", "drawer-close-v3",
    "button-press-topdown-v3", "peg-insert-side-v3", "window-open-v3", "window-close-v3",
)  # fmt: skip
SUITES = {"mt10": MT10, "mt50": MetaWorldConfig.task_names()}
JOBS = 2  # designs that train at the same time


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["mt10"], help="mt10, mt50, or names of tasks")
    parser.add_argument("--recipes", nargs="+", default=["direct", "joint"])
    parser.add_argument("--out", type=Path, default=Path("runs/mt10"))
    parser.add_argument("--demonstrations", type=int, default=50, help="per task")
    parser.add_argument("--steps", type=int, default=20000, help="of every training")
    parser.add_argument("--episodes", type=int, default=20, help="per task")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per recipe")
    parser.add_argument(
        "--seed", type=int, default=0, help="of demonstrations and evaluation; the first of training"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further runs after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/mt10.json"))
    return parser.parse_args()


def tasks_of(names: list[str]) -> tuple[str, ...]:
    """Tasks of suites and single names; raises :class:`ConfigError` for an unknown one."""
    found: dict[str, None] = {}
    for name in names:
        if name not in SUITES and name not in SUITES["mt50"]:
            raise ConfigError(f"--tasks: no {name!r}. {did_you_mean(name, (*SUITES, *SUITES['mt50']))}")
        found |= dict.fromkeys(SUITES.get(name, (name,)))
    return tuple(found)


def head_of(chosen: argparse.Namespace, tasks: tuple[str, ...]) -> dict[str, Any]:
    """What all rows of the table share."""
    return {
        "command": "make mt10",
        "setting": f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps, {chosen.episodes} unseen "
        f"episodes per task, evaluation seed {chosen.seed}, future skipped when acting",
        "machine": f"{os.cpu_count()} cores, one torch thread per process",
        "tasks": list(tasks),
    }


def evaluated(
    config: TrainConfig, data: Path, tasks: tuple[str, ...], chosen: argparse.Namespace
) -> dict[str, Any]:
    """Row of one trained run."""
    where = config.out / "on-tasks"
    where.mkdir(parents=True, exist_ok=True)
    evaluation = EvaluationConfig(
        tasks=tasks, episodes=chosen.episodes, seed=chosen.seed, budget=Budget(future=False), slots=16
    )
    report = evaluate_apart(
        EvaluateConfig(str(config.out / "model"), where, evaluation, data, overwrite=True)
    )
    Console().print(report.headline())
    return {
        "commit": report.versions.get("commit", "unknown"),
        "formula": report.design["formula"],
        "tasks": {
            task: {"successes": s.successes, "n": s.n, "wilson_95": s.wilson_95}
            for task, s in report.tasks.items()
        },
        "mean_over_tasks": {k: getattr(report.mean_over_tasks, k) for k in ("rate", "low", "high")},
    }


def main() -> None:
    """Collect once, then train and evaluate the runs without a row, two at a time."""
    chosen, clock = options(), Clock()
    tasks = tasks_of(chosen.tasks)
    head = head_of(chosen, tasks)
    rows = published(chosen.publish, head, "runs")
    data = chosen.out / "data"
    if not data.exists():
        with clock.phase("collect"):
            collect(
                CollectConfig(
                    out=data, tasks=tasks, episodes=chosen.demonstrations, seed=chosen.seed, tail_ticks=6
                )
            )
    runs = [(name, seed) for seed in range(chosen.seeds) for name in chosen.recipes]
    wanted = [run for run in runs if f"{run[0]}/{run[1]}" not in rows]
    for group in sittings(wanted, JOBS, chosen.minutes, clock):
        configs = {
            f"{name}/{seed}": TrainConfig(
                dataset=data,
                out=chosen.out / name / str(seed),
                design=recipe(name),
                steps=chosen.steps,
                seed=chosen.seed + seed,
            )
            for name, seed in group
        }
        train_missing(configs.values())
        for name, config in configs.items():
            rows[name] = evaluated(config, data, tasks, chosen)
            publish_rows(chosen.publish, head, "runs", rows)
    pages = [chosen.out / name / str(seed) / "on-tasks" / "report.json" for name, seed in runs]
    write_html([Report.load(page) for page in pages if page.exists()], chosen.out / "report.html")
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items())
    Console().print(f"{phases}\nreport {chosen.out / 'report.html'}")


if __name__ == "__main__":
    main()
