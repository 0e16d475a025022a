"""``wamkit VERB``: what can be done from a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from wamkit import api
from wamkit.config import parse
from wamkit.errors import WamkitError, did_you_mean
from wamkit.evaluation.prediction.prediction import Estimate, Prediction
from wamkit.evaluation.report.compare import Pairing, p_text
from wamkit.evaluation.report.words import span
from wamkit.verbs.evaluate import evaluate_with_ray, merge_runs
from wamkit.verbs.inspect import to_json

CONSOLE = Console()
NOTE = "* significant at 5 %, exact McNemar test, not corrected for the number of rows"


def take_option(args: list[str], name: str) -> str | None:
    """Remove ``--name value`` (or ``--name=value``) from ``args`` and return the value."""
    for i, arg in enumerate(args):
        if arg == f"--{name}" and i + 1 < len(args):
            value = args[i + 1]
            del args[i : i + 2]
            return value
        if arg.startswith(f"--{name}="):
            del args[i]
            return arg.split("=", 1)[1]
    return None


def set_switch(args: list[str], name: str) -> None:
    """Let ``--name`` alone mean ``--name true``."""
    for i, arg in enumerate(args):
        if arg == f"--{name}" and (i + 1 == len(args) or args[i + 1].startswith("--")):
            args[i] = f"--{name}=true"


def collect(args: list[str]) -> None:
    """Scripted demonstrations -> a LeRobot dataset. wamkit collect --out DIR --tasks '[drawer-open-v3]'."""
    config = parse(api.CollectConfig, args)
    result = api.collect(config)
    for task, count in result.tasks.items():
        CONSOLE.print(f"{task}: kept {count.kept} of {count.tried} attempts")
    CONSOLE.print(f"{result.frames} frames in {result.seconds:.0f} s -> {config.out}")


def train(args: list[str]) -> None:
    """Train a design. wamkit train --recipe joint --dataset DIR --out DIR [--steps N --design.horizon 8 ...]."""
    name = take_option(args, "recipe")
    defaults = None if name is None else api.TrainConfig(design=api.recipe(name))
    CONSOLE.print(f"model -> {api.train(parse(api.TrainConfig, args, defaults))}")


def evaluate(args: list[str]) -> None:
    """Run a checkpoint closed loop. wamkit evaluate --checkpoint DIR --out DIR [--rerun --shard 0/4 --ray ADDRESS].

    ``wamkit evaluate --sweep ...`` is ``wamkit sweep ...``, options included.
    """
    if "--sweep" in args:
        args.remove("--sweep")
        return sweep(args)
    set_switch(args, "rerun")
    shard, ray, shards = (take_option(args, name) for name in ("shard", "ray", "shards"))
    config = parse(api.EvaluateConfig, args if shard is None else [*args, "--evaluation.shard", shard])
    if shards is not None and (ray is None or not shards.isdecimal()):
        raise WamkitError(f"--shards {shards}: expected a number, together with --ray ADDRESS.")
    result = api.evaluate(config) if ray is None else evaluate_with_ray(config, ray, int(shards or 2))
    CONSOLE.print(result.headline())
    CONSOLE.print(f"report -> {config.out / 'report.html'}")


def sweep(args: list[str]) -> None:
    """Success against latency. wamkit sweep --checkpoint DIR --out DIR --grid.nfe.action '[1, 2, 4]' ..."""
    config = parse(api.SweepConfig, args)
    result = api.sweep(config)
    CONSOLE.print(result.headline())
    for point in result.refused:
        CONSOLE.print(f"not run: {point.id}: {point.reason}")
    CONSOLE.print(f"report -> {config.out / 'sweep.html'}")


def merge(args: list[str]) -> None:
    """One report from all shards of an evaluation. wamkit merge RUN RUN [RUN ...] --out DIR."""
    parser = argparse.ArgumentParser("wamkit merge")
    parser.add_argument("runs", nargs="+", type=Path, help="report folders or report.json files")
    parser.add_argument("--out", type=Path, default=Path("runs/merged"))
    options = parser.parse_args(args)
    CONSOLE.print(Text(merge_runs(options.runs, options.out).headline()))
    CONSOLE.print(f"report -> {options.out / 'report.html'}")


def ceiling(args: list[str]) -> None:
    """What the scripted demonstrator reaches. wamkit ceiling --out FILE [--evaluation.tasks '[drawer-open-v3]' ...]."""
    config = parse(api.CeilingConfig, args)
    CONSOLE.print(Text(api.ceiling(config).headline()))
    CONSOLE.print(f"ceiling -> {config.out}")


def report(args: list[str]) -> None:
    """One page for one or several runs. wamkit report RUN [RUN ...] --out page.html."""
    parser = argparse.ArgumentParser("wamkit report")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    options = parser.parse_args(args)
    CONSOLE.print(f"page -> {api.report(options.runs, options.out)}")


def compare(args: list[str]) -> None:
    """Runs against the first one on the same episodes, with tests. wamkit compare RUN RUN [RUN ...] --out DIR."""
    parser = argparse.ArgumentParser("wamkit compare")
    parser.add_argument("runs", nargs="+", type=Path, help="report folders or report.json files")
    parser.add_argument("--out", type=Path, default=Path("runs/compare"))
    options = parser.parse_args(args)
    for pairing in api.compare(options.runs, options.out).pairings:
        show_pairing(pairing)
    CONSOLE.print(f"page -> {options.out / 'compare.html'}")


def show_pairing(pairing: Pairing) -> None:
    """Print one evaluation against another, for people."""
    first, other = pairing.first, pairing.other
    table = Table(
        "success", escape(first), escape(other), "difference, points", "pairs", "test", caption=NOTE
    )
    for row in pairing.rows:
        rates = ["–" if r.rate is None else f"{100 * r.rate:.0f} %" for r in (row.first, row.other)]
        test = "" if row.p_value is None else p_text(row.p_value) + (" *" if row.significant else "")
        cells = (row.scope, *rates, span(row.difference), str(row.difference.n), test)
        table.add_row(*(Text(cell) for cell in cells))
    CONSOLE.print(table)
    for row in pairing.rows:
        if row.kind == "overall":
            CONSOLE.print(Text(f"{row.scope}: {row.verdict(first, other)}"))
    for warning in pairing.warnings:
        CONSOLE.print(Text(f"warning: {warning}"))


def predict(args: list[str]) -> None:
    """How well a checkpoint predicts. wamkit predict --checkpoint DIR --dataset DIR --out DIR [...]."""
    config = parse(api.PredictConfig, args)
    show_prediction(api.predict(config))
    CONSOLE.print(f"prediction -> {config.folder() / 'prediction.json'}")


def show_prediction(found: Prediction) -> None:
    """Print what was measured, for people: means with 95 % intervals over episodes."""
    table = Table(Column("measure", overflow="fold"), "n", "model", "present held", "truth as coded", "drift")
    for row in found.rows:
        cells = [number(e) for e in (row.model, row.copy, row.ideal, row.drift)]
        table.add_row(Text(f"{row.key} {row.unit}".strip()), str(row.model.n), *cells)
    for distance in found.distances:
        cells = ["none" if v is None else f"{v:.3g}" for v in (distance.model, distance.copy, distance.floor)]
        name = f"{distance.stream}.{distance.name}@{distance.step}"
        table.add_row(
            Text(name), str(distance.n), *cells[:2], f"{cells[2]} (half to half)", Text(distance.note)
        )
    CONSOLE.print(table)
    for note in found.notes:
        CONSOLE.print(Text(f"note: {note}"))


def number(estimate: Estimate) -> str:
    """A mean with its interval."""
    if estimate.mean is None:
        return "none"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.3g} (one episode)"
    return f"{estimate.mean:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def correlate(args: list[str]) -> None:
    """Whether prediction tells success. wamkit correlate RUN RUN [...]: prediction.json beside report.json."""
    parser = argparse.ArgumentParser("wamkit correlate")
    parser.add_argument("runs", nargs="+", type=Path)
    for found in api.correlate_runs(parser.parse_args(args).runs):
        CONSOLE.print(Text(found.headline()))


def imagine(args: list[str]) -> None:
    """Score policies in a world model's imagination. wamkit imagine --world DIR --policies '{a: DIR}' [...]."""
    config = parse(api.ImagineConfig, args)
    found = api.imagine(config)
    for judgement in found.judgements:
        CONSOLE.print(Text(f"actions of {judgement.actor}: {judgement.proxy.headline()}"))
    CONSOLE.print(f"scores -> {config.out / 'imagined.json'}")


