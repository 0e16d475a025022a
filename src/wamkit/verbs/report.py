"""Verbs ``report`` and ``compare``: finished evaluations on one page, or compared episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wamkit.evaluation.output.pages import write_comparison_page, write_report_page
from wamkit.evaluation.report.compare import Comparison, compare_reports, label_reports
from wamkit.evaluation.report.report import Report

REPORT_FILE = "report.json"


def report(runs: Sequence[Path], out: Path) -> Path:
    """Write one page of one or several finished evaluations, side by side; returns ``out``.

    Args:
        runs: report folders or files.
        out: output file.
    """
    files = [report_file(run) for run in runs]
    write_report_page([(Report.load(file), file.parent) for file in files], out)
    return out


def report_file(run: Path) -> Path:
    """Report file of a run that is given by its folder or by the file itself."""
    return run / REPORT_FILE if run.is_dir() else run


def compare(runs: Sequence[Path], out: Path) -> Comparison:
    """Compare finished evaluations with the first one on the episodes that they share.

    Writes ``compare.json`` and ``compare.html`` into ``out``.

    Raises:
        ConfigError: fewer than two runs, a run that is given twice, or one that shares no episode with the first.
        DataError: a report cannot be read.
    """
    reports = label_reports([(run, Report.load(report_file(run))) for run in runs])
    comparison = compare_reports(reports)
    out.mkdir(parents=True, exist_ok=True)
    comparison.save(out / "compare.json")
    write_comparison_page(comparison, reports, out / "compare.html")
    return comparison
