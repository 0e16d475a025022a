"""Tables of what helps on hard tasks, from the records of ``make quality`` and ``make foresight``."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy.stats import t

from wamkit.evaluation.report.statistics import wilson

Row = Mapping[str, Any]


def regions(results: Path) -> dict[str, Callable[[], str]]:
    """Region of a page -> its table."""
    return {
        "exploration": lambda: exploration(results / "quality_exploration.json"),
        "quality": lambda: changes(results / "quality.json"),
        "foresight on hard tasks": lambda: foresight(results / "foresight.json"),
    }


def changes(file: Path) -> str:
    """One line per change: successes, and the difference from the default over training seeds."""
    if not file.exists():
        return "No record yet: run `make quality`."
    record = json.loads(file.read_text())
    runs = by_cell(record["runs"])
    lines = ["| change | steps | successes | points from the default |", "|---|---|---|---|"]
    for name, rows in runs.items():
        steps = "/".join(str(n) for n in sorted({row["steps"] for row in rows.values()}))
        gap = "" if name == "default" else difference(rows, runs.get("default", {}))
        lines.append(f"| {name} | {steps} | {pooled(rows.values())} | {gap} |")
    return "\n".join([*lines, "", source(record)])


def foresight(file: Path) -> str:
    """One line per number of demonstrations: three policies, and differences over training seeds."""
    if not file.exists():
        return "No record yet: run `make foresight`."
    record = json.loads(file.read_text())
    runs = by_cell(record["runs"])
    names = ("direct", "joint", "joint without loss")
    lines = [
        f"| demonstrations per task | {' | '.join(names)} | joint - direct | joint - joint without loss |",
        "|---|" + "---|" * 5,
    ]
    for count in record["demonstrations"]:
        cells = [runs.get(f"{name}/{count}", {}) for name in names]
        gaps = [difference(cells[1], cells[0]), difference(cells[1], cells[2])]
        lines.append(f"| {count} | {' | '.join([*(pooled(c.values()) for c in cells), *gaps])} |")
    return "\n".join([*lines, "", source(record)])


def by_cell(runs: Mapping[str, Row]) -> dict[str, dict[str, Row]]:
    """Cell -> training seed -> row, from rows called ``CELL/SEED``."""
    cells: dict[str, dict[str, Row]] = {}
    for key, row in runs.items():
        cell, _, seed = key.rpartition("/")
        cells.setdefault(cell, {})[seed] = row
    return cells


def pooled(rows: Sequence[Row]) -> str:
    """Successes of all tasks and training seeds together."""
    scores = [score for row in rows for score in row["tasks"].values()]
    if not scores:
        return ""
    successes, n = (sum(score[key] for score in scores) for key in ("successes", "n"))
    low, high = wilson(successes, n)
    return f"{successes} of {n} [{low:.2f}, {high:.2f}]"


def difference(rows: Mapping[str, Row], others: Mapping[str, Row]) -> str:
    """Mean difference in points of equal training seeds, with Student's 95 % interval over them from two on."""
    gaps = [
        100 * (rows[seed]["mean_over_tasks"]["rate"] - others[seed]["mean_over_tasks"]["rate"])
        for seed in rows
        if seed in others
    ]
    if not gaps:
        return ""
    mean = statistics.fmean(gaps)
    if len(gaps) < 2:
        return f"{mean:+.0f} (one seed)"
    half = t.ppf(0.975, len(gaps) - 1) * statistics.stdev(gaps) / math.sqrt(len(gaps))
    return f"{mean:+.0f} [{mean - half:+.0f}, {mean + half:+.0f}]"


def source(record: Row) -> str:
    """Where the figures come from."""
    commits = sorted({row["commit"] for row in record["runs"].values()})
    return (
        f"Successes with 95 % Wilson intervals, which do not count how trainings differ; differences with Student's "
        f"interval over training seeds. `{record['command']}` at commit `{'`, `'.join(commits)}`: "
        f"{record['setting']}; tasks {', '.join(record['tasks'])}; on {record['machine']}."
    )


def exploration(file: Path) -> str:
    """What was tried before the default changed: losses on held-out demonstrations, and successes."""
    record = json.loads(file.read_text())
    lines = [
        "| change | held-out loss at 750 / 1500 steps | training loss | processor time per step |",
        "|---|---|---|---|",
    ]
    for row in record["held_out"]:
        early, late = row["held_out"]
        cost = "" if row["cpu_ms_per_step"] is None else f"{row['cpu_ms_per_step']} ms"
        lines.append(f"| {row['change']} | {early:.3f} / {late:.3f} | {row['training']:.3f} | {cost} |")
    lines += ["", f"{record['held_out_setting']}.", "", "| run | successes | by task |", "|---|---|---|"]
    for row in record["closed_loop"]:
        low, high = wilson(row["successes"], row["n"])
        tasks = ", ".join(f"{task} {count}" for task, count in row["tasks"].items())
        lines.append(f"| {row['run']} | {row['successes']} of {row['n']} [{low:.2f}, {high:.2f}] | {tasks} |")
    return "\n".join(
        [*lines, "", f"{record['closed_loop_setting']}. {record['setting']}; on {record['machine']}."]
    )
