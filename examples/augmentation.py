"""`make augmentation`: what augmentation in training does to two designs under seven kinds of shift.

Trains every recipe with and without the standard augmentations on the same demonstrations, for the same steps, with
several training seeds, and runs all of them on one suite of variants. ``docs/results/augmentation.json`` keeps a row
per run; runs that have one are left as they are, so that several sittings finish the table, which
``python docs/generate.py`` makes of it. Weak results are shown as they are.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import TASKS, Clock
from equal_time import Cost
from rich.console import Console
from robustness import row
from table import demonstrations, evaluate_apart, publish_rows, published, sittings, train_missing

from wamkit.api import EvaluateConfig, EvaluationConfig, TrainConfig, recipe
from wamkit.augmentations import PRESETS
from wamkit.evaluation.closed_loop.plan import Shifts

PRESET = "standard"
ARMS = {"plain": (), PRESET: PRESETS[PRESET]}
KEPT = ("formula", "commit", "clean", "dimensions", "micro")


@dataclass(frozen=True)
class Run:
    """One training of the table.

    Attributes:
        recipe: name of the recipe.
        arm: ``plain``, or the name of the augmentations.
        seed: training seed.
    """

    recipe: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """Key of its row, and its folder."""
        return f"{self.recipe}/{self.arm}/{self.seed}"


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=["direct", "joint"])
    parser.add_argument("--out", type=Path, default=Path("runs/augmentation"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--steps", type=int, default=1500, help="of every training")
    parser.add_argument("--seeds", type=int, default=3, help="trainings per recipe and arm")
    parser.add_argument(
        "--seed", type=int, default=0, help="of demonstrations and evaluation; the first of training"
    )
    parser.add_argument("--variants", type=int, default=40, help="per dimension, and clean")
    parser.add_argument("--jobs", type=int, default=2, help="designs that train at the same time")
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further runs after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/augmentation.json"))
    return parser.parse_args()


def head_of(chosen: argparse.Namespace) -> dict[str, str]:
    """What all rows of the table share."""
    return {
        "command": "make augmentation",
        "setting": f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps, augmented from half of "
        f"them on, {chosen.variants} variants per dimension, strengths 1 to 5, the clean arm on the same tasks and "
        f"seeds; canonical instructions",
        "machine": f"{os.cpu_count()} cores, one torch thread per process",
    }


def training(run: Run, data: Path, chosen: argparse.Namespace) -> TrainConfig:
    """Training of one run."""
    return TrainConfig(
        dataset=data,
        out=chosen.out / run.name,
        design=recipe(run.recipe),
        augment=ARMS[run.arm],
        steps=chosen.steps,
        seed=chosen.seed + run.seed,
    )


def evaluated(config: TrainConfig, data: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Row of one trained run."""
    where = config.out / "shifts"
    where.mkdir(parents=True, exist_ok=True)
    shifts = Shifts(per_dimension=chosen.variants)
    evaluation = EvaluationConfig(tasks=TASKS, seed=chosen.seed, slots=16, shifts=shifts)
    report = evaluate_apart(
        EvaluateConfig(str(config.out / "model"), where, evaluation, data, overwrite=True)
    )
    Console().print(report.headline())
    whole = row(report, Cost(0.0, 0.0, config.steps))
    return {key: whole[key] for key in KEPT}


def main() -> None:
    """Train and evaluate the runs without a row, a few at a time."""
    chosen, clock = options(), Clock()
    head = head_of(chosen)
    rows = published(chosen.publish, head, "runs")
    # Seeds first, so that a table of fewer seeds compares the same seeds of every arm.
    runs = [Run(name, arm, seed) for seed in range(chosen.seeds) for name in chosen.recipes for arm in ARMS]
    wanted = [run for run in runs if run.name not in rows]
    data = demonstrations(chosen.out, chosen.demonstrations, chosen.seed, clock)
    for group in sittings(wanted, chosen.jobs, chosen.minutes, clock):
        configs = {run: training(run, data, chosen) for run in group}
        train_missing(configs.values())
        for run, config in configs.items():
            rows[run.name] = evaluated(config, data, chosen)
            ordered = {r.name: rows[r.name] for r in runs if r.name in rows}
            publish_rows(chosen.publish, head, "runs", {**rows, **ordered})


if __name__ == "__main__":
    main()
