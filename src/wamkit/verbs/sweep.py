"""Accuracy at a budget, as a verb: one checkpoint at every point of a grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from wamkit.data import Dataset
from wamkit.design import from_pretrained
from wamkit.design.checkpoint import checkpoint_digest, find_checkpoint
from wamkit.evaluation.closed_loop.budgets import BudgetGrid
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.sweep import Sweep
from wamkit.evaluation.closed_loop.sweep import run_sweep as run_sweep


@dataclass(frozen=True)
class SweepConfig:
    """Evaluate a checkpoint at every budget of a grid, on the same episodes.

    Attributes:
        checkpoint: as of :class:`EvaluateConfig`.
        out: folder for ``sweep.json``, ``sweep.html`` and one report per point. Finished points and
            episodes are kept.
        grid: the budgets, such as ``--grid.nfe.action '[1, 2, 4]' --grid.future '[true, false]'``.
        evaluation: what is run at every point. Its controller is the checkpoint's unless given.
        dataset: training data, so that its fingerprint stands in the reports.
        device: torch device of the policy.
    """

    checkpoint: str = "runs/train/model"
    out: Path = Path("runs/sweep")
    grid: BudgetGrid = field(default_factory=BudgetGrid)
    evaluation: EvaluationConfig = field(default_factory=lambda: EvaluationConfig(films=0, latency_calls=50))
    dataset: Path | None = None
    device: str = "cpu"


def sweep(config: SweepConfig, progress: bool = True) -> Sweep:
    """Accuracy at a budget; writes ``sweep.json``, ``sweep.html`` and the points' reports into ``config.out``."""
    from wamkit.evaluation.output.sweep_page import write_sweep_html  # draws with matplotlib, an extra

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
    write_sweep_html(result, config.out / "sweep.html")
    return result
