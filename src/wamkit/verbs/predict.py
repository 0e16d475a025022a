"""Prediction beside control as verbs: measure a checkpoint's futures, and ask whether they tell success."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wamkit.contract.specs import require_same
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.prediction.correlation import CheckpointRecord, Correlation, correlate
from wamkit.evaluation.prediction.prediction import PREDICTION_FILE, Prediction
from wamkit.evaluation.prediction.quality import PredictionConfig, closed_loop_rows, measure_prediction
from wamkit.evaluation.report.filmstrip import Filmstrip
from wamkit.evaluation.report.report import Report
from wamkit.verbs.report import report_file

REPORT = "report.json"


@dataclass(frozen=True)
class PredictConfig:
    """Measure how well a checkpoint predicts.

    Attributes:
        checkpoint: folder with ``config.json``, ``model.safetensors`` and ``transforms.json``, or a hub id.
        dataset: demonstrations, best ones that it was not trained on.
        out: folder for ``prediction.json``; None takes that of ``report``, or else ``runs/predict``. Where a report
            lies in that folder, its page is written anew and shows the prediction.
        prediction: what is measured.
        report: folder or file of a finished evaluation; the futures imagined in its filmed episodes are measured too.
        device: torch device.
    """

    checkpoint: str = "runs/train/model"
    dataset: Path = Path("runs/demo/data")
    out: Path | None = None
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    report: Path | None = None
    device: str = "cpu"

    def folder(self) -> Path:
        """Where ``prediction.json`` is written."""
        if self.out is not None:
            return self.out
        return Path("runs/predict") if self.report is None else report_file(self.report).parent


def predict(config: PredictConfig, progress: bool = True) -> Prediction:
    """Measure a checkpoint's predictions and write ``prediction.json``, and the page of a report beside it.

    Raises:
        SpecError: the demonstrations show something else than the checkpoint was trained to see, or
            actions that it cannot be given.
        ConfigError: the design predicts no future, or not what is asked for, or the report is of another checkpoint.
        DataError: the demonstrations or the report cannot be used.
    """
    source = find_checkpoint(config.checkpoint)
    design = from_pretrained(source, config.device)
    digest = checkpoint_digest(source)
    strips = _strips(config.report, digest) if config.report is not None else ()
    plain = Dataset(config.dataset)
    where = f"the demonstrations in {config.dataset}"
    require_same(design.observation_spec, plain.observation_spec, "the design", where)
    if config.prediction.actions == "demonstrated":
        require_same(design.action_spec, plain.action_spec, "the design", where)
    data = data_spec(plain)
    dataset = plain.with_extras(design.extras)
    found = measure_prediction(design, dataset, data, config.prediction, progress)
    rows = (*found.rows, *closed_loop_rows(strips, config.prediction.seed))
    found = replace(found, rows=rows, checkpoint=digest)
    folder = config.folder()
    found.save(folder / PREDICTION_FILE)
    if (folder / REPORT).is_file():
        from wamkit.evaluation.output.report_page import write_page  # draws with matplotlib, an extra

        write_page([(Report.load(folder / REPORT), folder)], folder / "report.html")
    return found


def _strips(run: Path, checkpoint: str) -> tuple[Filmstrip, ...]:
    """The filmed futures of an evaluation of ``checkpoint``."""
    file = report_file(run)
    report = Report.load(file)
    if report.checkpoint not in (None, checkpoint):
        raise ConfigError(
            f"{file} is of another checkpoint ({str(report.checkpoint)[:12]}, not {checkpoint[:12]}): give the "
            f"checkpoint that was evaluated, or leave `report` out."
        )
    return report.filmstrips


def record_of(run: Path) -> CheckpointRecord:
    """What a folder with ``prediction.json`` and ``report.json`` says of its checkpoint.

    Raises:
        DataError: a file is missing or broken, or no episode could be scored.
    """
    prediction, report = Prediction.load(run / PREDICTION_FILE), Report.load(run / REPORT)
    if report.mean_over_tasks.rate is None:
        raise DataError(f"{run / REPORT}: no episode could be scored, so there is no success to compare with")
    values, lower = prediction.measures()
    return CheckpointRecord(str(run), report.mean_over_tasks.rate, values, lower)


def correlate_runs(runs: Sequence[Path]) -> tuple[Correlation, ...]:
    """Every measure of prediction against success over checkpoints, a folder each; see :func:`record_of`."""
    return correlate([record_of(run) for run in runs])
