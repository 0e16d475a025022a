"""Plots of perturbed episodes as SVG."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wamkit.evaluation.output.plots import (
    INK,
    SERIES,
    WIDTH,
    broken_name,
    canvas,
    draw_legend,
    short_name,
    style,
    to_svg,
)
from wamkit.evaluation.report.report import Report, Score
from wamkit.evaluation.report.shifts import Shift
from wamkit.evaluation.report.statistics import Difference

COLUMNS = 2
STRONGEST = 5
SPREAD = 0.16  # strengths between the marks of two reports, so that their intervals do not hide each other


def strength_plot(reports: Sequence[Report]) -> str:
    """One panel per dimension: success with Wilson 95 % intervals against strength; strength 0 is the clean arm."""
    names = _dimensions(reports)
    rows = -(-len(names) // COLUMNS)
    with style("strength"):
        figure = Figure(figsize=(WIDTH, 0.5 + 1.55 * rows), layout="constrained")
        figure.patch.set_alpha(0)
        panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel().tolist()
        for axes, name in zip(panels, names, strict=False):
            _panel(axes, reports, name)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for position in range(max(len(names) - COLUMNS, 0), len(names)):
            panels[position].tick_params(labelbottom=True)
        figure.supxlabel("strength (0: clean)", fontsize=10)
        figure.supylabel("success, %", fontsize=10)
        if len(reports) > 1:
            handles, labels = panels[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside upper center", ncols=2)
        return to_svg(
            figure, "Success against strength of each perturbation with Wilson 95 percent intervals"
        )


def _panel(axes: Axes, reports: Sequence[Report], name: str) -> None:
    axes.patch.set_alpha(0)
    axes.set_title(name, fontsize=9)
    axes.set_xlim(-0.5, STRONGEST + 0.5)
    axes.set_ylim(-4, 104)
    axes.set_xticks(range(STRONGEST + 1))
    axes.set_yticks([0, 50, 100])
    for i, report in enumerate(reports):
        shift = SPREAD * (i - (len(reports) - 1) / 2)
        marks = [(x + shift, *bars) for x, score in _curve(report, name) if (bars := _bars(score))]
        xs, ys, down, up = zip(*marks, strict=True) if marks else ((), (), (), ())
        colour = SERIES[i % len(SERIES)]
        axes.errorbar(
            xs,
            ys,
            yerr=[down, up],
            color=colour,
            marker="o",
            ms=3.5,
            lw=1,
            capsize=2,
            label=short_name(report.name),
        )


def _curve(report: Report, dimension: str) -> list[tuple[int, Score]]:
    assert report.shifts is not None
    clean = [(0, s.clean) for s in report.shifts.dimensions if s.dimension == dimension]
    return clean + [(s.strength or 0, s.score) for s in report.shifts.strengths if s.dimension == dimension]


def _bars(score: Score) -> tuple[float, float, float] | None:
    """Rate and the lengths of its interval downwards and upwards, %."""
    if score.rate is None:
        return None
    low, high = score.wilson_95
    return 100 * score.rate, 100 * (score.rate - low), 100 * (high - score.rate)


def difference_plot(reports: Sequence[Report]) -> str:
    """Per dimension and report: the difference to the clean arm, with Newcombe's paired 95 % interval."""
    groups = [
        (name, [(report.name, _row(report, name)) for report in reports]) for name in _dimensions(reports)
    ]
    labelled = [(n, [(r, None if s is None else s.difference) for r, s in shifts]) for n, shifts in groups]
    return forest(labelled, "difference to clean, percentage points", "Difference to the clean arm", "shift")


def forest(
    groups: Sequence[tuple[str, Sequence[tuple[str, Difference | None]]]], label: str, title: str, salt: str
) -> str:
    """A line per group and series: a difference, its 95 % interval and its n.

    Args:
        groups: (name of the group, series of (name, difference or None where there is none)).
        label: of the axis.
        title: what a screen reader says.
        salt: keeps the ids of this plot apart from those of others on the page.
    """
    series = list(dict.fromkeys(name for _, lines in groups for name, _ in lines))
    step = len(series) + 0.6
    with style(salt):
        figure, axes = canvas(0.9 + (0.2 + 0.2 * len(series)) * len(groups))
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        for k, (_, lines) in enumerate(groups):
            for name, difference in lines:
                i = series.index(name)
                _interval(axes, difference, k * step + i, SERIES[i % len(SERIES)])
        axes.set_yticks(
            [k * step + (len(series) - 1) / 2 for k in range(len(groups))],
            [broken_name(name.replace(" ", "\n", 1) if len(name) > 16 else name) for name, _ in groups],
        )
        axes.set_ylim(len(groups) * step - 0.8, -0.8)
        axes.set_xlim(-108, 138)
        axes.set_xticks([-100, -50, 0, 50, 100])
        axes.set_xlabel(label)
        draw_legend(axes, series)
        return to_svg(figure, title)


def _interval(axes: Axes, difference: Difference | None, y: float, colour: str) -> None:
    if difference is None or difference.difference is None:
        axes.text(-104, y, "no pair", va="center", fontsize=8)
        return
    value, low, high = (100 * v for v in (difference.difference, difference.low, difference.high))
    axes.errorbar(
        value, y, xerr=[[value - low], [high - value]], color=colour, marker="o", ms=4, lw=1.4, capsize=3
    )
    axes.text(106, y, f"n={difference.n}", va="center", fontsize=8)


def _dimensions(reports: Sequence[Report]) -> list[str]:
    return list(dict.fromkeys(s.dimension for r in reports if r.shifts for s in r.shifts.dimensions))


def _row(report: Report, dimension: str) -> Shift | None:
    assert report.shifts is not None
    return next((s for s in report.shifts.dimensions if s.dimension == dimension), None)
