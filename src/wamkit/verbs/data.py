"""Verbs ``data ...``: the faults of a dataset, a page about it, and its conversion."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from rich.text import Text

from wamkit.verbs.ending import Terminal
from wamkit.verbs.entry import JSON, Verb, print_json, runs_to

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


def convert(verb: Namespace, _: list[str]) -> None:
    """Convert a dataset to LeRobotDataset v3.0 or v2.1, without encoding its videos anew."""
    from wamkit.data.conversion import Reading, convert_dataset

    reading = Reading(verb.fps, verb.task, None if verb.state is None else tuple(verb.state.split(",")))
    made = convert_dataset(verb.src, verb.dst, verb.to, reencode=verb.reencode, reading=reading)
    CONSOLE.print(Text(f"{made.num_episodes} episodes, {made.num_frames} frames -> {verb.dst}"))


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
            **{flag: facts for flag, facts in runs_to("dataset.html").items() if flag != "runs"},
            "--recipe": {
                "metavar": "NAME",
                "default": "joint",
                "help": "design whose windows are counted [joint]",
            },
            "--json": JSON,
        },
    ),
    "data convert": Verb(
        convert,
        "SRC DST [--to v3.0] [--reencode]",
        arguments={
            "src": {
                "type": Path,
                "metavar": "SRC",
                "help": "LeRobotDataset folder (v3.0, v2.1, v2.0) or HDF5 file of robomimic or LIBERO",
            },
            "dst": {
                "type": Path,
                "metavar": "DST",
                "help": "folder of the new dataset, which must not exist",
            },
            "--to": {
                "metavar": "VERSION",
                "default": "v3.0",
                "help": "layout to write, v3.0 or v2.1 [v3.0]",
            },
            "--reencode": {
                "action": "store_true",
                "help": "encode an episode's video anew where it cannot be cut out of its file without",
            },
            "--fps": {"type": float, "metavar": "HZ", "help": "rate of an HDF5 file that does not say it"},
            "--task": {"metavar": "TEXT", "help": "instruction of an HDF5 file that holds none"},
            "--state": {
                "metavar": "KEY,KEY",
                "help": "vectors of an HDF5 file that make up the state [all but `object`]",
            },
        },
        kept="Files that were finished are kept; the same command goes on with the others.",
    ),
}
