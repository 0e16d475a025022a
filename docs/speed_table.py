"""Tables of the page on data: what reading costs, from the records of the benchmarks."""

from __future__ import annotations

import json
import statistics
from pathlib import Path


def table(windows: Path, first: Path) -> str:
    """Windows per second, and how soon a training on large pictures runs."""
    if not (windows.exists() and first.exists()):
        return "No record yet: run the two benchmarks."
    read, begun = json.loads(windows.read_text()), json.loads(first.read_text())
    lines = [
        "| frames | from the video | from the cache | lerobot's loader | video over lerobot | cache over lerobot |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for row in read["datasets"]:
        rates = {name: statistics.median(values) for name, values in row["windows_per_s"].items()}
        cells = [
            f"{rates[name]:,.0f}" if name in rates else "not run" for name in ("video", "cache", "lerobot")
        ]
        cells += [
            f"{row[key]:,.1f}" if key in row else "not run"
            for key in ("video over lerobot", "cache over lerobot")
        ]
        lines.append(f"| {row['frames']:,} | {' | '.join(cells)} |")
    pairs = begun["steps_per_s"]
    lines += [
        "",
        f"Medians of {len(read['datasets'][0]['windows_per_s']['video'])} rounds, the loaders timed in turn; on "
        f"{read['machine']}.",
        "",
        "| default `wamkit train --recipe joint` on 50 episodes of 300 frames by two cameras of 480 x 640 | |",
        "|---|---|",
        f"| first word (one run) | {begun['first_word_s']:g} s |",
        f"| first step of the optimiser, the cache being empty (one run) | {begun['first_step_s']:g} s |",
        f"| peak memory until then | {begun['peak_gb']:g} GB |",
        f"| steps per second over those on the embedded 64-pixel data, the cache being full (median of {len(pairs)} "
        f"rounds in turn) | {begun['ratio']:.2f} |",
    ]
    return "\n".join(lines)
