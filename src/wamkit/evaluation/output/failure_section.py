"""Section of ``report.html`` on progress: phases that episodes reached, and tags of those that failed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wamkit.evaluation.report.failures import FailureTable
from wamkit.evaluation.report.report import Report
from wamkit.evaluation.report.statistics import Rate, Summary

_LEGEND = (
    "From the simulator's contacts: episodes that reached at least a phase, and tags of the failed ones (an episode "
    "can have several). Share, Wilson 95 % interval, and episodes of n; errors and tags without an episode are left "
    "out."
)
_TRIVIAL = ("reach", "success")  # every episode reaches the former; the tables of success show the latter
_HEAD = "<thead><tr><th></th><th>reached at least</th><th>of the failed</th></tr></thead>"


def failure_section(reports: Sequence[Report]) -> str:
    """Phases and tags of the reports whose simulators report contacts; empty if there are none."""
    tables = [(report.name, report.failures) for report in reports if report.failures is not None]
    if not tables:
        return ""
    parts = "".join(f"<h3>{escape(name)}</h3>{failure_table_html(table)}" for name, table in tables)
    head = f'<h2>How far it got, what went wrong</h2><p class="soft">{_LEGEND}</p>'
    return f'<section class="card">{head}{parts}</section>'


def failure_table_html(table: FailureTable) -> str:
    """Table with one row per dimension, ``Original`` first, and a line on replans."""
    body = []
    for dimension in dict.fromkeys(row.dimension for row in table.phases):
        rows = [r for r in table.phases if r.dimension == dimension and r.phase not in _TRIVIAL]
        tags = [(r.tag, r.share) for r in table.tags if r.dimension == dimension and r.share.successes]
        phases = _lines([(r.phase, r.reached) for r in rows])
        cells = f"<td>{phases}</td><td>{_lines(tags) or 'nothing'}</td>"
        body.append(f"<tr><th>{escape(dimension)}</th>{cells}</tr>")
    return (
        f'<table class="shifts">{_HEAD}<tbody>{"".join(body)}</tbody></table>'
        f'<p class="soft">Model calls after the first one of an episode: {_mean(table.replans)}; requested ahead of '
        f"schedule: {_mean(table.early_replans)}.</p>"
    )


def _lines(shares: Sequence[tuple[str, Rate]]) -> str:
    return "<br>".join(escape(f"{name} {_share(rate)}") for name, rate in shares)


def _share(rate: Rate) -> str:
    if rate.rate is None:
        return "not scored"
    interval = f"[{100 * rate.low:.0f},\N{NO-BREAK SPACE}{100 * rate.high:.0f}]"
    return f"{100 * rate.rate:.0f}\N{NO-BREAK SPACE}% {interval}, {rate.successes} of {rate.n}"


def _mean(summary: Summary) -> str:
    return "none" if summary.mean is None else f"mean {summary.mean:.1f}, n = {summary.n}"
