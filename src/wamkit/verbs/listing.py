"""Parts for people: what ``wamkit list`` prints, without importing what it lists."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from wamkit.verbs.catalog import Entry
from wamkit.verbs.usage import plain_text


def show_entries(entries: list[Entry], console: Console) -> None:
    """Print one row per entry: what it is, what it needs, and where it lies."""
    table = Table("kind", "name", "what it is")
    for entry in entries:
        needs = "".join(f" {line.capitalize()}." for line in needs_of(entry))
        table.add_row(entry.kind, entry.name, Text(f"{plain_text(entry.summary)}{needs} ({entry.module})"))
    console.print(table)
    console.print(Text("fields of a part: wamkit list NAME, or wamkit list KIND NAME"))


def show_part(entry: Entry, console: Console) -> None:
    """Print what a part is, what it needs, where it is defined, and its fields."""
    console.print(Text(f"{entry.kind} {entry.name}", style="bold"), Text(f"({entry.module})"))
    console.print(Text(plain_text(entry.description)))
    for line in needs_of(entry):
        console.print(Text(line))
    if entry.source:
        console.print(Text(f"source: {plain_text(' '.join(entry.source.split()))}"))
    if entry.kind == "recipe":
        console.print(Text(f"its parts and streams: wamkit inspect {entry.name}"))
        return
    table = Table("field", "type", "default", "meaning")
    for option in entry.fields:
        cells = (option.name, option.type, option.default, plain_text(option.text))
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table if entry.fields else "no fields")


def needs_of(entry: Entry) -> list[str]:
    """Extras of a dataset and pip extras that a part needs, a line each."""
    lines = (
        [f"reads the extras {', '.join(plain_text(name) for name in entry.extras)}"] if entry.extras else []
    )
    return lines + [f"needs pip install 'wamkit[{','.join(entry.packages)}]'"] * bool(entry.packages)
