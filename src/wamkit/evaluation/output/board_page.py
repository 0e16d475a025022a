"""Page ``board.html``: all trainings of a folder, a row each, with their curves and what was measured of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from urllib.parse import quote

from wamkit.evaluation.output.board import STATES, Curve, TrainedRun
from wamkit.evaluation.output.plots import SERIES, canvas, short_name, style, to_svg
from wamkit.evaluation.output.report_page import page
from wamkit.storage.documents import write_atomically

POINTS = 300  # points of a curve that are drawn
NAMED = 10  # curves of a plot up to which a legend names them
LINES = ("-", "--", ":", "-.")
SPARK = (100, 24)  # size of a small curve in a row, in its own units
HELD_OUT = "held-out loss"

Cell = tuple[
    str, str
]  # what a column is sorted by (a number or a text, empty for nothing), and what it shows


def write_board(runs: Sequence[TrainedRun], notes: Sequence[str], title: str, path: Path) -> None:
    """Write the page atomically. It is self-contained; its one script sorts the table."""
    write_atomically(path, render_board(runs, notes, title, path).encode())


def render_board(runs: Sequence[TrainedRun], notes: Sequence[str], title: str, path: Path) -> str:
    """Page as text, with links relative to ``path``."""
    counts = ", ".join(f"{n} {state}" for state in STATES if (n := sum(run.state == state for run in runs)))
    return page(
        "board_page.html",
        title=escape(f"Runs in {title}"),
        headline=f'<p class="headline"><strong>{len(runs)} runs: {counts or "none"}</strong></p>',
        table=_table(runs, path.parent),
        plots=_plots(runs),
        problems=_problems(runs, notes),
    )


def _table(runs: Sequence[TrainedRun], beside: Path) -> str:
    streams = list(dict.fromkeys(name for run in runs for name in run.losses))
    columns: dict[str, Callable[[TrainedRun], Cell]] = {"state": _state, "step": _step}
    for name in streams:
        columns[f"loss {name}"] = partial(_last, name)
    columns |= {
        "curve": _spark,
        "best held-out loss": _best,
        "success, %": _success,
        "latency, ms": _latency,
        "measured": lambda run: _links(run, beside),
        "design": lambda run: _text(run.about.get("name")),
        "tuple": lambda run: _text(" · ".join(map(str, _mapping(_fact(run, "tuple")).values()))),
        "formula": lambda run: _text(_fact(run, "formula")),
        "commit": _commit,
    }
    head = "".join(f'<th scope="col"><button>{escape(name)}</button></th>' for name in ("run", *columns))
    rows = []
    for run in runs:
        cells = "".join(_cell(name, cell(run)) for name, cell in columns.items())
        rows.append(f'<tr><th scope="row" data-v="{escape(run.name)}">{escape(run.name)}</th>{cells}</tr>')
    return f'<table id="runs"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'


def _cell(name: str, cell: Cell) -> str:
    long = ' class="long"' if name in ("tuple", "formula") else ""
    return f'<td{long} data-v="{escape(cell[0])}">{cell[1]}</td>'


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _fact(run: TrainedRun, name: str) -> object:
    """A fact about the design: as the run recorded it, or as the report of an older run says."""
    recorded = run.about.get(name)
    return recorded if recorded or run.report is None else run.report.design.get(name)


def _text(value: object) -> Cell:
    text = "" if value is None else str(value)
    return text, escape(text) or "–"


def _number(value: float | None, shown: str = "") -> Cell:
    return ("", "–") if value is None else (repr(float(value)), escape(shown or f"{value:.4g}"))


def _state(run: TrainedRun) -> Cell:
    return run.state, f'<span class="{run.state}">{run.state}</span>'


def _step(run: TrainedRun) -> Cell:
    return _number(run.step, f"{run.step}" + ("" if run.steps is None else f" of {run.steps}"))


def _last(stream: str, run: TrainedRun) -> Cell:
    curve = run.losses.get(stream, ())
    return _number(curve[-1][1] if curve else None)


def _best(run: TrainedRun) -> Cell:
    if not run.held_out:
        return "", "–"
    step, value = min(run.held_out, key=lambda point: point[1])
    return _number(value, f"{value:.4g} at step {step}")


def _success(run: TrainedRun) -> Cell:
    if run.report is None or run.report.mean_over_tasks.rate is None:
        return "", "–"
    mean = run.report.mean_over_tasks
    assert mean.rate is not None
    return _number(
        mean.rate, f"{100 * mean.rate:.0f} [{100 * mean.low:.0f}, {100 * mean.high:.0f}], n = {mean.n}"
    )


def _latency(run: TrainedRun) -> Cell:
    ms = None if run.report is None else run.report.latency_ms
    return ("", "–") if ms is None or ms.p50 is None else _number(ms.p50, f"{ms.p50:.3g}, n = {ms.n}")


def _commit(run: TrainedRun) -> Cell:
    commit = str(_mapping(run.about.get("versions")).get("commit", ""))
    if not commit:
        return "", "–"
    number, changed, _ = commit.partition("+")
    return commit, f"<code>{escape(number[:10])}</code>{'+' if changed else ''}"


def _links(run: TrainedRun, beside: Path) -> Cell:
    shown = []
    for one in run.measured:
        kind = "prediction" if one.report is None else "report"
        file = one.folder / f"{kind}.html"
        file = file if file.is_file() else file.with_suffix(".json")
        address = quote(Path(os.path.relpath(file, beside)).as_posix())
        label = os.path.relpath(one.folder, run.folder)
        label = kind if label == "." else f"{kind} {one.folder.name}"
        shown.append(f'<a href="{address}">{escape(label)}</a>')
    return str(len(shown) or ""), ", ".join(shown) or "–"


def _spark(run: TrainedRun) -> Cell:
    """Small curve of the held-out loss, or of the first stream's."""
    curve = thinned(run.held_out or next(iter(run.losses.values()), ()))
    if len(curve) < 2:
        return "", "–"
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    low, height = min(values), max(values) - min(values) or 1.0
    width, tall = SPARK
    points = " ".join(
        f"{width * (step - steps[0]) / (steps[-1] - steps[0] or 1):.1f},{tall * (1 - (value - low) / height):.1f}"
        for step, value in curve
    )
    svg = (
        f'<svg role="img" aria-label="from {values[0]:.3g} to {values[-1]:.3g}" viewBox="-1 -1 {width + 2} {tall + 2}">'
        f'<polyline points="{points}" fill="none" stroke="{SERIES[0]}" stroke-width="1.5"/></svg>'
    )
    return repr(values[-1]), svg


