"""Closed-loop evaluation of a policy in simulators: ``rollout(policy, config).report``."""

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

from wamkit.contract.specs import require_same_robot
from wamkit.controllers import Controller
from wamkit.envs import EnvConfig
from wamkit.envs.vector import VectorEnv
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.evaluation.closed_loop.assemble import Finished, Origin, SessionCosts, build_report, finish
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode, Senses, Trace
from wamkit.evaluation.closed_loop.goals import Goals
from wamkit.evaluation.closed_loop.journal import Head, Journal, open_journal, resumption
from wamkit.evaluation.closed_loop.latency import Probe, probe
from wamkit.evaluation.closed_loop.loop import ClosedLoop, EpisodeHook, LoopResult
from wamkit.evaluation.closed_loop.pace import PacedSimulators, policy_ticks
from wamkit.evaluation.closed_loop.pilot import Pilot, PolicyPilot, ReplayPilot
from wamkit.evaluation.closed_loop.plan import GOAL, EvaluationConfig, plan_episodes, shard_note
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.report.machine import peak_memory_mb
from wamkit.evaluation.report.report import Report
from wamkit.progress import shown, stage
from wamkit.storage.provenance import versions


@dataclass(frozen=True)
class Rollout:
    """Result of an evaluation.

    Attributes:
        report: the report.
        traces: actions of every episode, in the order of the plan; :func:`pure_simulation` replays them.
    """

    report: Report
    traces: tuple[Trace, ...]


def rollout(
    policy: Policy,
    config: EvaluationConfig,
    *,
    dataset: str | None = None,
    checkpoint: str | None = None,
    journal: Path | None = None,
    progress: bool = True,
) -> Rollout:
    """Run ``config.episodes`` closed-loop episodes of every task and report them.

    Args:
        policy: policy under test.
        config: settings of the evaluation.
        dataset: fingerprint of the training data, for the report.
        checkpoint: digest of the policy's files, for the report and the journal.
        journal: file that keeps every finished episode; the episodes of this evaluation that it already holds are
            not run again. Remove it with :func:`wamkit.evaluation.closed_loop.journal.discard_journal` once the
            report is saved.
        progress: true to show a progress bar.

    Raises:
        SpecError: policy and simulator disagree on a convention.
        BudgetError: the design cannot honour the budget.
        ConfigError: the controller executes more than the design predicts, a task is unknown, the shard has no
            variants, or the journal belongs to another evaluation.
        DataError: the journal is damaged.
    """
    began = time.perf_counter()
    pilot = prepare(policy, config)
    plan = plan_episodes(config)
    resolved = draccus.encode(dataclasses.replace(config, controller=pilot.controller))
    with _threads(config.threads), ExitStack() as stack:
        kept: Journal | None = None
        if journal is not None:
            head = Head(resolved, checkpoint, policy.name, versions())
            kept = stack.enter_context(open_journal(journal, head))
        notes = [] if kept is None else resumption(kept, len(plan))
        session = _Session(config, pilot, kept)
        measured = session.run(plan, progress)
        report = build_report(
            pilot=pilot,
            finished=[session.finished[episode.key] for episode in plan],
            measured=measured,
            origin=Origin(resolved, dataset, checkpoint),
            wall_s=time.perf_counter() - began,
            notes=[*shard_note(config, plan), *notes],
        )
    blocks = [session.finished[episode.key].blocks for episode in plan]
    return Rollout(report, tuple(map(Trace, plan, blocks, [pilot.every] * len(plan))))


class _Session:
    """One process's part of an evaluation: all of it unless an earlier process was interrupted.

    Attributes:
        finished: episode key -> finished episode, of this and all earlier sessions.
    """

    def __init__(self, config: EvaluationConfig, pilot: PolicyPilot, journal: Journal | None) -> None:
        self._config = config
        self._pilot = pilot
        self._journal = journal
        self._probe: Probe | None = None
        self.finished: dict[str, Finished] = {} if journal is None else dict(journal.finished)

    def run(self, plan: Sequence[PlannedEpisode], progress: bool) -> SessionCosts:
        """Run the episodes that no earlier session has finished; return the costs of the last session that ran any."""
        remaining = [episode for episode in plan if episode.key not in self.finished]
        if not remaining:
            earlier = None if self._journal is None else self._journal.measured
            return earlier or SessionCosts()
        title = f"evaluate {self._pilot.policy.name}"
        with _progress(title, len(plan), len(self.finished), progress) as advance:

            def ended(run: EpisodeRun) -> None:
                self._keep(run)
                advance(run)

            result = simulate(self._config, remaining, self._pilot, self._measure_latency, ended)
        # The operating system reports the workers' peak memory only after they have exited.
        memory_mb = peak_memory_mb(self._pilot.device)
        measured = SessionCosts(
            self._probe or Probe(None, ()), tuple(self._pilot.calls), result.seconds, memory_mb
        )
        if self._journal is not None:
            self._journal.measure(measured)
        return measured

    def _measure_latency(self, runs: Sequence[EpisodeRun]) -> None:
        most = len(self._pilot.controller.calls(self._pilot.max_ticks))
        self._probe = probe(self._pilot, runs, self._config.latency_calls, most)
        if self._journal is not None:
            self._journal.measure(SessionCosts(self._probe))

    def _keep(self, run: EpisodeRun) -> None:
        episode = finish(run, self._pilot.policy.window.future, self._config.strips_per_film)
        self.finished[episode.key] = episode
        if self._journal is not None:
            self._journal.append(episode)


