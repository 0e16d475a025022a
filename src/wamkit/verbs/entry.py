"""Entry of a verb on the command line, and the arguments that several verbs share."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SHARD = {
    "metavar": "I/N",
    "help": "run only this part of the evaluation, such as 0/4; `wamkit merge` joins the parts",
}
RAY = {"metavar": "ADDRESS", "help": "run on this Ray cluster"}
SHARDS = {"type": int, "metavar": "N", "help": "parts of the evaluation on the Ray cluster [2]"}
SWEEP = {"action": "store_true", "help": "the same as `wamkit sweep`, with its options"}
JSON = {"action": "store_true", "help": "print JSON for programs"}


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Attributes:
        run: gets the verb's own arguments and the options of its config, and returns its status if that is not 0; its
            docstring says what the verb does.
        example: what typically follows the verb.
        config: dotted name of its config class, or None.
        arguments: argument of its own, flag or name -> what ``argparse`` is told of it.
        kept: what is kept of the work when it is stopped, and how to go on.
    """

    run: Callable[[Namespace, list[str]], int | None]
    example: str
    config: str | None = None
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: str = "Nothing was written; the same command begins anew."

    @property
    def summary(self) -> str:
        """One line about it."""
        return (self.run.__doc__ or "").partition("\n")[0]


def runs_to(out: str) -> dict[str, dict[str, Any]]:
    """Arguments of a verb that reads finished runs and writes to ``out``."""
    runs = {"nargs": "+", "type": Path, "metavar": "RUN", "help": "report folder or report.json"}
    return {
        "runs": runs,
        "--out": {"type": Path, "default": Path(out), "metavar": "path", "help": f"where to write [{out}]"},
        "--overwrite": {
            "action": "store_true",
            "help": "replace what an earlier run of this verb wrote there",
        },
    }


def print_json(value: Any) -> None:
    """Print plain values as indented JSON."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
