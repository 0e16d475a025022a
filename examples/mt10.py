"""`make mt10`: one language-conditioned model of ten tasks of MetaWorld (MT10), judged on unseen episodes.

Collects scripted demonstrations once, trains the joint design and the direct baseline side by side (one core each) and
runs both on every task. ``--tasks mt50`` does the same for all fifty tasks, and names of tasks for others. What is
there is kept: demonstrations, trainings (which go on where they stopped) and rows of ``docs/results/mt10.json``, of
which ``python docs/generate.py`` makes the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from demo import Clock
from rich.console import Console
from study import Run, collected, machine, reports, study, tasks_of

from wamkit.api import CollectConfig, EvaluationConfig, TrainConfig, recipe
from wamkit.contract.types import Budget
from wamkit.evaluation.output.report_page import write_html


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["mt10"], help="mt10, mt50, or names of tasks")
    parser.add_argument("--recipes", nargs="+", default=["direct", "joint"])
    parser.add_argument("--out", type=Path, default=Path("runs/mt10"))
    parser.add_argument("--demonstrations", type=int, default=50, help="per task")
    parser.add_argument("--steps", type=int, default=12000, help="of every training")
    parser.add_argument("--episodes", type=int, default=20, help="per task")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per recipe")
    parser.add_argument(
        "--seed", type=int, default=0, help="of demonstrations and evaluation; the first of training"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further runs after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/mt10.json"))
    return parser.parse_args()


def head_of(chosen: argparse.Namespace, tasks: tuple[str, ...]) -> dict[str, Any]:
    """What all rows of the table share."""
    return {
        "command": "make mt10",
        "setting": f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps, {chosen.episodes} unseen "
        f"episodes per task, evaluation seed {chosen.seed}, future skipped when acting",
        "machine": machine(),
        "tasks": list(tasks),
    }


def main() -> None:
    """Collect once, then train and judge the runs without a row, two at a time."""
    chosen, clock = options(), Clock()
    tasks = tasks_of(chosen.tasks)
    demonstrations = CollectConfig(
        out=chosen.out / "data", tasks=tasks, episodes=chosen.demonstrations, seed=chosen.seed, tail_ticks=6
    )
    data = collected(demonstrations, clock)
    evaluation = EvaluationConfig(
        tasks=tasks, episodes=chosen.episodes, seed=chosen.seed, budget=Budget(future=False), slots=16
    )
    runs = [
        Run(
            f"{name}/{seed}",
            TrainConfig(
                dataset=data,
                out=chosen.out / name / str(seed),
                design=recipe(name),
                steps=chosen.steps,
                seed=chosen.seed + seed,
            ),
            evaluation,
        )
        for seed in range(chosen.seeds)
        for name in chosen.recipes
    ]
    study(runs, chosen.publish, head_of(chosen, tasks), chosen.minutes, clock)
    write_html(reports(runs), chosen.out / "report.html")
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items())
    Console().print(f"{phases}\nreport {chosen.out / 'report.html'}")


if __name__ == "__main__":
    main()
