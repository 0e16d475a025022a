"""`make robustness`: what seven kinds of shift do to four designs that were trained alike, one table in docs/.

Trains the designs on the same data for the same time (`equal_time.py`: each gets the steps that fit into the training
time of the first), runs every one on the same suite of variants and writes ``docs/results/robustness.json``;
``python docs/generate.py`` makes the table of it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

from demo import TASKS, Clock, train_side_by_side
from equal_time import Cost, equal_time
from rich.console import Console
from table import demonstrations, evaluate_apart, is_trained

from wamkit.api import EvaluateConfig, EvaluationConfig, TrainConfig, recipe
from wamkit.evaluation.closed_loop.plan import Shifts
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.shifts import Shift

DESIGNS = ("joint", "direct", "post_head", "rollout")


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(DESIGNS), help="the first sets the time")
    parser.add_argument("--out", type=Path, default=Path("runs/robustness"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--steps", type=int, default=1500, help="of the first recipe")
    parser.add_argument("--jobs", type=int, default=2, help="designs that train at the same time")
    parser.add_argument("--variants", type=int, default=40, help="per dimension, and clean")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", type=Path, default=Path("docs/results/robustness.json"))
    return parser.parse_args()


def cell(shift: Shift) -> dict[str, object]:
    """One dimension of one design."""
    score, difference = shift.score, shift.difference
    return {
        "successes": score.successes,
        "n": score.n,
        "errors": score.statuses["error"],
        "wilson_95": score.wilson_95,
        "difference": dataclasses.asdict(difference),
    }


def row(report: Report, cost: Cost) -> dict[str, object]:
    """What the table says of one design."""
    assert report.shifts is not None
    latency, clean = report.latency_ms, report.overall
    return {
        "formula": report.design["formula"],
        "commit": report.versions.get("commit", "unknown"),
        "training": dataclasses.asdict(cost),
        "clean": {
            "successes": clean.successes,
            "n": clean.n,
            "errors": clean.statuses["error"],
            "wilson_95": clean.wilson_95,
        },
        "dimensions": {shift.dimension: cell(shift) for shift in report.shifts.dimensions},
        "kinds": {f"{shift.dimension}/{shift.kind}": cell(shift) for shift in report.shifts.kinds},
        "micro": {
            "rate": report.shifts.micro.rate,
            "wilson_95": report.shifts.micro.wilson_95,
            "n": report.shifts.micro.n,
        },
        "columns": dataclasses.asdict(report.shifts.columns),
        "latency_ms": {k: getattr(latency, k) for k in ("n", "p50", "p95", "max", "first")},
        "nfe": report.nfe,
        "peak_mem_mb": report.peak_mem_mb,
        "wall_s": report.wall_s,
    }


def main() -> None:
    """Train what is missing, then evaluate every design on the suite."""
    chosen = options()
    out: Path = chosen.out
    clock = Clock()
    data = demonstrations(out, chosen.demonstrations, chosen.seed, clock)
    trainings = [
        TrainConfig(dataset=data, out=out / name, design=recipe(name), steps=chosen.steps, seed=chosen.seed)
        for name in chosen.recipes
    ]
    costs = equal_time(trainings, chosen.recipes[0], out / "equal_time.json")
    trainings = [dataclasses.replace(t, steps=costs[t.design.name].steps) for t in trainings]
    missing = [training for training in trainings if not is_trained(training)]
    for start in range(0, len(missing), chosen.jobs):
        train_side_by_side(missing[start : start + chosen.jobs])
    rows: dict[str, object] = {}
    for training, name in zip(trainings, chosen.recipes, strict=True):
        evaluation = EvaluationConfig(
            tasks=TASKS, seed=chosen.seed, slots=16, shifts=Shifts(per_dimension=chosen.variants)
        )
        where = out / name / "shifts"
        where.mkdir(parents=True, exist_ok=True)
        report = evaluate_apart(
            EvaluateConfig(str(training.out / "model"), where, evaluation, data, overwrite=True)
        )
        rows[name] = row(report, costs[training.design.name])
        Console().print(report.headline())
        record = {
            "command": "make robustness",
            "setting": (
                f"{chosen.demonstrations} demonstrations per task, as many steps of {trainings[0].batch_size} windows "
                f"as fit into the time of {chosen.steps} of {chosen.recipes[0]}, seed {chosen.seed}; "
                f"{chosen.variants} variants per dimension, strengths 1 to 5, the clean arm on the same tasks and "
                f"seeds; canonical instructions"
            ),
            "machine": f"{os.cpu_count()} cores of {report.device.get('cpu', 'unknown')}, one torch thread per process",
            "designs": rows,
        }
        chosen.publish.parent.mkdir(parents=True, exist_ok=True)
        chosen.publish.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
