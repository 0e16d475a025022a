"""Verb ``sweep``: success against latency of one checkpoint, over a grid of budgets."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wamkit.config import encode
from wamkit.config.ranges import Word
from wamkit.config.values import Config
from wamkit.data import Dataset
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.errors import ConfigError
from wamkit.evaluation.closed_loop.budgets import BudgetGrid, plan_grid
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.sweep import POINTS, Sweep, run_sweep
from wamkit.evaluation.output.pages import require_plots, write_sweep_page
from wamkit.storage.fingerprint import listing
from wamkit.storage.output import Result, output
from wamkit.verbs.acting import policy_in
from wamkit.verbs.inputs import checkpoint_mark, dataset_mark, inputs_of
from wamkit.views import ViewConfig

SWEEP_FILE = "sweep.json"


@dataclass(frozen=True)
class SweepConfig(Config):
    """Evaluate a checkpoint at every budget of a grid, on the same episodes.

    Attributes:
        checkpoint: checkpoint to evaluate, a folder with ``config.json``, ``model.safetensors`` and
            ``transforms.json``, or a hub id.
        out: output folder for ``sweep.json``, ``sweep.html`` and one report per point. An interrupted sweep resumes
            from the points and episodes in this folder.
        grid: budgets, such as ``--grid.nfe.action '[1, 2, 4]' --grid.future '[true, false]'``.
        evaluation: settings of the evaluation at every point. The controller is the checkpoint's unless given.
        dataset: dataset that the checkpoint was trained on, to record its fingerprint in the reports.
        robot: name of the robot that is driven, of a checkpoint that was trained on several; null to find it by the
            environment's specs.
        view: how the environment is seen as the robot that the checkpoint was trained for, where its cameras, sizes,
            columns or rates differ; as it is by default.
        device: torch device of the policy, such as cpu or cuda:0.
        overwrite: true to begin anew where ``out`` holds another sweep or points that the grid lacks.
    """

    checkpoint: Word = "runs/train/model"
    out: Path = Path("runs/sweep")
    grid: BudgetGrid = field(default_factory=BudgetGrid)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(films=0, latency_calls=50))
    dataset: Path | None = None
    robot: Word | None = None
    view: ViewConfig = field(default_factory=ViewConfig)
    device: Word = "cpu"
    overwrite: bool = False


def sweep(config: SweepConfig, progress: bool = True) -> Sweep:
    """Evaluate every budget; writes ``sweep.json``, ``sweep.html`` and the points' reports into ``config.out``.

    A finished sweep whose grid has grown is added to.
    """
    require_plots()
    folder = find_checkpoint(config.checkpoint)
    policy = policy_in(config.evaluation, folder, config.device, config.view, config.robot)
    policy.check_acts()
    evaluation = {**encode(config.evaluation), "goals": dataset_mark(config.evaluation.goals)}
    dataset, checkpoint = dataset_mark(config.dataset), checkpoint_mark(folder)
    inputs = inputs_of(config, checkpoint=checkpoint, dataset=dataset, evaluation=evaluation)
    del inputs["grid"]  # it may grow
    result = sweep_result(config.out)
    if not config.overwrite and result.file.exists():
        require_growth(result.file, [*plan_grid(policy, config.grid, config.evaluation)[0]])
    with output(result, inputs, config.overwrite):
        found = run_sweep(
            policy,
            config.grid,
            config.evaluation,
            config.out,
            dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
            checkpoint=checkpoint_digest(folder),
            progress=progress,
        )
        write_sweep_page(found, config.out / "sweep.html")
    return found


def sweep_result(out: Path) -> Result:
    """The sweep in ``out``; the points that it has run are work to go on with."""
    points = out / POINTS

    def discard() -> None:
        (out / SWEEP_FILE).unlink(missing_ok=True)
        if points.is_dir():
            shutil.rmtree(points)

    return Result(
        out / SWEEP_FILE,
        "sweep",
        begun=lambda: points.is_dir() and any(points.iterdir()),
        discard=discard,
        grows=True,
    )


def require_growth(file: Path, wanted: Sequence[str]) -> None:
    """Raise :class:`ConfigError` if a finished sweep has points that a grid lacks: they would be lost from it."""
    lost = [point.id for point in Sweep.load(file).points if point.id not in wanted]
    if lost:
        raise ConfigError(
            f"{file} has points that this grid lacks: {listing(lost)}. Add them to `grid`, choose another `out`, or "
            f"set `overwrite` to begin anew."
        )
