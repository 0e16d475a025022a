"""Success rates; episodes that crashed are listed but not counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wamkit.envs.perturbations.suite import CLEAN
from wamkit.evaluation.report.episode import STATUSES, EpisodeRecord
from wamkit.evaluation.report.statistics import MeanRate, mean_rate, rate_of


@dataclass(frozen=True)
class Score:
    """Success rate over the episodes that did not end in an error.

    Attributes:
        n: episodes that ended as success, failure or timeout.
        successes: number of successes.
        rate: successes / n, None when n is 0.
        wilson_95: Wilson 95 % interval of the rate.
        statuses: status -> episodes, errors included.
    """

    n: int
    successes: int
    rate: float | None
    wilson_95: tuple[float, float]
    statuses: dict[str, int]


def score(episodes: Sequence[EpisodeRecord]) -> tuple[dict[str, Score], Score, MeanRate]:
    """Scores of the unperturbed episodes: per task (in order of appearance), pooled, unweighted mean over tasks."""
    episodes = [episode for episode in episodes if episode.dimension == CLEAN]
    names = list(dict.fromkeys(e.task for e in episodes))
    tasks = {name: score_of([e for e in episodes if e.task == name]) for name in names}
    mean = mean_rate([rate_of(s.successes, s.n) for s in tasks.values()])
    return tasks, score_of(episodes), mean


def score_of(episodes: Sequence[EpisodeRecord]) -> Score:
    """Pooled score of all given episodes."""
    statuses = {status: sum(e.status == status for e in episodes) for status in STATUSES}
    rate = rate_of(statuses["success"], len(episodes) - statuses["error"])
    return Score(rate.n, rate.successes, rate.rate, (rate.low, rate.high), statuses)
