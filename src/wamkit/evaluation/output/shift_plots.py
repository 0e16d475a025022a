"""SVG plots of success under perturbation."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wamkit.errors import ConfigError
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
from wamkit.evaluation.report.shifts import ShiftTable
from wamkit.evaluation.report.statistics import Difference

_PANELS_PER_ROW = 2
_STRONGEST = 5  # largest strength of a perturbation
_SPREAD = 0.16  # horizontal distance between the marks of two reports, in strengths, so that intervals do not overlap


def strength_plot(reports: Sequence[Report]) -> str:
    """Success with Wilson 95 % intervals against strength, one panel per dimension; strength 0 is the clean arm."""
    names = _dimensions(reports)
    rows = -(-len(names) // _PANELS_PER_ROW)
    with style("strength"):
        figure = Figure(figsize=(WIDTH, 0.5 + 1.55 * rows), layout="constrained")
        figure.patch.set_alpha(0)
        grid = figure.subplots(rows, _PANELS_PER_ROW, sharex=True, sharey=True, squeeze=False)
        panels = grid.ravel().tolist()
        for axes, name in zip(panels, names, strict=False):
            _panel(axes, reports, name)
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        for position in range(max(len(names) - _PANELS_PER_ROW, 0), len(names)):
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
    axes.set_xlim(-0.5, _STRONGEST + 0.5)
    axes.set_ylim(-4, 104)
    axes.set_xticks(range(_STRONGEST + 1))
    axes.set_yticks([0, 50, 100])
    for i, report in enumerate(reports):
        shift = _SPREAD * (i - (len(reports) - 1) / 2)
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


def require_shifts(report: Report) -> ShiftTable:
    """Table of perturbations of a report; :class:`ConfigError` if no episode was perturbed."""
    if report.shifts is None:
        raise ConfigError(f"report {report.name!r} has no perturbed episodes to show")
    return report.shifts


def _curve(report: Report, dimension: str) -> list[tuple[int, Score]]:
    table = require_shifts(report)
    clean = [(0, s.clean) for s in table.dimensions if s.dimension == dimension]
    return clean + [(s.strength or 0, s.score) for s in table.strengths if s.dimension == dimension]


def _bars(score: Score) -> tuple[float, float, float] | None:
    """Rate and the distances to the lower and upper end of its interval, %; None without a scored episode."""
    if score.rate is None:
        return None
    low, high = score.wilson_95
    return 100 * score.rate, 100 * (score.rate - low), 100 * (high - score.rate)


def difference_plot(reports: Sequence[Report]) -> str:
    """Difference to the clean arm by dimension and report, with Newcombe's paired 95 % interval."""
    groups = [
        (name, [(report.name, _difference(report, name)) for report in reports])
        for name in _dimensions(reports)
    ]
    return forest(groups, "difference to clean, percentage points", "Difference to the clean arm", "shift")


def forest(
    groups: Sequence[tuple[str, Sequence[tuple[str, Difference | None]]]], label: str, title: str, salt: str
) -> str:
    """Forest plot with a line per group and series: a difference, its 95 % interval and its n.

    Args:
        groups: pairs of a group's name and its series, each a name and a difference, or None if there is none.
        label: label of the axis.
        title: text for screen readers.
        salt: key that makes the ids of this plot unique on the page.
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


def _difference(report: Report, dimension: str) -> Difference | None:
    shifts = (s for s in require_shifts(report).dimensions if s.dimension == dimension)
    return next((shift.difference for shift in shifts), None)
