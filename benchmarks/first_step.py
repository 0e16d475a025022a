"""``python -m benchmarks.first_step DATASET EMBEDDED``: how soon a training on large pictures runs, and how fast.

DATASET is a recording with large pictures (``benchmarks/peers/lerobot_record.py``); EMBEDDED is one of ``wamkit
collect`` at 64 pixels. The default ``wamkit train --recipe joint`` is started on DATASET with an empty cache, watched
until its first step, and stopped. Then both datasets are trained on in turn, the cache being full, and the ratio of
their steps per second is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from wamkit.api import TrainConfig, recipe
from wamkit.contract.types import to_device
from wamkit.data import Dataset
from wamkit.data.frame_cache import FOLDER
from wamkit.training.loop import batches_of
from wamkit.training.start import TrainingRun, start

STEPS, ROUNDS, LOOK_S = 30, 5, 0.05


def begun(dataset: Path, folder: Path) -> dict[str, float]:
    """Seconds until a training says something and until its first step, and its peak memory in GB until then."""
    log = folder / "run/log.jsonl"
    command = [sys.executable, "-m", "wamkit.cli", "train", "--recipe", "joint", "--dataset", str(dataset)]
    command += ["--out", str(folder / "run"), "--log_every", "1"]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    said: list[float] = []

    def listen() -> None:
        assert process.stderr is not None
        said.extend(time.perf_counter() - begin for _ in iter(process.stderr.readline, b""))

    threading.Thread(target=listen, daemon=True).start()
    peak = 0.0
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        peak = max(peak, resident_gb(process.pid))
        time.sleep(LOOK_S)
    first = time.perf_counter() - begin
    process.send_signal(signal.SIGTERM)
    process.wait()
    return {"first_word_s": round(said[0], 1), "first_step_s": round(first, 1), "peak_gb": round(peak, 2)}


def resident_gb(pid: int) -> float:
    """Resident memory of a process, GB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e6 for line in text.splitlines() if line.startswith("VmRSS")), 0.0)


def training(dataset: Path, out: Path) -> tuple[TrainingRun, TrainConfig]:
    """A training with all frames decoded."""
    config = TrainConfig(dataset=dataset, out=out, design=recipe("joint"), steps=10**6)
    run = start(config)
    assert isinstance(run.dataset, Dataset)
    frames = run.dataset.frames
    if frames.cache is not None:
        frames.cache.wait()
    return run, config


def rate(run: TrainingRun, config: TrainConfig) -> float:
    """Steps per second, reading of windows included."""
    with batches_of(run, config) as batches:
        batch = next(batches)
        begin = time.perf_counter()
        for _ in range(STEPS):
            losses = run.loss(to_device(batch, "cpu"), {})
            run.optimizer.zero_grad()
            losses.total.backward()
            run.optimizer.step()
            batch = next(batches)
        return STEPS / (time.perf_counter() - begin)


def main() -> None:
    """Measure, print and, where asked, keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("embedded", type=Path)
    parser.add_argument("--publish", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[FOLDER] = str(folder / "cache")
        found: dict[str, Any] = begun(chosen.dataset, folder)
        large, small = training(chosen.dataset, folder / "large"), training(chosen.embedded, folder / "small")
        pairs = [(rate(*large), rate(*small)) for _ in range(ROUNDS + 1)][1:]  # the first warms up
    found["steps_per_s"] = [[round(value, 2) for value in pair] for pair in pairs]
    found["ratio"] = round(statistics.median(a / b for a, b in pairs), 3)
    Console().print(found)
    if chosen.publish:
        chosen.publish.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
