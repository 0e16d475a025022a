"""``python -m benchmarks.windows DATASET``: random windows per second, ours and lerobot's, timed in turn.

DATASET is a recording with large pictures, such as ``benchmarks/peers/lerobot_record.py`` writes. With the environment
variable ``WAMKIT_LEROBOT_PYTHON``, the Python of lerobot's environment (docs/interop_lerobot.md), its loader reads the
same files in a process of its own; a round of one is followed by a round of the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset
from wamkit.data.frame_cache import CacheLimit
from wamkit.views import ViewConfig

WINDOW = WindowSpec(horizon=16, future=(8,))
SIDE, ROUNDS, BATCH = 64, 5, 32
LEROBOT, STUB = "WAMKIT_LEROBOT_PYTHON", Path(__file__).parents[1] / "tests/data/lerobot_stub"

Timed = Callable[[int], float]  # number of windows -> seconds


def ours(dataset: Dataset) -> Timed:
    """Reader of random windows in batches."""
    rng = np.random.default_rng(0)

    def work(count: int) -> float:
        start = time.perf_counter()
        for _ in range(-(-count // BATCH)):
            dataset.windows(rng.integers(0, dataset.num_frames, BATCH), WINDOW)
        return (time.perf_counter() - start) * count / (BATCH * -(-count // BATCH))

    return work


def theirs(root: Path, python: str) -> Timed:
    """lerobot's loader in its own process."""
    script = Path(__file__).parent / "peers/lerobot_windows.py"
    path = os.pathsep.join((str(STUB), os.environ.get("PYTHONPATH", "")))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    process = subprocess.Popen(
        [python, str(script), str(root), str(SIDE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = process.stdout.readline()
    if said.strip() != "ready":
        raise SystemExit(f"lerobot's loader did not start: {said or process.wait()}")

    def work(count: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return work


def rates(readers: dict[str, tuple[Timed, int]]) -> dict[str, list[float]]:
    """Windows per second of every reader, ``ROUNDS`` times in turn, after a warm-up; the number is that of windows."""
    found: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(ROUNDS + 1):
        for name, (work, count) in readers.items():
            rate = count / work(count)
            if turn:
                found[name].append(rate)
    return found


def measure(root: Path) -> dict[str, Any]:
    """Windows per second from the video and from the cache, and over lerobot's where it is at hand."""
    view = ViewConfig(size=(SIDE, SIDE))
    with tempfile.TemporaryDirectory() as folder:
        cached = Dataset(root, view=view, cache=CacheLimit(50.0, Path(folder), from_pixels=1))
        assert cached.frames.cache is not None
        start = time.perf_counter()
        cached.frames.cache.wait()
        fill_s = time.perf_counter() - start
        readers = {
            "video": (ours(Dataset(root, view=view, image_memory_gb=1e-3)), 2 * BATCH),
            "cache": (ours(cached), 64 * BATCH),
        }
        python = os.environ.get(LEROBOT)
        if python:
            readers["lerobot"] = theirs(root, python), BATCH
        found = rates(readers)
        cached.frames.cache.close()
    medians = {name: statistics.median(values) for name, values in found.items()}
    over = {
        f"{name} over lerobot": medians[name] / medians["lerobot"] for name in ("video", "cache") if python
    }
    return {
        "frames": cached.num_frames,
        "fill_s": round(fill_s, 1),
        "windows_per_s": {name: [round(v, 1) for v in values] for name, values in found.items()},
        **{name: round(value, 2) for name, value in over.items()},
    }


def main() -> None:
    """Measure every dataset that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--publish", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = [measure(root) for root in chosen.datasets]
    Console().print(found)
    if chosen.publish:
        record = {"datasets": found, "machine": f"{os.cpu_count()} cores, one process each, one torch thread"}
        chosen.publish.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
