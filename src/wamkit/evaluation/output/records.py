"""Table of episodes as a parquet file: perturbation, outcome, progress and failure tags, one row per episode.

:data:`RECORD_COLUMNS` documents every column; the same texts are stored as the columns' metadata in the file.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wamkit.evaluation.report.episode import EpisodeRecord, Events
from wamkit.evaluation.report.failures import TAGS, tags_of
from wamkit.storage import write_atomically

RECORDS_FILE = "report.variants.parquet"
MEANING = b"meaning"  # key of a column's text in its metadata


@dataclass(frozen=True)
class Column:
    """One column of the file.

    Attributes:
        name: name of the column.
        type: arrow type of the column, independent of the episodes.
        meaning: description of the values.
        read: function that reads the value from an episode; None is stored as null.
    """

    name: str
    type: pa.DataType
    meaning: str
    read: Callable[[EpisodeRecord], Any]

    def field(self) -> pa.Field:
        """Field of the column in the schema."""
        return pa.field(self.name, self.type, metadata={MEANING: self.meaning.encode()})


def _success(episode: EpisodeRecord) -> int | None:
    return None if episode.status == "error" else int(episode.status == "success")


def _event(name: str, kind: pa.DataType, meaning: str, read: Callable[[Events], Any]) -> Column:
    """Column of contact events: null if the simulator reports none or the episode ended in an error."""
    return Column(name, kind, meaning, lambda e: None if e.events is None else read(e.events))


def _tag(tag: str) -> Column:
    """Column of a failure tag: 1 if an episode that did not succeed has the tag."""

    def read(episode: EpisodeRecord) -> int | None:
        return None if episode.events is None or episode.status == "error" else int(tag in tags_of(episode))

    name = tag.replace(" ", "_")
    return Column(name, pa.int8(), f"1 if it failed with the tag '{tag}', else 0", read)


RECORD_COLUMNS: tuple[Column, ...] = (
    Column("variant", pa.string(), "id of the variant", lambda e: e.variant),
    Column("dimension", pa.string(), "dimension of the perturbation, or Original", lambda e: e.dimension),
    Column("kind", pa.string(), "kind of the perturbation, or clean", lambda e: e.kind),
    Column("strength", pa.int64(), "strength of the perturbation, 0 to 5", lambda e: e.strength),
    Column("task", pa.string(), "task", lambda e: e.task),
    Column("seed", pa.int64(), "episode seed", lambda e: e.seed),
    Column("instruction", pa.string(), "instruction that the policy was given", lambda e: e.instruction),
    Column("status", pa.string(), "success, failure, timeout or error", lambda e: e.status),
    Column("success", pa.int64(), "1 or 0; null if the episode ended in an error", _success),
    Column("ticks", pa.int64(), "ticks executed, at the rate of the policy", lambda e: e.ticks),
    Column("calls", pa.int64(), "model calls", lambda e: e.calls),
    Column("replans", pa.int64(), "model calls after the first", lambda e: max(e.calls - 1, 0)),
    Column("early_replans", pa.int64(), "model calls requested ahead of schedule", lambda e: e.early_calls),
    Column("clipped", pa.float64(), "share of action entries clipped to their limits", lambda e: e.clipped),
    _event("phase", pa.string(), "furthest phase: reach, contact, transport or success", lambda s: s.phase),
    _event(
        "first_contact", pa.int64(), "tick of the first contact, null without one", lambda s: s.first_contact
    ),
    _event("contacts", pa.int64(), "number of times that contact began", lambda s: s.contacts),
    _event("contact_ticks", pa.int64(), "ticks in contact", lambda s: s.contact_ticks),
    _event("moved_m", pa.float64(), "largest displacement of a task object, metres", lambda s: s.moved_m),
    _event(
        "drift_m",
        pa.float64(),
        "final minus smallest distance of gripper and object, metres",
        lambda s: s.drift_m,
    ),
    *(_tag(tag) for tag in TAGS),
    Column("error", pa.string(), "traceback or message of an error", lambda e: e.error),
)


def write_records(path: Path, episodes: Sequence[EpisodeRecord]) -> None:
    """Write one row per episode, atomically, in their order, with :data:`RECORD_COLUMNS`.

    The columns of contacts (``phase`` to the tags) are null if the simulator reports no contacts or the episode ended
    in an error. Phases and tags are defined in :mod:`wamkit.evaluation.report.failures`.
    """
    schema = pa.schema([column.field() for column in RECORD_COLUMNS])
    values = {column.name: [column.read(episode) for episode in episodes] for column in RECORD_COLUMNS}
    buffer = io.BytesIO()
    pq.write_table(pa.table(values, schema=schema), buffer)
    write_atomically(path, buffer.getvalue())
