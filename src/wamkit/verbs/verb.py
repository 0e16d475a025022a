"""What the command line is told of a verb."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verb:
    """One verb of the command line.

    Attributes:
        run: gets the verb's own arguments and the options of its config; its docstring says what the verb does.
        example: what typically follows the verb.
        config: dotted name of its config class, or None.
        arguments: argument of its own, flag or name -> what ``argparse`` is told of it.
        kept: what is kept of the work when it is stopped, and how to go on.
    """

    run: Callable[[Namespace, list[str]], None]
    example: str
    config: str | None = None
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kept: str = "Nothing was written; the same command begins anew."

    @property
    def summary(self) -> str:
        """One line about it."""
        return (self.run.__doc__ or "").partition("\n")[0]
