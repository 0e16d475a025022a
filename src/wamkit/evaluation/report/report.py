"""Report of an evaluation, as written to ``report.json``.

No number stands alone: rates carry n and an interval, times carry n and the batch they were measured on, and
the versions, seeds, budget, prompt mode, device and resolved config stand in the same file. On loading, every
score is computed again from the episodes and compared, so that a report cannot contradict itself.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import draccus
import draccus.utils

from wamkit.config import config_hash
from wamkit.errors import DataError
from wamkit.evaluation.report.episode import STATUSES, EpisodeRecord
from wamkit.evaluation.report.failures import FailureTable, failure_table
from wamkit.evaluation.report.filmstrip import Filmstrip, load_strips, save_pictures
from wamkit.evaluation.report.scores import Score, score
from wamkit.evaluation.report.shifts import ShiftTable, shift_table
from wamkit.evaluation.report.statistics import MeanRate, Summary
from wamkit.storage.documents import agree, decode_document, read_document, write_document

FORMAT = "wamkit-report-1"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one model call for one robot (batch 1), simulators idle, device synchronised.

    Attributes:
        n: warm calls measured.
        batch: rows per call.
        p50: median of the warm calls.
        p95: 95th percentile of the warm calls.
        max: slowest warm call.
        first: the cold call before them, not part of the others.
    """

    n: int
    batch: int
    p50: float | None
    p95: float | None
    max: float | None
    first: float | None


@dataclass(frozen=True)
class Horizon:
    """Actions predicted per call, and executed before the next one (None: one call per episode)."""

    predict: int
    execute: int | None


@dataclass(frozen=True)
class Deadline:
    """Comparison of inference with the control rate: ``N_fwd(K) / K < 1 / f`` at the 95th percentile.

    Attributes:
        control_hz: control rate f.
        allowed_ms: time for an answer, K / f, or None with one call per episode.
        n: warm calls compared.
        misses: number of calls that took longer.
        met: true if p95 is below ``allowed_ms`` or there is no bound; None if nothing was measured.
    """

    control_hz: float
    allowed_ms: float | None
    n: int
    misses: int
    met: bool | None


