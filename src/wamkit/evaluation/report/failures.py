"""Progress and failure of an episode, from the ground truth of the simulator (:mod:`wamkit.envs.facts`).

=============  =========================================================================================
phase          condition
=============  =========================================================================================
reach          no gripper has touched a task object
contact        a gripper has touched one, and nothing was moved by :data:`MOVED_M`
transport      a task object was moved by at least :data:`MOVED_M` since the first contact
success        the task's own criterion; it counts as past every phase, even without a touch
=============  =========================================================================================

An episode that did not succeed has any of these tags:

=============  =========================================================================================
tag            meaning
=============  =========================================================================================
never reached  the phase is still ``reach``
contact lost   there was contact, but none in the last ticks (gaps up to :data:`FLICKER` ticks do not count)
drift          the nearest gripper ended :data:`DRIFT_M` further from the object than its closest approach
timeout        the ticks ran out; otherwise the task itself ended the episode
=============  =========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wamkit.envs.facts import Facts
from wamkit.evaluation.report.episode import EpisodeRecord, Events
from wamkit.evaluation.report.statistics import Rate, Summary, rate_of, summarise

PHASES = ("reach", "contact", "transport", "success")
MOVED_M = 0.01
DRIFT_M = 0.1
FLICKER = 2  # ticks without contact that do not end a contact, because fingers bounce


@dataclass(frozen=True)
class PhaseRow:
    """Share of episodes that reached at least one phase.

    Attributes:
        dimension: ``Original`` or the perturbed dimension.
        phase: one of :data:`PHASES`.
        reached: rate with its Wilson interval; errors are not in n.
    """

    dimension: str
    phase: str
    reached: Rate


@dataclass(frozen=True)
class TagRow:
    """Share of a tag among the episodes that did not succeed.

    Attributes:
        dimension: ``Original`` or the perturbed dimension.
        tag: one of the tags of the module.
        share: rate over episodes that ended as failure or timeout, with its Wilson interval.
    """

    dimension: str
    tag: str
    share: Rate


@dataclass(frozen=True)
class FailureTable:
    """Phases, failure tags and replanning of an evaluation.

    Attributes:
        phases: one row per dimension and phase.
        tags: one row per dimension and tag.
        replans: model calls after the first one of an episode, without errors.
        early_replans: replans that the controller asked for ahead of schedule.
    """

    phases: tuple[PhaseRow, ...]
    tags: tuple[TagRow, ...]
    replans: Summary
    early_replans: Summary


def events_of(facts: Sequence[Facts], success: bool) -> Events | None:
    """Derive the events of an episode from the facts of its ticks 1, 2, ...; None without facts."""
    if not facts:
        return None
    phases = phases_of(facts)
    touched = [tick for tick, fact in enumerate(facts, start=1) if fact.touching]
    onsets = [tick for i, tick in enumerate(touched) if i == 0 or tick - touched[i - 1] > FLICKER + 1]
    return Events(
        phase="success" if success else phases[-1],
        first_contact=touched[0] if touched else None,
        contacts=len(onsets),
        contact_ticks=len(touched),
        lost=bool(touched) and len(facts) - touched[-1] > FLICKER,
        moved_m=max(fact.moved_m for fact in facts),
        drift_m=facts[-1].gap_m - min(fact.gap_m for fact in facts),
    )


def phases_of(facts: Sequence[Facts]) -> tuple[str, ...]:
    """Furthest phase reached until each tick, one of :data:`PHASES` without ``success``."""
    phases, touched, moved = [], False, 0.0
    for fact in facts:
        touched, moved = touched or fact.touching, max(moved, fact.moved_m)
        phases.append("reach" if not touched else "transport" if moved >= MOVED_M else "contact")
    return tuple(phases)


TAGS: dict[str, Callable[[Events, str], bool]] = {
    "never reached": lambda events, status: events.phase == "reach",
    "contact lost": lambda events, status: events.lost,
    "drift": lambda events, status: events.drift_m > DRIFT_M,
    "timeout": lambda events, status: status == "timeout",
}


def tags_of(episode: EpisodeRecord) -> tuple[str, ...]:
    """Tags of an episode; none if it succeeded or broke, or if its simulator states no facts."""
    if episode.events is None or episode.status not in ("failure", "timeout"):
        return ()
    return tuple(tag for tag, holds in TAGS.items() if holds(episode.events, episode.status))


def failure_table(episodes: Sequence[EpisodeRecord]) -> FailureTable | None:
    """Table of an evaluation; None if no simulator states facts."""
    scored = [e for e in episodes if e.events is not None and e.status != "error"]
    if not scored:
        return None
    phases, tags = [], []
    for dimension in dict.fromkeys(e.dimension for e in scored):
        within = [e for e in scored if e.dimension == dimension]
        phases += [PhaseRow(dimension, phase, _reached(within, i)) for i, phase in enumerate(PHASES)][1:]
        failed = [tags_of(e) for e in within if e.status != "success"]
        tags += [TagRow(dimension, tag, rate_of(sum(tag in f for f in failed), len(failed))) for tag in TAGS]
    return FailureTable(
        phases=tuple(phases),
        tags=tuple(tags),
        replans=summarise([float(max(e.calls - 1, 0)) for e in scored]),
        early_replans=summarise([float(e.early_calls) for e in scored]),
    )


def _reached(episodes: Sequence[EpisodeRecord], phase: int) -> Rate:
    furthest = [PHASES.index(e.events.phase) for e in episodes if e.events is not None]
    return rate_of(sum(index >= phase for index in furthest), len(furthest))


def failure_rows(table: FailureTable) -> list[tuple[str, str, str]]:
    """Rows of text (dimension, phase or tag, ``k of n, rate [low, high]``), phases first."""
    phases = [(row.dimension, f"got to {row.phase}", _rate_text(row.reached)) for row in table.phases]
    return phases + [(row.dimension, f"failed: {row.tag}", _rate_text(row.share)) for row in table.tags]


def _rate_text(rate: Rate) -> str:
    if rate.rate is None:
        return "0 of 0"
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.successes} of {rate.n}, {100 * rate.rate:.0f} % [{low:.0f}, {high:.0f}]"
