"""Configs: the constructor's type is the config, written beside every result, unknown keys name the nearest one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import draccus
import yaml
from draccus.utils import DecodingError

from wamkit.errors import ConfigError, did_you_mean

T = TypeVar("T")


def encode(config: Any) -> dict[str, Any]:
    """A config as plain values (JSON-able)."""
    return draccus.encode(config)


def decode(cls: type[T], values: Any, place: str) -> T:
    """Plain values -> config.

    Args:
        cls: the config's class.
        values: nested plain values.
        place: where they come from, for the message.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value of the wrong type.
    """
    try:
        return draccus.decode(cls, values)
    except DecodingError as error:
        raise ConfigError(f"{place}: {error}{_hint(str(error))}") from error


def _hint(message: str) -> str:
    """For an unknown key, the nearest known one of the class that the message names."""
    match = re.search(r"[Tt]he fields? `([^`]+)`.* not valid for (\w+)", message)
    if not match:
        return ""
    owner = next((c for c in _dataclasses() if c.__name__ == match.group(2)), None)
    if owner is None:
        return ""
    known = [f.name for f in dataclasses.fields(owner)]
    return ". " + " ".join(did_you_mean(key.strip(), known) for key in match.group(1).split(","))


def _dataclasses() -> list[type[Any]]:
    """Every dataclass of the package that is loaded."""
    found: list[type[Any]] = []
    todo: list[type[Any]] = [object]
    while todo:
        for child in type.__subclasses__(todo.pop()):
            if child.__module__.startswith("wamkit"):
                found.append(child)
            if child.__module__.startswith(("wamkit", "draccus")):
                todo.append(child)
    return [c for c in found if dataclasses.is_dataclass(c)]


def parse(cls: type[T], args: Sequence[str], defaults: Any | None = None) -> T:
    """Command line -> config.

    Args:
        cls: the config's class.
        args: arguments such as ``--steps 100 --design.horizon 8`` or ``--config_path file.yaml``.
        defaults: a config whose values hold where the arguments say nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = None
        if defaults is not None:
            path = Path(folder) / "defaults.yaml"
            path.write_text(yaml.safe_dump(encode(defaults), sort_keys=False))
        try:
            return draccus.parse(cls, config_path=path, args=list(args))
        except DecodingError as error:
            raise ConfigError(f"command line: {error}{_hint(str(error))}") from error


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits that name a config."""
    text = json.dumps(encode(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
