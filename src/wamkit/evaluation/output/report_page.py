"""Page ``report.html``: one report, or several side by side, on a self-contained page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from PIL import Image

from wamkit.errors import ConfigError
from wamkit.evaluation.output.failure_section import failure_section
from wamkit.evaluation.output.films import FAILED, links
from wamkit.evaluation.output.plots import latency_plot, status_plot, success_plot
from wamkit.evaluation.output.prediction_section import prediction_section
from wamkit.evaluation.output.rates import rate, steps
from wamkit.evaluation.output.shift_section import shift_section
from wamkit.evaluation.prediction.prediction import PREDICTION_FILE, Prediction
from wamkit.evaluation.report.episode import EpisodeRecord
from wamkit.evaluation.report.filmstrip import Filmstrip, Frames
from wamkit.evaluation.report.report import Report, Score
from wamkit.evaluation.report.statistics import Summary
from wamkit.storage.documents import write_atomically

_FILM_LEGEND = (
    "Top: frames that the design imagined at the call. Below: frames that the camera then recorded. PSNR of imagined "
    "against real in dB (higher is closer); in brackets the PSNR of a copy of the frame at the call."
)
_EPISODE_COLUMNS = ("task", "seed", "end", "ticks", "calls", "instruction")

Films = Mapping[str, str]  # episode key -> address of its film, relative to the page
TableRow = tuple[str, Callable[[Report], str]]


def write_page(runs: Sequence[tuple[Report, Path]], path: Path) -> None:
    """Write the page of one or several reports, with the films and the ``prediction.json`` beside each of them.

    Args:
        runs: reports and their folders.
        path: output file.

    Raises:
        ConfigError: there is no report.
        DataError: the ``prediction.json`` beside a report cannot be read.
    """
    films = [links(report, folder, path) for report, folder in runs]
    files = [folder / PREDICTION_FILE for _, folder in runs]
    predictions = [Prediction.load(file) if file.is_file() else None for file in files]
    write_html([report for report, _ in runs], path, films, predictions)


def write_html(
    reports: Report | Sequence[Report],
    path: str | Path,
    films: Sequence[Films] = (),
    predictions: Sequence[Prediction | None] = (),
) -> None:
    """Write the page atomically. It is self-contained and runs no script.

    Args:
        reports: one report, or several to show side by side in this order.
        path: output file.
        films: addresses of films relative to ``path``, by episode key, for every report; they are linked.
        predictions: prediction quality of every report's checkpoint, or None.

    Raises:
        ConfigError: there is no report, or the number of films or predictions differs from that of reports.
    """
    listed = [reports] if isinstance(reports, Report) else list(reports)
    write_atomically(Path(path), render(listed, films, predictions).encode())


def render(
    reports: Sequence[Report], films: Sequence[Films] = (), predictions: Sequence[Prediction | None] = ()
) -> str:
    """Page as text; see :func:`write_html`."""
    if not reports:
        raise ConfigError("write_html: needs at least one report.")
    for name, values in (("films", films), ("predictions", predictions)):
        if values and len(values) != len(reports):
            raise ConfigError(f"write_html: {name} of {len(values)} reports for {len(reports)} reports.")
    addresses = list(films) or [{} for _ in reports]
    measured = list(predictions) or [None for _ in reports]
    return page(
        "report_page.html",
        title=escape("Evaluation: " + " against ".join(report.name for report in reports)),
        headlines="".join(_headline(report) for report in reports),
        shifts=shift_section(reports),
        success=success_plot(reports),
        which="every unperturbed" if any(report.shifts for report in reports) else "every",
        statuses=status_plot(reports),
        latency=latency_plot(reports),
        predictions=prediction_section(reports, measured),
        failures=failure_section(reports),
        success_of="Success, unperturbed" if any(report.shifts for report in reports) else "Success",
        videos="".join(_videos(report, link) for report, link in zip(reports, addresses, strict=True)),
        films="".join(_films(report) for report in reports if report.filmstrips),
        facts=facts(reports),
        details="".join(_details(report, link) for report, link in zip(reports, addresses, strict=True)),
    )


def page(name: str, title: str, **parts: str) -> str:
    """Page with the template ``name`` of this package as its body, filled with ``parts``; head and style are shared."""
    package = resources.files("wamkit.evaluation.output")

    def text(file: str) -> str:
        return package.joinpath(file).read_text("utf-8")

    body = Template(text(name)).substitute(parts)
    return Template(text("page.html")).substitute(title=title, style=text("page.css"), body=body)


def _headline(report: Report) -> str:
    lines = [f'<p class="headline"><strong>{escape(report.headline())}</strong></p>']
    cells = " · ".join(str(cell) for cell in report.design.get("tuple", {}).values())
    formula, is_wam = report.design.get("formula"), report.design.get("is_wam")
    kind = (
        {True: "World Action Model", False: "not a World Action Model"}.get(is_wam, "")
        if is_wam is not None
        else ""
    )
    texts = [text for text in (cells, formula, kind) if text]
    lines.append(f'<p class="soft">{escape("   |   ".join(texts))}</p>')
    if any(episode.status == "error" for episode in report.episodes):
        lines.append(
            '<p class="warn">Some episodes broke (see the episodes below). They are excluded from all rates.</p>'
        )
    if report.deadline.met is False:
        lines.append('<p class="warn">Inference does not keep up with the control rate.</p>')
    lines += [f'<p class="warn">{escape(note)}</p>' for note in report.notes]
    return "".join(lines)


def facts(reports: Sequence[Report]) -> str:
    """Table of everything in the reports except episodes and pictures, one column per report."""
    parts: list[tuple[str, list[TableRow]]] = [
        ("Success", _success_rows(reports)),
        ("Design", _mapping_rows(reports, lambda r: r.design)),
        ("Cost of a call", _cost_rows(reports)),
        ("Run", _run_rows()),
        ("Device", _mapping_rows(reports, lambda r: r.device)),
        ("Versions", _mapping_rows(reports, lambda r: r.versions)),
    ]
    body = []
    for title, rows in parts:
        body.append(f'<tr class="part"><th colspan="{len(reports) + 1}">{escape(title)}</th></tr>')
        for name, cell in rows:
            cells = "".join(f"<td>{escape(cell(report))}</td>" for report in reports)
            body.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    head = "".join(f"<th>{escape(report.name)}</th>" for report in reports)
    return (
        f'<table class="facts"><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    )


def _success_rows(reports: Sequence[Report]) -> list[TableRow]:
    tasks = list(dict.fromkeys(task for report in reports for task in report.tasks))
    rows: list[TableRow] = [(task, partial(_task_score, task)) for task in tasks]
    rows.append(("all episodes pooled", lambda r: _score(r.overall)))
    rows.append(("mean over tasks", _mean))
    return rows


def _cost_rows(reports: Sequence[Report]) -> list[TableRow]:
    stages = list(dict.fromkeys(stage for report in reports for stage in report.stage_ms))
    rows: list[TableRow] = [
        ("one robot, ms", _latency),
        ("first call, ms", lambda r: _number(r.latency_ms.first)),
    ]
    rows += [(f"stage {stage}, ms", partial(_stage, stage)) for stage in stages]
    rows += [
        ("acts at", lambda r: rate(r.control_hz, r.every)),
        ("keeps up", _deadline),
        ("batched in the loop, ms", lambda r: f"{_summary(r.batched_call_ms)}; {_number(r.mean_batch)} rows"),
        ("function evaluations per call", lambda r: _pairs(r.nfe)),
        ("calls per episode", lambda r: _summary(r.calls_per_episode)),
        (
            "actions predicted / executed",
            lambda r: f"{steps(r.horizon.predict, r.every)} / {steps(r.horizon.execute or 'all', r.every)}",
        ),
        ("peak memory, MB", lambda r: _pairs(r.peak_mem_mb)),
    ]
    return rows


def _run_rows() -> list[TableRow]:
    return [
        ("budget", lambda r: _pairs(r.budget)),
        ("instructions", lambda r: r.prompt_mode),
        ("seeds", _seeds),
        ("clipped action entries", _clipped),
        ("torch threads", lambda r: str(r.threads)),
        ("whole evaluation, s", lambda r: _number(r.wall_s)),
        ("closed loop alone, s", lambda r: _number(r.rollout_s)),
        ("config hash", lambda r: r.config_hash),
        ("dataset", lambda r: r.dataset or "not given"),
    ]


def _mapping_rows(reports: Sequence[Report], read: Callable[[Report], dict[str, Any]]) -> list[TableRow]:
    def cell(key: str, report: Report) -> str:
        return _plain(read(report).get(key))

    keys = list(dict.fromkeys(key for report in reports for key in read(report)))
    return [(key, partial(cell, key)) for key in keys]


def _task_score(task: str, report: Report) -> str:
    return _score(report.tasks.get(task))


def _stage(stage: str, report: Report) -> str:
    return _summary(report.stage_ms.get(stage))


def _score(score: Score | None) -> str:
    if score is None:
        return "not run"
    ends = ", ".join(f"{count} {status}" for status, count in score.statuses.items() if count)
    if score.rate is None:
        return f"no scored episode ({ends})"
    low, high = (100 * bound for bound in score.wilson_95)
    return f"{100 * score.rate:.0f} % [{low:.0f}, {high:.0f}], n = {score.n} ({ends})"


def _mean(report: Report) -> str:
    mean = report.mean_over_tasks
    if mean.rate is None:
        return "no scored episode"
    span = f"[{100 * mean.low:.0f}, {100 * mean.high:.0f}]"
    return f"{100 * mean.rate:.0f} % {span}, {mean.tasks} tasks, n = {mean.n}"


def _latency(report: Report) -> str:
    ms = report.latency_ms
    if ms.p50 is None:
        return "not measured"
    return f"p50 {_number(ms.p50)}, p95 {_number(ms.p95)}, max {_number(ms.max)}, n = {ms.n}"


def _deadline(report: Report) -> str:
    line = report.deadline
    if line.allowed_ms is None:
        return "one call per episode: no deadline"
    verdict = {True: "yes", False: "NO", None: "not measured"}[line.met]
    return f"{verdict}: p95 against {_number(line.allowed_ms)} ms, {line.misses} of {line.n} calls late"


def _seeds(report: Report) -> str:
    spans = {f"{min(seeds)} to {max(seeds)}, n = {len(set(seeds))}" for seeds in report.seeds.values()}
    return "; ".join(sorted(spans)) + (" per task" if len(spans) == 1 else "")


def _clipped(report: Report) -> str:
    share = max((e.clipped for e in report.episodes), default=0.0)
    return f"at most {100 * share:.1f} % of an episode's, {len(report.episodes)} episodes"


def _summary(summary: Summary | None) -> str:
    if summary is None or summary.p50 is None:
        return "none"
    return (
        f"p50 {_number(summary.p50)}, p95 {_number(summary.p95)}, max {_number(summary.max)}, n = {summary.n}"
    )


def _number(value: float | None) -> str:
    """Number with three significant digits; whole numbers in full."""
    if value is None:
        return "none"
    return f"{value:.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def _pairs(values: dict[str, Any]) -> str:
    parts = [f"{k} {_plain(v)}" for k, v in values.items() if v is not None and v != {}]
    return ", ".join(parts) or "as configured"


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _films(report: Report) -> str:
    sections = []
    for task in dict.fromkeys(strip.task for strip in report.filmstrips):
        strips = "".join(_strip(strip) for strip in report.filmstrips if strip.task == task)
        sections.append(f'<h3>{escape(task)}</h3><div class="strips">{strips}</div>')
    return (
        f'<section class="card"><h2>Imagined and real future: {escape(report.name)}</h2>'
        f'<p class="soft">{_FILM_LEGEND}</p>{"".join(sections)}</section>'
    )


def _strip(strip: Filmstrip) -> str:
    heads = "".join(f"<th>+{offset}</th>" for offset in strip.offsets)
    imagined = "".join(f"<td>{_image(frame, 'imagined')}</td>" for frame in strip.imagined)
    real = "".join(f"<td>{_image(frame, 'real')}</td>" for frame in strip.real)
    errors = "".join(
        f"<td>{_decibel(psnr)} ({_decibel(still)})</td>"
        for psnr, still in zip(strip.psnr_db, strip.still_db, strict=True)
    )
    remark = "" if strip.acted else "; imagined for this picture only, not used by the action"
    caption = f"{strip.camera}, seed {strip.seed}, call at tick {strip.tick}{remark}"
    return (
        f'<figure class="strip"><figcaption>{escape(caption)}</figcaption><div class="scroll"><table>'
        f"<thead><tr><th></th><th>now</th>{heads}</tr></thead><tbody>"
        f"<tr><th>imagined</th><td></td>{imagined}</tr>"
        f"<tr><th>real</th><td>{_image(strip.now, 'at the call')}</td>{real}</tr>"
        f"<tr><th>dB</th><td></td>{errors}</tr></tbody></table></div></figure>"
    )


def _decibel(value: float | None) -> str:
    return "equal" if value is None else f"{value:.1f}"


def _image(frame: Frames, label: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="{label}" src="data:image/png;base64,{data}">'


def _videos(report: Report, links: Films) -> str:
    """Links to the films of failed episodes."""
    shown = [e for e in report.episodes if e.key in links]
    if not shown:
        return ""
    failed = sum(e.status in FAILED for e in report.episodes)
    items = "".join(
        f'<li><a href="{escape(links[e.key])}">{escape(_title(e))}</a>: {e.status} after {e.ticks} ticks</li>'
        for e in shown
    )
    return (
        f'<section class="card"><h2>Films of failed episodes: {escape(report.name)}</h2>'
        f'<p class="soft">{len(shown)} of {failed} failed episodes, simulated again with the recorded actions; '
        f'files beside this page.</p><ul class="films">{items}</ul></section>'
    )


def _title(episode: EpisodeRecord) -> str:
    change = f"{episode.dimension}, {episode.kind.replace('_', ' ')}, strength {episode.strength}: "
    return f"{change if episode.strength else ''}{episode.task}, seed {episode.seed}"


def _details(report: Report, links: Films) -> str:
    columns = (*_EPISODE_COLUMNS, "variant") if report.shifts else _EPISODE_COLUMNS
    head = "".join(f"<th>{name}</th>" for name in columns)
    rows = "".join(_episode(e, links.get(e.key), len(columns)) for e in report.episodes)
    config = escape(json.dumps(report.config, indent=2, ensure_ascii=False))
    name = escape(report.name)
    opened = " open" if report.overall.statuses["error"] else ""
    return (
        f"<details{opened}><summary>{name}: every episode</summary>"
        f'<div class="scroll"><table class="episodes"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
        f"<details><summary>{name}: resolved config</summary><pre>{config}</pre></details>"
    )


def _episode(e: EpisodeRecord, film: str | None, columns: int) -> str:
    end = e.status if film is None else f'<a href="{escape(film)}">{e.status}, film</a>'
    cells = [escape(e.task), str(e.seed), end, str(e.ticks), str(e.calls), escape(e.instruction)]
    if columns > len(cells):
        cells.append(escape(e.variant or ""))
    row = "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    return row + (f'<tr><td colspan="{columns}"><pre>{escape(e.error)}</pre></td></tr>' if e.error else "")
