"""``python -m benchmarks.kill``: verbs killed at random moments go on, to the results of a run that nobody disturbed.

Half of the moments are drawn over the run's time, the other half over its file operations, because the short moments in
which files are replaced matter most. Some runs are stopped by SIGTERM before. The first run of a verb, undisturbed, is
the reference.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.killed_verbs import all_files, cases, write_settings
from wamkit.cli import main as wamkit

# Loaded late by the verbs; a fork finds them loaded.
PRELOADED = (
    "scipy.spatial.transform",
    "scipy.stats",
    "torch._dynamo",
    "wamkit.evaluation.output.report_page",
    "wamkit.evaluation.output.sweep_page",
    "torchmetrics.functional.image",
)
FORK = multiprocessing.get_context("fork")  # no import per run: a moment is one of the verb's work
OPERATIONS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate")
MARK = "WAMKIT_KILL"  # in the environment of a run and of its simulators
ENDS_S = 20.0  # seconds within which the simulators of a killed run must have ended


@dataclass
class Count:
    """What became of the runs of one verb."""

    kills: int = 0
    stops: int = 0
    runs: int = 0
    pairs: int = 0
    faults: list[str] = field(default_factory=list)
    told: int = 0


def _child(arguments: Sequence[str], log: Path, stop_at: int | None, counted: Any) -> None:
    """Run a verb; kill this process at file operation ``stop_at``."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    file = log.open("wb", buffering=0)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)

    def count(event: str, details: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(details[1], str) and set(details[1]) & set("wax+")
        if writes or event in OPERATIONS:
            counted.value += 1
            if counted.value == stop_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    os._exit(wamkit(list(arguments)))


class Killer:
    """Runs verbs in forks of this process and kills some of them.

    Args:
        root: folder for settings, references and outputs.
        seed: seed of the moments.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._root, self._random = root, random.Random(seed)
        self._number = 0
        for module in PRELOADED:
            importlib.import_module(module)
        write_settings(root)
        self.cases = cases(root)
        os.environ[MARK] = str(os.getpid())

    def run(
        self,
        arguments: Sequence[str],
        seconds: float | None = None,
        operation: int | None = None,
        number: signal.Signals = signal.SIGKILL,
    ) -> tuple[int, str, int]:
        """Status, output and number of file operations of one run, which gets a signal at the moment that is given."""
        counted, log = FORK.Value("q", 0), self._root / "log.txt"
        process = FORK.Process(target=_child, args=(arguments, log, operation, counted))
        process.start()
        process.join(seconds)
        if seconds is not None and process.is_alive():
            os.kill(process.pid or 0, number)
            process.join()
        status = process.exitcode
        return (-1 if status is None else status), log.read_text(errors="replace"), counted.value

    def refer(self, name: str) -> None:
        """Run a verb undisturbed and keep what it says."""
        case, out = self.cases[name], self._root / name
        start = time.perf_counter()
        status, said, case.operations = self.run([*case.arguments, "--out", str(out)])
        case.seconds = time.perf_counter() - start
        if status:
            raise RuntimeError(f"{name} ended with {status}: {said}")
        case.reference = case.read(out)
        place = self._root / "reference" / name
        place.mkdir(parents=True)
        shutil.copytree(out, place / name)
        case.files = [f for f in all_files(place / name) if f not in (".OUT.lock",)]
        if name == "collect":
            status, said, _ = self.run(["train", "--config_path", str(self._root / "world.yaml")])
            if status:
                raise RuntimeError(f"the world model's training ended with {status}: {said}")

    def trial(self, name: str, count: Count, most: int) -> str:
        """Kill runs of a verb up to ``most`` times, let it end, and compare with the reference.

        Returns the moments, for people.
        """
        case = self.cases[name]
        self._number += 1
        folder = self._root / "trials" / str(self._number)
        folder.mkdir(parents=True)
        command = [*case.arguments, "--out", str(folder / name)]
        told = self._stop(name, command, count) if self._random.random() < 0.5 else []
        for _ in range(most):
            by_time = self._random.random() < 0.5
            moment = (
                self._random.uniform(0, case.seconds) if by_time else self._random.randint(1, case.operations)
            )
            told.append(f"{moment:.2f} s" if by_time else f"operation {moment}")
            status, said, _ = self.run(command, **{"seconds" if by_time else "operation": moment})
            count.runs += 1
            count.kills += status == -signal.SIGKILL
            if status != -signal.SIGKILL:
                break
        else:
            status, said, _ = self.run(command)
            count.runs += 1
        place = f"{name}, killed at {', '.join(told)}"
        # Killed after the result was finished, the same command has nothing left to do, which it says.
        finished = status == 2 and "nothing is left to do" in said
        if status != 0 and not finished:
            count.faults.append(f"{place}: status {status}, {said.strip()[-300:]}")
            return place
        try:
            same = case.read(folder / name) == case.reference
        except Exception as error:  # noqa: BLE001 (a result that cannot be read is what is looked for)
            count.faults.append(f"{place}: cannot be read: {error}")
            return place
        left = set(all_files(folder / name)) ^ set(case.files)
        left -= {".OUT.lock"}
        count.faults += [] if same else [f"{place}: another result than the reference's"]
        count.faults += [f"{place}: other files than the reference: {sorted(left)}"] if left else []
        count.faults += [f"{place}: a simulator is left"] if self._orphans() else []
        shutil.rmtree(folder)
        return place

    def _stop(self, name: str, command: Sequence[str], count: Count) -> list[str]:
        """Stop a run by SIGTERM, which it must tell in one line; returns the moment, for people."""
        moment = self._random.uniform(0, self.cases[name].seconds)
        status, said, _ = self.run(command, seconds=moment, number=signal.SIGTERM)
        count.runs += 1
        count.stops += status == 128 + signal.SIGTERM
        told = f"wamkit {name}: stopped. " in said and "Traceback" not in said
        early = status == -signal.SIGTERM and not said  # before the verb had begun
        if status and not (status == 128 + signal.SIGTERM and told) and not early:
            count.faults.append(f"{name}, stopped at {moment:.2f} s: status {status}, {said.strip()[-300:]}")
        return [f"SIGTERM {moment:.2f} s"]

    def two_at_once(self, name: str, count: Count) -> None:
        """Start a verb twice at the same moment: one is refused, and the other's result is that of the reference."""
        case = self.cases[name]
        self._number += 1
        out = self._root / "trials" / str(self._number) / name
        out.parent.mkdir(parents=True)
        logs = [out.parent.with_suffix(f".{i}.txt") for i in range(2)]
        command = [*case.arguments, "--out", str(out)]
        both = [FORK.Process(target=_child, args=(command, log, None, FORK.Value("q", 0))) for log in logs]
        for process in both:
            process.start()
        for process in both:
            process.join()
        count.pairs += 1
        said = [log.read_text(encoding="utf-8", errors="replace").strip()[-300:] for log in logs]
        if sorted(process.exitcode or 0 for process in both) != [0, 2]:
            count.faults.append(f"{name}, two at once: statuses {[p.exitcode for p in both]}: {said}")
        elif not any("is being written by" in text for text in said):
            count.faults.append(f"{name}, two at once: refused for another reason: {said}")
        elif case.read(out) != case.reference:
            count.faults.append(f"{name}, two at once: another result than the reference's")
        shutil.rmtree(out.parent, ignore_errors=True)

    def _orphans(self) -> bool:
        """Whether a process that a run started is still there after a while."""
        mark = f"{MARK}={os.environ[MARK]}".encode()
        end = time.monotonic() + ENDS_S
        while any(mark in content and b"wamkit.envs.worker" in line for line, content in _processes()):
            if time.monotonic() > end:
                return True
            time.sleep(0.2)
        return False


def _processes() -> list[tuple[bytes, bytes]]:
    """Command line and environment of every process that may be looked at."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(((folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()))
        except OSError:
            continue
    return found


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        verbs: names of the verbs to disturb.
        kills: number of runs to kill, over all verbs.
        pairs: number of times that each verb is started twice at once.
        chain: smallest and largest number of kills of one output, before its verb may end.
        seed: seed of the moments.
    """

    verbs: Sequence[str]
    kills: int
    pairs: int
    chain: Sequence[int]
    seed: int


def kill(plan: Plan, root: Path) -> dict[str, Count]:
    """Start every verb twice at once, then kill verbs in turn; what was found is printed as it is found."""
    killer = Killer(root, plan.seed)
    last = max([*killer.cases].index(name) for name in plan.verbs)
    for name in [*killer.cases][: last + 1]:  # a verb reads the references of those before it
        killer.refer(name)
        case = killer.cases[name]
        tell(f"{name}: {case.seconds:.1f} s, {case.operations} file operations undisturbed")
    counts = {name: Count() for name in plan.verbs}
    draws = random.Random(plan.seed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):  # Ctrl-C and SIGTERM show what was found until then
        for name in [*plan.verbs] * plan.pairs:
            killer.two_at_once(name, counts[name])
            verdict(f"{name}, two at once", counts[name])
        while (left := plan.kills - sum(count.kills for count in counts.values())) > 0:
            name = min(counts, key=lambda n: counts[n].kills)
            moments = killer.trial(name, counts[name], min(draws.randint(*plan.chain), left))
            verdict(moments, counts[name])
    return counts


def verdict(what: str, count: Count) -> None:
    """Say what became of a trial."""
    new = count.faults[count.told :]
    count.told = len(count.faults)
    tell(f"{what}: {'; '.join(new) or 'right'}")


def tell(line: str) -> None:
    """Print at once, also into a file."""
    print(line, flush=True)


def main() -> int:
    """Print the table; returns 1 if anything was lost, counted twice or left behind."""
    verbs = ("collect", "train", "evaluate", "sweep", "imagine")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--chain",
        type=int,
        nargs=2,
        default=(1, 3),
        metavar=("LEAST", "MOST"),
        help="kills of one output before its verb may end [1 3]",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", choices=verbs, default=verbs)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = kill(Plan(**vars(chosen)), Path(folder))
    table = Table("verb", "kills", "stops", "runs", "two at once", "faults")
    for name, count in counts.items():
        table.add_row(
            name,
            str(count.kills),
            str(count.stops),
            str(count.runs),
            str(count.pairs),
            str(len(count.faults)),
        )
    Console(width=120).print(table)
    for fault in (fault for count in counts.values() for fault in count.faults):
        tell(fault)
    return int(any(count.faults for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main())
