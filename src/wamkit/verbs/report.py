"""Verbs ``report`` and ``compare``: finished evaluations on one page, or compared episode by episode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wamkit.errors import ConfigError
from wamkit.evaluation.output.pages import write_comparison_page, write_report_page
from wamkit.evaluation.report.compare import Comparison, compare_reports, label_reports
from wamkit.evaluation.report.report import Report
from wamkit.storage.output import Result, output
from wamkit.verbs.inputs import file_marks

REPORT_FILE = "report.json"
PAGE_START = b"<!doctype html"


def report(runs: Sequence[Path], out: Path, overwrite: bool = False) -> Path:
    """Write one page of one or several finished evaluations, side by side; returns ``out``.

    Args:
        runs: report folders or files.
        out: output file.
        overwrite: true to replace a page at ``out``.

    Raises:
        ConfigError: a run is given twice, or ``out`` holds a page already or something else.
        DataError: a report cannot be read.
    """
    files = [report_file(run) for run in runs]
    require_each_once(files, "report")
    reports = [(Report.load(file), file.parent) for file in files]
    with output(
        Result(out, "report", whole_folder=False, ours=is_page), {"runs": file_marks(files)}, overwrite
    ):
        write_report_page(reports, out)
    return out


def is_page(file: Path) -> bool:
    """Return true if a file is a page as :func:`report` writes them."""
    with file.open("rb") as opened:
        return opened.read(len(PAGE_START)).lower() == PAGE_START


def require_each_once(files: Sequence[Path], verb: str) -> None:
    """Raise :class:`ConfigError` if two of ``files`` are one file."""
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise ConfigError(f"{verb}: {file} is given twice. Name every run once.")
        seen.add(file.resolve())


def report_file(run: Path) -> Path:
    """Report file of a run that is given by its folder or by the file itself."""
    return run / REPORT_FILE if run.is_dir() else run


def compare(runs: Sequence[Path], out: Path, overwrite: bool = False) -> Comparison:
    """Compare finished evaluations with the first one on the episodes that they share.

    Writes ``compare.json`` and ``compare.html`` into ``out``; ``overwrite`` replaces a comparison there.

    Raises:
        ConfigError: fewer than two runs, a run that is given twice, or one that shares no episode with the first; or
            ``out`` holds a comparison.
        DataError: a report cannot be read.
    """
    files = [report_file(run) for run in runs]
    require_each_once(files, "compare")
    reports = label_reports([(run, Report.load(file)) for run, file in zip(runs, files, strict=True)])
    comparison = compare_reports(reports)
    with output(Result(out / "compare.json", "compare"), {"runs": file_marks(files)}, overwrite):
        comparison.save(out / "compare.json")
        write_comparison_page(comparison, reports, out / "compare.html")
    return comparison
