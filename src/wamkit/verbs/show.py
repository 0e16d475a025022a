"""Results for people: what the command line prints about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from wamkit.data.findings import Checked, Summary
from wamkit.evaluation.prediction.estimates import Estimate
from wamkit.evaluation.prediction.open_loop import OpenLoop
from wamkit.evaluation.prediction.prediction import Prediction
from wamkit.evaluation.report.compare import Pairing, p_text
from wamkit.evaluation.report.words import span
from wamkit.verbs.zoo import counts
from wamkit.zoo.states import STATES, Standing

NOTE = "* significant at 5 %, exact McNemar test, not corrected for the number of rows"


def show_pairing(pairing: Pairing, console: Console) -> None:
    """Print what two runs reached on the episodes that they share."""
    first, other = pairing.first, pairing.other
    table = Table(
        "success",
        Column(Text(first)),
        Column(Text(other)),
        "difference, points",
        "pairs",
        "test",
        caption=NOTE,
    )
    for row in pairing.rows:
        rates = ["–" if r.rate is None else f"{100 * r.rate:.0f} %" for r in (row.first, row.other)]
        test = "" if row.p_value is None else p_text(row.p_value) + (" *" if row.significant else "")
        cells = (row.scope, *rates, span(row.difference), str(row.difference.n), test)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for row in pairing.rows:
        if row.kind == "overall":
            console.print(Text(f"{row.scope}: {row.verdict(first, other)}"))
    for warning in pairing.warnings:
        console.print(Text(f"warning: {warning}"))


def show_prediction(result: Prediction, console: Console) -> None:
    """Print means with 95 % intervals over episodes, then distances between distributions, then notes."""
    if result.open_loop is not None:
        show_open_loop(result.open_loop, console)
    if result.rows or result.distances:
        _show_futures(result, console)
    if result.measured_on:
        console.print(Text(result.measured_on))
    for note in result.notes:
        console.print(Text(f"note: {note}"))


def show_open_loop(measured: OpenLoop, console: Console) -> None:
    """Print the error of every action entry over the whole chunk, beside trivial policies."""
    names = "action error", "n", "policy", "last action repeated", "mean action", "better than repeating by"
    table = Table(Column(names[0], overflow="fold"), *names[1:])
    for row in measured.of_chunk():
        cells = [number(e) for e in (row.model, row.repeat, row.mean, row.over_repeat)]
        table.add_row(Text(row.column), str(row.model.n), *cells)
    console.print(table)
    console.print(Text(measured.headline()))


def _show_futures(result: Prediction, console: Console) -> None:
    table = Table(Column("measure", overflow="fold"), "n", "model", "present held", "truth as coded", "drift")
    for row in result.rows:
        cells = [number(e) for e in (row.model, row.copy, row.ideal, row.drift)]
        table.add_row(Text(f"{row.key} {row.unit}".strip()), str(row.model.n), *cells)
    for distance in result.distances:
        cells = ["none" if v is None else f"{v:.3g}" for v in (distance.model, distance.copy, distance.floor)]
        name = f"{distance.stream}.{distance.name}@{distance.step}"
        table.add_row(
            Text(name), str(distance.n), *cells[:2], f"{cells[2]} (half to half)", Text(distance.note)
        )
    console.print(table)


def number(estimate: Estimate) -> str:
    """A mean with its interval."""
    if estimate.mean is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.3g} (one episode)"
    return f"{estimate.mean:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def show_standings(found: Sequence[Standing], console: Console) -> None:
    """Print the systems by kind, then how many of each kind are in which state."""
    table = Table("kind", Column("system", overflow="fold"), "state", Column("missing", overflow="fold"))
    for one in found:
        table.add_row(
            *(Text(cell) for cell in (one.row.kind, one.row.name, one.state, ", ".join(one.missing)))
        )
    console.print(table)
    tallies = Table("kind", *(Column(state, justify="right") for state in STATES))
    for kind, tally in counts(found):
        tallies.add_row(kind, *(str(tally[state]) for state in STATES))
    console.print(tallies)
    console.print("card of a system: wamkit zoo show NAME")


def show_card(entries: Mapping[str, str], console: Console) -> None:
    """Print what is known of one system."""
    table = Table(show_header=False)
    for title, text in entries.items():
        table.add_row(title, Text(text))
    console.print(table)


def show_checked(result: Checked, console: Console) -> None:
    """Print every fault of a dataset with its place and way out, or what a sound one holds."""
    for fault in result.faults:
        console.print(Text(f"{fault.kind}: {fault.message}"))
    if result.left_out:
        console.print(Text(f"not checked, for what is broken above: {', '.join(result.left_out)}"))
    depth = "every picture was decoded" if result.decoded else "no picture was decoded; --decode does"
    if result.summary is None:
        count = len(result.faults)
        console.print(Text(f"{count} fault{'s' * (count != 1)} in {result.root} ({depth})"))
        return
    table = Table(show_header=False)
    for title, text in describe_summary(result.summary).items():
        table.add_row(title, Text(text))
    console.print(table)
    console.print(Text(f"no fault in {result.root} ({depth})"))


def describe_summary(summary: Summary) -> dict[str, str]:
    """What a sound dataset holds, title -> text."""
    reached, recorded = summary.successes
    return {
        "episodes": f"{summary.episodes:,}",
        "frames": f"{summary.frames:,}",
        "hours": f"{summary.hours:.3g}",
        "rate": f"{summary.rate_hz:g} Hz",
        "cameras": "\n".join(f"{name}: {h} x {w}" for name, (h, w) in summary.cameras.items()) or "none",
        "state": ", ".join(summary.state) or "none",
        "action": ", ".join(summary.action),
        "tasks": "\n".join(f"{task}: {count}" for task, count in summary.tasks.items()),
        "success": f"{reached} of {recorded} recorded" if recorded else "not recorded",
    }


def steps_seen(steps: Sequence[Sequence[str]]) -> str:
    """Futures that reach the executed steps of an action, each with its number of steps."""
    counts = Counter(name for step in steps for name in step)
    return ", ".join(f"{name}: {n} of {len(steps)}" for name, n in sorted(counts.items())) or "no future"


def show_design(facts: Mapping[str, Any], console: Console) -> None:
    """Print what ``wamkit inspect`` says of a design."""
    cells = facts["tuple"]
    paths = (
        f"yes, the future {', '.join(facts['wam_paths'])}" if facts["is_wam"] else f"no, a {facts['kind']}"
    )
    table = Table(show_header=False)
    rows = {
        "design": facts["name"],
        "tuple": "(" + ", ".join(cells.values()) + ")",
        "factorisation": facts["formula"],
        "world action model": paths,
        "futures": "\n".join(
            f"{k}: {v}" + ("" if k in facts["faced"] else " (the action does not face it)")
            for k, v in facts["futures"].items()
        ),
        "action sees": "\n".join(steps_seen(v) for v in facts["action_sees"].values()),
        "controller": facts["controller"],
        "parameters": "\n".join(f"{k}: {v:,}" for k, v in facts["parameters"].items()),
        "streams (T, N, D)": "\n".join(f"{k}: {v}" for k, v in facts["streams"].items()),
        "reads": "\n".join(f"{k}: {v}" for k, v in facts["sees"].items()),
        "inputs": "\n".join(f"{k}: {v}" for k, v in facts["inputs"].items()),
        "outputs": "\n".join(f"{k}: {v}" for k, v in facts["outputs"].items()),
    }
    for title, text in rows.items():
        table.add_row(title, Text(text))
    console.print(table)
