"""Page ``compare.html``: evaluations compared with the first one on the episodes that they share."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from html import escape
from pathlib import Path

from wamkit.evaluation.output.plots import latency_plot, success_plot
from wamkit.evaluation.output.report_page import page
from wamkit.evaluation.output.shift_plots import forest, strength_plot
from wamkit.evaluation.report.compare import Comparison, ComparisonRow, Pairing, p_text
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.statistics import Rate
from wamkit.evaluation.report.words import points
from wamkit.storage.documents import write_atomically


def write_comparison(comparison: Comparison, reports: Mapping[str, Report], path: str | Path) -> None:
    """Write the page atomically. It is self-contained and runs no script.

    Args:
        comparison: result of :func:`wamkit.evaluation.report.compare.compare_reports`.
        reports: compared reports, by label.
        path: output file.
    """
    write_atomically(Path(path), render_comparison(comparison, reports).encode())


def render_comparison(comparison: Comparison, reports: Mapping[str, Report]) -> str:
    """Page as text; see :func:`write_comparison`."""
    labelled = [dataclasses.replace(report, name=label) for label, report in reports.items()]
    shifted = [report for report in labelled if report.shifts is not None]
    curve = strength_plot(shifted) if shifted else ""
    lines = zip(comparison.labels, comparison.headlines, strict=True)
    return page(
        "compare_page.html",
        title=escape("Comparison: " + " against ".join(comparison.labels)),
        headlines="".join(_headline(label, line) for label, line in lines),
        pairings="".join(_pairing(p, f"pairing-{i}") for i, p in enumerate(comparison.pairings)),
        success=success_plot(labelled),
        strength=curve and f'<section class="card"><h2>Success against strength</h2>{curve}</section>',
        latency=latency_plot(labelled),
    )


def _headline(label: str, line: str) -> str:
    # Reports of the same policy share its name; only the label distinguishes them.
    text = line if line.startswith(f"{label}:") else f"{label}: {line}"
    return f'<p class="headline">{escape(text)}</p>'


def _pairing(pairing: Pairing, salt: str) -> str:
    verdicts = "".join(
        f"<p><strong>{escape(row.scope)}:</strong> {escape(row.verdict(pairing.first, pairing.other))}</p>"
        for row in pairing.rows
        if row.kind == "overall"
    )
    warnings = "".join(f'<p class="warn">{escape(text)}</p>' for text in pairing.warnings)
    plot = forest(
        [(row.scope, [(pairing.other, row.difference)]) for row in pairing.rows],
        "difference, percentage points",
        f"Difference of {escape(pairing.other)} to {escape(pairing.first)} with Newcombe intervals",
        salt,
    )
    head = "<thead><tr><th></th><th>success</th><th>difference, p</th></tr></thead>"
    body = "".join(_row(row, pairing) for row in pairing.rows)
    return (
        f'<section class="card"><h2>{escape(pairing.other)} against {escape(pairing.first)}</h2>'
        f"{verdicts}{warnings}"
        f'<p class="soft">{pairing.common} common episodes. Difference: {escape(pairing.other)} minus '
        f"{escape(pairing.first)}; a star is significant at 5 %.</p>{plot}"
        f'<table class="shifts">{head}<tbody>{body}</tbody></table></section>'
    )


def _row(row: ComparisonRow, pairing: Pairing) -> str:
    success = f"{pairing.first} {_rate(row.first)}; {pairing.other} {_rate(row.other)}"
    if row.broken:
        success += f"; {row.broken} broke"
    test = "" if row.p_value is None else f"; {p_text(row.p_value)}{' *' if row.significant else ''}"
    test = test.replace(" ", "\N{NO-BREAK SPACE}").replace(";\N{NO-BREAK SPACE}", "; ")
    return (
        f"<tr><th>{escape(row.scope)}</th><td>{escape(success)}</td>"
        f"<td>{escape(points(row.difference) + test)}</td></tr>"
    )


def _rate(rate: Rate) -> str:
    return "not scored" if rate.rate is None else f"{100 * rate.rate:.0f}\N{NO-BREAK SPACE}%"
