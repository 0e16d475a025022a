"""Closed-loop evaluation of a policy in simulators: ``evaluate(policy, config) -> Report``."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import draccus
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from wamkit.contract.specs import require_same
from wamkit.envs import EnvConfig
from wamkit.envs.vector import VectorEnv
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.evaluation.closed_loop.assemble import Finished, SessionCosts, build_report, finish
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Senses, Trace
from wamkit.evaluation.closed_loop.goals import Goals
from wamkit.evaluation.closed_loop.journal import Head, Journal, open_journal, resumption
from wamkit.evaluation.closed_loop.latency import Probe, probe
from wamkit.evaluation.closed_loop.loop import ClosedLoop, LoopResult
from wamkit.evaluation.closed_loop.pilot import Pilot, PolicyPilot, ReplayPilot
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, plan_episodes, shard_note
from wamkit.evaluation.closed_loop.policy import Policy, Simulators
from wamkit.evaluation.report.machine import peak_memory_mb, versions
from wamkit.evaluation.report.report import Report

GOAL = "goal"  # what `drop` calls the goal observation


@dataclass(frozen=True)
class Rollout:
    """The report, and what is needed to repeat the simulation: one trace per episode."""

    report: Report
    traces: tuple[Trace, ...]


def evaluate_policy(
    policy: Policy,
    config: EvaluationConfig,
    *,
    dataset: str | None = None,
    checkpoint: str | None = None,
    journal: Path | None = None,
    progress: bool = True,
) -> Report:
    """Run ``config.episodes`` closed-loop episodes of every task and report.

    Args:
        policy: the design under test.
        config: what to run.
        dataset: fingerprint of the training data, for the report.
        checkpoint: digest of the policy's files, for the report and the journal.
        journal: file that keeps every finished episode. Where it has some of this evaluation already, they are not
            run again. Remove it with :func:`wamkit.evaluation.closed_loop.journal.discard_journal` once the report
            is saved.
        progress: show a progress bar.

    Raises:
        SpecError: policy and simulator disagree on a convention.
        BudgetError: the design cannot honour the budget.
        ConfigError: the controller executes more than the design predicts, a task is unknown, the shard has no
            variants, or the journal is of another evaluation.
        DataError: the journal is broken.
    """
    return rollout(
        policy, config, dataset=dataset, checkpoint=checkpoint, journal=journal, progress=progress
    ).report


def rollout(
    policy: Policy,
    config: EvaluationConfig,
    *,
    dataset: str | None = None,
    checkpoint: str | None = None,
    journal: Path | None = None,
    progress: bool = True,
) -> Rollout:
    """:func:`evaluate_policy`, with the traces that :func:`pure_simulation` replays. Same arguments and errors."""
    began = time.perf_counter()
    pilot = prepare(policy, config)
    plan = plan_episodes(config)
    resolved = draccus.encode(dataclasses.replace(config, controller=pilot.controller))
    with _threads(config.threads), ExitStack() as stack:
        kept: Journal | None = None
        if journal is not None:
            head = Head(resolved, checkpoint, policy.name, versions())
            kept = stack.enter_context(open_journal(journal, head))
        session = _session(config, plan, pilot, kept, f"evaluate {policy.name}", progress)
        report = build_report(
            pilot=pilot,
            finished=[session.finished[episode.key] for episode in plan],
            measured=session.measured,
            config=resolved,
            prompt_mode=config.prompt_mode,
            wall_s=time.perf_counter() - began,
            dataset=dataset,
            checkpoint=checkpoint,
            notes=[*shard_note(config, plan), *session.notes],
        )
    return Rollout(report, tuple(Trace(episode, session.finished[episode.key].blocks) for episode in plan))


@dataclass(frozen=True)
class _Session:
    """One process's part of an evaluation, which is all of it unless an earlier one was killed."""

    finished: Mapping[str, Finished]
    measured: SessionCosts
    notes: Sequence[str] = ()


def _session(
    config: EvaluationConfig,
    plan: Sequence[PlannedEpisode],
    pilot: PolicyPilot,
    journal: Journal | None,
    title: str,
    progress: bool,
) -> _Session:
    """Run what no earlier session has finished."""
    finished = {} if journal is None else dict(journal.finished)
    notes = [] if journal is None else resumption(journal, len(plan))
    left = [episode for episode in plan if episode.key not in finished]
    if not left:
        assert journal is not None
        return _Session(finished, journal.measured or SessionCosts(), notes)
    probes: list[Probe] = []

    def ready(runs: Sequence[EpisodeRun]) -> None:
        most = len(pilot.controller.calls(pilot.max_ticks))
        probes.append(probe(pilot, runs, config.latency_calls, most))
        if journal is not None:
            journal.measure(SessionCosts(probes[0]))

    def ended(run: EpisodeRun) -> None:
        episode = finish(run, pilot.policy.window.future, config.strips_per_film)
        finished[episode.key] = episode
        if journal is not None:
            journal.append(episode)

    with _simulators(config, left) as simulators:
        result = _run(config, left, simulators, pilot, title, progress, ready, ended, len(finished))
    # After the workers have ended: only then does the system tell their peak memory.
    measured = SessionCosts(probes[0], tuple(pilot.calls), result.seconds, peak_memory_mb(pilot.device))
    if journal is not None:
        journal.measure(measured)
    return _Session(finished, measured, notes)


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
    chosen = None if goals is None else lambda plan: goals.course(plan.task, plan.seed)
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
    return Goals(config.goals, config.env, config.tasks, policy.observation_spec, policy.window.aim)


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


def _run(
    config: EvaluationConfig,
    plan: Sequence[PlannedEpisode],
    simulators: Simulators,
    pilot: Pilot,
    title: str,
    progress: bool,
    ready: Callable[[Sequence[EpisodeRun]], None] = lambda runs: None,
    ended: Callable[[EpisodeRun], None] = lambda run: None,
    done: int = 0,
) -> LoopResult:
    slots = min(config.slots, len(plan))
    max_ticks = config.env.max_ticks
    loop = ClosedLoop(simulators, slots, config.workers, pilot, max_ticks)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task(title, total=done + len(plan), completed=done)
        seen: Counter[str] = Counter()

        def finished(run: EpisodeRun) -> None:
            ended(run)
            seen[run.status or ""] += 1
            counts = ", ".join(f"{count} {status}" for status, count in sorted(seen.items()))
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
