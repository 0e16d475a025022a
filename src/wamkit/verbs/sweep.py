"""Verb ``sweep``: success against latency of one checkpoint, over a grid of budgets."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.evaluation.closed_loop.budgets import BudgetGrid
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.sweep import Sweep, run_sweep
from wamkit.evaluation.output.pages import require_plots, write_sweep_page


@dataclass(frozen=True)
class SweepConfig:
    """Evaluate a checkpoint at every budget of a grid, on the same episodes.

    Attributes:
        checkpoint: checkpoint to evaluate, a folder with ``config.json``, ``model.safetensors`` and
            ``transforms.json``, or a hub id.
        out: output folder for ``sweep.json``, ``sweep.html`` and one report per point. An interrupted sweep resumes
            from the points and episodes in this folder.
        grid: budgets, such as ``--grid.nfe.action '[1, 2, 4]' --grid.future '[true, false]'``.
        evaluation: settings of the evaluation at every point. The controller is the checkpoint's unless given.
        dataset: dataset that the checkpoint was trained on, to record its fingerprint in the reports.
        device: torch device of the policy, such as cpu or cuda:0.
    """

    checkpoint: str = "runs/train/model"
    out: Path = Path("runs/sweep")
    grid: BudgetGrid = field(default_factory=BudgetGrid)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(films=0, latency_calls=50))
    dataset: Path | None = None
    device: str = "cpu"


def sweep(config: SweepConfig, progress: bool = True) -> Sweep:
    """Evaluate every budget; writes ``sweep.json``, ``sweep.html`` and the points' reports into ``config.out``."""
    require_plots()
    folder = find_checkpoint(config.checkpoint)
    result = run_sweep(
        from_pretrained(folder, config.device),
        config.grid,
        config.evaluation,
        config.out,
        dataset=Dataset(config.dataset).fingerprint() if config.dataset is not None else None,
        checkpoint=checkpoint_digest(folder),
        progress=progress,
    )
    write_sweep_page(result, config.out / "sweep.html")
    return result
