"""Single-robot call latency, measured outside the batched run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from wamkit.controllers import Controller, feasible
from wamkit.evaluation.closed_loop.attempt import Failed, attempt
from wamkit.evaluation.closed_loop.episodes import EpisodeRun
from wamkit.evaluation.closed_loop.pilot import PolicyPilot, TimedCall
from wamkit.evaluation.report.report import Deadline, Latency
from wamkit.evaluation.report.statistics import Summary, summarise


@dataclass(frozen=True)
class Probe:
    """Calls for a single robot: the cold first one, then the warm ones."""

    first: TimedCall | None
    warm: tuple[TimedCall, ...]

    @property
    def samples_ms(self) -> tuple[float, ...]:
        """Milliseconds of the warm calls."""
        return tuple(call.ms for call in self.warm)

    def latency(self) -> Latency:
        """Latency as the report states it."""
        s = summarise(self.samples_ms)
        first = None if self.first is None else self.first.ms
        return Latency(n=s.n, batch=1, p50=s.p50, p95=s.p95, max=s.max, first=first)

    def stages(self) -> dict[str, Summary]:
        """Stage -> milliseconds over the warm calls."""
        return summarise_by_key([call.stage_ms for call in self.warm])


def probe(pilot: PolicyPilot, runs: Sequence[EpisodeRun], calls: int, per_episode: int) -> Probe:
    """Call the policy for one robot, ``calls`` times after a cold call, on a real first observation.

    The state is carried from call to call and starts again after ``per_episode`` calls, so that caches grow
    as in an episode. The episode itself is not changed. Calls that raise end the probe: the episodes will
    show the same error.

    Args:
        pilot: pilot with policy and budget.
        runs: episodes that were just reset; the first one is used.
        calls: number of warm calls; 0 skips the probe.
        per_episode: largest number of calls in an episode.
    """
    timed: list[TimedCall] = []
    if calls and runs:
        run = dataclasses.replace(runs[0])
        pilot.supply([run])
        first = dataclasses.replace(run)
        for i in range(calls + 1):
            if run.calls >= max(per_episode, 1):
                run = dataclasses.replace(first)
            result = attempt(pilot.forecast, [run], pilot.budget)
            if isinstance(result, Failed):
                pilot.notes.append(f"latency probe ended at call {i}: {result.reason}")
                break
            _, states, call = result
            run.state, run.calls = states[0], run.calls + 1
            timed.append(call)
    return Probe(first=timed[0] if timed else None, warm=tuple(timed[1:]))


def judge(samples_ms: Sequence[float], controller: Controller, rate_hz: float) -> Deadline:
    """Compare calls with the controller's deadline: ``N_fwd(K) / K < 1 / f`` (survey equations 34 and 35)."""
    allowed = controller.deadline_s(rate_hz)
    p95, n = summarise(samples_ms).p95, len(samples_ms)
    if allowed is None:
        return Deadline(control_hz=rate_hz, allowed_ms=None, n=n, misses=0, met=None if p95 is None else True)
    execute = round(allowed * rate_hz)
    misses = sum(not feasible(ms / 1000, execute, rate_hz) for ms in samples_ms)
    met = None if p95 is None else feasible(p95 / 1000, execute, rate_hz)
    return Deadline(control_hz=rate_hz, allowed_ms=allowed * 1000, n=n, misses=misses, met=met)


@dataclass(frozen=True)
class Sustained:
    """Time for which an episode runs at the control rate before the first late answer.

    The answer to a call has to be there after K / f (survey equations 34 and 35). The first call replaces no running
    action, so it is never late; the others are measured with the state that the calls before them left, so a cache
    that grows (equation 36) shows. One late answer ends it.

    Attributes:
        n: number of warm calls.
        ticks: ticks of the policy executed before the first late answer.
        of: ticks of the policy that the measured calls cover; equal to ``ticks`` if no answer was late.
        seconds: duration of ``ticks`` at the control rate.
        least_execute: smallest K at which such calls keep up, ``N_fwd(K) / K < 1 / f`` at the 95th percentile.
    """

    n: int
    ticks: int
    of: int
    seconds: float
    least_execute: int


def sustained_horizon(
    samples_ms: Sequence[float], controller: Controller, rate_hz: float, max_ticks: int
) -> Sustained | None:
    """Compute the sustained horizon of probed calls; None if nothing was measured.

    Args:
        samples_ms: the warm calls of a :func:`probe`, in order: the first one is the second call of an episode.
        controller: when the model is called.
        rate_hz: f, ticks of the policy per second.
        max_ticks: ticks of the policy in an episode.
    """
    p95 = summarise(samples_ms).p95
    if p95 is None:
        return None
    calls, allowed = controller.calls(max_ticks), controller.deadline_s(rate_hz)
    measured = len(samples_ms) + 1
    covered = calls[measured] if measured < len(calls) else max_ticks
    late = [
        calls[position]
        for position, ms in ((i % len(calls), ms) for i, ms in enumerate(samples_ms, start=1))
        if position and allowed is not None and ms / 1000 >= allowed
    ]
    ticks = min([*late, covered])
    least = math.floor(p95 / 1000 * rate_hz) + 1
    return Sustained(len(samples_ms), ticks, covered, ticks / rate_hz, least)


def summarise_by_key(rows: Sequence[dict[str, float]]) -> dict[str, Summary]:
    """Summaries per key, keys in order of appearance."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: summarise([row[key] for row in rows if key in row]) for key in keys}
