"""Systems of the field that have a recipe, by name."""

from __future__ import annotations

from collections.abc import Mapping

import wamkit.zoo.systems  # noqa: F401 (registers them)
from wamkit.design.config import DesignConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.zoo.rows import row, rows
from wamkit.zoo.system import PREFIX, REGISTERED, System

SIZES = ("tiny",)  # `paper` follows when pretrained video trunks do


def systems() -> Mapping[str, System]:
    """All systems that have a recipe, in the order of the census."""
    return {name: REGISTERED[name] for name in rows() if name in REGISTERED}


def recipe_of(name: str) -> DesignConfig:
    """Config of a system by its name, with or without ``zoo:`` before it; ``zoo:NAME@tiny`` names the size.

    Raises:
        ConfigError: no such row, no recipe of it yet, or no such size.
    """
    wanted, _, size = name.removeprefix(PREFIX).partition("@")
    found = systems().get(row(wanted).name)
    if found is None:
        known = row(wanted)
        raise ConfigError(
            f"zoo: {known.name!r} ({known.kind}) has no recipe yet; `wamkit zoo show '{known.name}'` says what it "
            f"misses. Systems with one: `wamkit zoo --state works`."
        )
    if size and size not in SIZES:
        raise ConfigError(f"zoo: no size {size!r} of {found.name!r}. {did_you_mean(size, SIZES)}")
    return found.make()