@dataclass(frozen=True)
class Report:
    """All results of an evaluation, in the order of the file.

    Attributes:
        name: name of the policy.
        design: description of the policy: tuple, formula, is_wam, parameters.
        tasks: task -> :class:`Score` of its unperturbed episodes.
        overall: score of all unperturbed episodes, pooled.
        mean_over_tasks: unweighted mean of the tasks' rates.
        shifts: effect of perturbations, or None if nothing was perturbed.
        latency_ms: latency of single-robot calls.
        latency_samples_ms: duration of each warm single-robot call, in order.
        stage_ms: stage -> milliseconds within those calls.
        batched_call_ms: duration of the batched calls of the closed loop, with simulators running beside them.
        mean_batch: mean number of rows per closed-loop call.
        nfe: stream -> mean number of function evaluations per call.
        calls_per_episode: model calls per episode, without errors.
        horizon: number of actions predicted and executed.
        deadline: comparison of latency with the control rate.
        control_hz: ticks of the policy per second; horizon, deadline, episodes and filmstrips count in these.
        peak_mem_mb: peak memory of the process, the largest worker and the GPU.
        budget: budget of every call.
        prompt_mode: kind of the instructions.
        versions: package versions and commit.
        device: names of processor and GPU.
        threads: number of torch threads.
        seeds: task -> episode seeds.
        wall_s: duration of the whole evaluation, seconds.
        rollout_s: duration of the closed loop, without start-up and latency probe, seconds.
        config: resolved evaluation config.
        config_hash: SHA-256 of the config.
        dataset: fingerprint of the training data, or None.
        notes: remarks for the reader.
        episodes: all episodes.
        checkpoint: digest of the policy's files, or None.
        failures: phases and failure tags, None if no simulator states facts.
        filmstrips: imagined beside real frames; the pictures lie in ``<report>.filmstrips.npz``.
        every: control ticks of the robot per tick of the policy; more than 1 where a view reads fewer.
    """

    name: str
    design: dict[str, Any]
    tasks: dict[str, Score]
    overall: Score
    mean_over_tasks: MeanRate
    shifts: ShiftTable | None
    latency_ms: Latency
    latency_samples_ms: tuple[float, ...]
    stage_ms: dict[str, Summary]
    batched_call_ms: Summary
    mean_batch: float | None
    nfe: dict[str, float]
    calls_per_episode: Summary
    horizon: Horizon
    deadline: Deadline
    control_hz: float
    peak_mem_mb: dict[str, float]
    budget: dict[str, Any]
    prompt_mode: str
    versions: dict[str, str]
    device: dict[str, str]
    threads: int
    seeds: dict[str, tuple[int, ...]]
    wall_s: float
    rollout_s: float
    config: dict[str, Any]
    config_hash: str
    dataset: str | None
    notes: tuple[str, ...]
    episodes: tuple[EpisodeRecord, ...]
    checkpoint: str | None = None
    failures: FailureTable | None = None
    filmstrips: tuple[Filmstrip, ...] = field(default=())
    every: float = 1.0

    def headline(self) -> str:
        """One line: the mean over tasks with its interval, the pooled count, and the errors if any."""
        mean = self.mean_over_tasks
        if mean.rate is None:
            line = f"{self.name}: no episode could be scored"
        else:
            line = (
                f"{self.name}: mean over {mean.tasks} {'task' if mean.tasks == 1 else 'tasks'} "
                f"{100 * mean.rate:.0f} % [{100 * mean.low:.0f}, {100 * mean.high:.0f}], "
                f"{self.overall.successes} of {self.overall.n} episodes"
            )
        if self.shifts is not None:
            line += f"; {self.shifts.headline()}"
        errors = sum(episode.status == "error" for episode in self.episodes)
        return f"{line}; {errors} of {len(self.episodes)} episodes ended in an ERROR" if errors else line

    def save(self, path: str | Path) -> None:
        """Write ``path`` (and the pictures beside it), each atomically, the pictures first."""
        path = Path(path)
        if self.filmstrips:
            save_pictures(pictures_path(path), self.filmstrips)
        plain = draccus.encode(dataclasses.replace(self, filmstrips=()))
        content = {"format": FORMAT, "headline": self.headline(), **plain}
        content["filmstrips"] = [strip.caption() for strip in self.filmstrips]
        write_document(path, content)

    @staticmethod
    def load(path: str | Path) -> Report:
        """Read a report and check it.

        Raises:
            DataError: not a report, a field is missing, unknown or of a wrong type, or a score, headline or
                hash does not follow from the rest of the file.
        """
        path = Path(path)
        raw = read_document(path, FORMAT, "report")
        headline, captions = raw.pop("headline", None), raw.pop("filmstrips", [])
        report = decode_document(Report, raw, path)
        report.check(str(path))
        if headline != report.headline():
            raise DataError(f"{path}: headline {headline!r} does not follow from the scores.")
        strips = load_strips(pictures_path(path), captions) if captions else ()
        return dataclasses.replace(report, filmstrips=strips)

    def check(self, place: str) -> None:
        """Raise :class:`DataError` when a score or the hash does not follow from episodes and config."""
        for i, episode in enumerate(self.episodes):
            if episode.status not in STATUSES:
                raise DataError(f"{place}: episode {i} has status {episode.status!r}, known: {STATUSES}.")
        tasks, overall, mean = score(self.episodes)
        shifts = shift_table(self.episodes)
        for name, ours, theirs in (
            ("tasks", self.tasks, tasks),
            ("overall", self.overall, overall),
            ("mean_over_tasks", self.mean_over_tasks, mean),
            ("shifts", self.shifts, shifts),
            ("failures", self.failures, failure_table(self.episodes)),
            ("config_hash", self.config_hash, config_hash(self.config)),
        ):
            if not agree(ours, theirs):
                raise DataError(
                    f"{place}: {name!r} does not follow from the file: {ours!r} against {theirs!r}."
                )


def pictures_path(path: Path) -> Path:
    """File with the filmstrip pictures of the report at ``path``."""
    return path.with_suffix(".filmstrips.npz")
