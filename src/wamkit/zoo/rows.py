"""Rows of the field's census: every system by name, its cells in the survey's words, and the blocks it is made of."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from wamkit.errors import ConfigError, did_you_mean

FIELD = files("wamkit.zoo") / "field"
CELLS = ("substrate", "coupling", "backbone", "deployment")


@dataclass(frozen=True)
class Row:
    """One row of the census.

    Attributes:
        name: name of the system.
        kind: kind of the row, such as ``wam``, ``vla`` or ``dataset``.
        arxiv: number of the paper on arXiv; empty where there is none.
        date: year, or year and month.
        philosophy: group of a world action model, such as ``render-and-decode``.
        cells: the survey's tuple of the system, cell -> words; empty for rows outside the survey's tables.
        mechanism: what it does, in one sentence.
        numbers: published numbers.
        notes: where the sources disagree or are silent.
        blocks: building blocks that it is made of.
    """

    name: str
    kind: str
    arxiv: str
    date: str
    philosophy: str
    cells: Mapping[str, str]
    mechanism: str
    numbers: str
    notes: str
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """One building block of the field.

    Attributes:
        id: name of the block.
        title: what it is.
        state: ``there``, ``part`` (a part of it exists) or ``absent``.
    """

    id: str
    title: str
    state: str


def _read(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((FIELD / name).read_text(encoding="utf-8").splitlines()))


@cache
def rows() -> Mapping[str, Row]:
    """All rows, name -> row, in the order of the census."""
    found = {}
    for line in _read("systems.csv"):
        cells = {cell: line.pop(cell) for cell in CELLS}
        blocks = tuple(line.pop("blocks").split(";"))
        found[line["name"]] = Row(cells=cells if cells["coupling"] else {}, blocks=blocks, **line)
    return found


@cache
def blocks() -> Mapping[str, Block]:
    """All building blocks, id -> block."""
    return {line["id"]: Block(**line) for line in _read("blocks.csv")}


def plain(name: str) -> str:
    """Name as it is typed: lower case, Latin letters and digits, words joined by hyphens (``π0.7`` is ``pi0.7``)."""
    spelled = name.replace("π", "pi").replace("τ", "tau").replace("&", "-")
    spelled = unicodedata.normalize("NFKD", spelled).encode("ascii", "ignore").decode().lower()
    kept = "".join(c if c.isalnum() or c in ".*" else "-" for c in spelled)
    return "-".join(part for part in kept.split("-") if part)


def row(name: str) -> Row:
    """Row of a system by its name, as written in the census or as :func:`plain` spells it.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    found = rows().get(name) or {plain(key): value for key, value in rows().items()}.get(plain(name))
    if found is None:
        raise ConfigError(f"zoo: no system {name!r}. {did_you_mean(name, rows())}")
    return found
