"""One row per episode as a parquet file: what was changed, 0 or 1, how far it got and what went wrong.

:data:`COLUMNS` says what stands in each column; the same words are the columns' metadata in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.evaluation.report.episode import EpisodeRecord, Events
from wamkit.evaluation.report.failures import TAGS, tags_of

FILE = "report.variants.parquet"
MEANING = b"meaning"  # key of a column's metadata


@dataclass(frozen=True)
class Column:
    """One column of the file.

    Attributes:
        name: its name.
        type: its arrow type, whatever the episodes are.
        meaning: what stands there.
        read: its value for an episode; None is null.
    """

    name: str
    type: pa.DataType
    meaning: str
    read: Callable[[EpisodeRecord], Any]

    def field(self) -> pa.Field:
        """Its field in the schema."""
        return pa.field(self.name, self.type, metadata={MEANING: self.meaning.encode()})


def _success(episode: EpisodeRecord) -> int | None:
    return None if episode.status == "error" else int(episode.status == "success")


def _seen(name: str, kind: pa.DataType, meaning: str, read: Callable[[Events], Any]) -> Column:
    """A column of what the simulator saw: null where it states no facts and where the episode broke."""
    return Column(name, kind, meaning, lambda e: None if e.events is None else read(e.events))


def _tag(tag: str) -> Column:
    """A column of a failure tag: 1 where an episode that did not succeed has it."""

    def read(episode: EpisodeRecord) -> int | None:
        return None if episode.events is None or episode.status == "error" else int(tag in tags_of(episode))

    name = tag.replace(" ", "_")
    return Column(name, pa.int8(), f"1 where it failed with the tag '{tag}', 0 where not (or success)", read)


COLUMNS: tuple[Column, ...] = (
    Column("variant", pa.string(), "id of the variant", lambda e: e.variant),
    Column("dimension", pa.string(), "what was changed, or Original", lambda e: e.dimension),
    Column("kind", pa.string(), "how, or clean", lambda e: e.kind),
    Column("strength", pa.int64(), "how much, 0 to 5", lambda e: e.strength),
    Column("task", pa.string(), "task", lambda e: e.task),
    Column("seed", pa.int64(), "episode seed", lambda e: e.seed),
    Column("instruction", pa.string(), "the words the policy was given", lambda e: e.instruction),
    Column("status", pa.string(), "success, failure, timeout or error", lambda e: e.status),
    Column("success", pa.int64(), "1 or 0, null where it ended in an error", _success),
    Column("ticks", pa.int64(), "control ticks executed", lambda e: e.ticks),
    Column("calls", pa.int64(), "model calls", lambda e: e.calls),
    Column("replans", pa.int64(), "model calls after the first", lambda e: max(e.calls - 1, 0)),
    Column("early_replans", pa.int64(), "calls asked for before their time", lambda e: e.early_calls),
    Column("clipped", pa.float64(), "share of action entries clipped to their limits", lambda e: e.clipped),
    _seen("phase", pa.string(), "the furthest: reach, contact, transport or success", lambda s: s.phase),
    _seen(
        "first_contact", pa.int64(), "tick of the first contact, null without one", lambda s: s.first_contact
    ),
    _seen("contacts", pa.int64(), "how often contact began", lambda s: s.contacts),
    _seen("contact_ticks", pa.int64(), "ticks in contact", lambda s: s.contact_ticks),
    _seen("moved_m", pa.float64(), "the furthest a task object was moved, metres", lambda s: s.moved_m),
    _seen("drift_m", pa.float64(), "how much further off the gripper ended, metres", lambda s: s.drift_m),
    *(_tag(tag) for tag in TAGS),
    Column("error", pa.string(), "traceback or message of an error", lambda e: e.error),
)


def write_records(path: Path, episodes: Sequence[EpisodeRecord]) -> None:
    """Write one row per episode, in their order, with :data:`COLUMNS`.

    The columns of contacts (``phase`` to the tags) are null where the simulator states no facts and where the episode
    ended in an error. See :mod:`wamkit.evaluation.report.failures` for phases and tags.
    """
    schema = pa.schema([column.field() for column in COLUMNS])
    values = {column.name: [column.read(episode) for episode in episodes] for column in COLUMNS}
    pq.write_table(pa.table(values, schema=schema), path)
