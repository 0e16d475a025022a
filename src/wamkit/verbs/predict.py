"""Verbs ``predict`` and ``correlate``: prediction quality of checkpoints, and its correlation with success."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wamkit.config.ranges import Positive, Word
from wamkit.config.values import Config
from wamkit.contract.data import Recorded
from wamkit.contract.specs import disagreements, require_same
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design, from_pretrained
from wamkit.design.agreement import view_of
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.design.robot import robot_of
from wamkit.errors import ConfigError, DataError
from wamkit.evaluation.output.pages import require_plots, write_prediction_page, write_report_page
from wamkit.evaluation.prediction.correlation import CheckpointRecord, Correlation, correlate
from wamkit.evaluation.prediction.open_loop import OpenLoop
from wamkit.evaluation.prediction.prediction import PREDICTION_FILE, Prediction
from wamkit.evaluation.prediction.quality import (
    PredictionConfig,
    actions_followed,
    closed_loop_rows,
    measure_prediction,
    unmeasured,
)
from wamkit.evaluation.prediction.replay import measure_open_loop
from wamkit.evaluation.report.filmstrip import Filmstrip
from wamkit.evaluation.report.report import Report
from wamkit.progress import say, shown, stage
from wamkit.storage.fingerprint import file_digest
from wamkit.storage.output import Result, output
from wamkit.training.held_out import held_out_of
from wamkit.verbs.inputs import checkpoint_mark, dataset_mark, inputs_of
from wamkit.verbs.report import REPORT_FILE, report_file, require_each_once

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictConfig(Config):
    """Measure how well a checkpoint predicts futures and recorded actions, without a simulator.

    Attributes:
        checkpoint: checkpoint to measure, a folder with ``config.json``, ``model.safetensors`` and
            ``transforms.json``, or a hub id.
        dataset: dataset of demonstrations, preferably not those that the checkpoint was trained on.
        out: output folder for ``prediction.json`` and ``prediction.html``; by default the folder of ``report``, or
            else ``runs/predict``. If the folder has a report, its page is written again and shows the prediction.
        prediction: settings of the measurement.
        report: folder or report file of a finished evaluation of the same checkpoint, to also measure the futures
            imagined in its filmed episodes.
        device: torch device, such as cpu or cuda:0.
        image_memory_gb: memory limit for decoded frames, GiB. Frames beyond it are decoded whenever they are needed.
        overwrite: true to replace the prediction at ``out``.
        robot: name of the robot that the dataset shows, of a checkpoint that was trained on several; null to find it by
            the recorded specs.
    """

    checkpoint: Word = "runs/train/model"
    dataset: Path = Path("runs/demo/data")
    out: Path | None = None
    prediction: PredictionConfig = field(default_factory=PredictionConfig)
    report: Path | None = None
    device: Word = "cpu"
    image_memory_gb: Positive = 4.0
    overwrite: bool = False
    robot: Word | None = None

    def folder(self) -> Path:
        """Output folder of ``prediction.json``."""
        if self.out is not None:
            return self.out
        return Path("runs/predict") if self.report is None else report_file(self.report).parent


def predict(config: PredictConfig, progress: bool = True) -> Prediction:
    """Measure a checkpoint's predictions and write ``prediction.json``, and the page of a report beside it.

    Raises:
        SpecError: the observations or, if they are measured or given to the design, the actions of the demonstrations
            differ from those of the checkpoint.
        ConfigError: there is nothing to measure, the design cannot be measured as configured, or is not the one of the
            report.
        DataError: the demonstrations or the report cannot be used.
    """
    require_plots()
    with shown("predict", progress):
        with stage("look at what is given"):
            source = find_checkpoint(config.checkpoint)
            strips = _strips(config.report, checkpoint_digest(source)) if config.report is not None else ()
            folder = config.folder()
            report = None if config.report is None else file_digest(report_file(config.report))
            inputs = inputs_of(
                config,
                checkpoint=checkpoint_mark(source),
                dataset=dataset_mark(config.dataset),
                report=report,
            )
        with output(Result(folder / PREDICTION_FILE, "predict"), inputs, config.overwrite):
            prediction = measure(config, source, strips)
            prediction.save(folder / PREDICTION_FILE)
            with stage("draw"):
                write_prediction_page(prediction, folder / "prediction.html")
                if (folder / REPORT_FILE).is_file():
                    write_report_page([(Report.load(folder / REPORT_FILE), folder)], folder / "report.html")
    return prediction


def say_differences(robot: Recorded, dataset: Dataset) -> None:
    """Show what the view makes equal although it was recorded otherwise than what the design was trained on."""
    observation, action = dataset.view.recorded
    lines = disagreements(robot.observation, observation) + disagreements(robot.action, action)
    say(*(f"recorded otherwise than for the training (training first): {line}" for line in lines))


def measure(config: PredictConfig, source: Path, strips: Sequence[Filmstrip]) -> Prediction:
    """Measure the checkpoint in ``source`` on the demonstrations and on the filmstrips of its evaluation."""
    with stage("read checkpoint"):
        design = from_pretrained(source, config.device)
    acts = bool(design.graph.acting()) and config.prediction.open_loop
    if not acts and not design.config.futures:
        raise ConfigError(
            f"design {design.name!r} predicts no future, and its actions are not to be measured. Set "
            f"`prediction.open_loop` to true."
        )
    acted = acts or actions_followed(design, config.prediction) == "demonstrated"
    with stage("open dataset"):
        plain, robot = opened(design, config, acted)
    data = data_spec(plain, design.config.horizon)
    with stage("open dataset"):
        dataset = plain.with_extras(design.extras)
    episodes, which = chosen_episodes(config.prediction.episodes, source, plain, robot)
    measured = unmeasured(design, dataset, config.prediction)
    if design.config.futures:
        measured = measure_prediction(design, dataset, data, config.prediction, episodes)
    rows = (*measured.rows, *closed_loop_rows(strips, config.prediction.seed))
    return replace(
        measured,
        rows=rows,
        checkpoint=checkpoint_digest(source),
        measured_on=which,
        open_loop=open_loop(design, dataset, config.prediction, episodes) if acts else None,
    )


def opened(design: Design, config: PredictConfig, acted: bool) -> tuple[Dataset, str | None]:
    """Open the demonstrations as the design sees the robot that they show, whose name comes second.

    Raises:
        ConfigError: the design knows several robots, and nothing says which of them they show.
        SpecError: the view shows other observations than in training or, where they are ``acted`` on, other actions.
    """
    robots, specs = design.data.robots, None
    if config.robot is None and len(robots) > 1:
        recorded = Dataset(config.dataset, image_memory_gb=config.image_memory_gb)
        specs = recorded.observation_spec, recorded.action_spec
    name = robot_of(design, config.robot, specs)
    robot = Recorded(design.observation_spec, design.action_spec) if name is None else robots[name]
    view, place = view_of(design.config, name or "", robot), f"the demonstrations in {config.dataset}"
    plain = Dataset(config.dataset, image_memory_gb=config.image_memory_gb, view=view.config)
    if view.scaling is not None:
        plain = plain.scaled(*view.scaling)
    require_same(view.observation_spec, plain.observation_spec, "the design", place)
    if acted:
        require_same(view.action_spec, plain.action_spec, "the design", place)
    say_differences(robot, plain)
    return plain, name


def open_loop(
    design: Design, dataset: Dataset, config: PredictionConfig, episodes: Sequence[int] | None
) -> OpenLoop | None:
    """Open-loop errors on these episodes; None, and a warning, where none of them was recorded with actions."""
    starts = [dataset.episodes[number].start for number in episodes or range(dataset.num_episodes)]
    if not dataset.acted[starts].any():
        LOGGER.warning(
            "%s: recorded without actions, so there is nothing to compare actions with", dataset.root
        )
        return None
    return measure_open_loop(
        design,
        dataset,
        windows=config.windows,
        batch_size=config.batch_size,
        budget=config.budget,
        seed=config.seed,
        drawn=config.drawn,
        episodes=episodes,
    )


def chosen_episodes(
    asked: Sequence[int], checkpoint: Path, dataset: Dataset, robot: str | None
) -> tuple[Sequence[int] | None, str]:
    """Episodes to measure, None for all, and a sentence about them for the page.

    Raises:
        ConfigError: an episode does not exist.
    """
    held_out = held_out_of(checkpoint, dataset, robot)
    unknown = [number for number in asked if number >= dataset.num_episodes]
    if unknown:
        raise ConfigError(
            f"prediction.episodes: {dataset.root} has no episode {unknown[0]}, only 0 to {dataset.num_episodes - 1}."
        )
    if asked:
        seen = [number for number in asked if number not in held_out]
        if held_out and seen:
            return asked, f"episodes as asked for; of them, the checkpoint was trained on {seen}"
        return asked, "episodes as asked for" + (", all of them held out from training" if held_out else "")
    if held_out:
        return (
            held_out,
            f"measured on what was held out from training: {len(held_out)} of {dataset.num_episodes} episodes",
        )
    return None, "measured on all episodes; no record says that any was held out from training"


def _strips(run: Path, checkpoint: str) -> tuple[Filmstrip, ...]:
    """Filmstrips of an evaluation of ``checkpoint``."""
    file = report_file(run)
    report = Report.load(file)
    if report.checkpoint not in (None, checkpoint):
        raise ConfigError(
            f"{file} is of another checkpoint ({str(report.checkpoint)[:12]}, not {checkpoint[:12]}): give the "
            f"checkpoint that was evaluated, or leave out `report`."
        )
    return report.filmstrips


def record_of(run: Path) -> CheckpointRecord:
    """Success rate and measures of a checkpoint, from a folder with its ``prediction.json`` and ``report.json``.

    Raises:
        DataError: a file is missing or broken, or no episode could be scored.
    """
    prediction, report = Prediction.load(run / PREDICTION_FILE), Report.load(run / REPORT_FILE)
    if report.mean_over_tasks.rate is None:
        raise DataError(
            f"{run / REPORT_FILE}: no episode could be scored, so there is no success rate to compare with"
        )
    if None not in (prediction.checkpoint, report.checkpoint) and prediction.checkpoint != report.checkpoint:
        raise DataError(
            f"{run / PREDICTION_FILE} is of the checkpoint {str(prediction.checkpoint)[:12]}, and {run / REPORT_FILE} "
            f"of {str(report.checkpoint)[:12]}. Measure the one that was evaluated with `wamkit predict`."
        )
    values, lower = prediction.measures()
    return CheckpointRecord(str(run), report.mean_over_tasks.rate, values, lower)


def correlate_runs(runs: Sequence[Path]) -> tuple[Correlation, ...]:
    """Correlate every prediction measure with success over checkpoints; ``runs`` has one folder per checkpoint.

    Raises:
        ConfigError: a run is given twice.
        DataError: a file is missing or broken, no episode could be scored, or prediction and report of a run are of
            different checkpoints.
    """
    require_each_once(runs, "correlate")
    return correlate([record_of(run) for run in runs])
