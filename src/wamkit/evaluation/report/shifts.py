"""Effect of perturbations, per dimension, kind and strength, against the clean arm on the same seeds."""

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
    """Effect of one perturbation.

    Attributes:
        dimension: perturbed dimension.
        kind: kind of the perturbation, or ``all`` kinds of the dimension.
        strength: strength of the perturbation, or None for all strengths.
        score: score under the perturbation.
        clean: score on the same tasks and seeds without it.
        difference: perturbed minus clean rate, over the pairs without an error.
    """

    dimension: str
    kind: str
    strength: int | None
    score: Score
    clean: Score
    difference: Difference


@dataclass(frozen=True)
class ShiftTable:
    """Effects of all perturbations of an evaluation.

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
        """One line with both totals."""
        micro, columns = self.micro, self.columns
        if micro.rate is None or columns.rate is None:
            return "no perturbed episode could be scored"
        return (
            f"perturbed {100 * micro.rate:.0f} % [{100 * micro.wilson_95[0]:.0f}, {100 * micro.wilson_95[1]:.0f}] of "
            f"{micro.n} variants, {100 * columns.rate:.0f} % as the mean of {columns.tasks} columns"
        )


def shift_table(episodes: Sequence[EpisodeRecord]) -> ShiftTable | None:
    """Table of an evaluation; None if nothing was perturbed."""
    perturbed = [e for e in episodes if e.dimension != CLEAN]
    if not perturbed:
        return None
    clean = {(e.task, e.seed): e for e in episodes if e.dimension == CLEAN}
    by_dimension = {d: [e for e in perturbed if e.dimension == d] for d in DIMENSIONS}
    by_dimension = {d: episodes for d, episodes in by_dimension.items() if episodes}
    kinds, strengths = [], []
    for dimension, within in by_dimension.items():
        kinds += [
            _row(dimension, kind, None, [e for e in within if e.kind == kind], clean)
            for kind in sorted({e.kind for e in within})
        ]
        strengths += [
            _row(dimension, "all", strength, [e for e in within if e.strength == strength], clean)
            for strength in sorted({e.strength for e in within})
        ]
    rows = tuple(_row(d, "all", None, within, clean) for d, within in by_dimension.items())
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
