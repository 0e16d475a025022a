"""Merging: one report from the shards of an evaluation."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from wamkit.config import config_hash
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.closed_loop.assemble import calls_per_episode, seeds_of
from wamkit.evaluation.closed_loop.plan import Shard
from wamkit.evaluation.report.failures import failure_table
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.scores import score
from wamkit.evaluation.report.shifts import shift_table
from wamkit.storage.fingerprint import differences


def merge(reports: Sequence[Report], expected: Sequence[str]) -> Report:
    """Merge the reports of all shards into one. Its scores equal those of the evaluation in one piece.

    Latency, stages and batched calls are the first shard's alone, because the shards' machines may differ; seconds
    are summed, and memory is the largest.

    Args:
        reports: one per shard that has variants, in any order.
        expected: ids of all variants of the evaluation, in its order.

    Raises:
        ConfigError: no report, or reports of different configs, checkpoints, policies or data.
        DataError: an episode is in two reports, in none, or does not belong to the evaluation.
    """
    if not reports:
        raise ConfigError("merge: no report was given.")
    reports = sorted(reports, key=lambda report: _shard_of(report).index)
    first = reports[0]
    for other in reports[1:]:
        _require_alike(first, other)
    records = {episode.variant: episode for report in reports for episode in report.episodes}
    _require_complete([e.variant for report in reports for e in report.episodes], expected)
    episodes = tuple(records[name] for name in expected)
    tasks, overall, mean = score(episodes)
    config = {**first.config, "shard": None}
    order = {(e.task, e.seed): i for i, e in enumerate(episodes)}
    strips = [strip for report in reports for strip in report.filmstrips]
    return dataclasses.replace(
        first,
        tasks=tasks,
        overall=overall,
        mean_over_tasks=mean,
        shifts=shift_table(episodes),
        failures=failure_table(episodes),
        calls_per_episode=calls_per_episode(episodes),
        peak_mem_mb=_largest([report.peak_mem_mb for report in reports]),
        seeds=seeds_of(episodes),
        wall_s=sum(report.wall_s for report in reports),
        rollout_s=sum(report.rollout_s for report in reports),
        config=config,
        config_hash=config_hash(config),
        notes=_notes(reports),
        episodes=episodes,
        filmstrips=tuple(sorted(strips, key=lambda strip: order[strip.task, strip.seed])),
    )


def shards_of(reports: Sequence[Report]) -> list[str]:
    """Names of the shards of reports; raises :class:`ConfigError` for a report that is of a whole evaluation."""
    return [f"shard {_shard_of(report)}" for report in reports]


def _shard_of(report: Report) -> Shard:
    text = report.config.get("shard")
    if text is None:
        raise ConfigError(
            f"merge: the report of {report.name!r} with config hash {report.config_hash[:12]} is not of a shard but "
            f"of a whole evaluation. Merge reports that were made with --shard."
        )
    return Shard.parse(text)


def _require_alike(first: Report, other: Report) -> None:
    """Raise :class:`ConfigError` unless two reports are parts of one evaluation."""
    one, two = ({**report.config, "shard": None} for report in (first, other))
    found = differences(one, two)
    if _shard_of(first).count != _shard_of(other).count:
        found.append(f"shards: {_shard_of(first).count} there, {_shard_of(other).count} here")
    for name in ("name", "checkpoint", "dataset", "design"):
        ours, theirs = getattr(first, name), getattr(other, name)
        if ours != theirs:
            found.append(f"{name}: {ours!r} there, {theirs!r} here")
    if found:
        raise ConfigError(
            f"merge: shards {_shard_of(first)} (there) and {_shard_of(other)} (here) are not of one evaluation: "
            f"{'; '.join(found)}. Run the odd one again with the config and checkpoint of the others."
        )


def _require_complete(found: Sequence[str | None], expected: Sequence[str]) -> None:
    twice = [name for name, count in Counter(found).items() if count > 1]
    missing = [name for name in expected if name not in set(found)]
    foreign = [name for name in found if name not in set(expected)]
    if twice:
        raise DataError(f"merge: {_some(twice)} in more than one report. Give each shard once.")
    if foreign:
        raise DataError(
            f"merge: {_some(foreign)} of no evaluation of this config. Another version made these "
            f"reports; run them again."
        )
    if missing:
        raise DataError(
            f"merge: {_some(missing)} in no report. Add the reports of the shards that are missing."
        )


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return f"{len(names)} episodes ({shown}{', ...' if len(names) > 3 else ''}) are"


def _largest(peaks: Iterable[dict[str, float]]) -> dict[str, float]:
    largest: dict[str, float] = {}
    for peak in peaks:
        for name, value in peak.items():
            largest[name] = max(value, largest.get(name, value))
    return largest


def _notes(reports: Sequence[Report]) -> tuple[str, ...]:
    """Remarks on the merged whole, then those of every shard."""
    lead, *others = reports
    notes = [
        f"merged from {len(reports)} shards: latency, stages, batched calls, nfe, device and versions are those of "
        f"shard {_shard_of(lead)}; memory is the largest, seconds are summed over the shards."
    ]
    for report in others:
        for what in ("versions", "device"):
            lines = differences(getattr(lead, what), getattr(report, what))
            title = f"shard {_shard_of(report)} (here) has other {what} than {_shard_of(lead)} (there)"
            notes += [f"{title}: {line}" for line in lines]
    for report in reports:
        title = f"shard {_shard_of(report)}: "
        notes += [title + note.removeprefix(title) for note in report.notes]
    return tuple(notes)
