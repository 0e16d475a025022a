"""``make bench``: every figure is a ratio of two timings of the same run, written to ``runs/bench.json``.

Absolute times of a shared machine drift; a ratio of two things timed in turn does not, or much less.
"""

from __future__ import annotations

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from wamkit.api import CollectConfig, EvaluationConfig, collect, recipe
from wamkit.augmentations import PRESETS, augment
from wamkit.contract.calls import Call
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Batch, Budget, Observation
from wamkit.data import Batches, Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.envs import MetaWorldConfig
from wamkit.envs.returned import Returned
from wamkit.evaluation.closed_loop.plan import Shifts
from wamkit.evaluation.closed_loop.rollout import pure_simulation, rollout
from wamkit.evaluation.report.machine import device_names
from wamkit.training import OptimConfig
from wamkit.trunks import TransformerConfig

TASKS = ("drawer-open-v3", "button-press-topdown-v3", "window-open-v3")
ROUNDS = 5


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median time of one call, after a warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def paired(a: Callable[[], object], b: Callable[[], object], repeats: int = 20) -> list[float]:
    """Ratios a / b, one per round, the two timed in turn."""
    return [median_seconds(a, repeats) / median_seconds(b, repeats) for _ in range(ROUNDS)]


def observations(dataset: Dataset, design: Design, rows: int) -> Observation:
    """``rows`` observations as a runner hands them over."""
    batch = dataset.windows(np.linspace(0, dataset.num_frames - 1, rows, dtype=int), design.window)
    return batch.observation


def build(name: str, dataset: Dataset) -> Design:
    """An untrained design: its timings are those of a trained one."""
    torch.manual_seed(0)
    design = Design(recipe(name), data_spec(dataset))
    design.fit(dataset, 0)
    return design


def tiny(dataset: Dataset) -> Design:
    """The smallest design that acts: what surrounds its networks weighs most."""
    base = recipe("direct")
    trunks = {name: TransformerConfig(width=32, depth=1, heads=2) for name in base.trunks}
    design = Design(replace(base, width=32, trunks=trunks), data_spec(dataset))
    design.fit(dataset, 0)
    return design


@torch.no_grad()
def cached_step(design: Design, dataset: Dataset) -> list[float]:
    """One denoising step that reads the context's cache, over one that encodes the context again."""
    observation = observations(dataset, design.eval(), 8)
    context = design.encode_context(observation)
    budget = Budget(nfe={"action": 1}, future=False)

    def step(known: dict[str, object] | None) -> None:
        design.sample(observation, ["action"], seeds=range(8), budget=budget, context=known)  # type: ignore[arg-type]

    return paired(lambda: step(context), lambda: step(None))  # type: ignore[arg-type]


@torch.no_grad()
def skipped_future(design: Design, dataset: Dataset) -> list[float]:
    """A call that leaves the future out, over one that generates it."""
    observation = observations(dataset, design.eval(), 8)
    state = design.initial_state(8)
    full, lean = Budget(), Budget(future=False)
    return paired(
        lambda: design.forecast(observation, state, lean, range(8)),
        lambda: design.forecast(observation, state, full, range(8)),
    )


def check_over_forecast(design: Design, dataset: Dataset) -> list[float]:
    """What a call is given, compared with the specs, over the whole call of one robot."""
    observation = observations(dataset, design.eval(), 1)
    state, budget, seeds = design.initial_state(1), Budget(), range(1)

    def check() -> None:  # at the entry of `forecast`, and of the `sample` that it calls
        design.entries.called(observation, state, budget, seeds)
        rows = design.entries.observed(observation, design.device)
        design.entries.sampled(rows, budget, seeds, carry=state)

    return paired(check, lambda: design.forecast(observation, state, budget, seeds))


def check_over_tick() -> list[float]:
    """What a simulator returns, compared with its specs, over one tick that is simulated and rendered."""
    env = MetaWorldConfig(task=TASKS[0], record=("depth",), max_ticks=10_000).build()
    seen, _ = env.reset(seed=0)
    now = Returned(type(env).__name__, env.task_name, env.tick)

    def check() -> None:
        now.images(seen["images"], env.observation_spec.cameras)
        now.state(seen["state"], env.observation_spec.state)
        now.extras(seen["extras"], env.extras_spec)
        now.reward(0.5)
        now.success(False)

    return paired(check, lambda: env.step(np.zeros(4, np.float32)))


@torch.no_grad()
def cached_decoding(design: Design, dataset: Dataset) -> list[float]:
    """Autoregressive decoding from the cache, over running the whole prefix again for every token."""
    observation = observations(dataset, design.eval(), 4)
    estimator = design.estimators["world"]
    context = design.encode_context(observation)
    seeds = range(4)
    made = design.sample(observation, ["action", "future"], seeds=seeds, context=context)
    call = Call(context_of("world", design.graph, context), {}, (), 4)

    def uncached() -> None:
        for _ in range(sum(made.nfe.values())):
            estimator.logits(made.values, ["action", "future"], call)  # type: ignore[operator]

    def cached() -> None:
        estimator.generate(["action", "future"], call, Budget(), RowNoise(seeds))  # type: ignore[operator]

    return paired(cached, uncached, repeats=3)


