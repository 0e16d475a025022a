"""From finished episodes to a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import draccus
import torch

from wamkit.config import config_hash
from wamkit.evaluation.episodes import Imagined, Run
from wamkit.evaluation.filmstrip import Filmstrip, make_strip
from wamkit.evaluation.latency import Probe, judge
from wamkit.evaluation.loop import LoopResult
from wamkit.evaluation.machine import device_names, peak_memory_mb, versions
from wamkit.evaluation.pilot import PolicyPilot, TimedCall
from wamkit.evaluation.report import Horizon, Report
from wamkit.evaluation.scores import score
from wamkit.evaluation.shifts import shift_table
from wamkit.evaluation.statistics import summarise


def build_report(
    *,
    pilot: PolicyPilot,
    result: LoopResult,
    probe: Probe,
    config: Mapping[str, Any],
    prompt_mode: str,
    strips_per_episode: int,
    wall_s: float,
    dataset: str | None,
) -> Report:
    """Put everything an evaluation found into one report.

    Args:
        pilot: the policy, its controller, its budget and its calls.
        result: the finished episodes.
        probe: single-robot calls.
        config: the resolved evaluation config, plain values.
        prompt_mode: which instructions were given.
        strips_per_episode: forecasts shown per filmed episode.
        wall_s: seconds of the whole evaluation so far.
        dataset: fingerprint of the training data, or None.
    """
    policy, controller = pilot.policy, pilot.controller
    records = tuple(run.record() for run in result.runs)
    tasks, overall, mean = score(records)
    use = controller.horizon(policy.window.horizon)
    return Report(
        name=policy.name,
        design=policy.describe(),
        tasks=tasks,
        overall=overall,
        mean_over_tasks=mean,
        shifts=shift_table(records),
        latency_ms=probe.latency(),
        latency_samples_ms=probe.samples_ms,
        stage_ms=probe.stages(),
        batched_call_ms=summarise([call.ms for call in pilot.calls]),
        mean_batch=summarise([float(call.rows) for call in pilot.calls]).mean,
        nfe=mean_nfe(pilot.calls),
        calls_per_episode=summarise([float(r.calls) for r in records if r.status != "error"]),
        horizon=Horizon(predict=use.predict, execute=use.execute),
        deadline=judge(probe.samples_ms, controller, policy.action_spec.rate_hz),
        control_hz=policy.action_spec.rate_hz,
        peak_mem_mb=peak_memory_mb(pilot.device),
        budget=draccus.encode(pilot.budget),
        prompt_mode=prompt_mode,
        versions=versions(),
        device=device_names(pilot.device),
        threads=torch.get_num_threads(),
        seeds={task: tuple(r.seed for r in records if r.task == task) for task in tasks},
        wall_s=wall_s,
        rollout_s=result.seconds,
        config=dict(config),
        config_hash=config_hash(config),
        dataset=dataset,
        notes=tuple(dict.fromkeys([*pilot.notes, *controller_notes(pilot, result, probe)])),
        episodes=records,
        filmstrips=film(result.runs, policy.window.future, strips_per_episode),
    )


def controller_notes(pilot: PolicyPilot, result: LoopResult, probe: Probe) -> list[str]:
    """What the controller counted, per episode, and whether a simulated latency is shorter than the measured."""
    states = [run.controller for run in result.runs if run.status != "error"]
    names = sorted({name for state in states for name in state.counts})
    notes = []
    for name in names:
        counted = [state.counts.get(name, 0) for state in states]
        mean = math.fsum(counted) / len(counted)
        notes.append(
            f"controller: {name}: mean {mean:.2f}, most {max(counted)} per episode, n = {len(counted)}"
        )
    answer, p95 = pilot.controller.answer_s(pilot.policy.action_spec.rate_hz), probe.latency().p95
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


def film(runs: Sequence[Run], offsets: Sequence[int], count: int) -> tuple[Filmstrip, ...]:
    """Strips of the filmed episodes: per camera, up to ``count`` forecasts spread evenly over the episode."""
    strips = []
    for run in runs:
        reached = [i for i in run.imagined if any(i.tick + offset in run.frames for offset in offsets)]
        for imagined in spread(reached, count):
            strips += _strips(run, imagined, offsets)
    return tuple(strips)


def spread(items: Sequence[Imagined], count: int) -> list[Imagined]:
    """At most ``count`` items, first and last included, evenly spaced."""
    if len(items) <= count:
        return list(items)
    if count <= 1:
        return list(items[:count])
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _strips(run: Run, imagined: Imagined, offsets: Sequence[int]) -> list[Filmstrip]:
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
