"""Verb ``imagine``: score checkpoints by rollouts that a world model imagines, and measure how reliable that is."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch

from wamkit.config.ranges import Count, Length, Positive, Seed, SomeWords, Word, Words
from wamkit.config.values import Config
from wamkit.contract.specs import require_same
from wamkit.contract.streams import row_seed
from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.envs import EnvConfig, MetaWorldConfig
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.imagined.drift import DriftRow, OneStep, Telling, drift_rows, one_step, tellings
from wamkit.evaluation.imagined.frames import ProbeRecord, TaskFrames, fit_probe, probe_record
from wamkit.evaluation.imagined.proxy import ImaginedScore, ProxyReport, trust
from wamkit.evaluation.imagined.scorers import scorable_substrate
from wamkit.evaluation.imagined.stage import DreamPlan, DreamSetup, set_up_dreams
from wamkit.evaluation.report.report import Report
from wamkit.imagination.dreams import DesignPolicy, OthersActions, check_world
from wamkit.progress import shown, track
from wamkit.storage.documents import write_document
from wamkit.storage.output import Result, output
from wamkit.verbs.inputs import checkpoint_mark, dataset_mark, file_marks, inputs_of
from wamkit.verbs.report import report_file
from wamkit.views import ViewConfig

IMAGINED_FILE = "imagined.json"
FORMAT = "wamkit-imagined-1"
Actor = Literal["policy", "other rows"]
ACTORS: tuple[Actor, ...] = ("policy", "other rows")


@dataclass(frozen=True)
class ImagineConfig(Config):
    """Score checkpoints in a world model's imagination and compare with their success in the simulator.

    Attributes:
        world: checkpoint of the world model, a design whose future follows the action that it is given.
        policies: checkpoints of the policies, by name; if empty, only the world model is measured. A policy must not
            carry a state between calls.
        reports: folders or report files of the policies' finished evaluations, by the same names.
        starts: dataset of demonstrations, preferably held out. Every dream starts at the first frame of an episode.
        demonstrations: dataset of successful episodes that end with solved frames, to fit the success probes on.
        failures: dataset of rollouts whose failed episodes give further unsolved frames for the probes. Without it,
            unsolved frames are the earlier frames of the demonstrations.
        executed: dataset of rollouts, preferably held out and some of them failed, whose recorded actions the world
            model dreams under, to be compared with what happened; by default ``starts``.
        fixed: names of sensors that the world model reads and that keep their start values throughout a dream.
        out: folder for ``imagined.json``.
        env: environment of the tasks. Dreams use its canonical instructions, as an evaluation does.
        tasks: task names.
        per_task: largest number of start observations per task.
        stream: name of the future stream that the success probes read.
        steps: numbers of imagined steps after which dreams are scored, ascending.
        tail: number of frames at the end of a demonstration that show the solved task.
        gap: number of frames before the tail that count as neither solved nor unsolved.
        seed: seed of all noise draws.
        device: torch device, such as cpu or cuda:0.
        image_memory_gb: memory limit for decoded frames, GiB. Frames beyond it are decoded whenever they are needed.
        overwrite: true to replace the scores at ``out``.
    """

    world: Word = "runs/world/model"
    policies: dict[str, Word] = field(default_factory=dict)
    reports: dict[str, Path] = field(default_factory=dict)
    starts: Path = Path("runs/heldout")
    demonstrations: Path = Path("runs/demo/data")
    failures: Path | None = None
    executed: Path | None = None
    fixed: Words = ()
    out: Path = Path("runs/imagine")
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    tasks: SomeWords = ("drawer-open-v3",)
    per_task: Count = 20
    stream: Word = "future"
    steps: Annotated[tuple[Count, ...], Length(1, ascending=True)] = (6, 12)
    tail: Count = 6
    gap: Count = 12
    seed: Seed = 0
    device: Word = "cpu"
    image_memory_gb: Positive = 4.0
    overwrite: bool = False

    def __post_init__(self) -> None:
        if set(self.policies) != set(self.reports):
            raise ConfigError(
                f"imagine: every policy needs a report under its name: policies {sorted(self.policies)}, reports "
                f"{sorted(self.reports)}"
            )


@dataclass(frozen=True)
class Judgement:
    """Agreement of imagined scores with success for one way of acting and one horizon.

    Attributes:
        actor: source of the actions: ``policy``, or as a control ``other rows``, the actions that the policy chose
            for other starts.
        proxy: scores, success rates and their correlation.
    """

    actor: Actor
    proxy: ProxyReport


@dataclass(frozen=True)
class ImaginationReport:
    """Results of a run, the contents of ``imagined.json``.

    Attributes:
        world: name and formula of the world model.
        judgements: agreement of scores and success by actor and horizon.
        probe: quality of the success probe on recorded frames, by task.
        start: mean score of the start frames themselves, the same for every policy.
        one_step: error of one step of the world model from frames of the executed rollouts.
        drift: error of the world model under the executed actions, by imagined steps.
        tellings: separation of solved from failed rollouts by the scores of these dreams, over all tasks and per task.
        wall_s: duration of the run, seconds.
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
        """Write the file atomically."""
        write_document(path, {"format": FORMAT, **asdict(self)})


