"""Accuracy at a budget: the same episodes at every point of a grid, success against latency.

A sweep is a folder: ``sweep.json`` and ``sweep.html`` hold the results, ``points/<id>.json`` the whole report of one
point. A point that has a report is not run again, and a point that was killed resumes from the journal of its episodes
(:mod:`wamkit.evaluation.closed_loop.journal`), so a killed sweep resumes and a grid can grow. A report or journal of
another evaluation, checkpoint or dataset in its place is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import draccus.utils

from wamkit.controllers import Controller
from wamkit.envs.perturbations.suite import CLEAN
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.budgets import BudgetGrid, Refused, plan_grid
from wamkit.evaluation.closed_loop.journal import Head, discard_journal, require_journal_of
from wamkit.evaluation.closed_loop.latency import Sustained, sustained_horizon
from wamkit.evaluation.closed_loop.pace import policy_ticks
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import rollout
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.failures import FailureTable
from wamkit.evaluation.report.machine import device_of, restart_peak_memory
from wamkit.evaluation.report.pareto import pareto_front
from wamkit.evaluation.report.report import Deadline, Horizon, Latency, Report
from wamkit.evaluation.report.scores import Score
from wamkit.evaluation.report.statistics import (
    Difference,
    MeanRate,
    Summary,
    median_interval,
    paired_difference,
)
from wamkit.storage.documents import agree, decode_document, read_document, write_document
from wamkit.storage.fingerprint import differing
from wamkit.storage.provenance import versions

FORMAT = "wamkit-sweep-1"
POINTS = "points"


@dataclass(frozen=True)
class Point:
    """One budget and its results. Fields that are not listed are those of :class:`Report`.

    Attributes:
        id: setting, such as ``nfe.action=4,future=off``.
        report: file of the whole report, relative to ``sweep.json``.
        success: the unperturbed episodes pooled, with the Wilson interval.
        difference: rate minus that of the sweep's first point, on the same episodes, with Newcombe's interval.
        failures: success by phase, and failure tags.
        median_95: distribution-free 95 % interval of the median latency, milliseconds; None below 6 calls.
        sustained: time before the first late answer, in ticks of the policy; None if nothing was measured.
        controller: config of the controller.
        front: true if no other point reaches the same success in less time.
    """

    id: str
    report: str
    success: Score
    mean_over_tasks: MeanRate
    difference: Difference
    failures: FailureTable | None
    latency_ms: Latency
    median_95: tuple[float, float] | None
    nfe: dict[str, float]
    calls_per_episode: Summary
    horizon: Horizon
    deadline: Deadline
    sustained: Sustained | None
    peak_mem_mb: dict[str, float]
    control_hz: float
    budget: dict[str, Any]
    controller: dict[str, Any]
    prompt_mode: str
    seeds: dict[str, tuple[int, ...]]
    versions: dict[str, str]
    device: dict[str, str]
    threads: int
    config_hash: str
    dataset: str | None
    checkpoint: str | None
    notes: tuple[str, ...]
    front: bool
    every: float = 1.0


@dataclass(frozen=True)
class Sweep:
    """All points of a sweep in the order of the grid, and those that the design cannot honour.

    Attributes:
        name: name of the policy.
        design: description of the policy.
        points: points that were run.
        refused: points that were not run, with the reason.
    """

    name: str
    design: dict[str, Any]
    points: tuple[Point, ...]
    refused: tuple[Refused, ...]

    def headline(self) -> str:
        """One line: how many points, and the quickest and the best of the front."""
        front = sorted((p for p in self.points if p.front), key=lambda p: p.latency_ms.p50 or 0.0)
        ends = [front[0], front[-1]] if len(front) > 1 else front
        line = f"{self.name}: {len(self.points)} budgets, {len(front)} on the front"
        if self.refused:
            line += f", {len(self.refused)} that the design cannot honour"
        errors = sum(p.success.statuses["error"] for p in self.points)
        line += "".join(f"; {describe_point(p)}" for p in ends)
        return f"{line}; {errors} episodes ended in an ERROR" if errors else line

    def save(self, path: Path) -> None:
        """Write ``sweep.json``, atomically."""
        write_document(path, {"format": FORMAT, "headline": self.headline(), **draccus.encode(self)})

    @staticmethod
    def load(path: Path) -> Sweep:
        """Read a sweep and check it against the reports of its points.

        Raises:
            DataError: not a sweep, or it does not follow from the reports beside it.
        """
        raw = read_document(path, FORMAT, "sweep")
        headline = raw.pop("headline", None)
        sweep = decode_document(Sweep, raw, path)
        reports = {point.id: Report.load(path.parent / point.report) for point in sweep.points}
        again = build_sweep(reports, sweep.refused)
        for ours, theirs in zip(sweep.points, again.points, strict=True):
            if not agree(ours, theirs):
                raise DataError(f"{path}: point {ours.id!r} does not follow from {ours.report}.")
        if not agree(sweep, again) or headline != again.headline():
            raise DataError(f"{path}: it does not follow from the reports in {POINTS!r}.")
        return sweep


def describe_point(point: Point) -> str:
    """Describe a point in one phrase: success and latency, each with n and interval."""
    rate, (low, high) = point.success.rate, point.success.wilson_95
    if rate is None:
        return f"{point.id} no episode could be scored"
    text = f"{point.id} {100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}] of {point.success.n}"
    if point.latency_ms.p50 is None:
        return text
    between = "" if point.median_95 is None else f" [{point.median_95[0]:.3g}, {point.median_95[1]:.3g}]"
    return f"{text} at {point.latency_ms.p50:.3g}{between} ms, n = {point.latency_ms.n}"


def run_sweep(
    policy: Policy,
    grid: BudgetGrid,
    base: EvaluationConfig,
    out: Path,
    *,
    dataset: str | None = None,
    checkpoint: str | None = None,
    progress: bool = True,
) -> Sweep:
    """Evaluate every point of ``grid`` that the policy can honour on the same episodes; see the module.

    Args:
        policy: the design under test.
        grid: the budgets.
        base: the evaluation; budget and controller are changed from point to point, nothing else.
        out: the folder. Points and episodes that are finished there are kept.
        dataset: fingerprint of the training data, for the reports.
        checkpoint: digest of the policy's files, for the reports and to recognise them.
        progress: show a progress bar per point.

    Raises:
        BudgetError: the policy can honour no point.
        ConfigError, SpecError: policy, simulator and evaluation do not fit, or ``out`` holds a point of another
            evaluation, checkpoint or data set, finished or not, or another process is running one.
        DataError: a finished point or the journal of an unfinished one cannot be read.
    """
    runs, _, refused = plan_grid(policy, grid, base)
    (out / POINTS).mkdir(parents=True, exist_ok=True)
    kept = {name: _finished(out, name, config, checkpoint, dataset) for name, config in runs.items()}
    for name, config in runs.items():
        if kept[name] is None:
            head = Head(draccus.encode(config), checkpoint, policy.name, versions())
            require_journal_of(_journal(out, name), head)
    reports: dict[str, Report] = {}
    for name, config in runs.items():
        report = kept[name]
        if report is None:
            report = _run(policy, config, dataset, checkpoint, _journal(out, name), progress)
            report.save(_file(out, name))
        discard_journal(_journal(out, name))  # also that of a process that died right after the report
        reports[name] = report
    found = build_sweep(reports, refused)
    found.save(out / "sweep.json")
    return found


def _file(out: Path, name: str) -> Path:
    return out / POINTS / f"{name}.json"


def _journal(out: Path, name: str) -> Path:
    return out / POINTS / f"{name}.journal.jsonl"


def _run(
    policy: Policy,
    config: EvaluationConfig,
    dataset: str | None,
    checkpoint: str | None,
    journal: Path,
    progress: bool,
) -> Report:
    apart = restart_peak_memory(device_of(policy))
    report = rollout(
        policy, config, dataset=dataset, checkpoint=checkpoint, journal=journal, progress=progress
    ).report
    if apart:
        return report
    note = (
        "peak memory is that of the process since it started: this system cannot begin it anew for each point"
    )
    return dataclasses.replace(report, notes=(*report.notes, note))


def _finished(
    out: Path, name: str, config: EvaluationConfig, checkpoint: str | None, dataset: str | None
) -> Report | None:
    """The report that lies there, None where there is none; :class:`ConfigError` where it is another one's."""
    file = _file(out, name)
    if not file.exists():
        return None
    report = Report.load(file)
    plain = json.loads(json.dumps(draccus.encode(config)))  # as it reads from a file
    wanted = {"checkpoint": checkpoint, "dataset": dataset, **plain}
    there = {"checkpoint": report.checkpoint, "dataset": report.dataset, **report.config}
    for place, (ours, theirs) in differing(wanted, there).items():
        raise ConfigError(
            f"{file} was run with {place} = {theirs!r}, and this sweep wants {ours!r}. Choose another `out`, or "
            f"remove that file to run the point again."
        )
    return report


