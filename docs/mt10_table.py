"""Table of MT10, from the record that ``make mt10`` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wamkit.evaluation.report.statistics import wilson


def table(file: Path) -> str:
    """Successes per task and recipe, pooled over training seeds."""
    if not file.exists():
        return "No record yet: run `make mt10`."
    record = json.loads(file.read_text())
    recipes: dict[str, list[Mapping[str, Any]]] = {}
    for name, run in record["runs"].items():
        recipes.setdefault(name.split("/")[0], []).append(run)
    lines = [f"| task | {' | '.join(recipes)} |", "|---|" + "---|" * len(recipes)]
    for task in record["tasks"]:
        cells = (pooled([run["tasks"][task] for run in runs]) for runs in recipes.values())
        lines.append(f"| {task} | {' | '.join(cells)} |")
    means = (", ".join(mean(run) for run in runs) for runs in recipes.values())
    lines.append(f"| mean over tasks, per training seed | {' | '.join(means)} |")
    commits = sorted({run["commit"] for runs in recipes.values() for run in runs})
    lines += [
        "",
        f"Successes with 95 % Wilson intervals. `{record['command']}` at commit `{'`, `'.join(commits)}`: "
        f"{record['setting']}; on {record['machine']}.",
    ]
    return "\n".join(lines)


def pooled(scores: Sequence[Mapping[str, int]]) -> str:
    """Successes of all seeds together."""
    successes, n = (sum(score[key] for score in scores) for key in ("successes", "n"))
    low, high = wilson(successes, n)
    return f"{successes} of {n} [{low:.2f}, {high:.2f}]"


def mean(run: Mapping[str, Any]) -> str:
    """Mean over tasks of one training."""
    rate = run["mean_over_tasks"]
    return f"{rate['rate']:.0%} [{rate['low']:.2f}, {rate['high']:.2f}]"
