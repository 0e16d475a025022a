"""Tables of where precision is lost, from the record that ``examples/precision.py`` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PHASES = ("reach", "contact", "transport")
Row = Mapping[str, Any]


def table(file: Path) -> str:
    """Probes, open loop, closed loop, help by the expert and failures of every task."""
    if not file.exists():
        return "No record yet: run `python examples/precision.py`."
    record = json.loads(file.read_text())
    tasks: Mapping[str, Row] = record["tasks"]
    lines: list[str] = []
    for title, rows in {
        "What probes still read from the context: median / 90th percentile of the error, mm": probes(tasks),
        "Open loop, on unseen demonstrations: mm, median / 90th percentile": open_loop(tasks),
        "Closed loop, beside the expert in the same states: mm, median / 90th percentile": closed_loop(tasks),
        "Successes when the expert does part of the work": arms(tasks),
        "Failures of the policy alone": failures(tasks),
    }.items():
        lines += [f"**{title}**", "", *rows, ""] if len(rows) > 2 else []
    lines += films(tasks, file)
    commits = sorted({row["commit"] for row in tasks.values()})
    lines.append(
        f"`{record['command']}` at commit `{'`, `'.join(commits)}`, design `{record['design']['name']}`: "
        f"{record['setting']}; on {record['machine']}."
    )
    return "\n".join(lines)


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def pair(found: Mapping[str, Any] | None) -> str:
    """Median and 90th percentile, or nothing."""
    return "" if not found or found["p50"] is None else f"{found['p50']:.1f} / {found['p90']:.1f}"


def told(row: Row) -> Mapping[str, Row]:
    """Features -> probe -> errors, of what the encoders tell and of what they could."""
    return {**row.get("probes", {}), **row.get("ceiling", {})}


def probes(tasks: Mapping[str, Row]) -> list[str]:
    """One row per task, features and probe; one column per target."""
    fits = [fit for row in tasks.values() for kinds in told(row).values() for fit in kinds.values()]
    targets = list(dict.fromkeys(target for fit in fits for target in fit))
    rows = [
        [task, features, kind, *(pair(fit[t]["all"]) if t in fit else "does not vary" for t in targets)]
        for task, row in tasks.items()
        for features, kinds in told(row).items()
        for kind, fit in kinds.items()
    ]
    return grid(["task", "read from", "probe", *targets], rows)


def open_loop(tasks: Mapping[str, Row]) -> list[str]:
    """One row per task and phase at the first action of a chunk."""
    measures = (
        "first action, mm",
        "last executed action, mm",
        "accumulated, mm",
        "accumulated by the mean action, mm",
        "demonstrated way, mm",
    )
    wrong = "gripper wrong, share of ticks"
    rows = [
        [task, phase, *(pair(row["open_loop"][m].get(phase)) for m in measures),
         f"{100 * row['open_loop'][wrong][phase]:.0f} %"]
        for task, row in tasks.items()
        if "open_loop" in row
        for phase in ("all", *PHASES)
        if phase in row["open_loop"][wrong]
    ]  # fmt: skip
    return grid(["task", "phase", *(m.removesuffix(", mm") for m in measures), "gripper wrong"], rows)


def closed_loop(tasks: Mapping[str, Row]) -> list[str]:
    """One row per task, outcome and phase, then one per span of ticks."""
    rows = []
    for task, row in tasks.items():
        for outcome, found in row["closed_loop"]["by outcome"].items():
            measures = ("gap at a call, mm", "gap, mm", "to the nearest demonstration, mm")
            rows += [
                [task, outcome, phase, *(pair(found[m].get(phase)) for m in measures), str(gap["n"])]
                for phase, gap in found["gap, mm"].items()
            ]
            for span in [s for s in found["gap over time, mm"] if s != "all"]:
                over = "to the nearest demonstration over time, mm"
                gap = found["gap over time, mm"][span]
                rows.append(
                    [task, outcome, f"ticks {span}", "", pair(gap), pair(found[over][span]), str(gap["n"])]
                )
        known = row["closed_loop"]["unseen demonstrations"]
        rows.append([task, "unseen demonstrations", "all", "", "", pair(known), str(known["n"])])
    head = ["task", "outcome", "when", "gap at a call", "gap", "to the nearest demonstration", "ticks"]
    return grid(head, rows)


def arms(tasks: Mapping[str, Row]) -> list[str]:
    """One row per task, one column per arm."""
    names = list(dict.fromkeys(arm for row in tasks.values() for arm in row["arms"]))
    rows = [[task, *(rate(row["arms"].get(name)) for name in names)] for task, row in tasks.items()]
    return grid(["task", *names], rows)


def rate(found: Mapping[str, Any] | None) -> str:
    """Successes of n with their Wilson interval."""
    if found is None:
        return "not run"
    low, high = found["wilson_95"]
    errors = f", {found['errors']} errors" if found["errors"] else ""
    return f"{found['successes']} of {found['n']} [{low:.2f}, {high:.2f}]{errors}"


def failures(tasks: Mapping[str, Row]) -> list[str]:
    """Phases, tags and closest approach of episodes of the policy alone, task by task."""
    rows = []
    for task, row in tasks.items():
        alone = row["arms"]["policy alone"]
        near = alone["closest of failed, mm"]
        rows.append(
            [task, counts(alone["phases"]), counts(alone["tags"]), *(pair(near[name]) for name in near)]
        )
    head = ["task", "phase reached", "tags of failures", "failed: closest hand to object, mm",
            "failed: closest object to goal, mm"]  # fmt: skip
    return grid(head, rows)


def counts(found: Mapping[str, int]) -> str:
    """Names with how often they occur."""
    return ", ".join(f"{name} {count}" for name, count in found.items())


def films(tasks: Mapping[str, Row], file: Path) -> list[str]:
    """A strip of a failed episode of every task that has one."""
    found = []
    for task, row in tasks.items():
        picture = Path("img") / f"{file.stem}-{task}.png"
        film = row["closed_loop"]["film"]
        if film is not None and (file.parent.parent / picture).is_file():
            ticks = film["ticks"]
            found += [
                f"A failed episode of {task}, {ticks} ticks:",
                "",
                f"![{task}]({picture.as_posix()})",
                "",
            ]
    return found
