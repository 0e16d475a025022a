"""Closed-loop evaluation of a policy in simulators: ``evaluate(policy, config) -> Report``."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import draccus
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wamkit.controllers import Controller
from wamkit.envs import EnvConfig, MetaWorldConfig, episode_seed
from wamkit.envs.perturbations import DIMENSIONS
from wamkit.envs.perturbations.suite import Variant, clean, suite
from wamkit.envs.vector import VectorEnv
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.evaluation.assemble import build_report
from wamkit.evaluation.episodes import PlannedEpisode, Run, Senses, Trace
from wamkit.evaluation.goals import Goals
from wamkit.evaluation.latency import Probe, probe
from wamkit.evaluation.loop import ClosedLoop, LoopResult
from wamkit.evaluation.pilot import Pilot, PolicyPilot, ReplayPilot
from wamkit.evaluation.policy import Policy, Simulators
from wamkit.evaluation.report import Report
from wamkit.specs import require_same
from wamkit.types import Budget

PromptMode = Literal["canonical", "paraphrase"]
GOAL = "goal"  # what `drop` calls the goal observation


@dataclass(frozen=True)
class Shifts:
    """Which perturbed episodes are run beside the clean ones; see :mod:`wamkit.envs.perturbations`.

    Attributes:
        per_dimension: variants per dimension; 0 perturbs nothing.
        dimensions: names of the dimensions.
        strengths: 1 to 5.
    """

    per_dimension: int = 0
    dimensions: tuple[str, ...] = DIMENSIONS
    strengths: tuple[int, ...] = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class EvaluationConfig:
    """One evaluation.

    Attributes:
        tasks: task names.
        episodes: episodes per task.
        seed: run seed, 0 to 99; episode seeds follow from it by :func:`wamkit.envs.episode_seed` and are
            never those of a collection.
        env: the simulator; its task is replaced by each of ``tasks`` in turn.
        controller: when the policy is called and what is executed; None takes the policy's own.
        budget: what a call may spend.
        prompt_mode: ``canonical`` instructions, or ``paraphrase`` (the other wordings in turn).
        workers: simulator processes.
        slots: simulators, spread over the workers; half of them move while the policy decides for the others.
        threads: torch threads of the policy.
        films: filmed episodes per task: the decoded future beside what happened.
        strips_per_film: forecasts shown per filmed episode.
        latency_calls: single-robot calls timed before the loop starts.
        timeout_s: seconds after which a silent simulator counts as dead.
        goals: dataset whose demonstrations end in the goals, for designs that read one; the episode's seed
            chooses among those of its task.
        shifts: what is perturbed. With ``per_dimension`` above 0 the clean arm is as long as a dimension's, on the
            same tasks and seeds, and ``episodes`` is not used.
        drop: sensors (names of extras) that are flagged as missing in every step, or ``goal``, so that the design
            sees its "no goal". The environment need not deliver them.
    """

    tasks: tuple[str, ...] = ("drawer-open-v3",)
    episodes: int = 20
    seed: int = 0
    env: EnvConfig = field(default_factory=MetaWorldConfig)
    controller: Controller | None = None
    budget: Budget = field(default_factory=Budget)
    prompt_mode: PromptMode = "canonical"
    workers: int = 2
    slots: int = 8
    threads: int = 1
    films: int = 1
    strips_per_film: int = 3
    latency_calls: int = 20
    timeout_s: float = 60.0
    goals: Path | None = None
    drop: tuple[str, ...] = ()
    shifts: Shifts = field(default_factory=Shifts)

    def __post_init__(self) -> None:
        for name in ("episodes", "workers", "slots", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"EvaluationConfig: `{name}` must be at least 1, got {getattr(self, name)}."
                )
        if not self.tasks or len(set(self.tasks)) != len(self.tasks):
            raise ConfigError(f"EvaluationConfig: `tasks` must name each task once, got {list(self.tasks)}.")


@dataclass(frozen=True)
class Rollout:
    """An evaluation with what is needed to repeat its simulation: the report and one trace per episode."""

    report: Report
    traces: tuple[Trace, ...]


def evaluate(
    policy: Policy, config: EvaluationConfig, *, dataset: str | None = None, progress: bool = True
) -> Report:
    """Run ``config.episodes`` closed-loop episodes of every task and report.

    Args:
        policy: the design under test.
        config: what to run.
        dataset: fingerprint of the training data, for the report.
        progress: show a progress bar.

    Raises:
        SpecError: policy and simulator disagree on a convention.
        BudgetError: the design cannot honour the budget.
        ConfigError: the controller executes more than the design predicts, or a task is unknown.
    """
    return rollout(policy, config, dataset=dataset, progress=progress).report


def rollout(
    policy: Policy, config: EvaluationConfig, *, dataset: str | None = None, progress: bool = True
) -> Rollout:
    """:func:`evaluate`, with the traces that :func:`pure_simulation` replays. Same errors."""
    began = time.perf_counter()
    pilot = prepare(policy, config)
    plan = plan_episodes(config)
    probes: list[Probe] = []
    with _threads(config.threads):
        with _simulators(config, plan) as simulators:

            def ready(runs: Sequence[Run]) -> None:
                most = len(pilot.controller.calls(pilot.max_ticks))
                probes.append(probe(pilot, runs, config.latency_calls, most))

            result = _run(config, plan, simulators, pilot, f"evaluate {policy.name}", progress, ready)
        # After the workers have ended: only then does the system tell their peak memory.
        report = build_report(
            pilot=pilot,
            result=result,
            probe=probes[0],
            config=draccus.encode(dataclasses.replace(config, controller=pilot.controller)),
            prompt_mode=config.prompt_mode,
            strips_per_episode=config.strips_per_film,
            wall_s=time.perf_counter() - began,
            dataset=dataset,
        )
    return Rollout(report, tuple(Trace(run.plan, tuple(run.blocks)) for run in result.runs))


def pure_simulation(config: EvaluationConfig, traces: Sequence[Trace], *, progress: bool = True) -> float:
    """Seconds that the simulators need for recorded episodes: same actions and renderings, no policy.

    Comparable with :attr:`Report.rollout_s` of the evaluation that was recorded.
    """
    plan = [trace.plan for trace in traces]
    with _simulators(config, plan) as simulators:
        return _run(config, plan, simulators, ReplayPilot(traces), "simulate alone", progress).seconds


def prepare(policy: Policy, config: EvaluationConfig) -> PolicyPilot:
    """Check policy, simulators, controller and budget against each other before anything is started."""
    for task in config.tasks:
        env, where = dataclasses.replace(config.env, task=task), f"environment {task!r}"
        require_same(policy.observation_spec, env.observation_spec(), f"design {policy.name!r}", where)
        require_same(policy.action_spec, env.action_spec(), f"design {policy.name!r}", where)
        require_sensors(policy, env, where, config.drop)
    senses = choose_senses(policy, config.drop)
    goals = find_goals(policy, config)
    controller = config.controller or policy.controller
    chosen = None if goals is None else lambda plan: goals.choose(plan.task, plan.seed)
    return PolicyPilot(policy, controller, config.budget, config.env.max_ticks, senses, chosen)


def choose_senses(policy: Policy, drop: Sequence[str]) -> Senses:
    """Which extras the policy is shown; raises :class:`ConfigError` where one of ``drop`` cannot be dropped."""
    dropped = {}
    for name in drop:
        if name == GOAL:
            continue
        if name not in policy.droppable:
            needed = "its memory is made of it" if name in policy.sensors else "it does not read that sensor"
            raise ConfigError(
                f"drop: design {policy.name!r} cannot do without {name!r}: {needed}. "
                f"{did_you_mean(name, [*policy.droppable, *([GOAL] if policy.reads_goal else [])])}"
            )
        dropped[name] = policy.droppable[name]
    return Senses(tuple(name for name in policy.sensors if name not in dropped), dropped)


def find_goals(policy: Policy, config: EvaluationConfig) -> Goals | None:
    """Where goals come from; raises :class:`ConfigError` unless exactly the designs that read one are given one."""
    supplied, dropped = config.goals is not None, GOAL in config.drop
    if not policy.reads_goal and (supplied or dropped):
        raise ConfigError(
            f"design {policy.name!r} reads no goal: leave `goals` out, and {GOAL!r} out of `drop`."
        )
    if policy.reads_goal and supplied == dropped:
        have = "is given one and told to drop it" if supplied else "nobody supplies one"
        raise ConfigError(
            f"design {policy.name!r} reads a goal observation, but {have}. Set either `goals` to a dataset with "
            f"demonstrations of the tasks, or `drop` to [{GOAL}] for its learned 'no goal'."
        )
    if config.goals is None:
        return None
    return Goals(config.goals, config.tasks, policy.observation_spec)


def require_sensors(policy: Policy, env: EnvConfig, where: str, drop: Sequence[str] = ()) -> None:
    """Raise :class:`SpecError` unless ``env`` delivers every extra that the policy reads and that is not dropped."""
    delivered = env.extras_spec()
    for name in policy.sensors:
        if name not in delivered and name not in drop:
            raise SpecError(
                f"design {policy.name!r} reads the extra {name!r} when acting, which {where} does not deliver. "
                f"{did_you_mean(name, delivered)} Add {name.partition('.')[0]!r} to the environment's `record`, "
                f"or put {name!r} into `drop` to flag it as missing."
            )


def plan_episodes(config: EvaluationConfig) -> list[PlannedEpisode]:
    """The episodes of an evaluation, tasks interleaved, the first ``films`` clean ones of each task filmed."""
    return [
        PlannedEpisode(
            task=variant.task,
            seed=episode_seed("evaluate", config.seed, variant.episode),
            instruction=_instruction(config.env, variant.task, config.prompt_mode, variant.episode),
            config=dataclasses.replace(config.env, task=variant.task),
            filmed=variant.episode < config.films and variant.perturbation is None,
            variant=variant,
        )
        for variant in variants(config)
    ]


def variants(config: EvaluationConfig) -> tuple[Variant, ...]:
    """The variants of an evaluation, the clean arm first; raises :class:`ConfigError` on what cannot be perturbed."""
    shifts = config.shifts
    if shifts.per_dimension:
        kinds = config.env.perturbations()
        return suite(config.tasks, kinds, shifts.per_dimension, shifts.dimensions, shifts.strengths)
    return tuple(clean(task, index) for index in range(config.episodes) for task in config.tasks)


def _instruction(env: EnvConfig, task: str, mode: PromptMode, index: int) -> str:
    canonical, *others = dataclasses.replace(env, task=task).phrases()
    if mode == "canonical":
        return canonical
    if not others:
        raise ConfigError(f"task {task!r} has no paraphrase; use prompt_mode = canonical.")
    return others[index % len(others)]


def slot_groups(slots: int, workers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two groups of slots, each spread over all workers (slot i lives in worker i % workers)."""
    even = tuple(slot for slot in range(slots) if slot // workers % 2 == 0)
    return even, tuple(slot for slot in range(slots) if slot not in even)


def _run(
    config: EvaluationConfig,
    plan: Sequence[PlannedEpisode],
    simulators: Simulators,
    pilot: Pilot,
    title: str,
    progress: bool,
    ready: Callable[[Sequence[Run]], None] = lambda runs: None,
) -> LoopResult:
    slots = min(config.slots, len(plan))
    max_ticks = config.env.max_ticks
    loop = ClosedLoop(simulators, slot_groups(slots, min(config.workers, slots)), pilot, max_ticks)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(title, total=len(plan))
        ended: Counter[str] = Counter()

        def finished(run: Run) -> None:
            ended[run.status or ""] += 1
            counts = ", ".join(f"{count} {status}" for status, count in sorted(ended.items()))
            bar.update(task, advance=1, description=f"{title}: {counts}")

        return loop.run(plan, ready, finished)


@contextmanager
def _simulators(config: EvaluationConfig, plan: Sequence[PlannedEpisode]) -> Iterator[Simulators]:
    slots = min(config.slots, len(plan))
    workers = min(config.workers, slots)
    vector = VectorEnv(
        [plan[slot].config for slot in range(slots)], workers=workers, timeout_s=config.timeout_s
    )
    try:
        yield vector
    finally:
        vector.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