def list_parts(args: list[str]) -> None:
    """All parts and recipes, or one kind. wamkit list [estimator]."""
    table = Table("kind", "name", "what it is", "where")
    kinds = {entry.kind for entry in api.list_parts()}
    if args and args[0] not in kinds:
        raise WamkitError(f"list: unknown kind {args[0]!r}. {did_you_mean(args[0], kinds)}")
    for entry in api.list_parts():
        if not args or entry.kind == args[0]:
            table.add_row(entry.kind, entry.name, entry.summary, entry.module)
    CONSOLE.print(table)


def inspect(args: list[str]) -> None:
    """What a design is. wamkit inspect DESIGN [--dataset DIR] [--json]."""
    parser = argparse.ArgumentParser("wamkit inspect")
    parser.add_argument("design", help="recipe, YAML file, checkpoint folder or hub id")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(args)
    facts = api.inspect(options.design, options.dataset)
    if options.json:
        sys.stdout.write(to_json(facts) + "\n")
        return
    show(facts)


def show(facts: Mapping[str, Any]) -> None:
    """Print what `inspect` found, for people."""
    cells = facts["tuple"]
    paths = (
        f"yes, the future {', '.join(facts['wam_paths'])}" if facts["is_wam"] else f"no, a {facts['kind']}"
    )
    table = Table(show_header=False)
    table.add_row("design", facts["name"])
    table.add_row("tuple", "(" + ", ".join(cells.values()) + ")")
    table.add_row("factorisation", facts["formula"])
    table.add_row("world action model", paths)
    table.add_row("parameters", "\n".join(f"{k}: {v:,}" for k, v in facts["parameters"].items()))
    table.add_row("streams (T, N, D)", "\n".join(f"{k}: {v}" for k, v in facts["streams"].items()))
    table.add_row("inputs", "\n".join(f"{k}: {v}" for k, v in facts["inputs"].items()))
    table.add_row("outputs", "\n".join(f"{k}: {v}" for k, v in facts["outputs"].items()))
    CONSOLE.print(table)


VERBS: Mapping[str, Callable[[list[str]], None]] = {
    "collect": collect,
    "train": train,
    "evaluate": evaluate,
    "sweep": sweep,
    "merge": merge,
    "ceiling": ceiling,
    "report": report,
    "compare": compare,
    "predict": predict,
    "correlate": correlate,
    "imagine": imagine,
    "list": list_parts,
    "inspect": inspect,
}


def usage() -> str:
    """The verbs, one line each."""
    rows = "\n".join(f"  {name:9} {(verb.__doc__ or '').splitlines()[0]}" for name, verb in VERBS.items())
    return f"usage: wamkit VERB [options]\n\n{rows}\n\n`wamkit VERB --help` lists a verb's options.\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point: 0 on success, 2 on bad input."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0 if args else 2
    verb, rest = args[0], args[1:]
    try:
        if verb not in VERBS:
            raise WamkitError(f"no verb {verb!r}. {did_you_mean(verb, VERBS)}")
        VERBS[verb](rest)
    except WamkitError as error:
        sys.stderr.write(f"wamkit {verb}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
