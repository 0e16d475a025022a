"""`make table`: every recipe on the embedded benchmark, same data, steps and seeds, one table in docs/.

Trains each recipe on the same demonstrations, two at a time (one core each), evaluates it on the same unseen
episodes and writes ``docs/results/designs.json``; ``python docs/generate.py`` makes the table of it. Weak results
are shown as they are. With ``--recipes`` the rows of the others stay as they are; what is trained already is only
evaluated again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from demo import TASKS, Clock, train_side_by_side
from rich.console import Console

from wamkit.api import CollectConfig, EvaluateConfig, EvaluationConfig, TrainConfig, collect, recipe
from wamkit.config import decode, encode
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.evaluation.report.report import Report
from wamkit.zoo import RECIPES

T = TypeVar("T")


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--out", type=Path, default=Path("runs/table"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--episodes", type=int, default=20, help="per task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="designs that train at the same time")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/designs.json"))
    return parser.parse_args()


def published(path: Path, head: Mapping[str, str], key: str) -> dict[str, Any]:
    """Rows of a record under ``key``; raises when they were made in another setting than ``head`` says."""
    if not path.exists():
        return {}
    old = json.loads(path.read_text())
    if {name: old[name] for name in head} != dict(head):
        raise SystemExit(f"{path} was made in another setting or on another machine; move it away first")
    rows: dict[str, Any] = old[key]
    return rows


def sittings(wanted: Sequence[T], jobs: int, minutes: float, clock: Clock) -> Iterator[Sequence[T]]:
    """Yield what is wanted, ``jobs`` at a time and each timed, and begin nothing further after ``minutes``."""
    for start in range(0, len(wanted), jobs):
        if sum(clock.seconds.values()) >= 60 * minutes:
            return
        group = wanted[start : start + jobs]
        with clock.phase(f"train and evaluate {group}"):
            yield group
        Console().print(f"{len(wanted) - start - len(group)} runs are left")


def train_missing(configs: Iterable[TrainConfig]) -> None:
    """Train, side by side, what is not trained yet."""
    missing = [config for config in configs if not is_trained(config)]
    if missing:
        train_side_by_side(missing)


def publish_rows(path: Path, head: Mapping[str, Any], key: str, rows: Mapping[str, Any]) -> None:
    """Write the record that :func:`published` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, key: rows}, indent=1, ensure_ascii=False) + "\n")


def row(report: Report, parameters: int) -> dict[str, object]:
    """What the table says of one design."""
    latency = report.latency_ms
    return {
        "formula": report.design["formula"],
        "commit": report.versions.get("commit", "unknown"),
        "tuple": report.design["tuple"],
        "tasks": {
            task: {
                "successes": s.successes,
                "n": s.n,
                "wilson_95": s.wilson_95,
                "errors": s.statuses["error"],
            }
            for task, s in report.tasks.items()
        },
        "mean_over_tasks": {k: getattr(report.mean_over_tasks, k) for k in ("rate", "low", "high")},
        "latency_ms": {k: getattr(latency, k) for k in ("n", "p50", "p95", "max", "first")},
        "nfe": report.nfe,
        "calls_per_episode": report.calls_per_episode.p50,
        "peak_mem_mb": report.peak_mem_mb,
        "parameters": parameters,
    }


def evaluate_apart(config: EvaluateConfig) -> Report:
    """Evaluate in a process of its own: its peak memory is then this design's alone."""
    file = config.out / "evaluate.yaml"
    file.write_text(yaml.safe_dump(encode(config), sort_keys=False))
    subprocess.run([sys.executable, "-m", "wamkit.cli", "evaluate", "--config_path", str(file)], check=True)
    return Report.load(config.out / "report.json")


def demonstrations(out: Path, per_task: int, seed: int, clock: Clock) -> Path:
    """The dataset that everything in the tables is trained on, collected once with all ground truth."""
    data = out / "data"
    if not data.exists():
        with clock.phase("collect"):
            collect(
                CollectConfig(
                    out=data, tasks=TASKS, episodes=per_task, seed=seed, tail_ticks=6, record=RECORDABLE
                )
            )
    return data


def is_trained(config: TrainConfig) -> bool:
    """Whether the run is finished; raises when its folder holds a finished run of something else."""
    if not (config.out / "model" / "model.safetensors").exists():
        return False
    found = decode(TrainConfig, json.loads((config.out / "config.json").read_text()), str(config.out))
    if dataclasses.replace(found, out=config.out, dataset=config.dataset) != config:
        raise SystemExit(f"{config.out} holds another run; move it away or choose another --out")
    return True


def main() -> None:
    """Collect once, then train and evaluate every recipe."""
    chosen = options()
    out: Path = chosen.out
    clock = Clock()
    data = demonstrations(out, chosen.demonstrations, chosen.seed, clock)
    trainings = [
        TrainConfig(dataset=data, out=out / name, design=recipe(name), steps=chosen.steps, seed=chosen.seed)
        for name in chosen.recipes
    ]
    missing = [training for training in trainings if not is_trained(training)]
    for start in range(0, len(missing), chosen.jobs):
        pair = missing[start : start + chosen.jobs]
        with clock.phase("train " + ", ".join(t.design.name for t in pair)):
            train_side_by_side(pair)
    setting = (
        f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps of {trainings[0].batch_size} "
        f"windows, seed {chosen.seed}, futures generated when acting"
    )
    for training, name in zip(trainings, chosen.recipes, strict=True):
        with clock.phase(f"evaluate {name}"):
            evaluation = EvaluationConfig(tasks=TASKS, episodes=chosen.episodes, seed=chosen.seed, slots=16)
            report = evaluate_apart(
                EvaluateConfig(str(training.out / "model"), training.out, evaluation, data, overwrite=True)
            )
        add_row(chosen.publish, name, report, setting)
        Console().print(report.headline())


def add_row(path: Path, name: str, report: Report, setting: str) -> None:
    """Write a row into the record; raises when the record's other rows were made in another setting."""
    seeds = f"evaluation seeds from {min(min(s) for s in report.seeds.values())}"
    head = {
        "command": "make table",
        "setting": f"{setting}, {seeds}",
        "machine": f"{os.cpu_count()} cores of {report.device.get('cpu', 'unknown')}, one torch thread per process",
    }
    old = json.loads(path.read_text()) if path.exists() else {**head, "designs": {}}
    if {key: old[key] for key in head} != head:
        raise SystemExit(f"{path} was made in another setting or on another machine; move it away first")
    rows = {**old["designs"], name: row(report, report.design["parameters"]["total"])}
    order = [known for known in RECIPES if known in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**head, "designs": {known: rows[known] for known in order}}, indent=2) + "\n")


if __name__ == "__main__":
    main()
