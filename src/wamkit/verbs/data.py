"""Verbs ``data check`` and ``data show``: the faults of a dataset, and a page about it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from wamkit.verbs.command import JSON, Verb, arguments_of_runs, print_json
from wamkit.verbs.ending import Terminal

CONSOLE = Terminal()
DATASET = {"type": Path, "metavar": "PATH", "help": "folder of a dataset"}


def check_data(verb: Namespace, _: list[str]) -> int:
    """Find every fault of a dataset, and say what a sound one holds; status 1 where there are faults."""
    from wamkit.verbs.datasets import check_dataset
    from wamkit.verbs.show import show_checked

    result = check_dataset(verb.path, verb.decode)
    if verb.json:
        print_json(result.to_json())
    else:
        show_checked(result, CONSOLE)
    return 1 if result.faults else 0


def show_data(verb: Namespace, _: list[str]) -> None:
    """Write one page about a dataset: episodes, pictures, ranges, idle ticks, delays, duplicates and faults."""
    from wamkit.verbs.datasets import show_dataset

    result = show_dataset(verb.path, None if verb.json else verb.out, verb.recipe, verb.overwrite)
    if verb.json:
        print_json(result.to_json())
    else:
        CONSOLE.print(Text(f"page -> {verb.out}"))


VERBS: Mapping[str, Verb] = {
    "data check": Verb(
        check_data,
        "PATH [--decode] [--json]",
        arguments={
            "path": DATASET,
            "--decode": {"action": "store_true", "help": "decode every picture as well"},
            "--json": JSON,
        },
    ),
    "data show": Verb(
        show_data,
        "PATH --out page.html",
        arguments={
            "path": DATASET,
            **{flag: facts for flag, facts in arguments_of_runs("dataset.html").items() if flag != "runs"},
            "--recipe": {
                "metavar": "NAME",
                "default": "joint",
                "help": "design whose windows are counted [joint]",
            },
            "--json": JSON,
        },
    ),
}
