"""Prediction beside control as verbs: measure a checkpoint's futures, and ask whether they tell success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wamkit.compose import required_extras
from wamkit.data import Dataset
from wamkit.errors import DataError
from wamkit.evaluation.correlation import CheckpointRecord, Correlation, correlate
from wamkit.evaluation.prediction import Prediction
from wamkit.evaluation.quality import PredictionConfig, closed_loop_rows, measure_prediction
from wamkit.evaluation.report import Report
from wamkit.specs import require_same
from wamkit.training import from_pretrained
from wamkit.training.loop import data_spec

PREDICTION, REPORT = "prediction.json", "report.json"


@dataclass(frozen=True)
class PredictConfig:
    """Measure how well a checkpoint predicts.

    Attributes:
        checkpoint: folder with ``config.json``, ``model.safetensors`` and ``transforms.json``, or a hub id.
        dataset: demonstrations, best ones that it was not trained on.
        out: folder for ``prediction.json``.
        prediction: what is measured.
        report: folder or file of a finished evaluation; the futures imagined in its filmed episodes are measured too.
        device: torch device.
    """

    checkpoint: str = "runs/train/model"
    dataset: Path = Path("runs/demo/data")
    out: Path = Path("runs/predict")
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    report: Path | None = None
    device: str = "cpu"


def predict(config: PredictConfig, progress: bool = True) -> Prediction:
    """Measure a checkpoint's predictions and write ``prediction.json`` into ``config.out``.

    Raises:
        SpecError: the demonstrations show something else than the checkpoint was trained to see, or
            actions that it cannot be given.
        ConfigError: the design predicts no future, or not what is asked for.
        DataError: the demonstrations or the report cannot be used.
    """
    design = from_pretrained(config.checkpoint, config.device)
    strips = Report.load(report_file(config.report)).filmstrips if config.report is not None else ()
    plain = Dataset(config.dataset)
    where = f"the demonstrations in {config.dataset}"
    require_same(design.observation_spec, plain.observation_spec, "the design", where)
    if config.prediction.actions == "demonstrated":
        require_same(design.action_spec, plain.action_spec, "the design", where)
    data = data_spec(plain)
    extras = required_extras(design.config, data)
    dataset = Dataset(config.dataset, extras=extras) if extras else plain
    found = measure_prediction(design, dataset, data, config.prediction, progress)
    found = replace(found, rows=(*found.rows, *closed_loop_rows(strips, config.prediction.seed)))
    found.save(config.out / PREDICTION)
    return found


def report_file(run: Path) -> Path:
    """The report of a run, given as folder or file."""
    return run / REPORT if run.is_dir() else run


def record_of(run: Path) -> CheckpointRecord:
    """What a folder with ``prediction.json`` and ``report.json`` says of its checkpoint.

    Raises:
        DataError: a file is missing or broken, or no episode could be scored.
    """
    prediction, report = Prediction.load(run / PREDICTION), Report.load(run / REPORT)
    if report.mean_over_tasks.rate is None:
        raise DataError(f"{run / REPORT}: no episode could be scored, so there is no success to compare with")
    values, lower = prediction.measures()
    return CheckpointRecord(str(run), report.mean_over_tasks.rate, values, lower)


def correlate_runs(runs: Sequence[Path]) -> tuple[Correlation, ...]:
    """Every measure of prediction against success over checkpoints, a folder each; see :func:`record_of`."""
    return correlate([record_of(run) for run in runs])
