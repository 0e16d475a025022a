"""A world model as evaluator, as a verb: score checkpoints by imagined rollouts and say how far to trust that."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from wamkit.data import Dataset
from wamkit.design import Design
from wamkit.dreams import DesignPolicy, Dream, DreamPolicy, OthersActions, dream, step_ticks
from wamkit.envs import EnvConfig, MetaWorldConfig
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.filmstrip import write_atomically
from wamkit.evaluation.imagined import (
    ImaginedScore,
    PerInstruction,
    ProxyReport,
    Scorer,
    score_dream,
    trust,
)
from wamkit.evaluation.report import Report
from wamkit.evaluation.solved import Frames, ProbeRecord, fit_probe, probe_record
from wamkit.evaluation.windows import acting
from wamkit.imagination import SEED_STRIDE
from wamkit.predicting import report_file
from wamkit.specs import require_same
from wamkit.training import from_pretrained
from wamkit.types import Batch, Observation

IMAGINED = "imagined.json"
Actor = Literal["policy", "other rows"]
ACTORS: tuple[Actor, ...] = ("policy", "other rows")


@dataclass(frozen=True)
class ImagineConfig:
    """Score checkpoints in a world model's imagination and compare with their success in the simulator.

    Attributes:
        world: checkpoint of a design whose future follows the action that it is given.
        policies: name -> checkpoint of a design that keeps no past.
        reports: name -> folder or file of that policy's finished evaluation.
        starts: demonstrations, best held out; every dream starts at an episode's first frame.
        demonstrations: successful episodes with a tail: their last frames are what "solved" looks like.
        failures: rollouts; every frame of the episodes that failed is what it does not look like. None: earlier frames
            of the demonstrations alone say so.
        out: folder for ``imagined.json``.
        env: where the tasks come from; instructions are its canonical ones, as in an evaluation.
        tasks: task names.
        per_task: start observations per task, at most.
        stream: future stream that is judged.
        steps: after how many imagined steps, ascending.
        tail: frames at the end of a demonstration at which the task is solved.
        seed: of all noise.
        device: torch device.
    """

    world: str = "runs/world/model"
    policies: dict[str, str] = field(default_factory=dict)
    reports: dict[str, Path] = field(default_factory=dict)
    starts: Path = Path("runs/heldout")
    demonstrations: Path = Path("runs/demo/data")
    failures: Path | None = None
    out: Path = Path("runs/imagine")
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    tasks: tuple[str, ...] = ("drawer-open-v3",)
    per_task: int = 20
    stream: str = "future"
    steps: tuple[int, ...] = (6, 12)
    tail: int = 6
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or self.steps[0] < 1:
            raise ConfigError(f"imagine: steps must ascend from at least 1, got {list(self.steps)}")
        if set(self.policies) != set(self.reports):
            raise ConfigError(
                f"imagine: every policy needs a report under its name: policies {sorted(self.policies)}, reports "
                f"{sorted(self.reports)}"
            )


@dataclass(frozen=True)
class Judgement:
    """One way of acting in the dream, over one horizon.

    Attributes:
        actor: ``policy``, or the control ``other rows``: what the policy chose for other starts.
        proxy: scores, success and their correlation.
    """

    actor: Actor
    proxy: ProxyReport


@dataclass(frozen=True)
class DriftRow:
    """The world model under the demonstrators' own actions, one imagined step further than the row before.

    Attributes:
        ticks: control ticks since the start.
        n: dreams whose demonstration is that long.
        score: mean probability of "solved" so far, over all dreams.
        state: mean distance of the imagined from the true state per entry, in its unit; None where none is imagined.
        psnr: camera -> dB of the imagined picture.
        still: camera -> dB of the start picture, held.
    """

    ticks: int
    n: int
    score: float
    state: tuple[float, ...] | None
    psnr: dict[str, float]
    still: dict[str, float]


@dataclass(frozen=True)
class Imagined:
    """What was imagined, as it is written to ``imagined.json``.

    Attributes:
        world: name and formula of the world model.
        judgements: by actor and horizon.
        probe: how good the scorer is on real pictures, by task.
        start: mean score of the start pictures themselves, the same for every policy.
        drift: the world under the demonstrators' actions.
        wall_s: seconds.
    """

    world: dict[str, str]
    judgements: tuple[Judgement, ...]
    probe: dict[str, ProbeRecord]
    start: float
    drift: tuple[DriftRow, ...]
    wall_s: float

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_atomically(path, (json.dumps(asdict(self), indent=2, allow_nan=False) + "\n").encode())


@dataclass(frozen=True)
class Stage:
    """What all dreams of one call share.

    Attributes:
        world: the world model.
        batch: B windows at the start frames, as the world is trained on.
        start: B observations as it is shown when acting, canonical instructions.
        scorer: what judges.
        steps: at which steps.
        seed: of all noise.
    """

    world: Design
    batch: Batch
    start: Observation
    scorer: Scorer
    steps: tuple[int, ...]
    seed: int

    @property
    def seeds(self) -> list[int]:
        """One per row."""
        return [self.seed + 7919 * row for row in range(self.start.batch_size)]

    def dream(self, policy: DreamPolicy) -> Dream:
        """As far as the last of ``steps``."""
        return dream(self.world, policy, self.start, self.steps[-1], seeds=self.seeds)

    def scores(self, name: str, policy: DreamPolicy) -> list[ImaginedScore]:
        """One per entry of ``steps``, all of one dream."""
        begin = time.perf_counter()
        finished = self.dream(policy)
        rate = self.steps[-1] / (time.perf_counter() - begin)
        return [score_dream(finished.until(k), name, self.scorer, rate) for k in self.steps]


def set_stage(world: Design, config: ImagineConfig, held: Frames, scorers: Mapping[str, Scorer]) -> Stage:
    """Start windows of every task, each with its task's canonical instruction."""
    index, words = [], []
    for task in config.tasks:
        firsts = held.starts(task, config.per_task).tolist()
        index += firsts
        words += [said(config.env, task)] * len(firsts)
    if not index:
        raise DataError(f"{held.dataset.root}: no episode of the tasks {list(config.tasks)} to start from")
    ahead = step_ticks(world) * config.steps[-1]
    futures = tuple(range(step_ticks(world), ahead + 1, step_ticks(world)))
    window = replace(world.training_window, future=futures, horizon=ahead)
    batch = held.dataset.windows(np.array(index), window)
    start = replace(acting(world, batch), task=tuple(words), extras={}, goal=None)
    by_words = {said(config.env, task): scorer for task, scorer in scorers.items()}
    return Stage(world, batch, start, PerInstruction(by_words), config.steps, config.seed)


