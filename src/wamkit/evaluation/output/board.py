"""Trainings of a folder with what was measured of them, read with suspicion: a broken run is shown as one.

A training may be running, killed or half copied while it is read. Whatever of it can be read is kept, and the rest is
named in :attr:`TrainedRun.problems`; nothing that lies in one run keeps the others from being shown.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wamkit.design.checkpoint import FILES, checkpoint_digest
from wamkit.errors import DataError, reason
from wamkit.evaluation.prediction.prediction import PREDICTION_FILE, Prediction
from wamkit.evaluation.report.report import Report
from wamkit.storage import read_json
from wamkit.storage.documents import read_document
from wamkit.training.resume import (
    ABOUT,
    ABOUT_FORMAT,
    BEST_FOLDER,
    CHECKPOINTS,
    CONFIG,
    DATA,
    LOG,
    MODEL_FOLDER,
    checkpoints,
)
from wamkit.training.validation import TOTAL

REPORT_FILE = "report.json"
AGAIN = "Train or copy the run again."
APART = (CHECKPOINTS, MODEL_FOLDER, BEST_FOLDER)  # folders of a run that hold no other run
STATES = ("finished", "unfinished", "broken")

Curve = tuple[tuple[int, float], ...]  # pairs of a step and a value


@dataclass(frozen=True)
class Measured:
    """A report or a prediction of a run's checkpoint.

    Attributes:
        folder: its folder.
        report: the report, or None for a prediction.
        prediction: the prediction, or None for a report.
    """

    folder: Path
    report: Report | None = None
    prediction: Prediction | None = None

    @property
    def checkpoint(self) -> str | None:
        """Digest of the checkpoint that was measured."""
        found = self.report or self.prediction
        return None if found is None else found.checkpoint


@dataclass(frozen=True)
class TrainedRun:
    """One training.

    Attributes:
        folder: its folder.
        name: its folder relative to the one that was searched.
        problems: what cannot be read, a sentence each.
        finished: true if its final model is there.
        step: last step in its log.
        steps: number of steps that it is to take, if it says so.
        curves: name in the log -> value over steps.
        about: name, tuple, formula and versions, as far as they are recorded.
        measured: reports and predictions of its checkpoints, the nearest first.
    """

    folder: Path
    name: str
    problems: tuple[str, ...] = ()
    finished: bool = False
    step: int = 0
    steps: int | None = None
    curves: Mapping[str, Curve] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()

    @property
    def state(self) -> str:
        """One of :data:`STATES`."""
        return "broken" if self.problems else "finished" if self.finished else "unfinished"

    @property
    def held_out(self) -> Curve:
        """Held-out loss over steps."""
        return self.curves.get(TOTAL, ())

    @property
    def losses(self) -> dict[str, Curve]:
        """Stream -> its training loss over steps."""
        return {
            name: curve for name, curve in self.curves.items() if not name.startswith((f"{TOTAL}", "grad."))
        }

    @property
    def report(self) -> Report | None:
        """The nearest report."""
        return next((m.report for m in self.measured if m.report is not None), None)


def find_runs(root: Path) -> tuple[tuple[TrainedRun, ...], tuple[str, ...]]:
    """All trainings below ``root``, by name, and a sentence for every report that cannot be read.

    Raises:
        DataError: ``root`` is no folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Name the folder that holds the runs.")
    folders, documents = _walk(root)
    runs = [read_run(folder, root) for folder in folders]
    found: list[Measured] = []
    notes: list[str] = []
    for file in documents:
        try:
            if file.name == REPORT_FILE:
                found.append(Measured(file.parent, report=Report.load(file)))
            else:
                found.append(Measured(file.parent, prediction=Prediction.load(file)))
        except (DataError, OSError) as error:
            notes.append(reason(error))
    return tuple(replace(run, measured=_of(run, found)) for run in runs), tuple(notes)


def _walk(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders of runs, and files of reports and predictions, below a folder."""
    runs, documents = [], []
    for place, folders, files in os.walk(root):
        folder, names = Path(place), {*folders, *files}
        if LOG in names or CHECKPOINTS in names or {CONFIG, DATA} <= names:
            runs.append(folder)
            folders[:] = [name for name in folders if name not in APART]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        documents += [folder / name for name in (REPORT_FILE, PREDICTION_FILE) if name in files]
    return sorted(runs), sorted(documents)


def _of(run: TrainedRun, found: Iterable[Measured]) -> tuple[Measured, ...]:
    """What was measured of a run: what lies in its folder, or elsewhere with the digest of one of its checkpoints."""
    digests: set[str] | None = None
    own = []
    for one in found:
        inside = run.folder in (one.folder, *one.folder.parents)
        if not inside and one.checkpoint is not None:
            digests = _digests(run) if digests is None else digests
            inside = one.checkpoint in digests
        own += [one] if inside else []
    return tuple(sorted(own, key=lambda m: (len(os.path.relpath(m.folder, run.folder)), str(m.folder))))


def _digests(run: TrainedRun) -> set[str]:
    """Digests of the checkpoints of a run that are whole."""
    folders = [run.folder / MODEL_FOLDER, run.folder / BEST_FOLDER, *checkpoints(run.folder)]
    return {
        checkpoint_digest(folder) for folder in folders if all((folder / name).is_file() for name in FILES)
    }


def read_run(folder: Path, root: Path) -> TrainedRun:
    """Read one training as far as it can be read."""
    problems: list[str] = []
    config: Mapping[str, Any] = {}
    about: Mapping[str, Any] = {}
    curves: dict[str, Curve] = {}
    step = 0
    try:
        config = read_json(folder / CONFIG, AGAIN)
    except DataError as error:
        problems.append(reason(error))
    try:
        about = read_document(folder / ABOUT, ABOUT_FORMAT, "run") if (folder / ABOUT).exists() else {}
    except DataError as error:
        problems.append(reason(error))
    try:
        curves, step, lost = read_curves(folder / LOG)
        problems += [f"{folder / LOG}: {lost} lines cannot be read."] if lost else []
    except OSError as error:
        problems.append(f"{folder / LOG}: cannot be read ({reason(error)}). {AGAIN}")
    model = folder / MODEL_FOLDER
    missing = [name for name in FILES if not (model / name).is_file()]
    if model.exists() and missing:
        problems.append(f"{model}: {', '.join(missing)} missing. {AGAIN}")
    steps, design = config.get("steps"), config.get("design")
    named = design.get("name") if isinstance(design, Mapping) else None
    return TrainedRun(
        folder=folder,
        name=os.path.relpath(folder, root) if folder != root else folder.resolve().name,
        problems=tuple(problems),
        finished=not missing,
        step=step,
        steps=steps if isinstance(steps, int) else None,
        curves=curves,
        about={"name": named, **about},
    )


def read_curves(path: Path) -> tuple[dict[str, Curve], int, int]:
    """Curves of a log, its last step, and how many of its lines cannot be read.

    The last line may be torn, because the run writes it now or was killed; it is no fault.
    """
    lines = path.read_bytes().decode("utf-8", "replace").splitlines() if path.exists() else []
    curves: dict[str, list[tuple[int, float]]] = {}
    last = lost = 0
    for number, line in enumerate(lines, start=1):
        values = _line(line)
        if values is None:
            lost += number < len(lines)
            continue
        step = values.pop("step")
        last = max(last, step)
        for name, value in values.items():
            if isinstance(value, int | float) and math.isfinite(value):
                curves.setdefault(name, []).append((step, float(value)))
    return {name: tuple(curve) for name, curve in curves.items()}, last, lost


def _line(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None
