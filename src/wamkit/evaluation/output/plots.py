"""SVG plots of reports; text and axes take the colour of the page, light or dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from html import escape
from typing import Any

from wamkit.envs.perturbations.suite import CLEAN
from wamkit.errors import MissingExtraError
from wamkit.evaluation.report.report import STATUSES, Report

try:
    import matplotlib as mpl
    import matplotlib.patches
    import matplotlib.ticker
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
except ImportError as error:
    raise MissingExtraError("The HTML report needs matplotlib: pip install 'wamkit[report]'.") from error

# Palette of Okabe and Ito: distinguishable for colour-blind readers, legible on white and on dark grey.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
STATUS_MARKS = {
    "success": ("o", "#009E73"),
    "failure": ("X", "#D55E00"),
    "timeout": ("s", "#E69F00"),
    "error": ("^", "#CC79A7"),
}
INK = "#010203"  # placeholder, replaced by the page's text colour when the SVG is written
WIDTH = 4.3  # inches (310 px), so that text keeps its size on a phone

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def success_plot(reports: Sequence[Report]) -> str:
    """Success rate per task and report with Wilson 95 % intervals, and successes of n beside each bar."""
    tasks = list(dict.fromkeys(task for report in reports for task in report.tasks))
    rows = len(tasks) * len(reports)
    with style("success"):
        figure, axes = canvas(0.9 + 0.34 * rows + 0.2 * len(tasks))
        for i, report in enumerate(reports):
            for k, task in enumerate(tasks):
                _bar(axes, report, task, k * (len(reports) + 0.6) + i, SERIES[i % len(SERIES)])
        centres = [k * (len(reports) + 0.6) + (len(reports) - 1) / 2 for k in range(len(tasks))]
        axes.set_yticks(centres, [broken_name(task) for task in tasks])
        axes.invert_yaxis()
        axes.set_xlim(0, 132)
        axes.set_xticks([0, 20, 40, 60, 80, 100])
        axes.set_xlabel("success, %, with Wilson 95 % interval")
        draw_legend(axes, [report.name for report in reports])
        return to_svg(figure, "Success rate per task with Wilson 95 percent intervals")


def _bar(axes: Axes, report: Report, task: str, y: float, colour: str) -> None:
    score = report.tasks.get(task)
    if score is None or score.rate is None:
        axes.text(1, y, "no scored episode", va="center")
        return
    low, high = (100 * bound for bound in score.wilson_95)
    rate = 100 * score.rate
    axes.barh(y, rate, height=0.8, color=colour, alpha=0.85)
    axes.errorbar(rate, y, xerr=[[rate - low], [high - rate]], color=INK, capsize=3, linewidth=1.2)
    axes.text(103, y, f"{score.successes}/{score.n}", va="center")


def latency_plot(reports: Sequence[Report]) -> str:
    """Histogram of single-robot call times; the time of one action and the deadline of the chunk are marked."""
    with style("latency"):
        figure, axes = canvas(2.8)
        samples = [report.latency_samples_ms for report in reports]
        limits = [report.deadline.allowed_ms for report in reports if report.deadline.allowed_ms is not None]
        periods = [1000 / report.control_hz for report in reports]
        pooled = [ms for sample in samples for ms in sample]
        if pooled:
            # Calls are often far below the deadline; a log axis shows both.
            low, high = 0.8 * min(pooled), 1.3 * max(*pooled, *limits, *periods)
            ratio = (high / low) ** (1 / 60)
            edges = [low * ratio**i for i in range(61)]
            for i, sample in enumerate(samples):
                axes.hist(
                    sample,
                    bins=edges,
                    color=SERIES[i % len(SERIES)],
                    alpha=0.7,
                    label=short_name(reports[i].name),
                )
            axes.set_xscale("log")
            axes.set_xlim(low, high)
            axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        for period in sorted(set(periods)):
            axes.axvline(period, color=INK, linestyle=":", label=f"one action {period:g} ms")
        for limit in sorted(set(limits) - set(periods)):
            axes.axvline(limit, color=INK, linestyle="--", label=f"deadline K/f {limit:g} ms")
        axes.set_xlabel("one call for one robot, ms")
        axes.set_ylabel("calls")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.4)
        return to_svg(figure, "Histogram of model call times")


def status_plot(reports: Sequence[Report]) -> str:
    """Outcome of every unperturbed episode, one mark each, in order."""
    lines = [(report, task) for report in reports for task in report.tasks]
    with style("status"):
        names = [
            broken_name(task) + (f"\n{short_name(report.name)}" if len(reports) > 1 else "")
            for report, task in lines
        ]
        figure, axes = canvas(1.1 + 0.19 * sum(2 + name.count("\n") for name in names))
        for y, (report, task) in enumerate(lines):
            statuses = [e.status for e in report.episodes if e.task == task and e.dimension == CLEAN]
            for status in STATUSES:
                marker, colour = STATUS_MARKS[status]
                xs = [x for x, s in enumerate(statuses, start=1) if s == status]
                axes.scatter(
                    xs, [y] * len(xs), marker=marker, color=colour, s=22, label=status if y == 0 else None
                )
        axes.set_yticks(range(len(lines)), names)
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
        axes.set_xlabel("unperturbed episode" if any(r.shifts for r in reports) else "episode")
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.4)
        return to_svg(figure, "How every episode ended")


def canvas(height: float) -> tuple[Figure, Axes]:
    """Figure with one plot, as wide as a phone and ``height`` inches high, on a transparent background."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def draw_legend(axes: Axes, names: Sequence[str]) -> None:
    """Add a legend above the plot if there are several series."""
    if len(names) > 1:
        shown = [short_name(name) for name in names]
        handles = [mpl.patches.Patch(color=SERIES[i % len(SERIES)], label=n) for i, n in enumerate(shown)]
        columns = 2 if sum(len(name) for name in shown) > 30 else len(names)
        axes.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns)


def short_name(name: str) -> str:
    """Name of a report, cut in the middle to at most 20 characters, so that a legend leaves room for the plot."""
    return name if len(name) <= 20 else f"{name[:9]}…{name[-10:]}"


def broken_name(task: str) -> str:
    """Break a long task name into lines, so that it leaves room for the plot."""
    words, lines = task.split("-"), [""]
    for word in words:
        joined = f"{lines[-1]}-{word}" if lines[-1] else word
        if len(joined) > 14 and lines[-1]:
            lines[-1] += "-"
            lines.append(word)
        else:
            lines[-1] = joined
    return "\n".join(lines)


def style(salt: str) -> AbstractContextManager[None]:
    """Context in which plots are drawn.

    The salt must be unique among the plots of a page. It makes their ids unique and keeps the page reproducible.
    """
    return mpl.rc_context({**RC, "svg.hashsalt": salt})


def to_svg(figure: Figure, label: str) -> str:
    """SVG element of a figure, with a label for screen readers."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    # The page sets the size; the viewBox keeps the proportions.
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    return text.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)
