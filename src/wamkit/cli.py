"""``wamkit VERB``: what can be done from a terminal."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

from rich.text import Text

from wamkit import api
from wamkit import config as configs
from wamkit.errors import ConfigError, DataError, did_you_mean
from wamkit.progress import shown
from wamkit.verbs import catalog, data, declarations, ending, listing, usage
from wamkit.verbs.entry import JSON, RAY, SHARD, SHARDS, SWEEP, Verb, print_json, runs_to

CONSOLE = ending.Terminal()
EPILOG = (
    "Every option is a field of one config: --config_path FILE.yaml reads many, single options win over it. "
    "Values are written as in YAML. A part is chosen by its type; `wamkit list PART` prints its fields."
)


def collect(_: Namespace, options: list[str]) -> None:
    """Record scripted demonstrations as a LeRobot dataset."""
    config = configs.parse(api.CollectConfig, options)
    result = api.collect(config)
    for task, count in result.tasks.items():
        CONSOLE.print(Text(f"{task}: kept {count.kept} of {count.tried} attempts"))
    CONSOLE.print(Text(f"{result.frames} frames in {result.seconds:.0f} s -> {config.out}"))


def train(verb: Namespace, options: list[str]) -> None:
    """Train a design on a dataset; the same command resumes a run that was stopped."""
    defaults = None if verb.recipe is None else api.TrainConfig(design=api.recipe(verb.recipe))
    CONSOLE.print(Text(f"model -> {api.train(configs.parse(api.TrainConfig, options, defaults))}"))


def evaluate(verb: Namespace, options: list[str]) -> None:
    """Run a checkpoint closed loop in simulators and write its report."""
    if verb.shard is not None:
        options = [*options, "--evaluation.shard", verb.shard]
    config = configs.parse(api.EvaluateConfig, options)
    if verb.shards is not None and verb.ray is None:
        raise ConfigError(f"--shards {verb.shards}: give it together with --ray ADDRESS.")
    here = verb.ray is None
    result = api.evaluate(config) if here else api.evaluate_with_ray(config, verb.ray, verb.shards or 2)
    CONSOLE.print(Text(result.headline()))
    CONSOLE.print(Text(f"report -> {config.out / 'report.html'}"))
    ending.require_scored(result.episodes)


def sweep(_: Namespace, options: list[str]) -> None:
    """Evaluate a checkpoint at every budget of a grid: success against latency."""
    config = configs.parse(api.SweepConfig, options)
    result = api.sweep(config)
    CONSOLE.print(Text(result.headline()))
    for point in result.refused:
        CONSOLE.print(Text(f"not run: {point.id}: {point.reason}"))
    CONSOLE.print(Text(f"report -> {config.out / 'sweep.html'}"))
    if not any(point.success.n for point in result.points):
        raise DataError(f"no episode of any point could be scored; {config.out / 'points'} says why.")


def merge(verb: Namespace, _: list[str]) -> None:
    """Merge the shards of one evaluation into one report."""
    result = api.merge_runs(verb.runs, verb.out, verb.overwrite)
    CONSOLE.print(Text(result.headline()))
    CONSOLE.print(Text(f"report -> {verb.out / 'report.html'}"))
    ending.require_scored(result.episodes)


def ceiling(_: Namespace, options: list[str]) -> None:
    """Let the scripted demonstrator play the episodes of an evaluation."""
    config = configs.parse(api.CeilingConfig, options)
    result = api.ceiling(config)
    CONSOLE.print(Text(result.headline()))
    CONSOLE.print(Text(f"ceiling -> {config.out}"))
    ending.require_scored(result.episodes)


def report(verb: Namespace, _: list[str]) -> None:
    """Write one page that shows one or several finished evaluations side by side."""
    CONSOLE.print(Text(f"page -> {api.report(verb.runs, verb.out, verb.overwrite)}"))


def compare(verb: Namespace, _: list[str]) -> None:
    """Compare finished evaluations with the first one, episode by episode."""
    from wamkit.verbs.show import show_pairing

    for pairing in api.compare(verb.runs, verb.out, verb.overwrite).pairings:
        show_pairing(pairing, CONSOLE)
    CONSOLE.print(Text(f"page -> {verb.out / 'compare.html'}"))


def board(verb: Namespace, _: list[str]) -> None:
    """Write one page of all trainings of a folder, with what was measured of them."""
    CONSOLE.print(Text(f"page -> {api.board(verb.runs, verb.out)}"))


def predict(verb: Namespace, options: list[str]) -> None:
    """Measure how well a checkpoint predicts futures and recorded actions, without a simulator."""
    from wamkit.verbs.show import show_prediction

    config = configs.parse(api.PredictConfig, options)
    result = api.predict(config)
    if verb.json:
        return print_json(configs.encode(result))
    show_prediction(result, CONSOLE)
    CONSOLE.print(Text(f"prediction -> {config.folder() / 'prediction.json'}"))


def correlate(verb: Namespace, _: list[str]) -> None:
    """Correlate prediction with success over checkpoints that have both reports."""
    for result in api.correlate_runs(verb.runs):
        CONSOLE.print(Text(result.headline()))


def imagine(_: Namespace, options: list[str]) -> None:
    """Score policies in a world model's imagination and compare with their success."""
    config = configs.parse(api.ImagineConfig, options)
    result = api.imagine(config)
    for judgement in result.judgements:
        CONSOLE.print(Text(f"actions of {judgement.actor}: {judgement.proxy.headline()}"))
    CONSOLE.print(Text(f"scores -> {config.out / 'imagined.json'}"))


