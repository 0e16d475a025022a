"""`make demo`: demonstrations, a small World Action Model and its baseline, closed loop, an honest report.

Collects scripted demonstrations in MetaWorld, trains the joint design and the direct baseline side by side on the
same data, steps and seed (one core each), runs both on episodes that training never saw, and writes
``runs/demo/report.json`` and ``runs/demo/report.html`` (the baseline's in ``runs/demo/baseline/``).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wamkit.api import CollectConfig, EvaluateConfig, EvaluationConfig, TrainConfig, collect, evaluate, recipe
from wamkit.config import encode
from wamkit.contract.types import Budget
from wamkit.evaluation.output.report_page import write_html
from wamkit.evaluation.report.report import Report

CONSOLE = Console()
TASKS = ("drawer-open-v3", "button-press-topdown-v3", "window-open-v3")
RUNS = {"joint": "", "direct": "baseline"}  # recipe -> folder under the run's


@dataclass
class Clock:
    """Seconds per phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)


def options() -> argparse.Namespace:
    """Sizes of the demo; the defaults are what the README reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--steps", type=int, default=2000, help="training steps of each design")
    parser.add_argument("--episodes", type=int, default=20, help="evaluation episodes per task")
    parser.add_argument("--publish", type=Path, help="also write the record behind the README's table")
    parser.add_argument("--seed", type=int, default=0, help="of demonstrations, weights and evaluation")
    return parser.parse_args()


def train_side_by_side(configs: list[TrainConfig]) -> None:
    """One process per design, so that each has a core of its own; bars follow their logs."""
    processes = []
    for config in configs:
        file = config.out.with_suffix(".yaml")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(encode(config), sort_keys=False))
        command = [sys.executable, "-m", "wamkit.cli", "train", "--config_path", str(file)]
        processes.append(
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        )
    columns = (
        TextColumn("train {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns) as bar:
            tasks = [bar.add_task(config.design.name, total=config.steps) for config in configs]
            while any(process.poll() is None for process in processes):
                for task, config in zip(tasks, configs, strict=True):
                    bar.update(task, completed=logged_step(config.out / "log.jsonl"))
                time.sleep(0.5)
            for task, config in zip(tasks, configs, strict=True):
                bar.update(task, completed=logged_step(config.out / "log.jsonl"))
    finally:
        for process in processes:
            process.terminate()
    for process, config in zip(processes, configs, strict=True):
        if process.returncode:
            assert process.stderr is not None
            raise SystemExit(f"training {config.design.name} failed:\n{process.stderr.read()}")


def logged_step(log: Path) -> int:
    """The last step that a run has logged."""
    lines = log.read_text().splitlines() if log.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def summary(reports: dict[str, Report]) -> None:
    """Per task and on average, with intervals."""
    for name, report in reports.items():
        CONSOLE.print(f"\n[bold]{report.headline()}[/bold]")
        for task, score in report.tasks.items():
            CONSOLE.print(f"  {name:7} {task:26} {score.successes:3} of {score.n} {dict(score.statuses)}")
        latency = report.latency_ms
        CONSOLE.print(
            f"  {name:7} one call: p50 {latency.p50:.1f} ms, p95 {latency.p95:.1f} ms (n = {latency.n})"
        )


def publish(reports: dict[str, Report], clock: Clock, chosen: argparse.Namespace) -> None:
    """Write the record that the README's table is generated from."""
    designs = {}
    for name, report in reports.items():
        tasks = {
            task: {"successes": s.successes, "n": s.n, "wilson_95": s.wilson_95}
            for task, s in report.tasks.items()
        }
        mean, latency = report.mean_over_tasks, report.latency_ms
        designs[name] = {
            "tasks": tasks,
            "mean_over_tasks": {k: getattr(mean, k) for k in ("rate", "low", "high")},
            "latency_ms": {k: getattr(latency, k) for k in ("n", "p50", "p95", "max", "first")},
        }
    first = next(iter(reports.values()))
    record = {
        "command": "make demo",
        "commit": first.versions.get("commit", "unknown"),
        "setting": (
            f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps, seed {chosen.seed}, future "
            f"skipped when acting, evaluation seeds from {min(min(s) for s in first.seeds.values())};"
        ),
        "machine": f"{os.cpu_count()} cores of {first.device.get('cpu', 'unknown')}, one torch thread per process",
        "seconds": clock.seconds,
        "designs": designs,
    }
    chosen.publish.write_text(json.dumps(record, indent=2) + "\n")


def main() -> None:
    """Collect, train, evaluate, report."""
    chosen = options()
    out: Path = chosen.out
    shutil.rmtree(out, ignore_errors=True)
    clock = Clock()
    with clock.phase("collect"):
        demonstrations = CollectConfig(
            out=out / "data", tasks=TASKS, episodes=chosen.demonstrations, seed=chosen.seed, tail_ticks=6
        )
        collect(demonstrations)
    trainings = [
        TrainConfig(
            dataset=out / "data",
            out=out / "train" / name,
            design=recipe(name),
            steps=chosen.steps,
            seed=chosen.seed,
        )
        for name in RUNS
    ]
    with clock.phase("train"):
        train_side_by_side(trainings)
    reports = {}
    with clock.phase("evaluate"):
        for name, folder in RUNS.items():
            evaluation = EvaluationConfig(
                tasks=TASKS, episodes=chosen.episodes, seed=chosen.seed, budget=Budget(future=False), slots=16
            )
            model = str(out / "train" / name / "model")
            reports[name] = evaluate(
                EvaluateConfig(model, out / folder, evaluation, out / "data", overwrite=True)
            )
    write_html(list(reports.values()), out / "report.html")
    summary(reports)
    (out / "seconds.json").write_text(json.dumps(clock.seconds))
    if chosen.publish is not None:
        publish(reports, clock, chosen)
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.seconds.items())
    CONSOLE.print(f"\n{phases}; together {sum(clock.seconds.values()):.0f} s")
    CONSOLE.print(
        f"report   {out / 'report.html'}\nnumbers  {out / 'report.json'}\nbaseline {out / 'baseline'}"
    )


if __name__ == "__main__":
    main()
