"""Pages of finished evaluations, as verbs: one or several side by side, or compared episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wamkit.evaluation.report.compare import Comparison, label_reports
from wamkit.evaluation.report.compare import compare_reports as compare_reports
from wamkit.evaluation.report.report import Report


def report(runs: Sequence[Path], out: Path) -> Path:
    """Write one page that shows one or several finished evaluations side by side, with what lies beside them."""
    from wamkit.evaluation.output.report_page import write_page  # draws with matplotlib, an extra

    files = [report_file(run) for run in runs]
    write_page([(Report.load(file), file.parent) for file in files], out)
    return out


def report_file(run: Path) -> Path:
    """The report of a run, given by its folder or by the file itself."""
    return run / "report.json" if run.is_dir() else run


def compare(runs: Sequence[Path], out: Path) -> Comparison:
    """Compare finished evaluations with the first one on the episodes that they share.

    Writes ``compare.json`` and ``compare.html`` into ``out``.

    Raises:
        ConfigError: fewer than two runs, one given twice, or one that shares no episode with the first.
        DataError: a run has no readable report.
    """
    from wamkit.evaluation.output.compare_page import write_comparison  # draws with matplotlib, an extra

    reports = label_reports([(run, Report.load(report_file(run))) for run in runs])
    found = compare_reports(reports)
    out.mkdir(parents=True, exist_ok=True)
    found.save(out / "compare.json")
    write_comparison(found, reports, out / "compare.html")
    return found
