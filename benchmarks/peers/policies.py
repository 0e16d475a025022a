"""``python -m benchmarks.peers.policies --dataset DATASET --tasks TASK ...``: lerobot's policies in our evaluation.

Trains ACT and Diffusion Policy of lerobot for the same processor time on demonstrations of ``wamkit collect``, two at a
time, evaluates each in closed loop on the seeds of ``wamkit evaluate``, and keeps a record. What is there is kept:
trainings, episodes of an interrupted evaluation, rows of the record. The environment variable ``WAMKIT_LEROBOT_PYTHON``
names the Python of lerobot's environment (README.md in this folder).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.lerobot_policy import lerobot_python, outside
from rich.console import Console

from wamkit.api import EvaluationConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.evaluation.report.report import Report

HERE = Path(__file__).parent
JOBS = 2  # trainings at the same time


@dataclass(frozen=True)
class Preset:
    """How a policy is trained.

    Attributes:
        policy: lerobot's name of it.
        batch: windows per step.
        settings: KEY=VALUE of its config that differ from the defaults.
        acting: KEY=VALUE that differ when it acts.
    """

    policy: str
    batch: int = 8
    settings: tuple[str, ...] = ()
    acting: tuple[str, ...] = ()


# The tuned ones suit pictures of 64 x 64, episodes of some 50 ticks, one core and a quarter of an hour: smaller
# networks and one observed step make more steps, chunks fit the episodes, the learning rate fits weights that start at
# random, and data is learned sooner than noise.
PRESETS = {
    "act": Preset("act"),
    "act-tuned": Preset(
        "act",
        batch=16,
        settings=(
            "chunk_size=16", "n_action_steps=8", "use_vae=false", "dim_model=256", "n_heads=4",
            "dim_feedforward=512", "n_encoder_layers=2", "n_decoder_layers=1", "dropout=0.0",
            "optimizer_lr=3e-4", "optimizer_lr_backbone=3e-4",
        ),
    ),
    "diffusion": Preset("diffusion"),
    "diffusion-tuned": Preset(
        "diffusion",
        batch=16,
        settings=(
            "n_obs_steps=1", "down_dims=[64,128,256]", "diffusion_step_embed_dim=64",
            "prediction_type=sample", "noise_scheduler_type=DDIM", "num_inference_steps=10",
            "optimizer_lr=3e-4", "scheduler_warmup_steps=50",
        ),
    ),
}  # fmt: skip


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", required=True, help="all tasks of the dataset")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--minutes", type=float, default=15, help="processor time of every training")
    parser.add_argument("--seeds", type=int, default=1, help="trainings per preset")
    parser.add_argument("--training-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, default=0, help="of the evaluation")
    parser.add_argument("--episodes", type=int, default=20, help="per task")
    parser.add_argument("--jobs", type=int, default=JOBS, choices=(1, 2), help="trainings at the same time")
    parser.add_argument("--train-only", action="store_true", help="evaluate another time")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="when acting, of all presets"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--publish", type=Path, help="record of all rows; by default rows.json in OUT")
    return parser.parse_args()


def wordings(tasks: Sequence[str]) -> dict[str, list[str]]:
    """Task -> its wordings; raises :class:`ConfigError` for an unknown task."""
    env = EvaluationConfig().env
    for task in tasks:
        if task not in env.task_names():
            raise ConfigError(f"--tasks: no {task!r}. {did_you_mean(task, env.task_names())}")
    return {task: list(dataclasses.replace(env, task=task).phrases()) for task in tasks}


def training_command(preset: Preset, chosen: argparse.Namespace, seed: int, out: Path) -> list[str]:
    """Command that trains a preset into ``out``."""
    command = [lerobot_python(), str(HERE / "lerobot_train.py"), str(chosen.dataset), str(out)]
    command += ["--policy", preset.policy, "--minutes", str(chosen.minutes), "--batch", str(preset.batch)]
    command += ["--seed", str(seed), "--tasks", str(chosen.out / "tasks.json")]
    return [*command, "--set", *preset.settings] if preset.settings else command


def is_trained(out: Path, preset: Preset, minutes: float, seed: int) -> bool:
    """Whether a training is finished; raises :class:`SystemExit` when the folder holds another one."""
    if not (out / "peer.json").exists():
        return False
    record = json.loads((out / "peer.json").read_text())
    wanted = {"policy": preset.policy, "batch": preset.batch, "minutes": minutes, "seed": seed}
    if {name: record[name] for name in wanted} != wanted or tuple(record["said"]) != preset.settings:
        raise SystemExit(f"{out} holds another training; move it away or choose another --out")
    return True


def train_missing(runs: Mapping[str, tuple[Preset, int]], chosen: argparse.Namespace) -> None:
    """Train what is not trained, ``chosen.jobs`` at a time."""
    missing = [
        (name, preset, seed)
        for name, (preset, seed) in runs.items()
        if not is_trained(chosen.out / name, preset, chosen.minutes, seed)
    ]
    for start in range(0, len(missing), chosen.jobs):
        group = missing[start : start + chosen.jobs]
        Console().print("train " + ", ".join(name for name, _, _ in group))
        processes = [
            subprocess.Popen(training_command(preset, chosen, seed, chosen.out / name), env=outside())
            for name, preset, seed in group
        ]
        try:
            codes = [process.wait() for process in processes]
        finally:
            for process in processes:
                process.terminate()
        if any(codes):
            raise SystemExit(
                f"a training failed: {dict(zip((name for name, _, _ in group), codes, strict=True))}"
            )


def evaluated(name: str, preset: Preset, chosen: argparse.Namespace) -> Report:
    """Report of a trained run, evaluated in a process of its own: its peak memory is then this run's alone."""
    out, acting = chosen.out / f"{name}.on-tasks", [*preset.acting, *chosen.set]
    command = [sys.executable, "-m", "benchmarks.peers.lerobot_evaluate", str(chosen.out / name), str(out)]
    command += ["--dataset", str(chosen.dataset), "--tasks", *chosen.tasks, "--seed", str(chosen.seed)]
    command += ["--episodes", str(chosen.episodes), "--name", f"lerobot {name}"]
    subprocess.run([*command, "--set", *acting] if acting else command, check=True)
    return Report.load(out / "report.json")