def said(env: EnvConfig, task: str) -> str:
    """The canonical instruction of a task."""
    return replace(env, task=task).phrases()[0]


def drift_rows(stage: Stage) -> tuple[DriftRow, ...]:
    """Dream with the actions that were demonstrated and compare with what then was seen."""
    ticks, horizon = step_ticks(stage.world), stage.world.config.horizon
    action, past = stage.batch.action, stage.batch.past

    def demonstrated(so_far: Dream) -> Tensor:
        at = past + so_far.ticks
        chunk = action[:, at : at + horizon]
        return torch.cat((chunk, chunk[:, -1:].expand(-1, horizon - chunk.shape[1], -1)), dim=1)

    whole, truth = stage.dream(demonstrated), stage.batch.future
    assert truth is not None
    rows = []
    for k in range(1, whole.steps + 1):
        part, real = whole.until(k), truth.steps([k - 1])
        keep = ~real.pad[:, 0]
        if not keep.any():
            break
        seen = part.observation()
        error = (seen.state - real.state)[keep, 0].abs().mean(dim=0)
        rows.append(
            DriftRow(
                ticks=k * ticks,
                n=int(keep.sum()),
                score=float(stage.scorer(part).mean()),
                state=tuple(error.tolist()),
                psnr={c: decibel(seen.images[c][keep], real.images[c][keep]) for c in real.images},
                still={c: decibel(stage.start.images[c][keep], real.images[c][keep]) for c in real.images},
            )
        )
    return tuple(rows)


def decibel(found: Tensor, real: Tensor) -> float:
    """Mean PSNR of (M, 1, 3, h, w) uint8 pictures, dB, at most 100 each."""
    error = ((found.cpu().double() - real.cpu().double()) / 255).square().mean(dim=(1, 2, 3, 4))
    return float((-10 * error.clamp(min=1e-10).log10()).mean())


def imagine(config: ImagineConfig, progress: bool = True) -> Imagined:
    """Dream every policy from the same starts, correlate with success, write ``imagined.json`` into ``config.out``.

    Raises:
        ConfigError: the world is none, or a policy keeps a past of its own.
        SpecError: world, policies and demonstrations do not show or do the same.
        DataError: demonstrations or reports cannot be used.
    """
    begin = time.perf_counter()
    world = from_pretrained(config.world, config.device)
    shown, held = (
        Frames(Dataset(path), config.env, config.tasks) for path in (config.demonstrations, config.starts)
    )
    require_same(world.observation_spec, held.dataset.observation_spec, "the world", str(config.starts))
    failed = None if config.failures is None else Frames(Dataset(config.failures), config.env, config.tasks)
    probes = {
        task: fit_probe(world, config.stream, task, config.tail, shown, failed) for task in config.tasks
    }
    stage = set_stage(world, config, held, probes)
    success = {name: success_of(report) for name, report in config.reports.items()}
    scores: dict[Actor, list[list[ImaginedScore]]] = {actor: [] for actor in ACTORS}
    for name, checkpoint in track(config.policies.items(), "imagine", disable=not progress, transient=True):
        policy = from_pretrained(checkpoint, config.device)
        require_same(policy.action_spec, world.action_spec, f"policy {name!r}", "the world")
        own = DesignPolicy(policy, [seed + SEED_STRIDE for seed in stage.seeds])
        scores["policy"].append(stage.scores(name, own))
        others = OthersActions(own, stage.start.batch_size, config.seed)
        scores["other rows"].append(stage.scores(name, others))
    judgements = [
        Judgement(actor, trust(world, [found[i] for found in scores[actor]], success))
        for actor in ACTORS
        for i in range(len(config.steps))
    ]
    by_row = [probes[task].of(held.look(held.starts(task, config.per_task))) for task in config.tasks]
    found = Imagined(
        world={"name": world.name, "formula": world.factorisation()},
        judgements=tuple(judgements),
        probe={task: probe_record(probe, held, task, config.tail) for task, probe in probes.items()},
        start=float(torch.cat(by_row).mean()),
        drift=drift_rows(stage),
        wall_s=time.perf_counter() - begin,
    )
    found.save(config.out / IMAGINED)
    return found


def success_of(run: Path) -> float:
    """Mean success over tasks, from a report."""
    rate = Report.load(report_file(run)).mean_over_tasks.rate
    if rate is None:
        raise DataError(
            f"{report_file(run)}: no episode could be scored, so there is no success to compare with"
        )
    return rate
