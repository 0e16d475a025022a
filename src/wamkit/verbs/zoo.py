"""The systems of the field: what ``wamkit zoo`` lists and shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo.cards import card
from wamkit.zoo.rows import row, rows
from wamkit.zoo.states import STATES, Standing, standings


def zoo(kind: str | None = None, state: str | None = None) -> list[Standing]:
    """Where the systems of the field stand, in the order of the census.

    Args:
        kind: only rows of this kind, such as ``wam``; None for all.
        state: only rows in this state; None for all.

    Raises:
        ConfigError: no such kind or state.
    """
    kinds = {r.kind for r in rows().values()}
    for label, value, known in (("kind", kind, kinds), ("state", state, set(STATES))):
        if value is not None and value not in known:
            raise ConfigError(f"zoo: no {label} {value!r}. {did_you_mean(value, known)}")
    return [s for s in standings().values() if kind in (None, s.row.kind) and state in (None, s.state)]


def show(name: str) -> dict[str, str]:
    """Card of one system, title -> text; raises :class:`ConfigError` for an unknown name."""
    return card(row(name.removeprefix("zoo:")))


def counts(found: Sequence[Standing]) -> list[tuple[str, dict[str, int]]]:
    """Number of rows in each state, by kind in the order of the census, then of all."""
    kinds = list(dict.fromkeys(s.row.kind for s in found))
    tallies = [(kind, Counter(s.state for s in found if s.row.kind == kind)) for kind in kinds]
    tallies.append(("all", Counter(s.state for s in found)))
    return [(kind, {state: tally[state] for state in STATES}) for kind, tally in tallies]
