"""State of every row of the census, computed from recorded results of the checks of its recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from wamkit.config import said
from wamkit.design.config import DesignConfig
from wamkit.storage.fingerprint import digest
from wamkit.zoo.registry import systems
from wamkit.zoo.rows import FIELD, Row, blocks, rows
from wamkit.zoo.system import PREFIX, System

State = Literal["works", "partly", "open"]
STATES: tuple[State, ...] = ("works", "partly", "open")
PASSED = "passed"
# What a row needs that is no policy and no world model, where all blocks of it exist.
WANTING = {
    "dataset": "a recording of it that was read",
    "benchmark": "an adapter of it that was run",
    "simulator": "an adapter of it that was run",
    "foundation-model": "its weights, read and compared",
    "metric": "a named measure with its oracle",
}


@dataclass(frozen=True)
class Standing:
    """Where a row stands.

    Attributes:
        row: the row.
        state: ``works`` when every check of its recipe passed and no block is left out; ``partly`` when the recipe
            exists and a check failed or a block is left out; ``open`` without a recipe that was checked as it is now.
        recipe: name for ``--recipe``; empty without one.
        cells: computed cells of the recipe; empty where no check has run.
        missing: what is missing, as text.
        checks: check -> ``passed`` or what went wrong.
    """

    row: Row
    state: State
    recipe: str
    cells: Mapping[str, str]
    missing: tuple[str, ...]
    checks: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """Values of ``wamkit zoo --json``."""
        return {
            "name": self.row.name,
            "kind": self.row.kind,
            "state": self.state,
            "recipe": self.recipe,
            "tuple": dict(self.cells),
            "census": dict(self.row.cells),
            "missing": list(self.missing),
        }


def fingerprint(config: DesignConfig) -> str:
    """Digest of what a config says beyond the defaults, by which a recorded result knows its recipe."""
    return digest(json.dumps(said(config), sort_keys=True).encode())


@cache
def recorded() -> Mapping[str, Mapping[str, Any]]:
    """Recorded results: system -> ``config`` (digest), ``tuple``, ``formula``, ``kind``, ``paths`` and ``checks``."""
    path = FIELD / "results.json"
    if not path.is_file():
        return {}
    found: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["systems"]
    return found


def wanting(row: Row) -> tuple[str, ...]:
    """What a row without a recipe needs: its blocks that do not exist, or else what its kind needs."""
    known = blocks()
    absent = tuple(name for name in row.blocks if name in known and known[name].state != "there")
    return absent or (WANTING.get(row.kind, "a recipe"),)


# Groups of blocks that stand around a recipe: where its data come from, and how it is measured.
AROUND = ("da.", "ev.")


def lacking(row: Row, found: System) -> tuple[str, ...]:
    """Blocks of a row that its recipe lacks: those that it says, and those that do not exist here."""
    known = blocks()
    absent = {name for name in row.blocks if name in known and known[name].state == "absent"}
    return (*found.missing, *sorted(absent - set(found.distinct) - set(found.missing)))


def left_out(row: Row, found: System) -> tuple[str, ...]:
    """Blocks of its mechanism that a recipe leaves out. Those that stand around a recipe are none of them."""
    return tuple(name for name in lacking(row, found) if not name.startswith(AROUND))


def around(row: Row, found: System) -> tuple[str, ...]:
    """Blocks of data pipelines and of evaluation that the row has and the library does not."""
    return tuple(name for name in lacking(row, found) if name.startswith(AROUND))


def standing(row: Row, found: System | None) -> Standing:
    """Where ``row`` stands, with its recipe ``found`` or None."""
    if found is None:
        return Standing(row, "open", "", {}, wanting(row), {})
    record = recorded().get(row.name)
    if record is None or record["config"] != fingerprint(found.make()):
        return Standing(row, "open", PREFIX + row.name, {}, ("a check of the recipe as it is now",), {})
    checks: Mapping[str, str] = record["checks"]
    failed = tuple(f"{name}: {said}" for name, said in checks.items() if said != PASSED)
    missing = (*left_out(row, found), *failed)
    state: State = "partly" if missing else "works"
    return Standing(row, state, PREFIX + row.name, record["tuple"], missing, checks)


@cache
def standings() -> Mapping[str, Standing]:
    """Where all rows stand, name -> standing, in the order of the census."""
    have = systems()
    return {name: standing(row, have.get(name)) for name, row in rows().items()}
