"""Two or more evaluations on the same episodes: who is better, and whether that could be chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import scipy

from wamkit.envs.perturbations import DIMENSIONS
from wamkit.envs.perturbations.suite import CLEAN
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.statistics import Difference, Rate, paired_difference, rate_of
from wamkit.storage.documents import write_document
from wamkit.storage.fingerprint import differences

FORMAT = "wamkit-comparison-1"
LEVEL = 0.05
LEAST_DISCORDANT = 6  # 2 * 0.5 ** 6 = 0.03 is below the level, 2 * 0.5 ** 5 = 0.06 is not
PERTURBED = "all perturbed"

Key = tuple[str, int, str]  # task, seed, variant (``Original`` for an unperturbed episode)


@dataclass(frozen=True)
class ComparisonRow:
    """Comparison of two evaluations over one set of episodes.

    Attributes:
        scope: set of episodes: ``Original``, a task of it, a dimension, or all perturbed episodes.
        kind: ``overall``, ``task`` or ``dimension``.
        first: rate of the first evaluation over the pairs.
        other: rate of the other one over the same pairs.
        difference: other minus first, with Newcombe's interval for paired data.
        only_first: pairs in which only the first succeeded.
        only_other: pairs in which only the other succeeded.
        broken: common episodes of which at least one ended in an error; they are no pairs.
        p_value: of McNemar's exact test, two-sided; None without a pair.
    """

    scope: str
    kind: str
    first: Rate
    other: Rate
    difference: Difference
    only_first: int
    only_other: int
    broken: int
    p_value: float | None

    @property
    def significant(self) -> bool:
        """True if the test rejects "equally good" at 5 %."""
        return self.p_value is not None and self.p_value < LEVEL

    def verdict(self, first: str, other: str) -> str:
        """Verdict in words, with n."""
        n, discordant = self.difference.n, self.only_first + self.only_other
        if self.p_value is None:
            return "no pair of scored episodes"
        evidence = f"{p_text(self.p_value)}, {n} {'pair' if n == 1 else 'pairs'}"
        if self.significant:
            better, worse = (other, first) if self.only_other > self.only_first else (first, other)
            return f"{better} is better than {worse}: significant at 5 % ({evidence})"
        if discordant < LEAST_DISCORDANT:
            evidence += (
                f", of which {discordant} differ: fewer than {LEAST_DISCORDANT} can never be significant"
            )
        return f"no significant difference at 5 % ({evidence})"


@dataclass(frozen=True)
class Pairing:
    """Comparison of the first evaluation with one other.

    Attributes:
        first: label of the first.
        other: label of the other.
        common: episodes that both have.
        rows: all unperturbed episodes, its tasks, the dimensions in the field's order, all perturbed episodes.
        warnings: causes of a difference other than the policies.
    """

    first: str
    other: str
    common: int
    rows: tuple[ComparisonRow, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Comparison of all evaluations with the first one.

    Attributes:
        labels: labels of the evaluations, the first one first.
        headlines: headline of each report.
        latency_p50_ms: median of single-robot calls, None where none was measured.
        pairings: one for each evaluation but the first.
    """

    labels: tuple[str, ...]
    headlines: tuple[str, ...]
    latency_p50_ms: tuple[float | None, ...]
    pairings: tuple[Pairing, ...]

    def save(self, path: str | Path) -> None:
        """Write it as JSON, atomically, with every verdict in words."""
        plain: dict[str, Any] = {"format": FORMAT, **draccus.encode(self)}
        for pairing, encoded in zip(self.pairings, plain["pairings"], strict=True):
            for row, line in zip(pairing.rows, encoded["rows"], strict=True):
                line["significant"] = row.significant
                line["verdict"] = row.verdict(pairing.first, pairing.other)
        write_document(Path(path), plain)


