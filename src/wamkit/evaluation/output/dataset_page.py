"""Page of a dataset: episodes, pictures, ranges, timing, duplicates, and what a design would read of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from wamkit.data.faults import Fault
from wamkit.data.findings import Checked
from wamkit.data.survey import ALIKE, CLEAR, DELAY_S, LENGTHS, POINTS, STILL, Entry, Survey
from wamkit.evaluation.output.dataset import Reading, Shown, Thumbnail
from wamkit.evaluation.output.plots import SERIES, canvas, style, to_svg
from wamkit.evaluation.output.report_page import page
from wamkit.storage.documents import write_atomically

IDLE_MUCH = 0.2  # share of idle ticks from which it is pointed out
JITTER_MUCH = 0.05  # root mean square of the jitter, in periods, from which it is pointed out
LISTED = 200  # rows of a table of faults or duplicates
NOTES = (
    f"An entry is still at a tick where it changes by no more than {STILL:g} of its range; a tick is idle where all "
    f"entries of state and action are still. Delay: lag at which the changes of the state follow the action, or its "
    f"changes where actions are absolute, most closely; Pearson correlation over all episodes, looked for up to "
    f"{DELAY_S:g} s, and said from {CLEAR:g} on. Near-duplicates: paths of state and action, at {POINTS} times from "
    f"start to end, that lie no farther apart than {100 * ALIKE:g} % of a standard deviation (root mean square), with "
    f"lengths within {100 * LENGTHS:g} %. Padding: steps of a window outside its episode."
)


def write_dataset(shown: Shown, path: Path) -> None:
    """Write the page atomically. It is self-contained and runs no script."""
    write_atomically(path, render_dataset(shown).encode())


def render_dataset(shown: Shown) -> str:
    """Page as text."""
    survey, reading, checked = shown.survey, shown.reading, shown.checked
    body: list[str] = []
    if survey is not None:
        body += [_episodes(survey), _pictures(shown.thumbnails), _entries(survey), _timing(survey)]
        body += [_duplicates(survey)]
    if reading is not None:
        body += [_reading(reading)]
    return page(
        "dataset_page.html",
        title=escape(f"Dataset: {checked.root.resolve().name}"),
        headline=_headline(checked, survey),
        facts=_facts(checked),
        faults=_faults(checked),
        body="\n".join(body),
        notes=f'<footer class="soft"><small>{escape(NOTES)}</small></footer>' if survey is not None else "",
    )


def _headline(checked: Checked, survey: Survey | None) -> str:
    summary, warnings = checked.summary, []
    lead = "No page of figures: mend the faults first."
    if summary is not None:
        lead = f"{summary.episodes:,} episodes, {summary.frames:,} frames, {_duration(summary.hours)}"
    if checked.faults:
        count = len(checked.faults)
        warnings.append(f"{count} fault{'s' * (count != 1)}, listed below.")
    if survey is not None:
        if survey.constant:
            warnings.append(f"Never moves: {', '.join(survey.constant)}.")
        if survey.idle >= IDLE_MUCH:
            warnings.append(f"{100 * survey.idle:.0f} % of all ticks are idle.")
        if survey.duplicates:
            pairs = len(survey.duplicates)
            warnings.append(f"{pairs} pair{'s' * (pairs != 1)} of near-duplicate episodes.")
        if survey.jitter.rms_s * survey.rate_hz >= JITTER_MUCH:
            warnings.append(f"Time stamps jitter by {1e3 * survey.jitter.rms_s:.2g} ms (root mean square).")
    lines = [f'<p class="headline"><strong>{escape(lead)}</strong></p>']
    return "".join([*lines, *(f'<p class="warn">{escape(text)}</p>' for text in warnings)])


def _duration(hours: float) -> str:
    return f"{hours:.3g} hours" if hours >= 1 else f"{60 * hours:.3g} minutes"


def _facts(checked: Checked) -> str:
    summary = checked.summary
    if summary is None:
        return ""
    reached, recorded = summary.successes
    cameras = ", ".join(f"{name} {h} x {w}" for name, (h, w) in summary.cameras.items())
    facts = {
        "rate": f"{summary.rate_hz:g} Hz",
        "cameras": cameras or "none",
        "state": f"{len(summary.state)} entries: {', '.join(summary.state)}" if summary.state else "none",
        "action": f"{len(summary.action)} entries: {', '.join(summary.action)}",
        "success": f"{100 * reached / recorded:.0f} %, {reached} of {recorded}"
        if recorded
        else "not recorded",
    }
    return _pairs(facts)


def _faults(checked: Checked) -> str:
    if not checked.faults:
        return ""
    rows = [_fault(fault) for fault in checked.faults[:LISTED]]
    rest = len(checked.faults) - len(rows)
    more = (
        f'<p class="soft">and {rest} more: <code>wamkit data check</code> names them all</p>' if rest else ""
    )
    left = ", ".join(checked.left_out)
    unseen = f'<p class="warn">Not checked, for what is broken: {escape(left)}.</p>' if left else ""
    table = f'<table class="pairs"><tbody>{"".join(rows)}</tbody></table>'
    return _card("Faults", table + more + unseen, scroll=False)


def _fault(fault: Fault) -> str:
    places = (("", fault.file), ("episode ", fault.episode), ("frame ", fault.frame), ("", fault.feature))
    place = " · ".join(f"{word}{value}" for word, value in places if value is not None)
    return (
        f"<tr><th>{escape(fault.kind)}</th><td>{escape(fault.message)}<br>"
        f'<small class="soft">{escape(place)}</small></td></tr>'
    )


def _episodes(survey: Survey) -> str:
    rows = [
        [task, count, f"{100 * count / len(survey.lengths):.0f} %"] for task, count in survey.tasks.items()
    ]
    lengths = np.array(survey.lengths)
    low, high, median = int(lengths.min()), int(lengths.max()), float(np.median(lengths))
    span = f"{low} to {high} frames, median {median:g}" if high > low else f"{low} frames each"
    text = f"{span} ({median / survey.rate_hz:.3g} s)"
    return (
        '<div class="grid">'
        + _card("Lengths of the episodes", f'<p class="soft">{text}</p>{lengths_plot(lengths)}')
        + _card("Tasks", _table(("task", "episodes", "share"), rows))
        + "</div>"
    )


def lengths_plot(lengths: np.ndarray) -> str:
    """Histogram of episode lengths (E,), frames."""
    with style("lengths"):
        figure, axes = canvas(2.4)
        low, high = int(lengths.min()), int(lengths.max())
        if high - low < 4:  # whole numbers on the axis, and bars narrower than the plot
            low, high = low - 2, high + 2
        width = max(1, -(-(high - low + 1) // 30))  # whole frames per bar
        edges = (np.arange(low, high + width + 1, width) - 0.5).tolist()
        axes.hist(lengths, bins=edges, color=SERIES[0])
        axes.set_xlabel("frames")
        axes.set_ylabel("episodes")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        return to_svg(figure, "Histogram of the lengths of the episodes")


def _pictures(thumbnails: Sequence[Thumbnail]) -> str:
    """First, middle and last frame of some episodes, one strip per camera."""
    if not thumbnails:
        return ""
    strips = []
    for camera in dict.fromkeys(t.camera for t in thumbnails):
        own = [t for t in thumbnails if t.camera == camera]
        rows = []
        for episode in dict.fromkeys(t.episode for t in own):
            cells = "".join(f"<td>{_image(t)}</td>" for t in own if t.episode == episode)
            rows.append(f"<tr><th>{episode}</th>{cells}</tr>")
        head = "<tr><th></th><th>first</th><th>middle</th><th>last</th></tr>"
        strips.append(
            f'<figure class="strip"><figcaption>{escape(camera)}, by episode</figcaption>'
            f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></figure>"
        )
    return _card("Pictures", f'<div class="strips">{"".join(strips)}</div>', scroll=False)


def _image(thumbnail: Thumbnail) -> str:
    buffer = io.BytesIO()
    Image.fromarray(thumbnail.image).save(buffer, format="JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode()
    label = escape(f"{thumbnail.camera}, episode {thumbnail.episode}, frame {thumbnail.frame}")
    return f'<img alt="{label}" src="data:image/jpeg;base64,{data}">'


def _entries(survey: Survey) -> str:
    parts = [("State", survey.state), ("Action", survey.action)]
    names = ("entry", "values", "lowest", "highest", "mean", "deviation")
    cards = []
    for title, entries in parts:
        rows = "".join(_entry(entry) for entry in entries)
        head = "".join(f"<th>{name}</th>" for name in names)
        table = f'<table class="facts"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        cards.append(_card(title, table if entries else '<p class="soft">none</p>'))
    return "".join(cards)


def _entry(entry: Entry) -> str:
    bars = bars_svg(entry.counts, f"Histogram of {entry.name}") if entry.moves else "never moves"
    cells = "".join(f"<td>{value:.4g}</td>" for value in (entry.low, entry.high, entry.mean, entry.std))
    return f"<tr><th>{escape(entry.name)}</th><td>{bars}</td>{cells}</tr>"


def bars_svg(counts: Sequence[int], label: str) -> str:
    """Small histogram without axes, 120 x 24 units."""
    top, width = max(counts), 120 / len(counts)
    bars = "".join(
        f'<rect x="{i * width:.1f}" y="{24 - 24 * n / top:.1f}" width="{width - 0.6:.1f}" '
        f'height="{24 * n / top:.1f}" fill="{SERIES[0]}"></rect>'
        for i, n in enumerate(counts)
        if n
    )
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 120 24" '
        f'style="width:120px;margin:0">{bars}</svg>'
    )


def _timing(survey: Survey) -> str:
    jitter = survey.jitter
    facts = {
        "idle ticks": f"{100 * survey.idle:.1f} %: neither state nor action changes",
        "time stamps": (
            f"jitter {1e3 * jitter.rms_s:.3f} ms (root mean square), at most {1e3 * jitter.largest_s:.3f} ms, of a "
            f"period of {1e3 / survey.rate_hz:.4g} ms"
        ),
    }
    rows = [
        [
            d.action,
            d.state,
            "not clear" if d.ticks is None else f"{d.ticks} ticks, {1e3 * d.ticks / survey.rate_hz:.3g} ms",
            f"{d.correlation:.2f}",
        ]
        for d in survey.delays
    ]
    table = _table(("action", "state", "delay of the state", "correlation"), rows) if rows else ""
    return _card("Timing", _pairs(facts) + table)


def _duplicates(survey: Survey) -> str:
    rows = [[d.first, d.second, f"{d.distance:.2g}"] for d in survey.duplicates[:LISTED]]
    if not rows:
        return _card("Near-duplicate episodes", '<p class="soft">none</p>')
    rest = len(survey.duplicates) - len(rows)
    more = f'<p class="soft">and {rest} more pairs</p>' if rest else ""
    names = ("episode", "episode", "distance, standard deviations")
    return _card("Near-duplicate episodes", _table(names, rows) + more)


def _reading(reading: Reading) -> str:
    """Specs, and the windows of a recipe."""
    action, observation, facts = reading.action, reading.observation, {}
    facts["observation"] = ", ".join(
        [
            *(f"{name} {c.height} x {c.width} x {c.channels}" for name, c in observation.cameras.items()),
            f"state of {len(observation.state)}",
        ]
    )
    facts["action"] = (
        f"{len(action.names)} entries, {action.mode}, frame {action.frame}, rotation {action.rotation}, "
        f"gripper {action.gripper}, {action.rate_hz:g} Hz"
    )
    rows = [
        [name, f"{low:.4g}", f"{high:.4g}"]
        for name, low, high in zip(action.names, action.low, action.high, strict=True)
    ]
    if reading.window is None or reading.windows is None:
        facts[f"windows of {reading.recipe}"] = reading.reason
    else:
        window, counted = reading.window, reading.windows
        facts[f"windows of {reading.recipe}"] = f"{counted.count:,}"
        facts["observed ticks"] = f"{list(window.observation)}; {_share(counted.observation)} padding"
        span = f"{-window.past_actions} to {window.horizon - 1}"
        facts["action ticks"] = f"{span}; {_share(counted.action)} padding"
        if counted.future is not None:
            facts["future ticks"] = f"{list(window.future)}; {_share(counted.future)} padding"
    limits = (
        f"<details><summary>Limits of the action</summary>{_table(('entry', 'low', 'high'), rows)}</details>"
    )
    return _card("What a design would read", _pairs(facts) + limits)


def _share(part: float) -> str:
    return f"{100 * part:.1f} %"


def _card(title: str, content: str, scroll: bool = True) -> str:
    inner = f'<div class="scroll">{content}</div>' if scroll else content
    return f'<section class="card"><h2>{escape(title)}</h2>{inner}</section>'


def _pairs(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<tr><th>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in facts.items())
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{'' if c is None else escape(str(c))}</td>" for c in row) + "</tr>"
        for row in rows
    )
    return f'<table class="episodes"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
