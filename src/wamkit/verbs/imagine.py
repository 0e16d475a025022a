"""A world model as evaluator, as a verb: score checkpoints by imagined rollouts and say how far to trust that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from rich.progress import track

from wamkit.contract.specs import require_same
from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.envs import EnvConfig, MetaWorldConfig
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.imagined.drift import DriftRow, OneStep, Telling, drift_rows, one_step, taken, tellings
from wamkit.evaluation.imagined.frames import ProbeRecord, TaskFrames, fit_probe, probe_record
from wamkit.evaluation.imagined.proxy import ImaginedScore, ProxyReport, trust
from wamkit.evaluation.imagined.scorers import substrate_of
from wamkit.evaluation.imagined.stage import set_stage
from wamkit.evaluation.report.documents import write_document
from wamkit.evaluation.report.report import Report
from wamkit.imagination.dreams import DesignPolicy, OthersActions
from wamkit.verbs.report import report_file

IMAGINED = "imagined.json"
FORMAT = "wamkit-imagined-1"
Actor = Literal["policy", "other rows"]
ACTORS: tuple[Actor, ...] = ("policy", "other rows")


@dataclass(frozen=True)
class ImagineConfig:
    """Score checkpoints in a world model's imagination and compare with their success in the simulator.

    Attributes:
        world: checkpoint of a design whose future follows the action that it is given.
        policies: name -> checkpoint of a design that keeps no past. None: the world alone is measured.
        reports: name -> folder or file of that policy's finished evaluation.
        starts: demonstrations, best held out; every dream starts at an episode's first frame.
        demonstrations: successful episodes with a tail: their last frames are what "solved" looks like.
        failures: rollouts; every frame of the episodes that failed is what it does not look like. None: earlier frames
            of the demonstrations alone say so.
        out: folder for ``imagined.json``.
        executed: rollouts, best held out and some of them failed, whose recorded actions are what was executed: the
            world dreams under these and is compared with what happened. None: ``starts``.
        fixed: sensors that the world reads and that stay in a dream as they were at its start.
        env: where the tasks come from; instructions are its canonical ones, as in an evaluation.
        tasks: task names.
        per_task: start observations per task, at most.
        stream: future stream that is judged.
        steps: after how many imagined steps, ascending.
        tail: frames at the end of a demonstration at which the task is solved.
        gap: frames before these that are neither called solved nor not.
        seed: of all noise.
        device: torch device.
    """

    world: str = "runs/world/model"
    policies: dict[str, str] = field(default_factory=dict)
    reports: dict[str, Path] = field(default_factory=dict)
    starts: Path = Path("runs/heldout")
    demonstrations: Path = Path("runs/demo/data")
    failures: Path | None = None
    executed: Path | None = None
    fixed: tuple[str, ...] = ()
    out: Path = Path("runs/imagine")
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    tasks: tuple[str, ...] = ("drawer-open-v3",)
    per_task: int = 20
    stream: str = "future"
    steps: tuple[int, ...] = (6, 12)
    tail: int = 6
    gap: int = 12
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
class ImaginationReport:
    """What was imagined, as it is written to ``imagined.json``.

    Attributes:
        world: name and formula of the world model.
        judgements: by actor and horizon.
        probe: how good the scorer is on real pictures, by task.
        start: mean score of the start pictures themselves, the same for every policy.
        one_step: a step of the world from frames of the executed rollouts.
        drift: the world under the actions that were taken, from the start of these rollouts.
        tellings: whether those dreams tell solved rollouts from failed ones, for all tasks and by task.
        wall_s: seconds.
    """

    world: dict[str, str]
    judgements: tuple[Judgement, ...]
    probe: dict[str, ProbeRecord]
    start: float
    one_step: OneStep
    drift: tuple[DriftRow, ...]
    tellings: tuple[Telling, ...]
    wall_s: float

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        write_document(path, {"format": FORMAT, **asdict(self)})


def imagine(config: ImagineConfig, progress: bool = True) -> ImaginationReport:
    """Dream every policy from the same starts, correlate with success, write ``imagined.json`` into ``config.out``.

    Raises:
        ConfigError: the world is none, or a policy keeps a past of its own.
        SpecError: world, policies and demonstrations do not show or do the same.
        DataError: demonstrations or reports cannot be used.
    """
    begin = time.perf_counter()
    world = from_pretrained(config.world, config.device)
    read = substrate_of(world, config.stream).extras  # what the probe reads of real frames
    shown = frames(config.demonstrations, config, read)
    failed = None if config.failures is None else frames(config.failures, config, read)
    held = frames(config.starts, config, world.extras)
    executed = held if config.executed is None else frames(config.executed, config, world.extras)
    for found in (held, executed):
        require_same(
            world.observation_spec, found.dataset.observation_spec, "the world", str(found.dataset.root)
        )
    probes = {
        task: fit_probe(world, config.stream, task, config.tail, config.gap, shown, failed)
        for task in config.tasks
    }
    stage = set_stage(
        world, config.env, held, config.per_task, probes, config.steps, config.seed, config.fixed
    )
    success = {name: success_of(report) for name, report in config.reports.items()}
    scores: dict[Actor, list[list[ImaginedScore]]] = {actor: [] for actor in ACTORS}
    for name, checkpoint in track(config.policies.items(), "imagine", disable=not progress, transient=True):
        policy = from_pretrained(checkpoint, config.device)
        require_same(policy.action_spec, world.action_spec, f"policy {name!r}", "the world")
        own = DesignPolicy(policy, stage.seeds)
        scores["policy"].append(stage.scores(name, own))
        others = OthersActions(own, stage.start.batch_size, config.seed)
        scores["other rows"].append(stage.scores(name, others))
    judgements = [
        Judgement(actor, trust(world, [found[i] for found in scores[actor]], success))
        for actor in ACTORS
        for i in range(len(config.steps))
        if config.policies
    ]
    by_row = [probes[task].of(held.look(held.starts(task, config.per_task))) for task in config.tasks]
    count = config.per_task if config.executed is None else None
    again = set_stage(world, config.env, executed, count, probes, config.steps, config.seed, config.fixed)
    lived = again.dream(partial(taken, again))
    result = ImaginationReport(
        world={"name": world.name, "formula": world.factorisation()},
        judgements=tuple(judgements),
        probe={
            task: probe_record(probe, held, task, config.tail, config.gap) for task, probe in probes.items()
        },
        start=float(torch.cat(by_row).mean()),
        one_step=one_step(again, executed),
        drift=drift_rows(again, lived),
        tellings=tellings(again, lived, executed, count),
        wall_s=time.perf_counter() - begin,
    )
    result.save(config.out / IMAGINED)
    return result


def frames(path: Path, config: ImagineConfig, extras: Sequence[str]) -> TaskFrames:
    """A dataset by task, with the extras that are needed."""
    return TaskFrames(Dataset(path, extras=extras), config.env, config.tasks)


def success_of(run: Path) -> float:
    """Mean success over tasks, from a report."""
    rate = Report.load(report_file(run)).mean_over_tasks.rate
    if rate is None:
        raise DataError(
            f"{report_file(run)}: no episode could be scored, so there is no success to compare with"
        )
    return rate
