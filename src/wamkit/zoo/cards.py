"""Card of a system: its formula, its tuple beside the census cell, its blocks, and what the recipe simplifies."""

from __future__ import annotations

from collections.abc import Mapping

from wamkit.zoo.registry import systems
from wamkit.zoo.rows import CELLS, Row, blocks
from wamkit.zoo.states import Standing, around, recorded, standing


def source(row: Row) -> str:
    """Where the system was published."""
    link = f"https://arxiv.org/abs/{row.arxiv}" if row.arxiv else "no arXiv number in the survey"
    return f"{link} ({row.date})" if row.date else link


def compared(place: Standing, departs: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Cells of the tuple: name, computed, census, and why the two differ (empty where they do not)."""
    found = []
    for cell in CELLS:
        here, there = place.cells.get(cell, ""), place.row.cells.get(cell, "")
        differs = bool(here and there and here != there)
        found.append((cell, here, there, departs.get(cell, "no reason given") if differs else ""))
    return found


def card(row: Row) -> dict[str, str]:
    """Entries of the card, title -> text; empty entries are left out."""
    found = systems().get(row.name)
    place = standing(row, found)
    record = recorded().get(row.name, {}) if place.cells else {}
    known = blocks()
    cells = [
        f"{cell}: {here or '-'} | census: {there or '-'}{'. ' + why if why else ''}"
        for cell, here, there, why in compared(place, found.departs if found else {})
    ]
    entries = {
        "system": f"{row.name} ({row.kind})",
        "state": place.state,
        "recipe": place.recipe,
        "formula": str(record.get("formula", "")),
        "kind": str(record.get("kind", "")),
        "tuple": "\n".join(cells) if row.cells or place.cells else "",
        "mechanism": row.mechanism,
        "here": found.summary if found else "",
        "distinct blocks": ", ".join(found.distinct) if found else "",
        "blocks": "\n".join(f"{name}: {known[name].title}" if name in known else name for name in row.blocks),
        "simplified": found.simplified if found else "",
        "our choices": found.choices if found else "",
        "missing": "\n".join(place.missing),
        "around it, not here": ", ".join(around(row, found)) if found else "",
        "checks": "\n".join(f"{name}: {said}" for name, said in place.checks.items()),
        "published numbers": row.numbers,
        "notes": row.notes,
        "source": source(row),
    }
    return {title: text for title, text in entries.items() if text}
