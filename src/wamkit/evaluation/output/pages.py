"""HTML pages of results, as verbs write them.

The modules that render the pages draw with matplotlib, an extra. They are imported here, on the first call, so that
the verbs can be imported without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from wamkit.evaluation.closed_loop.sweep import Sweep
from wamkit.evaluation.output.board import TrainedRun
from wamkit.evaluation.output.dataset import Shown
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.evaluation.report.compare import Comparison
from wamkit.evaluation.report.report import Report


def require_plots() -> None:
    """Raise :class:`MissingExtraError` unless pages can be drawn; for verbs that run long before they write one."""
    import wamkit.evaluation.output.plots  # noqa: F401


def write_report_page(runs: Sequence[tuple[Report, Path]], path: Path) -> None:
    """Write one page of one or several reports; see :func:`wamkit.evaluation.output.report_page.write_page`."""
    from wamkit.evaluation.output.report_page import write_page

    write_page(runs, path)


def write_prediction_page(prediction: Prediction, path: Path) -> None:
    """Write the page of a prediction; see :func:`wamkit.evaluation.output.open_loop_page.write_prediction`."""
    from wamkit.evaluation.output.open_loop_page import write_prediction

    write_prediction(prediction, path)


def write_board_page(runs: Sequence[TrainedRun], notes: Sequence[str], title: str, path: Path) -> None:
    """Write the page of all trainings; see :func:`wamkit.evaluation.output.board_page.write_board`."""
    from wamkit.evaluation.output.board_page import write_board

    write_board(runs, notes, title, path)


def write_comparison_page(comparison: Comparison, reports: Mapping[str, Report], path: Path) -> None:
    """Write the page of a comparison; see :func:`wamkit.evaluation.output.compare_page.write_comparison`."""
    from wamkit.evaluation.output.compare_page import write_comparison

    write_comparison(comparison, reports, path)


def write_sweep_page(sweep: Sweep, path: Path) -> None:
    """Write the page of a sweep; see :func:`wamkit.evaluation.output.sweep_page.write_sweep_html`."""
    from wamkit.evaluation.output.sweep_page import write_sweep_html

    write_sweep_html(sweep, path)


def write_dataset_page(shown: Shown, path: Path) -> None:
    """Write the page of a dataset; see :func:`wamkit.evaluation.output.dataset_page.write_dataset`."""
    from wamkit.evaluation.output.dataset_page import write_dataset

    write_dataset(shown, path)
