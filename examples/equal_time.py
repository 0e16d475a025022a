"""How many steps make designs train equally long: what fitting and a step cost each of them, timed in turn."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from wamkit.api import TrainConfig, recipe
from wamkit.contract.types import Batch
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.training import OptimConfig

ROUNDS, STEPS_PER_ROUND = 7, 8


@dataclasses.dataclass(frozen=True)
class Cost:
    """Processor seconds of one thread: what other processes do changes them little.

    Attributes:
        fit_s: fitting codecs, teachers and tokenizers, before the first step.
        step_s: one optimiser step, median over rounds in which all designs take turns.
        steps: steps with which the design trains as long as the reference does.
    """

    fit_s: float
    step_s: float
    steps: int


def prepared(config: TrainConfig) -> tuple[Design, Batch, float]:
    """A fitted design with a batch, and the seconds that fitting took."""
    dataset = Dataset(config.dataset, view=config.design.view)
    torch.manual_seed(config.seed)
    design = Design(config.design, data_spec(dataset))
    dataset = dataset.with_extras(design.extras)
    start = time.process_time()
    design.fit(dataset, config.seed)
    seconds = time.process_time() - start
    index = np.linspace(0, dataset.num_frames - 1, config.batch_size, dtype=int)
    return design.train(), dataset.windows(index, design.training_window), seconds


def seconds_of_steps(design: Design, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
    """Processor seconds per step, over a few."""
    start = time.process_time()
    for _ in range(STEPS_PER_ROUND):
        optimizer.zero_grad()
        design.loss(batch).total.backward()
        optimizer.step()
    return (time.process_time() - start) / STEPS_PER_ROUND


def equal_time(configs: list[TrainConfig], reference: str, record: Path) -> dict[str, Cost]:
    """Cost and steps of every design, by name; read from ``record`` where that was measured before.

    Args:
        configs: trainings, all with the reference's number of steps.
        reference: name of the design whose training time the others get.
        record: file that keeps the measurement, so that a second run trains the same number of steps.
    """
    if record.exists():
        known = {name: Cost(**cost) for name, cost in json.loads(record.read_text()).items()}
        missing = [config.design.name for config in configs if config.design.name not in known]
        if missing:
            raise SystemExit(f"{record} says nothing of {', '.join(missing)}; remove it to measure all anew")
        return known
    torch.set_num_threads(1)
    designs = {config.design.name: prepared(config) for config in configs}
    optimizers = {name: OptimConfig().build(design) for name, (design, _, _) in designs.items()}
    times: dict[str, list[float]] = {name: [] for name in designs}
    for _ in range(ROUNDS + 1):
        for name, (design, batch, _) in designs.items():
            times[name].append(seconds_of_steps(design, batch, optimizers[name]))
    step_s = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first warms up
    total = designs[reference][2] + configs[0].steps * step_s[reference]
    found = {
        name: Cost(round(fit_s, 2), round(step_s[name], 5), max(1, round((total - fit_s) / step_s[name])))
        for name, (_, _, fit_s) in designs.items()
    }
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({name: dataclasses.asdict(cost) for name, cost in found.items()}, indent=2))
    return found


def main() -> None:
    """Print what recipes cost, and how many steps give them the time of the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipes", nargs="+", default=["joint", "direct"], help="the first sets the time")
    parser.add_argument("--dataset", type=Path, default=Path("runs/table/data"))
    parser.add_argument("--steps", type=int, default=1500, help="of the first recipe")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/equal_time.json"))
    chosen = parser.parse_args()
    configs = [
        TrainConfig(dataset=chosen.dataset, design=recipe(name), steps=chosen.steps, seed=chosen.seed)
        for name in chosen.recipes
    ]
    for name, cost in equal_time(configs, chosen.recipes[0], chosen.out).items():
        print(f"{name}: {cost.steps} steps, {cost.fit_s:.1f} s + {1000 * cost.step_s:.0f} ms a step")


if __name__ == "__main__":
    main()
