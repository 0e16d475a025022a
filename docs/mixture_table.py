"""Table of the page on mixtures, from the record that ``make mixture`` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def table(file: Path) -> str:
    """Successes of one model of both robots beside models of each."""
    if not file.exists():
        return "No record yet: run `make mixture`."
    record = json.loads(file.read_text())
    rows = record["rows"]
    robots = list(dict.fromkeys(name.split("/")[2] for name in rows))
    lines = ["| recipe | robot | trained on both | trained on it alone |", "|---|---|---|---|"]
    for recipe in dict.fromkeys(name.split("/")[0] for name in rows):
        for robot in robots:
            cells = (cell(rows.get(f"{recipe}/{model}/{robot}")) for model in ("both", robot))
            lines.append(f"| {recipe} | {robot} | {' | '.join(cells)} |")
    commits = sorted({row["commit"] for row in rows.values()})
    lines += [
        "",
        f"Successes with 95 % Wilson intervals. `{record['command']}` at commit `{'`, `'.join(commits)}`: "
        f"{record['setting']}; on {record['machine']}.",
    ]
    return "\n".join(lines)


def cell(row: dict[str, Any] | None) -> str:
    """Successes of one row."""
    if row is None:
        return "not run"
    low, high = row["wilson_95"]
    return f"{row['successes']} of {row['n']} [{low:.2f}, {high:.2f}]"
