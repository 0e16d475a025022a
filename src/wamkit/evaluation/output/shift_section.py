"""Section of ``report.html`` on perturbations: success under each, and the difference to clean episodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

from wamkit.envs.perturbations.suite import CLEAN
from wamkit.evaluation.output.shift_plots import difference_plot, require_shifts, strength_plot
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.scores import Score
from wamkit.evaluation.report.shifts import Shift, ShiftTable
from wamkit.evaluation.report.statistics import Difference
from wamkit.evaluation.report.words import percent, points

_HEAD = "<thead><tr><th></th><th>success</th><th>against clean</th></tr></thead>"
_LEGEND = (
    "Success in % with its Wilson 95 % interval and successes of n. Against clean: difference in percentage points to "
    "the unperturbed episodes of the same tasks and seeds, with Newcombe's 95 % interval for paired data."
)


def shift_section(reports: Sequence[Report]) -> str:
    """Tables, plots and totals of the reports with perturbed episodes; empty if there are none."""
    shifted = [report for report in reports if report.shifts is not None]
    if not shifted:
        return ""
    return (
        '<section class="card"><h2>Under perturbation</h2>'
        f'<p class="soft">{_LEGEND}</p>{"".join(shift_table_html(report) for report in shifted)}'
        f"<h3>Success against strength</h3>{strength_plot(shifted)}"
        f"<h3>Difference to the clean arm</h3>{difference_plot(shifted)}"
        f"{''.join(_finer(report) for report in shifted)}</section>"
    )


def shift_table_html(report: Report) -> str:
    """Table of ``Original`` and the dimensions in their standard order, both totals, and a count of errors."""
    table = require_shifts(report)
    rows = _row(CLEAN, report.overall, None) + "".join(
        _row(shift.dimension, shift.score, shift.difference) for shift in table.dimensions
    )
    return (
        f"<h3>{escape(report.name)}</h3>"
        f'<table class="shifts">{_HEAD}<tbody>{rows}</tbody></table>{_totals(table)}{_broken(report)}'
    )


def _row(name: str, score: Score, difference: Difference | None) -> str:
    against = "–" if difference is None else points(difference)
    return f"<tr><th>{escape(name)}</th><td>{escape(percent(score))}</td><td>{escape(against)}</td></tr>"


def _totals(table: ShiftTable) -> str:
    mean = table.columns
    columns = (
        "no scored episode"
        if mean.rate is None
        else f"{100 * mean.rate:.0f} % [{100 * mean.low:.0f},\N{NO-BREAK SPACE}{100 * mean.high:.0f}]"
    )
    return (
        '<table class="shifts"><tbody>'
        "<tr><th>Micro-average: every perturbed episode counts the same (rule of LIBERO-Plus)</th>"
        f"<td>{escape(percent(table.micro))}</td></tr>"
        f"<tr><th>Mean of {mean.tasks} columns: Original and the dimensions count the same (rule of RoboTwin "
        f"2.0-Plus)</th><td>{columns}</td></tr></tbody></table>"
    )


def _broken(report: Report) -> str:
    """Warning that names the dimensions that lost episodes to errors."""
    counts = Counter(e.dimension for e in report.episodes if e.status == "error")
    if not counts:
        return ""
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    total = sum(counts.values())
    return (
        f'<p class="warn">{total} of {len(report.episodes)} episodes ended in an error and are excluded from all rates '
        f"({escape(listed)}); their tracebacks are listed with the episodes below.</p>"
    )


def _finer(report: Report) -> str:
    table, body = require_shifts(report), []
    for dimension in table.dimensions:
        body.append(f'<tr class="part"><th colspan="3">{escape(dimension.dimension)}</th></tr>')
        body += [_row(s.kind.replace("_", " "), s.score, s.difference) for s in _of(table.kinds, dimension)]
        body += [
            _row(f"strength {s.strength}", s.score, s.difference) for s in _of(table.strengths, dimension)
        ]
    return (
        f"<details><summary>{escape(report.name)}: every kind and strength</summary>"
        f'<table class="shifts">{_HEAD}<tbody>{"".join(body)}</tbody></table></details>'
    )


def _of(shifts: Sequence[Shift], dimension: Shift) -> list[Shift]:
    return [shift for shift in shifts if shift.dimension == dimension.dimension]
