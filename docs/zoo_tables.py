"""Tables of the zoo's page: states, cells that differ from the census, what is missing, and the benchmark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from wamkit.verbs.zoo import counts
from wamkit.zoo.cards import compared
from wamkit.zoo.registry import systems
from wamkit.zoo.states import STATES, standings

# Kinds of the first wave: policies and models of the world.
FIRST_WAVE = ("wam", "vla", "jepa", "wfm", "video-model", "world-model-rl")


def states() -> str:
    """Number of rows in each state, by kind."""
    rows = ["| kind | " + " | ".join(STATES) + " |", "|---|" + "---|" * len(STATES)]
    rows += [
        f"| {kind} | " + " | ".join(str(tally[state]) for state in STATES) + " |"
        for kind, tally in counts(list(standings().values()))
    ]
    return "\n".join(rows)


def departs() -> str:
    """Cells whose words differ from the census, with the reason."""
    rows = ["| system | cell | here | census | reason |", "|---|---|---|---|---|"]
    for name, found in systems().items():
        for cell, here, there, why in compared(standings()[name], found.departs):
            if why:
                rows.append(f"| {name} | {cell} | {here} | {there} | {why} |")
    return "\n".join(rows)


def missing() -> str:
    """Rows of the first wave that do not work yet."""
    rows = ["| system | kind | state | missing |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {one.row.kind} | {one.state} | {'; '.join(one.missing)} |".replace("*", "\\*")
        for name, one in standings().items()
        if one.row.kind in FIRST_WAVE and one.state != "works"
    ]
    return "\n".join(rows)


def table(file: Path) -> str:
    """Systems on the embedded benchmark, from the record that ``make zoo-table`` wrote."""
    if not file.exists():
        return "No record yet: run `make zoo-table`."
    run: dict[str, Any] = json.loads(file.read_text())
    tasks = list(next(iter(run["systems"].values()))["tasks"])
    rows = [
        "| system | factorisation | "
        + " | ".join(tasks)
        + " | mean [95 %] | steps | call p50 / p95, ms | evaluations "
        "per call | parameters | peak memory, MB |",
        "|---|---|" + "---|" * (len(tasks) + 6),
    ]
    for name, row in run["systems"].items():
        mean, latency = row["mean_over_tasks"], row["latency_ms"]
        cells = [
            name,
            "`" + row["formula"].replace("|", "\\|") + "`",
            *(f"{s['successes']} of {s['n']}" for s in row["tasks"].values()),
            f"{mean['rate']:.2f} [{mean['low']:.2f}, {mean['high']:.2f}]",
            str(row["steps"]),
            f"{latency['p50']:.1f} / {latency['p95']:.1f}",
            ", ".join(f"{stream} {count:g}" for stream, count in row["nfe"].items()),
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['peak_mem_mb']['process']:.0f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    commits = sorted({row["commit"] for row in run["systems"].values()})
    rows += [
        "",
        f"`{run['command']}` at commit `{'`, `'.join(commits)}`: {run['setting']}; on {run['machine']}. "
        f"{len(run['systems'])} systems so far.",
    ]
    return "\n".join(rows)
