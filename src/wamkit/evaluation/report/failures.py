"""How far an episode got and what went wrong, from what the simulator knows (:mod:`wamkit.envs.facts`).

=============  =========================================================================================
phase          the furthest one
=============  =========================================================================================
reach          no gripper has touched a task object
contact        one has, and nothing was moved by :data:`MOVED_M`
transport      a task object was moved by at least :data:`MOVED_M` since the first contact
success        the task's own criterion; it counts as past every phase, also where no touch was needed
=============  =========================================================================================

An episode that did not succeed has any of these tags:

=============  =========================================================================================
tag            meaning
=============  =========================================================================================
never reached  the phase is still ``reach``
contact lost   there was contact, and none in the last ticks (a gap of :data:`FLICKER` ticks is none)
drift          the nearest gripper ended :data:`DRIFT_M` further from the object than it had been
timeout        the ticks ran out; without it, the task itself ended the episode
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
FLICKER = 2  # ticks without contact that do not end it: fingers bounce


@dataclass(frozen=True)
class PhaseRow:
    """How many episodes got at least to a phase.

    Attributes:
        dimension: ``Original`` or what was perturbed.
        phase: one of :data:`PHASES`.
        reached: with the Wilson interval; n leaves errors out.
    """

    dimension: str
    phase: str
    reached: Rate


@dataclass(frozen=True)
class TagRow:
    """How many of the episodes that did not succeed have a tag.

    Attributes:
        dimension: ``Original`` or what was perturbed.
        tag: see the module.
        share: over the episodes that ended as failure or timeout, with the Wilson interval.
    """

    dimension: str
    tag: str
    share: Rate


@dataclass(frozen=True)
class FailureTable:
    """What an evaluation says about success besides its rate.

    Attributes:
        phases: one row per dimension and phase.
        tags: one row per dimension and tag.
        replans: model calls after the first one of an episode, errors left out.
        early_replans: those that the controller asked for before their time.
    """

    phases: tuple[PhaseRow, ...]
    tags: tuple[TagRow, ...]
    replans: Summary
    early_replans: Summary


def events_of(facts: Sequence[Facts], success: bool) -> Events | None:
    """The events of an episode whose ticks 1, 2, ... left ``facts``; None where there are none."""
    if not facts:
        return None
    touched = [tick for tick, fact in enumerate(facts, start=1) if fact.touching]
    begun = [tick for i, tick in enumerate(touched) if i == 0 or tick - touched[i - 1] > FLICKER + 1]
    moved = max(fact.moved_m for fact in facts)
    if success:
        phase = "success"
    elif touched and moved >= MOVED_M:
        phase = "transport"
    else:
        phase = "contact" if touched else "reach"
    return Events(
        phase=phase,
        first_contact=touched[0] if touched else None,
        contacts=len(begun),
        contact_ticks=len(touched),
        lost=bool(touched) and len(facts) - touched[-1] > FLICKER,
        moved_m=moved,
        drift_m=facts[-1].gap_m - min(fact.gap_m for fact in facts),
    )


TAGS: dict[str, Callable[[Events, str], bool]] = {
    "never reached": lambda events, status: events.phase == "reach",
    "contact lost": lambda events, status: events.lost,
    "drift": lambda events, status: events.drift_m > DRIFT_M,
    "timeout": lambda events, status: status == "timeout",
}


def tags_of(episode: EpisodeRecord) -> tuple[str, ...]:
    """The tags of an episode; none for one that succeeded, broke, or whose simulator states no facts."""
    if episode.events is None or episode.status not in ("failure", "timeout"):
        return ()
    return tuple(tag for tag, holds in TAGS.items() if holds(episode.events, episode.status))


def failure_table(episodes: Sequence[EpisodeRecord]) -> FailureTable | None:
    """The table of an evaluation; None where no simulator states facts."""
    told = [e for e in episodes if e.events is not None and e.status != "error"]
    if not told:
        return None
    phases, tags = [], []
    for dimension in dict.fromkeys(e.dimension for e in told):
        here = [e for e in told if e.dimension == dimension]
        phases += [PhaseRow(dimension, phase, _reached(here, i)) for i, phase in enumerate(PHASES)][1:]
        failed = [tags_of(e) for e in here if e.status != "success"]
        tags += [TagRow(dimension, tag, rate_of(sum(tag in f for f in failed), len(failed))) for tag in TAGS]
    return FailureTable(
        phases=tuple(phases),
        tags=tuple(tags),
        replans=summarise([float(max(e.calls - 1, 0)) for e in told]),
        early_replans=summarise([float(e.early_calls) for e in told]),
    )


def _reached(episodes: Sequence[EpisodeRecord], phase: int) -> Rate:
    got = [PHASES.index(e.events.phase) for e in episodes if e.events is not None]
    return rate_of(sum(index >= phase for index in got), len(got))


def failure_rows(table: FailureTable) -> list[tuple[str, str, str]]:
    """The table for people: (dimension, what, ``k of n, rate [low, high]``), phases first."""
    phases = [(row.dimension, f"got to {row.phase}", _said(row.reached)) for row in table.phases]
    return phases + [(row.dimension, f"failed: {row.tag}", _said(row.share)) for row in table.tags]


def _said(rate: Rate) -> str:
    if rate.rate is None:
        return "0 of 0"
    low, high = 100 * rate.low, 100 * rate.high
    return f"{rate.successes} of {rate.n}, {100 * rate.rate:.0f} % [{low:.0f}, {high:.0f}]"
