"""Run every check of every system and record what they said: ``python tests/zoo/record.py [NAME ...]``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "osmesa")
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "zoo")]
RESULTS = ROOT / "src" / "wamkit" / "zoo" / "field" / "results.json"


def run(name: str, folder: Path) -> tuple[str, dict[str, Any]]:
    """Result of one system."""
    import torch
    from checks import result
    from zoo_recordings import case_of

    torch.set_num_threads(1)
    return name, result(case_of(name, folder))


def main(names: list[str]) -> int:
    """Record the systems ``names``, all without any; returns 1 when a check of one of them failed."""
    from zoo_recordings import RECORDERS, opened

    from wamkit.zoo.registry import systems
    from wamkit.zoo.states import PASSED

    console = Console(width=160)
    wanted = names or list(systems())
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["systems"] if RESULTS.is_file() else {}
    found: dict[str, Any] = {name: before[name] for name in systems() if names and name in before}
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in RECORDERS:
            opened(kind, Path(folder))
        with ProcessPoolExecutor(int(os.environ.get("JOBS", "2")), get_context("spawn")) as pool:
            jobs = [pool.submit(run, name, Path(folder)) for name in wanted]
            for job in track(jobs, "systems", console=console):
                name, record = job.result()
                found[name] = record
                failed += [f"{name}: {c}: {said}" for c, said in record["checks"].items() if said != PASSED]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    ordered = {name: found[name] for name in systems() if name in found}
    text = json.dumps({"commit": commit.stdout.strip(), "systems": ordered}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    for line in failed:
        console.print(line, markup=False)
    console.print(f"{len(wanted)} systems, {len(failed)} checks failed -> {RESULTS.relative_to(ROOT)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
