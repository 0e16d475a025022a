"""Section of ``report.html`` on prediction quality, beside the success rate of the same checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from wamkit.evaluation.prediction.estimates import Estimate
from wamkit.evaluation.prediction.prediction import Distance, Prediction, PredictionRow
from wamkit.evaluation.report.report import Report

LEGEND = (
    "Mean over windows with a 95 % bootstrap interval that resamples whole episodes. Present held: the present frame "
    "repeated. Truth as coded: the real future passed through the same substrate, an upper bound on any prediction in "
    "it. Gain: model over present held, window by window, positive where the model is better. Drift: how much worse "
    "the model is than the truth as coded."
)
_COLUMNS = ("model", "present held", "truth as coded", "gain", "drift")


def prediction_section(reports: Sequence[Report], predictions: Sequence[Prediction | None]) -> str:
    """Prediction quality of the reports' checkpoints; empty if none was measured."""
    shown = [(r, p) for r, p in zip(reports, predictions, strict=True) if p is not None]
    if not shown:
        return ""
    parts = "".join(_part(report, prediction) for report, prediction in shown)
    head = f'<h2>Prediction beside control</h2><p class="soft">{LEGEND}</p>'
    return f'<section class="card">{head}{parts}</section>'


def _part(report: Report, prediction: Prediction) -> str:
    success = report.mean_over_tasks
    rate = "no scored episode"
    if success.rate is not None:
        span = f"[{100 * success.low:.0f},\N{NO-BREAK SPACE}{100 * success.high:.0f}]"
        rate = f"success {100 * success.rate:.0f}\N{NO-BREAK SPACE}% {span}, n = {success.n}"
    if report.checkpoint and prediction.checkpoint and report.checkpoint != prediction.checkpoint:
        return (
            f'<h3>{escape(report.name)}</h3><p class="warn">The prediction file beside this report is of another '
            f"checkpoint ({escape(prediction.checkpoint[:12])}, not {escape(report.checkpoint[:12])}) and is not "
            f"shown: measure this one with wamkit predict.</p>"
        )
    summary = (
        f"{rate}; {prediction.windows} windows of {prediction.episodes} episodes, {prediction.actions} actions, "
        f"demonstrations {prediction.dataset or 'unnamed'}"
    )
    return (
        f'<h3>{escape(report.name)}</h3><p class="soft">{escape(summary)}</p>{_warnings(report, prediction)}'
        f'<div class="scroll">{prediction_table_html(prediction)}</div>'
    )


def _warnings(report: Report, prediction: Prediction) -> str:
    notes = list(prediction.notes)
    if prediction.dataset is not None and prediction.dataset == report.dataset:
        notes.append("measured on the very demonstrations that it was trained on")
    return "".join(f'<p class="warn">{escape(note)}</p>' for note in notes)


def prediction_table_html(prediction: Prediction) -> str:
    """Table with a block per reading and measure and a row per horizon, followed by the Frechet distances."""
    head = "".join(f"<th>{name}</th>" for name in ("", *_COLUMNS))
    body = []
    for title in dict.fromkeys(_title(row) for row in prediction.rows):
        body.append(_part_row(title))
        body += [_row(row) for row in prediction.rows if _title(row) == title]
    if prediction.distances:
        body.append(_part_row("Frechet distances, lower is better; floor: between two halves of the truth"))
        body += [_distance(distance) for distance in prediction.distances]
    return f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _title(row: PredictionRow) -> str:
    unit = f", {row.unit}" if row.unit else ""
    rolled = "" if row.calls == 1 else ", rolled out"
    return f"{row.stream}, {row.reading}: {row.measure}{unit}, {row.better} is better{rolled}"


def _part_row(title: str) -> str:
    return f'<tr class="part"><th colspan="{len(_COLUMNS) + 1}">{escape(title)}</th></tr>'


def _row(row: PredictionRow) -> str:
    step = f"+{row.step} ticks" if row.clock == "ticks" else f"milestone {row.step}"
    noun = "episode" if row.model.episodes == 1 else "episodes"
    name = f"{step}, n = {row.model.n} ({row.model.episodes} {noun})"
    arms = (row.model, row.copy, row.ideal, row.gain, row.drift)
    cells = "".join(f"<td>{estimate_text(arm)}</td>" for arm in arms)
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"


def estimate_text(value: Estimate) -> str:
    """Mean with its interval, for a cell."""
    if value.mean is None:
        return "none"
    if value.low is None or value.high is None:
        return f"{value.mean:.3g} (one episode)"
    return f"{value.mean:.3g} [{value.low:.3g},\N{NO-BREAK SPACE}{value.high:.3g}]"


def _distance(d: Distance) -> str:
    name = f"{d.stream}, {d.name}, +{d.step} ticks, n = {d.n}"
    model, copy, floor = ("none" if v is None else f"{v:.3g}" for v in (d.model, d.copy, d.floor))
    cells = f'<td>{model}</td><td>{copy}</td><td>floor {floor}</td><td colspan="2">{escape(d.note)}</td>'
    return f"<tr><th>{escape(name)}</th>{cells}</tr>"