def row(report: Report) -> dict[str, Any]:
    """What the record says of one run: the keys of a row of `examples/mt10.py`, and what the training was."""
    latency, peer = report.latency_ms, report.design["peer"]
    return {
        "commit": report.versions.get("commit", "unknown"),
        "formula": report.design["formula"],
        "tasks": {
            task: {"successes": s.successes, "n": s.n, "wilson_95": s.wilson_95}
            for task, s in report.tasks.items()
        },
        "mean_over_tasks": {k: getattr(report.mean_over_tasks, k) for k in ("rate", "low", "high")},
        "latency_ms": {k: getattr(latency, k) for k in ("n", "p50", "p95", "max", "first")},
        "nfe": report.nfe,
        "parameters": report.design["parameters"]["total"],
        **peer,
    }


def head_of(chosen: argparse.Namespace) -> dict[str, Any]:
    """What all rows of the record share."""
    return {
        "command": "python -m benchmarks.peers.policies",
        "setting": f"{chosen.minutes:g} min of processor time per training, {chosen.episodes} unseen episodes per "
        f"task, evaluation seed {chosen.seed}, backbones start at random, task as a one-hot vector",
        "machine": f"{os.cpu_count()} cores, one torch thread per process",
        "tasks": list(chosen.tasks),
    }


def published(path: Path, head: Mapping[str, Any]) -> dict[str, Any]:
    """Rows of a record; raises :class:`SystemExit` when they were made in another setting."""
    if not path.exists():
        return {}
    old = json.loads(path.read_text())
    if {name: old[name] for name in head} != dict(head):
        raise SystemExit(f"{path} was made in another setting or on another machine; move it away first")
    return dict(old["runs"])


def main() -> None:
    """Train and evaluate the runs without a row."""
    chosen = options()
    groups, head = wordings(chosen.tasks), head_of(chosen)
    record = chosen.publish or chosen.out / "rows.json"
    rows = published(record, head)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "tasks.json").write_text(json.dumps(groups, indent=1) + "\n")
    seeds = range(chosen.training_seed, chosen.training_seed + chosen.seeds)
    runs = {f"{name}/{seed}": (PRESETS[name], seed) for seed in seeds for name in chosen.presets}
    wanted = {name: run for name, run in runs.items() if name not in rows}
    train_missing(wanted, chosen)
    if chosen.train_only:
        return
    for name, (preset, _) in wanted.items():
        report = evaluated(name, preset, chosen)
        Console().print(report.headline())
        rows[name] = row(report)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps({**head, "runs": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
