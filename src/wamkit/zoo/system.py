"""Systems of the field by name: a recipe with the name of its row, and what the recipe says about itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo.rows import CELLS, blocks, rows

PREFIX = "zoo:"


@dataclass(frozen=True)
class System:
    """A recipe of a row of the census.

    Attributes:
        name: name of the row.
        make: function that returns the config.
        distinct: blocks that tell it from its neighbours; the oracle of each is run on this very recipe.
        data: recordings that it is built for: ``benchmark``, ``senses`` (sound and touch) or ``poses`` (absolute poses
            in 6D form).
        missing: blocks of the row that the recipe leaves out, because the library does not have them.
        simplified: what is simpler here than in the paper.
        choices: what the sources do not say and this recipe chose.
        departs: cell of the tuple -> reason why it differs from the survey's.
    """

    name: str
    make: Callable[[], DesignConfig]
    distinct: tuple[str, ...]
    data: str = "benchmark"
    missing: tuple[str, ...] = ()
    simplified: str = ""
    choices: str = ""
    departs: Mapping[str, str] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """What is distinct about the system: the docstring of its recipe."""
        return " ".join((inspect.getdoc(self.make) or "").split())


REGISTERED: dict[str, System] = {}
DATA = ("benchmark", "senses", "poses")


def system(
    name: str,
    distinct: tuple[str, ...],
    *,
    data: str = "benchmark",
    missing: tuple[str, ...] = (),
    simplified: str = "",
    choices: str = "",
    departs: Mapping[str, str] | None = None,
) -> Callable[[Callable[[], DesignConfig]], Callable[[], DesignConfig]]:
    """Register a function as the recipe of the row ``name``; see :class:`System` for the arguments.

    Raises:
        ConfigError: the row, a block, a cell or the data is unknown, or the row has a recipe already.
    """
    if name not in rows():
        raise ConfigError(f"system {name!r}: no such row. {did_you_mean(name, rows())}")
    if name in REGISTERED:
        raise ConfigError(f"system {name!r} has a recipe already; remove one of the two")
    for block in (*distinct, *missing):
        if block not in blocks():
            raise ConfigError(f"system {name!r}: no block {block!r}. {did_you_mean(block, blocks())}")
    for cell in departs or {}:
        if cell not in CELLS:
            raise ConfigError(f"system {name!r}: no cell {cell!r}. {did_you_mean(cell, CELLS)}")
    if data not in DATA:
        raise ConfigError(f"system {name!r}: no data {data!r}. {did_you_mean(data, DATA)}")

    def register(make: Callable[[], DesignConfig]) -> Callable[[], DesignConfig]:
        REGISTERED[name] = System(
            name, make, distinct, data, missing, simplified, choices, dict(departs or {})
        )
        return make

    return register