def thinned(curve: Curve) -> Curve:
    """A curve with at most :data:`POINTS` points, its first and last among them."""
    if len(curve) <= POINTS:
        return curve
    return tuple(curve[round(i * (len(curve) - 1) / (POINTS - 1))] for i in range(POINTS))


def _plots(runs: Sequence[TrainedRun]) -> str:
    """One plot per loss, a line per run."""
    groups = {HELD_OUT: [(run.name, run.held_out) for run in runs]}
    for name in dict.fromkeys(name for run in runs for name in run.losses):
        groups[f"loss of {name}"] = [(run.name, run.losses.get(name, ())) for run in runs]
    cards = []
    for title, curves in groups.items():
        drawn = [(name, curve) for name, curve in curves if curve]
        if drawn:
            cards.append(
                f'<section class="card"><h2>{escape(title.capitalize())}</h2>{curve_plot(drawn, title)}</section>'
            )
    return f'<div class="grid">{"".join(cards)}</div>' if cards else ""


def curve_plot(curves: Sequence[tuple[str, Curve]], title: str) -> str:
    """Curves over steps, on a logarithmic axis where all values are above 0."""
    with style(f"board {title}"):
        figure, axes = canvas(2.9 if len(curves) > NAMED else 2.6 + 0.1 * len(curves))
        for i, (name, curve) in enumerate(curves):
            steps, values = zip(*thinned(curve), strict=True)
            dashes = LINES[i // len(SERIES) % len(LINES)]
            mark = "." if len(steps) == 1 else ""
            axes.plot(
                steps,
                values,
                dashes,
                color=SERIES[i % len(SERIES)],
                label=short_name(name),
                lw=1.3,
                marker=mark,
            )
        if all(value > 0 for _, curve in curves for _, value in curve):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:.2g}")
            axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.set_xlabel("step")
        axes.set_ylabel(title)
        if len(curves) <= NAMED:
            axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, handletextpad=0.4)
        return to_svg(figure, f"{title.capitalize()} over steps")


def _problems(runs: Sequence[TrainedRun], notes: Sequence[str]) -> str:
    lines = [f"{run.name}: {problem}" for run in runs for problem in run.problems] + list(notes)
    if not lines:
        return ""
    items = "".join(f'<p class="warn">{escape(line)}</p>' for line in lines)
    return f'<section class="card"><h2>What cannot be read</h2>{items}</section>'