def list_parts(verb: Namespace, _: list[str]) -> None:
    """List parts and recipes, or print the fields of one part."""
    if verb.part is not None:
        entry = catalog.find_part(verb.name, verb.part)
        return print_json(asdict(entry)) if verb.json else listing.show_part(entry, CONSOLE)
    entries = catalog.find_parts(verb.name)
    if verb.json:
        return print_json([asdict(entry) for entry in entries])
    if verb.name is None or any(entry.name != verb.name for entry in entries):
        return listing.show_entries(entries, CONSOLE)
    for entry in entries:
        listing.show_part(entry, CONSOLE)


def zoo(verb: Namespace, _: list[str]) -> None:
    """List the systems of the field and where they stand, or show the card of one."""
    from wamkit.verbs.show import show_card, show_standings
    from wamkit.verbs.zoo import show
    from wamkit.verbs.zoo import zoo as find

    if verb.show and (verb.show[0] != "show" or len(verb.show) < 2):
        raise ConfigError(
            f"zoo: {' '.join(verb.show)!r} is no request. Use `wamkit zoo` or `wamkit zoo show NAME`."
        )
    if verb.show:
        entries = show(" ".join(verb.show[1:]))
        if verb.json:
            sys.stdout.write(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
        else:
            show_card(entries, CONSOLE)
        return
    found = find(verb.kind, verb.state)
    if verb.json:
        sys.stdout.write(json.dumps([one.plain() for one in found], indent=1, ensure_ascii=False) + "\n")
    else:
        show_standings(found, CONSOLE)


def inspect(verb: Namespace, options: list[str]) -> None:
    """Print what a design is: tuple, factorisation, parameters, inputs and outputs."""
    from wamkit.verbs.inspect import changed
    from wamkit.verbs.show import show_design

    facts = api.inspect(*changed(verb.design, options, verb.dataset))
    if verb.json:
        print_json(facts)
    else:
        show_design(facts, CONSOLE)


# Title of a group -> its verbs.
GROUPS: Mapping[str, Mapping[str, Verb]] = {
    "datasets": data.VERBS,
    "demonstrations and training": {
        "collect": Verb(
            collect,
            "--out DIR --tasks '[drawer-open-v3]' --episodes 50",
            "wamkit.verbs.collect.CollectConfig",
        ),
        "train": Verb(
            train,
            "--recipe joint --dataset DIR --out DIR --steps 2000",
            "wamkit.training.config.TrainConfig",
            {
                "--recipe": {
                    "metavar": "NAME",
                    "help": "design to start from, of `wamkit list recipe` or zoo:NAME of `wamkit zoo`",
                }
            },
            "What was trained up to the last checkpoint is kept; the same command goes on from there.",
        ),
    },
    "closed loop": {
        "evaluate": Verb(
            evaluate,
            "--checkpoint DIR --out DIR --evaluation.episodes 20",
            "wamkit.verbs.evaluate.EvaluateConfig",
            {"--shard": SHARD, "--ray": RAY, "--shards": SHARDS, "--sweep": SWEEP},
            "Finished episodes are kept; the same command goes on with the others.",
        ),
        "sweep": Verb(
            sweep,
            "--checkpoint DIR --out DIR --grid.nfe.action '[1, 2, 4]'",
            "wamkit.verbs.sweep.SweepConfig",
            kept="Finished points and episodes are kept; the same command goes on with the others.",
        ),
        "merge": Verb(merge, "RUN RUN [RUN ...] --out DIR", arguments=runs_to("runs/merged")),
        "ceiling": Verb(
            ceiling, "--out FILE --evaluation.tasks '[drawer-open-v3]'", "wamkit.verbs.ceiling.CeilingConfig"
        ),
    },
    "reports": {
        "board": Verb(
            board,
            "RUNS [--out board.html]",
            arguments={
                "runs": {
                    "type": Path,
                    "metavar": "RUNS",
                    "help": "folder that holds the folders of trainings",
                },
                "--out": {"type": Path, "metavar": "path", "help": "where to write [RUNS/board.html]"},
            },
        ),
        "report": Verb(report, "RUN [RUN ...] --out page.html", arguments=runs_to("report.html")),
        "compare": Verb(compare, "RUN RUN [RUN ...] --out DIR", arguments=runs_to("runs/compare")),
    },
    "world models": {
        "predict": Verb(
            predict,
            "--checkpoint DIR --dataset DIR --out DIR [--json]",
            "wamkit.verbs.predict.PredictConfig",
            {"--json": JSON},
        ),
        "correlate": Verb(correlate, "RUN RUN [RUN ...]", arguments={"runs": runs_to("")["runs"]}),
        "imagine": Verb(
            imagine,
            "--world DIR --policies '{a: DIR}' --reports '{a: DIR}'",
            "wamkit.verbs.imagine.ImagineConfig",
        ),
    },
    "looking things up": {
        "list": Verb(
            list_parts,
            "[KIND | PART | RECIPE | KIND PART] [--json]",
            arguments={
                "name": {"nargs": "?", "help": "kind, part or recipe; everything without it"},
                "part": {"nargs": "?", "help": "part of the kind `name`, for one object and all its fields"},
                "--json": JSON,
            },
        ),
        "zoo": Verb(
            zoo,
            "[show NAME] [--kind KIND] [--state STATE] [--json]",
            arguments={
                "show": {
                    "nargs": "*",
                    "help": "`show NAME` for the card of one system; all of them without it",
                },
                "--kind": {"metavar": "KIND", "help": "only rows of this kind, such as wam or vla"},
                "--state": {"metavar": "STATE", "help": "only rows that are works, partly or open"},
                "--json": JSON,
            },
        ),
        "inspect": Verb(
            inspect,
            "DESIGN [--dataset DIR] [--design.view.relative state] [--json]",
            "wamkit.verbs.inspect.InspectConfig",
            {
                "design": {
                    "metavar": "DESIGN",
                    "help": "recipe, zoo:NAME, YAML file, checkpoint folder or hub id",
                },
                "--dataset": {"type": Path, "metavar": "path", "help": "build the design for this dataset"},
                "--json": JSON,
            },
        ),
    },
}
VERBS: Mapping[str, Verb] = {name: verb for group in GROUPS.values() for name, verb in group.items()}


class Parser(ArgumentParser):
    """``argparse`` whose errors are :class:`ConfigError`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise ConfigError(f"{message}. `{self.prog} --help` explains the options.")


def parser_of(name: str) -> Parser:
    """Parser of a verb's own arguments; what it does not know are options of the verb's config."""
    verb = VERBS[name]
    parser = Parser(
        f"wamkit {name}",
        usage=f"wamkit {name} {verb.example}".replace("%", "%%"),
        description=verb.summary,
        epilog=EPILOG if verb.config is not None else None,
        allow_abbrev=False,
    )
    for flag, facts in verb.arguments.items():
        parser.add_argument(flag, **facts)
    return parser


def print_help(name: str, args: list[str]) -> None:
    """Print a verb's arguments and every option of its config, without importing what they configure.

    With ``--recipe`` the defaults are those of the recipe, which has to be imported.
    """
    parser, verb = parser_of(name), VERBS[name]
    if verb.config is not None:
        recipe = parser.parse_known_args(args)[0].recipe if "--recipe" in verb.arguments else None
        values = {} if recipe is None else {"design": configs.encode(api.recipe(recipe))}
        usage.add_options(parser, declarations.declaration(verb.config), values, usage.chosen_types(args))
    sys.stdout.write(parser.format_help())  # `parser.print_help` would say nothing of a full disk


def print_overview() -> None:
    """Print the verbs by group, one line each."""
    lines = ["usage: wamkit VERB [options]"]
    for title, verbs in GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:10} {verb.summary}" for name, verb in verbs.items())]
    sys.stdout.write("\n".join([*lines, "", "`wamkit VERB --help` explains the options of a verb.", ""]))


def run(name: str, args: list[str]) -> int | None:
    """Run a verb with its arguments; returns its status if that is not 0.

    Raises:
        WamkitError: the verb, an option or what it names does not exist or cannot be used.
    """
    if name not in VERBS:
        further = [verb for verb in VERBS if verb.startswith(f"{name} ")]
        way_out = f"Name one of {', '.join(further)}." if further else did_you_mean(name, VERBS)
        raise ConfigError(f"no verb {name!r}. {way_out}")
    if name == "evaluate" and "--sweep" in args:
        name, args = "sweep", [arg for arg in args if arg != "--sweep"]
    if {"-h", "--help"} & set(args):
        print_help(name, [arg for arg in args if arg not in ("-h", "--help")])
        return None
    configs.require_once((flag for flag in VERBS[name].arguments if flag.startswith("--")), args)
    own, options = parser_of(name).parse_known_args(args)
    if options and VERBS[name].config is None:
        flags = [flag for flag in VERBS[name].arguments if flag.startswith("--")]
        raise ConfigError(f"unknown option {options[0]!r}. {did_you_mean(options[0], flags)}")
    # From the first second: what a verb imports may take longer than its work.
    with shown(name, VERBS[name].config is not None):
        return VERBS[name].run(own, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns a status of :mod:`wamkit.verbs.ending`."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help"):
        status = ending.status_of("", "", print_overview)
        return status or (0 if args else 2)
    words = 2 if " ".join(args[:2]) in VERBS else 1  # `data check` is one verb
    name = " ".join(args[:words])
    kept = VERBS[name].kept if name in VERBS else ""
    return ending.status_of(name, kept, lambda: run(name, args[words:]))


if __name__ == "__main__":
    sys.exit(main())
