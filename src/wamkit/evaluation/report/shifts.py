"""What perturbations do to a policy: per dimension, kind and strength, against the clean arm on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wamkit.envs.perturbations import DIMENSIONS
from wamkit.envs.perturbations.suite import CLEAN
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.scores import Score, score_of
from wamkit.evaluation.report.statistics import Difference, MeanRate, mean_rate, paired_difference, rate_of


@dataclass(frozen=True)
class Shift:
    """One row of the table.

    Attributes:
        dimension: what was changed.
        kind: how, or ``all`` kinds of the dimension together.
        strength: how much, or None for all strengths together.
        score: successes under the change.
        clean: successes of the same tasks and seeds without it.
        difference: rate under the change minus the clean rate, over the pairs of which neither ended in an error.
    """

    dimension: str
    kind: str
    strength: int | None
    score: Score
    clean: Score
    difference: Difference


@dataclass(frozen=True)
class ShiftTable:
    """What perturbations do to a policy.

    Attributes:
        dimensions: one row per dimension, in the field's order.
        kinds: one row per dimension and kind.
        strengths: one row per dimension and strength.
        micro: all perturbed episodes pooled (the rule of LIBERO-Plus' total: the mean over variants).
        columns: unweighted mean over the dimensions and ``Original`` (the rule of RoboTwin 2.0-Plus' total).
    """

    dimensions: tuple[Shift, ...]
    kinds: tuple[Shift, ...]
    strengths: tuple[Shift, ...]
    micro: Score
    columns: MeanRate

    def headline(self) -> str:
        """Both totals, with their rules."""
        micro, columns = self.micro, self.columns
        if micro.rate is None or columns.rate is None:
            return "no perturbed episode could be scored"
        return (
            f"perturbed {100 * micro.rate:.0f} % [{100 * micro.wilson_95[0]:.0f}, {100 * micro.wilson_95[1]:.0f}] of "
            f"{micro.n} variants, {100 * columns.rate:.0f} % as the mean of {columns.tasks} columns"
        )


def shift_table(episodes: Sequence[EpisodeRecord]) -> ShiftTable | None:
    """The table of an evaluation; None when it perturbed nothing."""
    perturbed = [e for e in episodes if e.dimension != CLEAN]
    if not perturbed:
        return None
    clean = {(e.task, e.seed): e for e in episodes if e.dimension == CLEAN}
    by_dimension = {d: [e for e in perturbed if e.dimension == d] for d in DIMENSIONS}
    by_dimension = {d: found for d, found in by_dimension.items() if found}
    kinds, strengths = [], []
    for dimension, found in by_dimension.items():
        kinds += [
            _row(dimension, kind, None, [e for e in found if e.kind == kind], clean)
            for kind in sorted({e.kind for e in found})
        ]
        strengths += [
            _row(dimension, "all", strength, [e for e in found if e.strength == strength], clean)
            for strength in sorted({e.strength for e in found})
        ]
    rows = tuple(_row(d, "all", None, found, clean) for d, found in by_dimension.items())
    original = score_of(list(clean.values()))
    columns = mean_rate([rate_of(s.successes, s.n) for s in (original, *(row.score for row in rows))])
    return ShiftTable(rows, tuple(kinds), tuple(strengths), score_of(perturbed), columns)


def _row(
    dimension: str,
    kind: str,
    strength: int | None,
    episodes: Sequence[EpisodeRecord],
    clean: dict[tuple[str, int], EpisodeRecord],
) -> Shift:
    partners = [clean[e.task, e.seed] for e in episodes if (e.task, e.seed) in clean]
    pairs = [
        (e.status == "success", clean[e.task, e.seed].status == "success")
        for e in episodes
        if (e.task, e.seed) in clean and "error" not in (e.status, clean[e.task, e.seed].status)
    ]
    return Shift(dimension, kind, strength, score_of(episodes), score_of(partners), paired_difference(pairs))