def pure_simulation(config: EvaluationConfig, traces: Sequence[Trace], *, progress: bool = True) -> float:
    """Measure the seconds that the simulators need for recorded episodes: same actions and rendering, no policy.

    Comparable with :attr:`Report.rollout_s` of the evaluation that was recorded.
    """
    with _progress("simulate alone", len(traces), 0, progress) as advance:
        plan = [trace.plan for trace in traces]
        return simulate(config, plan, ReplayPilot(traces), finished=advance).seconds


def simulate(
    config: EvaluationConfig,
    plan: Sequence[PlannedEpisode],
    pilot: Pilot,
    ready: Callable[[Sequence[EpisodeRun]], None] = lambda runs: None,
    finished: EpisodeHook = lambda run: None,
) -> LoopResult:
    """Start the simulators, run all episodes of ``plan`` in closed loop, and stop the simulators.

    Args:
        config: settings of the simulators and slots.
        plan: at least one episode.
        pilot: chooses the actions.
        ready: called once, after the first resets.
        finished: called after each episode.
    """
    slots = min(config.slots, len(plan))
    workers = min(config.workers, slots)
    simulators = VectorEnv(
        [plan[slot].config for slot in range(slots)], workers=workers, timeout_s=config.timeout_s
    )
    try:
        paced = simulators if pilot.every == 1 else PacedSimulators(simulators, pilot.every)
        loop = ClosedLoop(paced, slots, workers, pilot, ticks_of(config, pilot.every))
        return loop.run(plan, ready, finished)
    finally:
        simulators.close()


@contextmanager
def _progress(title: str, total: int, done: int, enabled: bool) -> Iterator[EpisodeHook]:
    """Show a stage that starts at ``done`` of ``total`` episodes; call the hook after each further one."""
    with shown(title, enabled), stage("episodes", total, done) as here:
        statuses: Counter[str] = Counter()

        def advance(run: EpisodeRun) -> None:
            statuses[run.status or ""] += 1
            here.advance(1, ", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))

        yield advance


def prepare(policy: Policy, config: EvaluationConfig) -> PolicyPilot:
    """Check policy, simulators, controller and budget against each other before anything is started."""
    controller = config.controller or policy.controller
    for task in config.tasks:
        env, where = dataclasses.replace(config.env, task=task), f"environment {task!r}"
        ours, theirs = (
            (policy.observation_spec, policy.action_spec),
            (env.observation_spec(), env.action_spec()),
        )
        require_same_robot(ours, theirs, f"design {policy.name!r}", where, "--view of wamkit evaluate")
        require_sensors(policy, env, where, config.drop)
        require_compared(policy, controller, env, where)
    senses = choose_senses(policy, config.drop, config.request)
    goals = find_goals(policy, config)
    chosen = None if goals is None else lambda plan: goals.course(plan.task, plan.seed)
    ticks = ticks_of(config, policy.window.every)
    return PolicyPilot(policy, controller, config.budget, ticks, senses, chosen)


def ticks_of(config: EvaluationConfig, every: float) -> int:
    """Ticks of an episode for a policy that acts once in ``every`` control ticks."""
    return policy_ticks(config.env.max_ticks, every)


def choose_senses(policy: Policy, drop: Sequence[str], request: Mapping[str, str]) -> Senses:
    """Choose the extras shown to the policy.

    Raises:
        ConfigError: one of ``drop`` cannot be dropped, or one of ``request`` cannot be requested.
    """
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
    requested = policy.requests.values(request) if request else {}
    return Senses(tuple(name for name in policy.sensors if name not in dropped), dropped, requested)


def find_goals(policy: Policy, config: EvaluationConfig) -> Goals | None:
    """Open the source of goals; raises :class:`ConfigError` unless a design is given one exactly if it reads one."""
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


def require_compared(policy: Policy, controller: Controller, env: EnvConfig, where: str) -> None:
    """Raise :class:`SpecError` unless ``env`` delivers the extras that the controller's compared stream is made of."""
    if controller.compares is None:
        return
    delivered = env.extras_spec()
    for name in policy.perceived(controller.compares).extras:
        if name not in delivered:
            raise SpecError(
                f"the controller compares stream {controller.compares!r} of design {policy.name!r} with observations. "
                f"It is made of the extra {name!r}, which {where} does not deliver. {did_you_mean(name, delivered)} "
                f"Add {name.partition('.')[0]!r} to the environment's `record`, or choose another controller."
            )


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
