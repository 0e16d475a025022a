"""Success of the scripted demonstrator on a suite of variants, as a ceiling for policies.

The demonstrator reads the simulator's state and no camera. Dimensions that change only images or instructions therefore
must not change its success rate, which tests them; the other dimensions show the strength from which on the
demonstrator's way of doing a task fails. It is a ceiling of this demonstrator, not of every policy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus

from wamkit.config import config_hash, encode
from wamkit.envs.vector import Step, VectorEnv
from wamkit.evaluation.closed_loop.episodes import EpisodeRun, PlannedEpisode
from wamkit.evaluation.closed_loop.plan import EvaluationConfig, plan_episodes
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.scores import Score, score
from wamkit.evaluation.report.shifts import ShiftTable, shift_table
from wamkit.evaluation.report.statistics import MeanRate
from wamkit.progress import shown, stage
from wamkit.storage.documents import write_document
from wamkit.storage.provenance import versions

FORMAT = "wamkit-ceiling-1"
PER_WORKER = 2  # pending requests per worker, so that a worker never idles


@dataclass(frozen=True)
class Ceiling:
    """The demonstrator's scores.

    Attributes:
        tasks: score of the unperturbed episodes by task.
        overall: score of all unperturbed episodes pooled.
        mean_over_tasks: unweighted mean of the tasks' rates.
        shifts: scores per dimension, kind and strength, or None without perturbations.
        episodes: records of all episodes.
        config: config of the evaluation, as plain values.
        versions: versions of the packages.
    """

    tasks: Mapping[str, Score]
    overall: Score
    mean_over_tasks: MeanRate
    shifts: ShiftTable | None
    episodes: tuple[EpisodeRecord, ...]
    config: Mapping[str, Any]
    versions: Mapping[str, str]

    def headline(self) -> str:
        """One line: unperturbed rate, perturbed rates, and errors if any."""
        rate, low, high = self.overall.rate, *self.overall.wilson_95
        line = (
            "no episode could be scored"
            if rate is None
            else f"{100 * rate:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
        )
        line = f"scripted demonstrator: {line} of {self.overall.n} unperturbed episodes"
        if self.shifts is not None:
            line += f"; {self.shifts.headline()}"
        errors = sum(episode.status == "error" for episode in self.episodes)
        return f"{line}; {errors} of {len(self.episodes)} episodes ended in an ERROR" if errors else line

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically; of the episodes, only statuses and errors by variant."""
        content = {
            "format": FORMAT,
            "headline": self.headline(),
            **{
                name: draccus.encode(getattr(self, name)) for name in ("overall", "mean_over_tasks", "shifts")
            },
            "tasks": {task: draccus.encode(s) for task, s in self.tasks.items()},
            "statuses": {e.variant: e.status for e in self.episodes},
            "errors": {e.variant: e.error for e in self.episodes if e.error is not None},
            "config": dict(self.config),
            "config_hash": config_hash(self.config),
            "versions": dict(self.versions),
        }
        write_document(path, content)


def measure_ceiling(config: EvaluationConfig, progress: bool = True) -> Ceiling:
    """Let the scripted demonstrator play the episodes of an evaluation, without rendering.

    ``config.timeout_s`` applies to a whole episode. If the simulator does not have a demonstrator, every episode is an
    error.

    Raises:
        ConfigError: a task is unknown or cannot be perturbed.
    """
    plan = plan_episodes(config)
    with shown("scripted demonstrator", progress), stage("episodes", len(plan)) as here:
        records = _play(config, plan, here.advance)
    tasks, overall, mean = score(records)
    return Ceiling(tasks, overall, mean, shift_table(records), records, encode(config), versions())


def _play(
    config: EvaluationConfig, plan: Sequence[PlannedEpisode], ended: Callable[[], None]
) -> tuple[EpisodeRecord, ...]:
    slots = min(PER_WORKER * config.workers, len(plan))
    started: dict[int, PlannedEpisode] = {}
    records: list[EpisodeRecord] = []
    with VectorEnv(
        [e.config for e in plan[:slots]], min(config.workers, slots), config.timeout_s
    ) as simulators:

        def close(slot: int) -> None:
            if slot in started:
                (step,) = simulators.wait([slot]).values()
                records.append(_record(started.pop(slot), step, config.env.max_ticks))
                ended()

        for order, episode in enumerate(plan):
            slot = order % slots
            close(slot)
            started[slot] = episode
            perturbation = None if episode.variant is None else episode.variant.perturbation
            simulators.play_async(slot, episode.seed, episode.instruction, episode.config, perturbation)
        for order in range(len(plan), len(plan) + slots):
            close(order % slots)
    return tuple(records)


def _record(episode: PlannedEpisode, step: Step, max_ticks: int) -> EpisodeRecord:
    """Record of a finished episode, with the unperturbed instruction because the demonstrator does not read any."""
    run = EpisodeRun(episode, 0, instruction=episode.instruction or "")
    run.absorb(step, max_ticks)
    return run.record()
