"""Page ``sweep.html``: success against latency with both intervals, and the figures of every budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path

from wamkit.evaluation.closed_loop.budgets import Refused
from wamkit.evaluation.closed_loop.sweep import Point, Sweep
from wamkit.evaluation.output.plots import INK, SERIES, canvas, style, to_svg
from wamkit.evaluation.output.rates import rate, steps
from wamkit.evaluation.output.report_page import page
from wamkit.evaluation.report.failures import failure_rows
from wamkit.storage.documents import write_atomically


def write_sweep_html(sweep: Sweep, path: Path) -> None:
    """Write the page atomically. It is self-contained and runs no script."""
    write_atomically(path, render_sweep(sweep).encode())


def render_sweep(sweep: Sweep) -> str:
    """Page as text."""
    head = [f'<p class="headline"><strong>{escape(sweep.headline())}</strong></p>']
    formula = sweep.design.get("formula")
    head += [f'<p class="soft">{escape(str(formula))}</p>'] if formula else []
    notes = dict.fromkeys(f"{point.id}: {note}" for point in sweep.points for note in point.notes)
    head += [f'<p class="warn">{escape(note)}</p>' for note in notes]
    return page(
        "sweep_page.html",
        title=escape(f"Accuracy at a budget: {sweep.name}"),
        headline="".join(head),
        plot=budget_plot(sweep),
        table=_points(sweep, _COLUMNS),
        phases=_phases(sweep),
        refused=_refused(sweep),
        record=_points(sweep, _PROVENANCE),
    )


def budget_plot(sweep: Sweep) -> str:
    """Success against median latency with 95 % intervals of both, numbered as in the table; the front is joined."""
    with style("sweep"):
        figure, axes = canvas(3.6)
        shown = [(i, p) for i, p in enumerate(sweep.points, start=1) if p.success.rate is not None]
        for i, point in shown:
            rate, ms = 100 * (point.success.rate or 0.0), point.latency_ms.p50
            if ms is None:
                continue
            low, high = (100 * bound for bound in point.success.wilson_95)
            fast, slow = point.median_95 or (ms, ms)
            colour = SERIES[0] if point.front else SERIES[1]
            axes.errorbar(
                ms, rate, xerr=[[ms - fast], [slow - ms]], yerr=[[rate - low], [high - rate]],
                fmt="o" if point.front else "s", color=colour, ecolor=colour, capsize=3, linewidth=1.2,
            )  # fmt: skip
            axes.annotate(str(i), (ms, rate), xytext=(5, 5), textcoords="offset points")
        front = sorted(
            (p.latency_ms.p50 or 0.0, 100 * (p.success.rate or 0.0)) for p in sweep.points if p.front
        )
        if front:
            axes.step(*zip(*front, strict=True), where="post", color=SERIES[0], label="front")
        limits = {p.deadline.allowed_ms for p in sweep.points if p.deadline.allowed_ms is not None}
        for limit in sorted(limits) if len(limits) == 1 else []:
            axes.axvline(limit, color=INK, linestyle="--", label=f"deadline K/f {limit:g} ms")
        axes.set_xscale("log")
        axes.set_ylim(-4, 104)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("median of one call, ms, with 95 % interval")
        axes.set_ylabel("success, %, with Wilson 95 %")
        if axes.get_legend_handles_labels()[1]:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        return to_svg(figure, "Success against latency, the front marked")


def _budget(point: Point | Refused) -> str:
    return point.id.replace(",", ", ")  # lets a phone break the line


def _success(point: Point) -> str:
    score = point.success
    if score.rate is None:
        return "not scored"
    low, high = (100 * bound for bound in score.wilson_95)
    errors = f", {score.statuses['error']} errors" if score.statuses["error"] else ""
    return f"{100 * score.rate:.0f} % [{low:.0f}, {high:.0f}], {score.successes} of {score.n}{errors}"


def _difference(point: Point) -> str:
    d = point.difference
    if d.difference is None:
        return "no pairs"
    return f"{100 * d.difference:+.0f} [{100 * d.low:+.0f}, {100 * d.high:+.0f}], n = {d.n}"


def _median(point: Point) -> str:
    if point.latency_ms.p50 is None:
        return "not measured"
    interval = "" if point.median_95 is None else f" [{point.median_95[0]:.3g}, {point.median_95[1]:.3g}]"
    return f"{point.latency_ms.p50:.3g}{interval}, n = {point.latency_ms.n}"


def _slow(point: Point) -> str:
    parts = (point.latency_ms.p95, point.latency_ms.max, point.latency_ms.first)
    return " / ".join("–" if value is None else f"{value:.3g}" for value in parts)


def _misses(point: Point) -> str:
    limit = point.deadline.allowed_ms
    if limit is None:
        return "no deadline"
    return f"{point.deadline.misses} of {point.deadline.n} over {limit:g} ms"


def _sustained(point: Point) -> str:
    s = point.sustained
    if s is None:
        return "not measured"
    return f"{s.ticks} of {steps(s.of, point.every)} ticks ({s.seconds:.3g} s)"


def _mapping(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


_COLUMNS: dict[str, Callable[[Point], str]] = {
    "budget": _budget,
    "success": _success,
    "front": lambda p: "●" if p.front else "",
    "difference to 1, points": _difference,
    "median ms": _median,
    "p95 / max / first ms": _slow,
    "evaluations per call": lambda p: _mapping(p.nfe),
    "acts at": lambda p: rate(p.control_hz, p.every),
    "predict / execute": lambda p: (
        f"{steps(p.horizon.predict, p.every)} / {steps(p.horizon.execute or 'all', p.every)}"
    ),
    "deadline misses": _misses,
    "sustained": _sustained,
    "shortest chunk": lambda p: "–" if p.sustained is None else steps(p.sustained.least_execute, p.every),
    "peak memory MB": lambda p: _mapping(p.peak_mem_mb),
}
_PROVENANCE: dict[str, Callable[[Point], str]] = {
    "prompt": lambda p: p.prompt_mode,
    "seeds": lambda p: "; ".join(f"{task} {', '.join(map(str, s))}" for task, s in p.seeds.items()),
    "device": lambda p: ", ".join(f"{name} {value}" for name, value in p.device.items()),
    "threads": lambda p: str(p.threads),
    "versions": lambda p: ", ".join(f"{name} {value}" for name, value in p.versions.items()),
    "budget": lambda p: json.dumps(p.budget),
    "controller": lambda p: json.dumps(p.controller),
    "report": lambda p: p.report,
}


def _points(sweep: Sweep, columns: Mapping[str, Callable[[Point], str]]) -> str:
    return _table(list(columns), [[cell(point) for cell in columns.values()] for point in sweep.points])


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in ("", *names))
    body = "".join(
        f'<tr><th style="min-width:1.5rem">{i}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row)}</tr>'
        for i, row in enumerate(rows, start=1)
    )
    return f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def _phases(sweep: Sweep) -> str:
    """Shares of phases and failure tags, a row per dimension and phase or tag, a column per point."""
    columns = [
        (_budget(p), {row[:2]: row[2] for row in failure_rows(p.failures)})
        for p in sweep.points
        if p.failures
    ]
    if not columns:
        return ""
    keys = list(dict.fromkeys(key for _, cells in columns for key in cells))
    rows = [[*key, *(cells.get(key, "–") for _, cells in columns)] for key in keys]
    table = _table(["dimension", "", *(name for name, _ in columns)], rows)
    return (
        f'<section class="card"><h2>How far episodes got, and why they failed</h2>'
        f'<div class="scroll">{table}</div></section>'
    )


def _refused(sweep: Sweep) -> str:
    if not sweep.refused:
        return ""
    table = _table(["budget", "reason"], [[_budget(r), r.reason] for r in sweep.refused])
    return f'<section class="card"><h2>Not run</h2><div class="scroll">{table}</div></section>'
