"""Page ``prediction.html``: a checkpoint against recordings, its actions over time and its futures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from wamkit.evaluation.output.plots import INK, SERIES, WIDTH, Axes, Figure, style, to_svg
from wamkit.evaluation.output.prediction_section import LEGEND, estimate_text, prediction_table_html
from wamkit.evaluation.output.report_page import page
from wamkit.evaluation.prediction.estimates import Estimate
from wamkit.evaluation.prediction.open_loop import OpenLoop, OpenLoopRow, Trace
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.storage.documents import write_atomically

ENOUGH = 5  # episodes below which a bootstrap over them is said to be worth little
PANEL = 1.15  # height of the plot of one action entry, inches
ARMS = {"model": "policy", "repeat": "last action repeated", "mean": "mean action"}
_OPEN_LOOP = (
    "Mean absolute error of the predicted actions against the recorded ones, in the unit of each entry, over all steps "
    "of a chunk. Last action repeated: the action executed just before the call, held (with absolute actions: hold "
    "still). Mean action: that of the training data. Better by: error of the trivial policy minus that of this one, "
    "window by window; positive where this one is better."
)


def write_prediction(prediction: Prediction, path: Path) -> None:
    """Write the page atomically. It is self-contained and runs no script."""
    write_atomically(path, render_prediction(prediction).encode())


def render_prediction(prediction: Prediction) -> str:
    """Page as text."""
    measured = prediction.open_loop
    return page(
        "prediction_page.html",
        title=escape(f"Prediction: {prediction.name}"),
        headline=_headline(prediction),
        open_loop="" if measured is None else open_loop_section(measured),
        traces="" if measured is None else "".join(_trace(measured, trace) for trace in measured.traces),
        futures=_futures(prediction),
    )


def _headline(prediction: Prediction) -> str:
    lines = []
    if prediction.open_loop is not None:
        lines.append(f'<p class="headline"><strong>{escape(prediction.open_loop.headline())}</strong></p>')
    cells = " · ".join(str(cell) for cell in prediction.design.get("tuple", {}).values())
    texts = (cells, str(prediction.design.get("formula", "")), prediction.measured_on)
    lines.append(f'<p class="soft">{escape("   |   ".join(text for text in texts if text))}</p>')
    lines += [f'<p class="warn">{escape(note)}</p>' for note in prediction.notes]
    return "".join(lines)


def open_loop_section(measured: OpenLoop) -> str:
    """Table and plot of the errors."""
    few = len(measured.episodes) < ENOUGH
    said = (
        f'<p class="warn">Fewer than {ENOUGH} episodes: the intervals say little. Measure on more.</p>'
        if few
        else ""
    )
    return (
        f'<section class="card"><h2>Actions against recorded ones</h2><p class="soft">{_OPEN_LOOP}</p>{said}'
        f'<div class="scroll">{open_loop_table(measured)}</div><h3>Error over the steps of a chunk</h3>'
        f"{step_plot(measured)}</section>"
    )


def open_loop_table(measured: OpenLoop) -> str:
    """Table with a row per action entry."""
    names = ("action entry", *ARMS.values(), "better than repeating by", "better than the mean by")
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(_row(row) for row in measured.of_chunk())
    return f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(row: OpenLoopRow) -> str:
    arms = (row.model, row.repeat, row.mean, row.over_repeat, row.over_mean)
    cells = "".join(f"<td>{estimate_text(value)}</td>" for value in arms)
    return f"<tr><th>{escape(row.column)}</th>{cells}</tr>"


def step_plot(measured: OpenLoop) -> str:
    """Error of every entry against the step within the chunk, with 95 % bands, beside the trivial policies."""
    with style("open-loop-steps"):
        figure, panels = stacked(len(measured.columns))
        for axes, column in zip(panels, measured.columns, strict=True):
            for (arm, label), colour in zip(ARMS.items(), SERIES, strict=False):
                _band(
                    axes,
                    [(row.step or 0, getattr(row, arm)) for row in measured.of_steps(column)],
                    label,
                    colour,
                )
            axes.set_ylim(bottom=0)
            axes.set_title(column, fontsize=9, loc="left")
        panels[-1].set_xlabel("step of the chunk, control ticks")
        panels[0].legend(loc="lower center", bbox_to_anchor=(0.5, 1.25), ncols=2, fontsize=8)
        return to_svg(figure, "Error of the predicted actions over the steps of a chunk")


def _band(axes: Axes, points: Sequence[tuple[int, Estimate]], label: str, colour: str) -> None:
    """Draw a mean over steps with its interval."""
    known = [(step, e.mean) for step, e in points if e.mean is not None]
    axes.plot(
        [step for step, _ in known], [mean for _, mean in known], color=colour, label=label, linewidth=1.4
    )
    bands = [(step, e.low, e.high) for step, e in points if e.low is not None and e.high is not None]
    if bands:
        steps, low, high = ([band[i] for band in bands] for i in range(3))
        axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)


def _trace(measured: OpenLoop, trace: Trace) -> str:
    return (
        f'<section class="card"><h2>Episode {trace.episode}: recorded against predicted</h2>'
        f'<p class="soft">Dotted: recorded. Solid: predicted, one chunk after another, each from what was recorded at '
        f"its beginning; the colour changes with the chunk.</p>{trace_plot(measured, trace)}</section>"
    )


def trace_plot(measured: OpenLoop, trace: Trace) -> str:
    """Recorded and predicted actions of an episode over time, one panel per entry."""
    period = 1 / measured.rate_hz
    with style(f"open-loop-{trace.episode}"):
        figure, panels = stacked(len(measured.columns))
        for i, (axes, column) in enumerate(zip(panels, measured.columns, strict=True)):
            times = [tick * period for tick in range(len(trace.recorded))]
            axes.plot(
                times, [action[i] for action in trace.recorded], color=INK, linestyle=":", linewidth=1.2
            )
            for k, chunk in enumerate(trace.chunks):
                ticks = [(chunk.tick + step) * period for step in range(len(chunk.actions))]
                values = [action[i] for action in chunk.actions]
                mark = "." if len(values) == 1 else ""
                axes.plot(ticks, values, color=SERIES[k % 2], linewidth=1.2, marker=mark)
            axes.set_title(column, fontsize=9, loc="left")
        panels[-1].set_xlabel("time, s")
        return to_svg(figure, f"Recorded and predicted actions of episode {trace.episode}")


def stacked(count: int) -> tuple[Figure, Sequence[Axes]]:
    """Figure with ``count`` plots above each other that share the horizontal axis."""
    figure = Figure(figsize=(WIDTH, 0.7 + PANEL * count), layout="constrained")
    figure.patch.set_alpha(0)
    panels = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0]
    for axes in panels:
        axes.patch.set_alpha(0)
    return figure, list(panels)


def _futures(prediction: Prediction) -> str:
    if not prediction.rows and not prediction.distances:
        return ""
    return (
        f'<section class="card"><h2>Futures against recorded ones</h2><p class="soft">{LEGEND} {prediction.windows} '
        f"windows of {prediction.episodes} episodes, {escape(prediction.actions)} actions.</p>"
        f'<div class="scroll">{prediction_table_html(prediction)}</div></section>'
    )
