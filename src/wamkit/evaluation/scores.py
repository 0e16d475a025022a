"""Episodes and their scores: who succeeded how often, errors named and in no rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wamkit.envs.perturbations.suite import CLEAN
from wamkit.evaluation.failures import Events
from wamkit.evaluation.statistics import MeanRate, mean_rate, rate_of

STATUSES = ("success", "failure", "timeout", "error")


@dataclass(frozen=True)
class EpisodeRecord:
    """One episode.

    Attributes:
        task: task name.
        seed: episode seed.
        instruction: the words the policy was given.
        status: ``success``, ``failure`` (the task itself ended it), ``timeout`` (ticks ran out) or ``error``
            (simulator or policy broke: says nothing about the policy's skill).
        ticks: control ticks executed.
        calls: model calls.
        clipped: share of the executed action entries that lay outside the action limits and were clipped.
        error: traceback or message of an ``error``, else None.
        variant: id of the variant, None outside a suite of variants.
        dimension: what is changed: ``Original`` or one of :data:`wamkit.envs.perturbations.DIMENSIONS`.
        kind: how it is changed, ``clean`` where nothing is.
        strength: how much, 0 to 5.
        early_calls: model calls that the controller asked for before their time.
        events: what the simulator saw of it, None where it states no facts or the episode broke.
    """

    task: str
    seed: int
    instruction: str
    status: str
    ticks: int
    calls: int
    clipped: float = 0.0
    error: str | None = None
    variant: str | None = None
    dimension: str = CLEAN
    kind: str = "clean"
    strength: int = 0
    early_calls: int = 0
    events: Events | None = None

    @property
    def key(self) -> str:
        """What names this episode among all of one evaluation: the variant's id, or task and seed."""
        return self.variant or f"{self.task}/{self.seed}"


@dataclass(frozen=True)
class Score:
    """Successes over the episodes that did not end in an error.

    Attributes:
        n: episodes that ended as success, failure or timeout.
        successes: how many succeeded.
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
    """Score of these episodes, whatever they are."""
    statuses = {status: sum(e.status == status for e in episodes) for status in STATUSES}
    rate = rate_of(statuses["success"], len(episodes) - statuses["error"])
    return Score(rate.n, rate.successes, rate.rate, (rate.low, rate.high), statuses)
