"""`make mixture`: one model on two robots, beside models trained on each of them alone.

MetaWorld (4 action numbers, three tasks) and ALOHA (14 joints, one task) at their own rates. A design is trained on
both with equal weights, and on each alone for as many windows of that robot; every model is evaluated in closed loop
on unseen episodes. ``docs/results/mixture.json`` keeps a row per model and robot; rows that are there are left as they
are, so that several sittings finish the table, which ``python docs/generate.py`` makes of it.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo import TASKS, Clock
from rich.console import Console
from table import evaluate_apart, publish_rows, published, sittings, train_missing

from wamkit.api import (
    CollectConfig,
    EvaluateConfig,
    EvaluationConfig,
    SourceConfig,
    TrainConfig,
    collect,
    recipe,
)
from wamkit.envs import AlohaConfig, EnvConfig, MetaWorldConfig
from wamkit.views import ViewConfig

ENVS: dict[str, tuple[EnvConfig, tuple[str, ...]]] = {
    "metaworld": (MetaWorldConfig(), TASKS),
    "aloha": (AlohaConfig(), AlohaConfig.task_names()),
}
BOTH = "both"
JOBS = 2  # models that train at the same time
# The same two pictures and as many columns; what is wider than a robot is padded.
VIEWS = {
    "metaworld": ViewConfig(state_width=14, action_width=14),
    "aloha": ViewConfig(state_width=14, action_width=14),
}


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=["direct", "joint"])
    parser.add_argument("--out", type=Path, default=Path("runs/mixture"))
    parser.add_argument("--demonstrations", type=int, default=100, help="per task")
    parser.add_argument(
        "--steps", type=int, default=1500, help="of a model of one robot; twice as many of both"
    )
    parser.add_argument("--episodes", type=int, default=30, help="per robot")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start nothing further after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/mixture.json"))
    return parser.parse_args()


def views() -> dict[str, ViewConfig]:
    """Views under which both robots show the cameras ``scene`` and ``second``."""
    found = {}
    for name, (env, _) in ENVS.items():
        first, second = list(env.observation_spec().cameras)[:2]
        found[name] = replace(VIEWS[name], cameras={"scene": first, "second": second})
    return found


def demonstrations(chosen: argparse.Namespace, clock: Clock) -> dict[str, Path]:
    """Robot -> its demonstrations, collected once."""
    found = {}
    for name, (env, tasks) in ENVS.items():
        found[name] = chosen.out / f"data-{name}"
        if not found[name].exists():
            with clock.phase(f"collect {name}"):
                collect(
                    CollectConfig(
                        out=found[name], tasks=tasks, env=env, episodes=chosen.demonstrations, seed=chosen.seed,
                    )
                )  # fmt: skip
    return found


def training(recipe_name: str, robot: str, data: dict[str, Path], chosen: argparse.Namespace) -> TrainConfig:
    """Training on one robot, or on both."""
    out, design = chosen.out / recipe_name / robot, recipe(recipe_name)
    if robot != BOTH:
        return TrainConfig(dataset=data[robot], out=out, design=design, steps=chosen.steps, seed=chosen.seed)
    return TrainConfig(
        mixture={name: SourceConfig(path) for name, path in data.items()},
        out=out,
        design=replace(design, views=views()),
        steps=2 * chosen.steps,
        seed=chosen.seed,
    )


def evaluated(config: TrainConfig, robot: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """Successes of a model on a robot."""
    env, tasks = ENVS[robot]
    where = config.out / f"on-{robot}"
    where.mkdir(parents=True, exist_ok=True)
    evaluation = EvaluationConfig(
        tasks=tasks, episodes=chosen.episodes // len(tasks), seed=chosen.seed, slots=16, env=env, films=0
    )
    report = evaluate_apart(EvaluateConfig(str(config.out / "model"), where, evaluation, overwrite=True))
    score = report.overall
    Console().print(f"{config.out} on {robot}: {report.headline()}")
    return {
        "successes": score.successes,
        "n": score.n,
        "wilson_95": score.wilson_95,
        "commit": report.versions.get("commit", "unknown"),
        "steps": config.steps,
    }


def main() -> None:
    """Train and evaluate what has no row yet."""
    chosen, clock = options(), Clock()
    head = {
        "command": "make mixture",
        "setting": f"{chosen.demonstrations} demonstrations per task, {chosen.steps} steps on one robot and "
        f"{2 * chosen.steps} on both with equal weights, seed {chosen.seed}, {chosen.episodes} unseen episodes per "
        f"robot",
        "machine": f"{os.cpu_count()} cores, one torch thread per process",
    }
    rows = published(chosen.publish, head, "rows")
    data = demonstrations(chosen, clock)
    models = [(name, model) for model in (BOTH, *ENVS) for name in chosen.recipes]
    keys = {(n, m): [f"{n}/{m}/{r}" for r in ENVS if m in (BOTH, r)] for n, m in models}
    wanted = [pair for pair in models if not rows.keys() >= set(keys[pair])]
    for group in sittings(wanted, JOBS, chosen.minutes, clock):
        configs = {(name, model): training(name, model, data, chosen) for name, model in group}
        train_missing(configs.values())
        for pair, config in configs.items():
            for key in keys[pair]:
                rows[key] = evaluated(config, key.rpartition("/")[2], chosen)
            publish_rows(chosen.publish, head, "rows", rows)


if __name__ == "__main__":
    main()
