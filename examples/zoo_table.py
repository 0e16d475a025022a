"""`make zoo-table`: systems of the field on the embedded benchmark, trained for the same processor time.

Every `tiny` recipe of the zoo that acts on the benchmark is trained on the same demonstrations for the same processor
seconds of one thread, fitting included, and evaluated on the same unseen episodes. ``docs/results/zoo.json`` keeps a
row per system; systems that have one are left as they are, so that several sittings finish the table. Weak results
are shown as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from demo import TASKS, Clock
from equal_time import Cost, prepared, seconds_of_steps
from table import demonstrations, evaluate_apart, publish_rows, published, row, sittings, train_missing

from wamkit.api import EvaluateConfig, EvaluationConfig, TrainConfig, from_pretrained
from wamkit.contract.specs import ACTION
from wamkit.envs import MetaWorldConfig
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.training import OptimConfig
from wamkit.zoo.registry import systems
from wamkit.zoo.rows import plain
from wamkit.zoo.states import fingerprint
from wamkit.zoo.system import System

ROUNDS = 5


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--systems", nargs="+", help="names; all that act and have no row yet without it")
    parser.add_argument("--out", type=Path, default=Path("runs/zoo"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument("--seconds", type=float, default=60.0, help="processor seconds of each training")
    parser.add_argument("--episodes", type=int, default=10, help="per task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further pair after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/zoo.json"))
    return parser.parse_args()


def acting() -> Mapping[str, System]:
    """Systems that act on the benchmark."""
    return {
        name: found
        for name, found in systems().items()
        if found.data == "benchmark" and any(ACTION in f.generates for f in found.make().factors)
    }


def cost(config: TrainConfig, seconds: float, file: Path) -> Cost:
    """Steps that fill the processor time, measured once and kept in ``file``."""
    if file.exists():
        return Cost(**json.loads(file.read_text()))
    design, batch, fit_s = prepared(config)
    optimizer = OptimConfig().build(design)
    times = [seconds_of_steps(design, batch, optimizer) for _ in range(ROUNDS + 1)]
    step_s = statistics.median(times[1:])  # the first warms up
    found = Cost(round(fit_s, 2), round(step_s, 5), max(1, round((seconds - fit_s) / step_s)))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"fit_s": found.fit_s, "step_s": found.step_s, "steps": found.steps}))
    return found


def head_of(chosen: argparse.Namespace) -> dict[str, str]:
    """What all rows of the table share."""
    return {
        "command": "make zoo-table",
        "setting": f"{chosen.demonstrations} demonstrations per task, {chosen.seconds:g} processor seconds of training "
        f"each, fitting included, seed {chosen.seed}, {chosen.episodes} episodes per task",
        "machine": f"{os.cpu_count()} cores, one torch thread per process",
    }


def main() -> None:
    """Train and evaluate the systems without a row, two at a time."""
    torch.set_num_threads(1)
    chosen, clock = options(), Clock()
    head, have = head_of(chosen), acting()
    rows = published(chosen.publish, head, "systems")
    stale = {n for n in rows if n in have and rows[n]["config"] != fingerprint(have[n].make())}
    wanted = chosen.systems or [name for name in have if name not in rows or name in stale]
    data = demonstrations(chosen.out, chosen.demonstrations, chosen.seed, clock)
    for pair in sittings(wanted, 2, chosen.minutes, clock):
        trainings = [training(have[name], data, chosen) for name in pair]
        train_missing(config for config, _ in trainings)
        for name, (config, spent) in zip(pair, trainings, strict=True):
            rows[name] = {"config": fingerprint(config.design), **evaluated(config, spent, data, chosen)}
            in_order = {name: rows[name] for name in systems() if name in rows}
            publish_rows(chosen.publish, head, "systems", in_order)


def training(found: System, data: Path, chosen: argparse.Namespace) -> tuple[TrainConfig, Cost]:
    """Training of one system that fills its processor time."""
    folder = chosen.out / plain(found.name)
    config = TrainConfig(dataset=data, out=folder / "run", design=found.make(), steps=1, seed=chosen.seed)
    spent = cost(config, chosen.seconds, folder / "cost.json")
    return TrainConfig(
        dataset=data, out=folder / "run", design=found.make(), steps=spent.steps, seed=chosen.seed
    ), spent


def evaluated(config: TrainConfig, spent: Cost, data: Path, chosen: argparse.Namespace) -> dict[str, Any]:
    """Row of one trained system."""
    sensors = from_pretrained(config.out / "model").sensors
    env = MetaWorldConfig(record=RECORDABLE if sensors else ())  # some read depth or poses when acting
    evaluation = EvaluationConfig(tasks=TASKS, episodes=chosen.episodes, seed=chosen.seed, slots=16, env=env)
    report = evaluate_apart(
        EvaluateConfig(str(config.out / "model"), config.out, evaluation, data, overwrite=True)
    )
    total = report.design["parameters"]["total"]
    return {**row(report, total), "steps": spent.steps, "fit_s": spent.fit_s, "step_s": spent.step_s}


if __name__ == "__main__":
    main()
