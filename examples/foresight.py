"""`make foresight`: whether learning to foresee helps a policy, and with how many demonstrations.

Three policies on hard tasks: ``direct``, which has no future; ``joint``; and ``joint`` whose future has no loss, which
differs from it in what is learned alone. Futures are skipped when acting. All are trained for the same processor time.
``docs/results/foresight.json`` keeps a row per training, of which ``python docs/generate.py`` makes the table.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from demo import Clock
from equal_time import equal_time
from study import Run, collected, machine, study, tasks_of

from wamkit.api import CollectConfig, EvaluationConfig, TrainConfig, recipe
from wamkit.contract.types import Budget
from wamkit.design.config import DesignConfig

JOINT = recipe("joint")
POLICIES: dict[str, DesignConfig] = {
    "direct": recipe("direct"),
    "joint": JOINT,
    "joint without loss": dataclasses.replace(JOINT, loss_weights={**JOINT.loss_weights, "future": 0.0}),
}


def options() -> argparse.Namespace:
    """What to run; the defaults are what the table reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["hard"], help="hard, mt10, mt50, or names of tasks")
    parser.add_argument("--out", type=Path, default=Path("runs/foresight"))
    parser.add_argument("--demonstrations", type=int, nargs="+", default=[10, 25, 50, 100], help="per task")
    parser.add_argument("--steps", type=int, default=3000, help="of `direct`")
    parser.add_argument("--episodes", type=int, default=25, help="per task")
    parser.add_argument(
        "--seeds", type=int, default=5, help="trainings per policy and number of demonstrations"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of demonstrations and evaluation; first training"
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="start no further runs after this long")
    parser.add_argument("--publish", type=Path, default=Path("docs/results/foresight.json"))
    return parser.parse_args()


def runs_of(chosen: argparse.Namespace, tasks: tuple[str, ...], clock: Clock) -> list[Run]:
    """Every policy with every number of demonstrations and seed; seeds in the outer loop."""
    found = []
    for count in chosen.demonstrations:
        # The first successes of the same attempts: fewer demonstrations are part of more.
        collection = CollectConfig(
            chosen.out / f"data-{count}", tasks, episodes=count, seed=chosen.seed, tail_ticks=6
        )
        data = collected(collection, clock)
        plain = {
            name: TrainConfig(dataset=data, design=dataclasses.replace(design, name=name), steps=chosen.steps)
            for name, design in POLICIES.items()
        }
        costs = equal_time(list(plain.values()), "direct", chosen.out / "equal_time.json")
        for seed in range(chosen.seeds):
            for name, training in plain.items():
                key = f"{name}/{count}/{seed}"
                out = chosen.out / key.replace(" ", "-")
                changed = {"out": out, "steps": costs[name].steps, "seed": chosen.seed + seed}
                evaluation = EvaluationConfig(
                    tasks=tasks,
                    episodes=chosen.episodes,
                    seed=chosen.seed,
                    budget=Budget(future=False),
                    slots=16,
                )
                found.append((seed, Run(key, dataclasses.replace(training, **changed), evaluation)))
    return [run for _, run in sorted(found, key=lambda pair: pair[0])]


def main() -> None:
    """Collect, measure what a step costs, train and judge the runs without a row, two at a time."""
    chosen, clock = options(), Clock()
    tasks = tasks_of(chosen.tasks)
    head = {
        "command": "make foresight",
        "setting": f"the processor time of {chosen.steps} steps of `direct`, {chosen.episodes} unseen episodes per "
        f"task, evaluation seed {chosen.seed}, future skipped when acting",
        "machine": machine(),
        "tasks": list(tasks),
        "demonstrations": chosen.demonstrations,
    }
    study(runs_of(chosen, tasks, clock), chosen.publish, head, chosen.minutes, clock)


if __name__ == "__main__":
    main()