def imagine(config: ImagineConfig, progress: bool = True) -> ImaginationReport:
    """Dream every policy from the same starts, correlate with success, write ``imagined.json`` into ``config.out``.

    Raises:
        ConfigError: no future of the design follows an action, a policy does not act or carries a state between calls,
            a report is of another policy, or ``config.out`` holds scores.
        SpecError: the specs of world, policies and demonstrations differ.
        DataError: demonstrations or reports cannot be used.
    """
    require_evaluated(config)
    with output(
        Result(config.out / IMAGINED_FILE, "imagine"), inputs_of_imagination(config), config.overwrite
    ):
        with shown("imagine", progress):
            result = measure(config)
        result.save(config.out / IMAGINED_FILE)
    return result


def inputs_of_imagination(config: ImagineConfig) -> dict[str, Any]:
    """Everything that determines the scores."""
    return inputs_of(
        config,
        world=checkpoint_mark(config.world),
        policies={name: checkpoint_mark(policy) for name, policy in config.policies.items()},
        reports=file_marks({name: report_file(run) for name, run in config.reports.items()}),
        **{n: dataset_mark(getattr(config, n)) for n in ("starts", "demonstrations", "failures", "executed")},
    )


def require_evaluated(config: ImagineConfig) -> None:
    """Raise :class:`ConfigError` unless every report is of the policy under its name."""
    for name, run in config.reports.items():
        evaluated = Report.load(report_file(run)).checkpoint
        digest = checkpoint_digest(find_checkpoint(config.policies[name]))
        if evaluated not in (None, digest):
            raise ConfigError(
                f"imagine: {report_file(run)} is of another checkpoint than policy {name!r} ({str(evaluated)[:12]}, "
                f"not {digest[:12]}). Give the report of {config.policies[name]}, or evaluate it."
            )


def measure(config: ImagineConfig) -> ImaginationReport:
    """Dream, score and compare; see :func:`imagine`."""
    begin = time.perf_counter()
    world = from_pretrained(config.world, config.device)
    check_world(world)
    for policy in config.policies.values():
        from_pretrained(policy).check_acts()
    view = world.config.view
    extras = scorable_substrate(world, config.stream).extras  # read by the probe from recorded frames
    demonstrations = frames(config.demonstrations, config, extras, view)
    failures = None if config.failures is None else frames(config.failures, config, extras, view)
    held_out = frames(config.starts, config, world.extras, view)
    executed = held_out if config.executed is None else frames(config.executed, config, world.extras, view)
    for group in (held_out, executed):
        require_same(
            world.observation_spec, group.dataset.observation_spec, "the world", str(group.dataset.root)
        )
    probes = {
        task: fit_probe(world, config.stream, task, config.tail, config.gap, demonstrations, failures)
        for task in config.tasks
    }
    setup, _ = set_up_dreams(world, held_out, config.per_task, probes, plan_of(config, "policies"))
    judgements = judgements_of(config, setup)
    count = config.per_task if config.executed is None else None
    replayed, recording = set_up_dreams(world, executed, count, probes, plan_of(config, "executed"))
    replay = replayed.dream(recording.replay)
    at_start = [
        probes[task].of(held_out.look(held_out.starts(task, config.per_task))) for task in config.tasks
    ]
    return ImaginationReport(
        world={"name": world.name, "formula": world.factorisation()},
        judgements=judgements,
        probe={
            task: probe_record(probe, held_out, task, config.tail, config.gap)
            for task, probe in probes.items()
        },
        start=float(torch.cat(at_start).mean()),
        one_step=one_step(replayed, executed),
        drift=drift_rows(replayed, recording, replay),
        tellings=tellings(replayed, replay, executed, count),
        wall_s=time.perf_counter() - begin,
    )


def plan_of(config: ImagineConfig, purpose: str) -> DreamPlan:
    """Plan of the dreams for one purpose; dreams for different purposes do not share noise."""
    return DreamPlan(config.steps, row_seed(config.seed, purpose), config.fixed)


def judgements_of(config: ImagineConfig, setup: DreamSetup) -> tuple[Judgement, ...]:
    """Score every policy, acting itself and under the actions of other rows, and correlate with success."""
    success = {name: success_of(report) for name, report in config.reports.items()}
    scores: dict[Actor, list[list[ImaginedScore]]] = {actor: [] for actor in ACTORS}
    for name, checkpoint in track(config.policies.items(), "dream the policies"):
        policy = from_pretrained(checkpoint, config.device)
        require_same(policy.action_spec, setup.world.action_spec, f"policy {name!r}", "the world")
        own = DesignPolicy(policy, setup.seeds)
        scores["policy"].append(setup.scores(name, own))
        others = OthersActions(own, setup.start.batch_size, setup.plan.seed)
        scores["other rows"].append(setup.scores(name, others))
    return tuple(
        Judgement(actor, trust(setup.world, [by_horizon[i] for by_horizon in scores[actor]], success))
        for actor in ACTORS
        for i in range(len(config.steps))
        if config.policies
    )


def frames(path: Path, config: ImagineConfig, extras: Sequence[str], view: ViewConfig) -> TaskFrames:
    """Open a dataset, grouped by task, with these extras in its observations."""
    return TaskFrames(
        Dataset(path, extras=extras, image_memory_gb=config.image_memory_gb, view=view),
        config.env,
        config.tasks,
    )


def success_of(run: Path) -> float:
    """Success rate of a report, averaged over tasks."""
    rate = Report.load(report_file(run)).mean_over_tasks.rate
    if rate is None:
        raise DataError(
            f"{report_file(run)}: no episode could be scored, so there is no success rate to compare with"
        )
    return rate
