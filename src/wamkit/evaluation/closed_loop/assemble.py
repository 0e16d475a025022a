"""Assembly of a report from finished episodes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import draccus
import torch

from wamkit.config import config_hash
from wamkit.evaluation.closed_loop.episodes import ActionBlock, EpisodeRun, ImaginedFrames
from wamkit.evaluation.closed_loop.latency import Probe, judge
from wamkit.evaluation.closed_loop.pilot import PolicyPilot, TimedCall
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import failure_table
from wamkit.evaluation.report.filmstrip import Filmstrip, make_strip
from wamkit.evaluation.report.machine import device_names
from wamkit.evaluation.report.report import Horizon, Report
from wamkit.evaluation.report.scores import score
from wamkit.evaluation.report.shifts import shift_table
from wamkit.evaluation.report.statistics import Summary, summarise
from wamkit.storage.provenance import versions


@dataclass(frozen=True)
class Finished:
    """Record of an episode that has ended.

    Attributes:
        key: identifier within its evaluation (:attr:`wamkit.evaluation.closed_loop.episodes.PlannedEpisode.key`).
        record: entry of the episode in the report.
        counts: counter name of the controller -> count.
        blocks: action blocks sent to the simulator.
        strips: imagined frames beside real ones, for filmed episodes.
    """

    key: str
    record: EpisodeRecord
    counts: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[ActionBlock, ...] = ()
    strips: tuple[Filmstrip, ...] = ()


@dataclass(frozen=True)
class SessionCosts:
    """Time and memory used by one session, from its start to its end or its death.

    Attributes:
        probe: single-robot calls.
        calls: batched calls of the closed loop.
        seconds: wall time of the closed loop.
        memory_mb: device name -> peak memory.
    """

    probe: Probe = field(default_factory=lambda: Probe(None, ()))
    calls: tuple[TimedCall, ...] = ()
    seconds: float = 0.0
    memory_mb: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """Provenance of an evaluation.

    Attributes:
        config: resolved evaluation config, plain values.
        dataset: fingerprint of the training data, or None.
        checkpoint: digest of the policy's files, or None.
    """

    config: Mapping[str, Any]
    dataset: str | None = None
    checkpoint: str | None = None


def finish(run: EpisodeRun, offsets: Sequence[int], strips: int) -> Finished:
    """Record a run that has ended, with up to ``strips`` forecasts of a filmed one."""
    films = film(run, offsets, strips) if run.plan.filmed else ()
    return Finished(run.plan.key, run.record(), dict(run.controller.counts), tuple(run.blocks), films)


def build_report(
    *,
    pilot: PolicyPilot,
    finished: Sequence[Finished],
    measured: SessionCosts,
    origin: Origin,
    wall_s: float,
    notes: Sequence[str] = (),
) -> Report:
    """Build the report of an evaluation.

    Args:
        pilot: policy, controller, budget and remarks.
        finished: episodes, in the order of the plan.
        measured: times and memory.
        origin: config, training data and checkpoint.
        wall_s: seconds of the whole evaluation so far.
        notes: further remarks, placed before those of the pilot.
    """
    policy, controller, probe = pilot.policy, pilot.controller, measured.probe
    records = tuple(episode.record for episode in finished)
    tasks, overall, mean = score(records)
    use = controller.horizon(policy.window.horizon)
    return Report(
        name=policy.name,
        design=policy.describe(),
        tasks=tasks,
        overall=overall,
        mean_over_tasks=mean,
        shifts=shift_table(records),
        **timings(measured),
        calls_per_episode=calls_per_episode(records),
        horizon=Horizon(predict=use.predict, execute=use.execute),
        deadline=judge(probe.samples_ms, controller, control_hz(policy)),
        control_hz=control_hz(policy),
        every=policy.window.every,
        budget=draccus.encode(pilot.budget),
        prompt_mode=origin.config["prompt_mode"],
        versions=versions(),
        device=device_names(pilot.device),
        threads=torch.get_num_threads(),
        seeds=seeds_of(records),
        wall_s=wall_s,
        config=dict(origin.config),
        config_hash=config_hash(origin.config),
        dataset=origin.dataset,
        notes=tuple(dict.fromkeys([*notes, *pilot.notes, *controller_notes(pilot, finished, probe)])),
        episodes=records,
        checkpoint=origin.checkpoint,
        failures=failure_table(records),
        filmstrips=tuple(strip for episode in finished for strip in episode.strips),
    )


def control_hz(policy: Policy) -> float:
    """Ticks per second in which a policy acts."""
    return policy.action_spec.rate_hz / policy.window.every


def timings(measured: SessionCosts) -> dict[str, Any]:
    """The fields of a report that are times of calls and memory."""
    return {
        "latency_ms": measured.probe.latency(),
        "latency_samples_ms": measured.probe.samples_ms,
        "stage_ms": measured.probe.stages(),
        "batched_call_ms": summarise([call.ms for call in measured.calls]),
        "mean_batch": summarise([float(call.rows) for call in measured.calls]).mean,
        "nfe": mean_nfe(measured.calls),
        "rollout_s": measured.seconds,
        "peak_mem_mb": dict(measured.memory_mb),
    }


def calls_per_episode(records: Sequence[EpisodeRecord]) -> Summary:
    """Model calls, over the episodes that did not end in an error."""
    return summarise([float(r.calls) for r in records if r.status != "error"])


def seeds_of(records: Sequence[EpisodeRecord]) -> dict[str, tuple[int, ...]]:
    """Task -> seeds of its episodes."""
    tasks = dict.fromkeys(r.task for r in records)
    return {task: tuple(r.seed for r in records if r.task == task) for task in tasks}


def controller_notes(pilot: PolicyPilot, finished: Sequence[Finished], probe: Probe) -> list[str]:
    """Remarks on the controller: its counts per episode, and a simulated latency shorter than the measured one."""
    rows = [episode.counts for episode in finished if episode.record.status != "error"]
    names = sorted({name for counts in rows for name in counts})
    notes = []
    for name in names:
        counted = [counts.get(name, 0) for counts in rows]
        mean = math.fsum(counted) / len(counted)
        notes.append(
            f"controller: {name}: mean {mean:.2f}, most {max(counted)} per episode, n = {len(counted)}"
        )
    answer, p95 = pilot.controller.answer_s(control_hz(pilot.policy)), probe.latency().p95
    if answer is not None and p95 is not None and p95 > 1000 * answer:
        notes.append(
            f"the controller simulated answers after {1000 * answer:.0f} ms, but p95 of the measured calls is "
            f"{p95:.0f} ms: these episodes are kinder than this machine."
        )
    return notes


def mean_nfe(calls: Sequence[TimedCall]) -> dict[str, float]:
    """Stream -> function evaluations per call, mean over the closed loop's calls."""
    streams = list(dict.fromkeys(stream for call in calls for stream in call.nfe))
    return {s: math.fsum(call.nfe.get(s, 0) for call in calls) / len(calls) for s in streams}


def film(run: EpisodeRun, offsets: Sequence[int], count: int) -> tuple[Filmstrip, ...]:
    """Strips of a filmed episode: per camera, up to ``count`` forecasts spread evenly over the episode."""
    reached = [i for i in run.imagined if any(i.tick + offset in run.frames for offset in offsets)]
    return tuple(strip for imagined in spread(reached, count) for strip in _strips(run, imagined, offsets))


def spread(items: Sequence[ImaginedFrames], count: int) -> list[ImaginedFrames]:
    """Select at most ``count`` evenly spaced items, first and last included."""
    if len(items) <= count:
        return list(items)
    if count <= 1:
        return list(items[:count])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _strips(run: EpisodeRun, imagined: ImaginedFrames, offsets: Sequence[int]) -> list[Filmstrip]:
    strips = []
    for camera, frames in imagined.frames.items():
        pairs = [
            (offset, frame, run.frames[imagined.tick + offset]["images"][camera])
            for offset, frame in zip(offsets, frames, strict=True)
            if imagined.tick + offset in run.frames
        ]
        now = run.frames[imagined.tick]["images"][camera]
        plan = run.plan
        strips.append(make_strip(plan.task, plan.seed, camera, imagined.tick, imagined.acted, now, pairs))
    return strips