def build_sweep(reports: Mapping[str, Report], refused: tuple[Refused, ...]) -> Sweep:
    """The sweep that follows from the reports of its points, in their order.

    Raises:
        DataError: no report, or reports of different policies or episodes.
    """
    if not reports:
        raise DataError("a sweep needs at least one point.")
    first, *_ = reports.values()
    for name, report in reports.items():
        if (report.name, report.seeds) != (first.name, first.seeds):
            raise DataError(f"point {name!r} is of another policy or of other episodes than the first one.")
    front = pareto_front([(r.overall.rate, r.latency_ms.p50) for r in reports.values()])
    points = [
        _point(name, report, first, on) for (name, report), on in zip(reports.items(), front, strict=True)
    ]
    return Sweep(first.name, first.design, tuple(points), refused)


COPIED = (
    "mean_over_tasks", "failures", "latency_ms", "nfe", "calls_per_episode", "horizon", "deadline", "peak_mem_mb",
    "control_hz", "budget", "prompt_mode", "seeds", "versions", "device", "threads", "config_hash", "dataset",
    "checkpoint", "notes", "every",
)  # fmt: skip


def _point(name: str, report: Report, first: Report, front: bool) -> Point:
    controller: Controller = draccus.decode(Controller, report.config["controller"])
    samples = report.latency_samples_ms
    ticks = policy_ticks(int(report.config["env"]["max_ticks"]), report.every)
    return Point(
        **{field: getattr(report, field) for field in COPIED},
        id=name,
        report=f"{POINTS}/{name}.json",
        success=report.overall,
        difference=matched_difference(unperturbed(report), unperturbed(first)),
        median_95=median_interval(samples),
        sustained=sustained_horizon(samples, controller, report.control_hz, ticks),
        controller=report.config["controller"],
        front=front,
    )


def unperturbed(report: Report) -> list[EpisodeRecord]:
    """The episodes that :attr:`Report.overall` counts."""
    return [episode for episode in report.episodes if episode.dimension == CLEAN]


def matched_difference(ours: Sequence[EpisodeRecord], theirs: Sequence[EpisodeRecord]) -> Difference:
    """Difference of the success rates over the episodes that both ran and that broke in neither."""
    other = {(e.task, e.seed, e.variant): e.status for e in theirs}
    pairs = [
        (e.status == "success", other[e.task, e.seed, e.variant] == "success")
        for e in ours
        if "error" not in (e.status, other.get((e.task, e.seed, e.variant), "error"))
    ]
    return paired_difference(pairs)
