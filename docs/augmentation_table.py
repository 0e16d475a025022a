"""Table of the page on augmentation, from the record that ``make augmentation`` wrote."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from scipy import stats

from wamkit.augmentations import PRESETS
from wamkit.config import encode
from wamkit.envs.perturbations import DIMENSIONS
from wamkit.evaluation.report.statistics import wilson

ARMS = ("plain", "standard")
USUAL = (("cameras", []), ("probability", 1.0))  # of a list of operations, what need not be said


def presets() -> str:
    """Operations of every preset, as a file would list them."""
    parts = []
    for name, operations in PRESETS.items():
        parts += [f"`--augment {name}` is", "", "```yaml", "augment:"]
        for operation in operations:
            plain = {key: value for key, value in encode(operation).items() if (key, value) not in USUAL}
            line = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=200)
            parts.append(f"  - {line.strip()}")
        parts += ["```"]
    return "\n".join(parts)


def table(file: Path) -> str:
    """One table per recipe: both arms, pooled over training seeds, and the difference over the seeds they share."""
    if not file.exists():
        return "No record yet: run `make augmentation`."
    record = json.loads(file.read_text())
    parts: list[str] = []
    for recipe in dict.fromkeys(name.split("/")[0] for name in record["runs"]):
        arms = {arm: of_arm(record["runs"], recipe, arm) for arm in ARMS}
        seeds = [seed for seed in arms["plain"] if seed in arms["standard"]]
        if not seeds:
            continue
        parts += [
            f"**{recipe}**, training seeds {', '.join(seeds)}",
            "",
            "| | plain | standard | difference, points |",
            "|---|---|---|---|",
        ]
        for title in ("Original", *DIMENSIONS, "all variants pooled"):
            counts = {arm: [count(arms[arm][seed], title) for seed in seeds] for arm in ARMS}
            cells = [title, *(pooled(counts[arm]) for arm in ARMS), difference(*counts.values())]
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    commits = sorted({run["commit"] for run in record["runs"].values()})
    parts.append(
        f"`{record['command']}` at commit `{'`, `'.join(commits)}`: {record['setting']}; on {record['machine']}."
    )
    return "\n".join(parts)


def of_arm(runs: Mapping[str, Any], recipe: str, arm: str) -> dict[str, Any]:
    """Rows of one recipe and arm by training seed."""
    return {name.split("/")[2]: run for name, run in runs.items() if name.startswith(f"{recipe}/{arm}/")}


def count(run: Mapping[str, Any], title: str) -> tuple[int, int]:
    """Successes and episodes of a row of the table in one run."""
    chosen = {"Original": [run["clean"]], "all variants pooled": list(run["dimensions"].values())}
    scores = chosen.get(title) or [run["dimensions"][title]]
    return sum(s["successes"] for s in scores), sum(s["n"] for s in scores)


def pooled(counts: Sequence[tuple[int, int]]) -> str:
    """Rate over all seeds with its Wilson interval, and the rate of every seed."""
    successes, n = (sum(column) for column in zip(*counts, strict=True))
    low, high = wilson(successes, n)
    each = ", ".join(f"{100 * s / m:.0f}" for s, m in counts)
    return f"{100 * successes / n:.0f} % [{100 * low:.0f}, {100 * high:.0f}], n = {n} (seeds: {each})"


def difference(plain: Sequence[tuple[int, int]], changed: Sequence[tuple[int, int]]) -> str:
    """Mean over training seeds of the difference in points, with the 95 % interval of Student's t over the seeds."""
    points = [100 * (c[0] / c[1] - p[0] / p[1]) for p, c in zip(plain, changed, strict=True)]
    mean = statistics.mean(points)
    if len(points) < 2:
        return f"{mean:+.0f} (one seed)"
    reach = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    return f"{mean:+.0f} [{mean - reach:+.0f}, {mean + reach:+.0f}]"
