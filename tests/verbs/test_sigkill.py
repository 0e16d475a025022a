"""Verbs that are killed go on to the results of an undisturbed run; of two at once, one is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.whole
@pytest.mark.long
@pytest.mark.sim
def test_twenty_kills_lose_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill", "--kills", "20", "--pairs", "1", "--chain", "4", "4"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split("│")[1:7] for line in done.stdout.splitlines() if line.startswith("│")]
    kills = {verb.strip(): int(number) for verb, number, *_ in rows}
    assert set(kills) == {"collect", "train", "evaluate", "sweep", "imagine"}
    assert sum(kills.values()) == 20
    assert min(kills.values()) >= 2