def p_text(p: float) -> str:
    """``p = 0.031``: two significant digits, never a rounded zero."""
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def mcnemar(only_first: int, only_other: int) -> float:
    """Two-sided p-value of McNemar's test, exact: a sign test on the pairs that differ. 1 when none does.

    McNemar (1947), "Note on the sampling error of the difference between correlated proportions or percentages", with
    the binomial distribution in place of its normal approximation.
    """
    discordant = only_first + only_other
    return float(scipy.stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def compare_reports(reports: Mapping[str, Report]) -> Comparison:
    """Compare evaluations on the episodes that they share: same task, seed and variant.

    Args:
        reports: label -> report; the first one is the one the others are compared with.

    Raises:
        ConfigError: fewer than two reports, or one shares no episode with the first.
        DataError: a report has an episode twice.
    """
    if len(reports) < 2:
        raise ConfigError(f"compare: needs at least two reports, got {len(reports)}.")
    first, *others = reports
    pairings = tuple(_pairing(first, reports[first], other, reports[other]) for other in others)
    return Comparison(
        labels=tuple(reports),
        headlines=tuple(report.headline() for report in reports.values()),
        latency_p50_ms=tuple(report.latency_ms.p50 for report in reports.values()),
        pairings=pairings,
    )


def label_reports(reports: Sequence[tuple[Path, Report]]) -> dict[str, Report]:
    """Label -> report: the policy's name, with the folder where several have the same.

    Raises:
        ConfigError: a folder is named twice.
    """
    names = [report.name for _, report in reports]
    labelled: dict[str, Report] = {}
    for path, report in reports:
        label = report.name if names.count(report.name) == 1 else f"{report.name} ({path})"
        if label in labelled:
            raise ConfigError(f"compare: {path} is given twice; compare it with another evaluation.")
        labelled[label] = report
    return labelled


def _pairing(first: str, ours: Report, other: str, theirs: Report) -> Pairing:
    mine, yours = _by_key(first, ours), _by_key(other, theirs)
    common = [key for key in mine if key in yours]
    if not common:
        raise ConfigError(
            f"compare: {first!r} and {other!r} share no episode (task, seed and variant). {first!r} has "
            f"{_extent(ours)}; {other!r} has {_extent(theirs)}. Evaluate both with the same tasks, seed and shifts."
        )
    pairs = [(mine[key], yours[key]) for key in common]
    clean = [pair for pair in pairs if pair[0].dimension == CLEAN]
    perturbed = [pair for pair in pairs if pair[0].dimension != CLEAN]
    rows = [_row(CLEAN, "overall", clean)] if clean else []
    tasks = dict.fromkeys(a.task for a, _ in clean)
    rows += [_row(task, "task", [p for p in clean if p[0].task == task]) for task in tasks]
    for dimension in DIMENSIONS:
        found = [p for p in perturbed if p[0].dimension == dimension]
        rows += [_row(dimension, "dimension", found)] if found else []
    rows += [_row(PERTURBED, "overall", perturbed)] if perturbed else []
    alone = [(label, len(e) - len(common)) for label, e in ((first, mine), (other, yours))]
    warnings = [f"{n} episodes of {label!r} have no partner and are left out" for label, n in alone if n]
    return Pairing(
        first, other, len(common), tuple(rows), (*warnings, *_warnings(first, ours, other, theirs))
    )


def _by_key(label: str, report: Report) -> dict[Key, EpisodeRecord]:
    found: dict[Key, EpisodeRecord] = {}
    for episode in report.episodes:
        variant = CLEAN if episode.dimension == CLEAN else episode.key
        key = (episode.task, episode.seed, variant)
        if key in found:
            raise DataError(f"compare: {label!r} has episode {key} twice. Evaluate again.")
        found[key] = episode
    return found


def _row(scope: str, kind: str, pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]]) -> ComparisonRow:
    scored = [
        (b.status == "success", a.status == "success")
        for a, b in pairs
        if "error" not in (a.status, b.status)
    ]
    n = len(scored)
    only_other, only_first = sum(b and not a for b, a in scored), sum(a and not b for b, a in scored)
    return ComparisonRow(
        scope=scope,
        kind=kind,
        first=rate_of(sum(a for _, a in scored), n),
        other=rate_of(sum(b for b, _ in scored), n),
        difference=paired_difference(scored),
        only_first=only_first,
        only_other=only_other,
        broken=len(pairs) - n,
        p_value=mcnemar(only_first, only_other) if n else None,
    )


def _extent(report: Report) -> str:
    seeds = [episode.seed for episode in report.episodes]
    span = f"seeds {min(seeds)} to {max(seeds)}" if seeds else "no seed"
    return f"{len(report.episodes)} episodes of {', '.join(report.tasks) or 'no task'} with {span}"


def _warnings(first: str, ours: Report, other: str, theirs: Report) -> list[str]:
    """Differences between two evaluations other than the policy."""
    a, b = repr(first), repr(other)
    warnings = []
    if (ours.device, ours.threads) != (theirs.device, theirs.threads):
        warnings.append(
            f"latency was measured on different devices and does not compare: {a} on {_machine(ours)}, {b} on "
            f"{_machine(theirs)}"
        )
    if ours.prompt_mode != theirs.prompt_mode:
        warnings.append(f"the prompt modes differ: {a} {ours.prompt_mode}, {b} {theirs.prompt_mode}")
    for name, of_first, of_other in (
        ("budgets", ours.budget, theirs.budget),
        ("controllers", ours.config.get("controller"), theirs.config.get("controller")),
        ("simulators", ours.config.get("env"), theirs.config.get("env")),
    ):
        # The task stands in both, but is replaced by each episode's.
        lines = [line for line in differences(of_other, of_first) if not line.startswith("task:")]
        if lines:
            warnings.append(f"the {name} differ (here: {a}, there: {b}): {'; '.join(lines)}")
    for label, report in ((a, ours), (b, theirs)):
        broken = sum(episode.status == "error" for episode in report.episodes)
        if broken:
            warnings.append(f"{broken} of {len(report.episodes)} episodes of {label} ended in an error")
    return warnings


def _machine(report: Report) -> str:
    names = ", ".join(f"{kind} {name}" for kind, name in report.device.items())
    return f"{names}, {report.threads} {'thread' if report.threads == 1 else 'threads'}"