def training_step(design: Design, batch: Batch) -> Callable[[], None]:
    """One optimiser step on a fixed batch."""
    optimizer = OptimConfig().build(design)
    design.train()

    def step() -> None:
        loss = design.loss(batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def joint_step(dataset: Dataset) -> list[float]:
    """A training step of the joint design over one of the direct baseline."""
    joint, direct = build("joint", dataset), build("direct", dataset)
    index = np.linspace(0, dataset.num_frames - 1, 32, dtype=int)
    a = training_step(joint, dataset.windows(index, joint.training_window))
    b = training_step(direct, dataset.windows(index, direct.training_window))
    return paired(a, b, repeats=4)


def augmented_step(dataset: Dataset) -> list[float]:
    """Augmentation of a batch with the standard operations, over a training step of the joint design."""
    design = build("joint", dataset)
    batch = dataset.windows(np.linspace(0, dataset.num_frames - 1, 32, dtype=int), design.training_window)
    steps = itertools.count()

    def change() -> None:
        augment(batch, PRESETS["standard"], design.data, 0, next(steps))

    return paired(change, training_step(design, batch), repeats=8)


def loader_wait(dataset: Dataset) -> list[float]:
    """Share of the training time in which the trunk waits for data."""
    design = build("joint", dataset)
    optimizer = OptimConfig().build(design)
    design.train()
    shares = []
    with Batches(dataset, design.training_window, 32, 0) as batches:
        next(batches)
        for _ in range(ROUNDS):
            waited, start = batches.wait_seconds, time.perf_counter()
            for _ in range(12):
                loss = design.loss(next(batches)).total
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            shares.append((batches.wait_seconds - waited) / (time.perf_counter() - start))
    return shares


def evaluation_config(**changes: Any) -> EvaluationConfig:
    """48 short episodes in 32 simulators."""
    return EvaluationConfig(
        tasks=TASKS, episodes=16, slots=32, films=0, latency_calls=2, budget=Budget(future=False),
        env=MetaWorldConfig(max_ticks=120), **changes,
    )  # fmt: skip


# Six variants per dimension and six clean ones: as many episodes as the clean evaluation has.
SHIFTED = Shifts(per_dimension=6)
# What a whole evaluation is: 7 x 40 perturbed episodes and 40 clean ones.
WHOLE = Shifts(per_dimension=40)


def evaluate_over_sim(dataset: Dataset, rounds: int = ROUNDS, **changes: Any) -> list[float]:
    """Closed loop with the joint design, over the same simulators, actions and renderings without a policy."""
    design = build("joint", dataset).eval()
    config = evaluation_config(**changes)
    ratios = []
    for _ in range(rounds):
        done = rollout(design, config, progress=False)
        ratios.append(done.report.rollout_s / pure_simulation(config, done.traces, progress=False))
    return ratios


def shifted_over_clean_sim(dataset: Dataset) -> list[float]:
    """Simulation of perturbed episodes over that of clean ones, per control tick, both without a policy."""
    design = build("joint", dataset).eval()
    configs = evaluation_config(shifts=SHIFTED), evaluation_config()
    traces = [rollout(design, config, progress=False).traces for config in configs]

    def per_tick(index: int) -> float:
        ticks = sum(len(block.actions) for trace in traces[index] for block in trace.blocks)
        return pure_simulation(configs[index], traces[index], progress=False) / ticks

    return [per_tick(0) / per_tick(1) for _ in range(ROUNDS)]


def main() -> None:
    """Time everything, print a table, write ``runs/bench.json``."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        collect(CollectConfig(out=Path(folder) / "data", tasks=TASKS, episodes=8))
        dataset = Dataset(Path(folder) / "data")
        joint, autoregressive = build("joint", dataset), build("autoregressive", dataset)
        figures: dict[str, Callable[[], list[float]]] = {
            "evaluate_over_sim": lambda: evaluate_over_sim(dataset),
            "shifted_evaluate_over_sim": lambda: evaluate_over_sim(dataset, 2, shifts=WHOLE),
            "shifted_over_clean_sim": lambda: shifted_over_clean_sim(dataset),
            "loader_wait_fraction": lambda: loader_wait(dataset),
            "cached_over_uncached_step": lambda: cached_step(joint, dataset),
            "cached_over_uncached_decoding": lambda: cached_decoding(autoregressive, dataset),
            "future_skipped_over_generated_call": lambda: skipped_future(joint, dataset),
            "check_over_forecast": lambda: check_over_forecast(joint, dataset),
            "check_over_tiny_forecast": lambda: check_over_forecast(tiny(dataset), dataset),
            "check_over_tick": check_over_tick,
            "augment_over_joint_training_step": lambda: augmented_step(dataset),
            "joint_over_direct_training_step": lambda: joint_step(dataset),
        }
        rounds = {name: measure() for name, measure in track(figures.items(), description="bench")}
    bounds = {"evaluate_over_sim": 1.3, "shifted_evaluate_over_sim": 1.3, "loader_wait_fraction": 0.05}
    checks = [name for name in figures if name.startswith("check_over_")]
    bounds |= dict.fromkeys(checks, 0.02)
    bounds["augment_over_joint_training_step"] = 0.2
    table = Table("figure", "median", "min", "max", "rounds", "must be under")
    for name, values in rounds.items():
        shown = [f"{v:.4f}" for v in (statistics.median(values), min(values), max(values))]
        table.add_row(name, *shown, str(len(values)), str(bounds.get(name, "")))
    Console().print(table)
    result = {
        "device": device_names(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        **{name: statistics.median(values) for name, values in rounds.items()},
        "rounds": rounds,
    }
    out = Path("runs/bench.json")
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(result, indent=2))
    Console().print(f"numbers {out}")
    for name in checks:
        assert result[name] < bounds[name], f"{name} {result[name]:.4f} is not under {bounds[name]}"


if __name__ == "__main__":
    main()
