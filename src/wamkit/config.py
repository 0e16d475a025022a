"""Configs: typed values from YAML and the command line; an unknown key or choice is refused with the nearest name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import draccus
import yaml
from draccus.utils import ParsingError

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
        place: source of the values, for the message.

    Raises:
        ConfigError: an unknown key or choice (with the nearest known one) or a value of the wrong type.
    """
    _check_names(cls, values, "", place)
    try:
        config = draccus.decode(cls, values)
    except ParsingError as error:
        raise ConfigError(f"{place}: {error}") from error
    _refuse_text_for_lists(values, encode(config), place)
    return config


def _check_names(hint: Any, values: Any, where: str, place: str) -> None:
    """Raise :class:`ConfigError`, with the nearest known name, for the first key or choice that does not exist.

    Args:
        hint: type that ``values`` should have.
        values: nested plain values. Values of another shape than ``hint`` are left to the decoder.
        where: dotted key of ``values``.
        place: source of the whole config, for the message.
    """
    arguments = get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        for option in arguments:
            if isinstance(values, Mapping) and _is_config(option):
                _check_names(option, values, where, place)
    elif isinstance(values, Mapping) and get_origin(hint) is dict:
        for key, value in values.items():
            _check_names(arguments[1], value, f"{where}.{key}".lstrip("."), place)
    elif isinstance(values, Sequence) and get_origin(hint) in (tuple, list):
        for i, value in enumerate(values):
            _check_names(arguments[0], value, f"{where}.{i}".lstrip("."), place)
    elif isinstance(values, Mapping) and _is_config(hint):
        part, prefix = _chosen(hint, values, where, place), f"{place}: {where}".rstrip(": ")
        hints = get_type_hints(part)
        known = [f.name for f in dataclasses.fields(part) if f.init]
        for key in values:
            if key in known:
                _check_names(hints[key], values[key], f"{where}.{key}".lstrip("."), place)
            elif key != "type" or not issubclass(hint, draccus.ChoiceRegistry):
                raise ConfigError(f"{prefix}: no field `{key}`. {did_you_mean(str(key), known)}")


def _is_config(hint: Any) -> bool:
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or issubclass(hint, draccus.ChoiceRegistry)
    )


def _chosen(hint: Any, values: Mapping[str, Any], where: str, place: str) -> Any:
    """The config class that ``values`` choose; raises :class:`ConfigError` when the choice is missing or unknown."""
    if not issubclass(hint, draccus.ChoiceRegistry):
        return hint
    choices = hint.get_known_choices()
    if hint in choices.values():
        return hint  # one part, asked for by its own class
    prefix = f"{place}: {where}".rstrip(": ")
    if "type" not in values:
        raise ConfigError(f"{prefix}: the 'type' key is missing. Known: {', '.join(sorted(choices))}.")
    if values["type"] not in choices:
        raise ConfigError(
            f"{prefix}: no type {values['type']!r}. {did_you_mean(str(values['type']), choices)}"
        )
    return hint.get_choice_class(values["type"])


def _refuse_text_for_lists(given: Any, made: Any, place: str) -> None:
    """Draccus would read the text ``abc`` as the list ``[a, b, c]``."""
    if isinstance(given, str) and isinstance(made, list):
        raise ConfigError(f"{place}: expected a list, got the text {given!r}. Write [{given}].")
    if isinstance(given, Mapping) and isinstance(made, dict):
        for key, value in given.items():
            _refuse_text_for_lists(value, made.get(key), f"{place}: {key}")
    if isinstance(given, list) and isinstance(made, list):
        for value, entry in zip(given, made, strict=False):
            _refuse_text_for_lists(value, entry, place)


def parse(cls: type[T], args: Sequence[str], defaults: Any | None = None) -> T:
    """Command line -> config.

    Args:
        cls: the config's class.
        args: arguments such as ``--steps 100 --design.estimators.policy.draws 4``; ``--config_path file.yaml``
            sets many at once, and single arguments win over it. A value is written as in YAML. Setting a
            ``type`` drops the other fields of the part that it replaces.
        defaults: a config whose values hold where the arguments say nothing.

    Raises:
        ConfigError: an unknown option (with the nearest known one) or a value of the wrong type.
    """
    values = _default_values(cls) if defaults is None else encode(defaults)
    options = _options(args)
    for key, file in options:
        if key == "config_path":
            values = _merged(values, _read(file), cls)
    options = [(key, text) for key, text in options if key != "config_path"]
    for key, text in sorted(options, key=lambda option: not option[0].endswith(".type")):
        _set(values, key, text)
    return decode(cls, values, "command line")


def _options(args: Sequence[str]) -> list[tuple[str, str | None]]:
    """``--key value`` or ``--key=value`` -> pairs of key and text; a key alone has no text."""
    options: list[tuple[str, str | None]] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if not arg.startswith("--"):
            raise ConfigError(f"command line: expected `--option value`, got {arg!r} alone")
        key, equals, value = arg.removeprefix("--").partition("=")
        alone = not equals and (not rest or rest[0].startswith("--"))
        options.append((key, value if equals else None if alone else rest.pop(0)))
    return options


def _default_values(cls: type[Any]) -> dict[str, Any]:
    """Plain values of every field that has a default; required fields are left out."""
    hints, values = get_type_hints(cls), {}
    for f in dataclasses.fields(cls):
        if f.default_factory is not dataclasses.MISSING:
            values[f.name] = draccus.encode(f.default_factory(), hints[f.name])
        elif f.default is not dataclasses.MISSING:
            values[f.name] = draccus.encode(f.default, hints[f.name])
    return values


def _read(file: str | None) -> dict[str, Any]:
    if file is None:
        raise ConfigError("command line: --config_path: name a YAML file")
    path = Path(file)
    if not path.is_file():
        raise ConfigError(f"command line: --config_path {file}: no such file")
    values = _plain(path.read_text(), file)
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected a mapping of options, got {values!r}")
    return values


def _plain(text: str, place: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: not YAML: {error}") from error


def _merged(base: Any, new: Any, hint: Any) -> Any:
    """``new`` over ``base``, field by field, except where it chooses another part or fills a mapping of names.

    A mapping's keys are names that the user gives (trunks, estimators, streams), not options with defaults: a file that
    names its trunks has these trunks and no other.

    Args:
        base: plain values.
        new: plain values.
        hint: the type that both are values of.
    """
    if not isinstance(base, dict) or not isinstance(new, dict):
        return new
    part = _part(hint, new.get("type", base.get("type")))
    if part is None or base.get("type") != new.get("type", base.get("type")):
        return new
    hints = get_type_hints(part)
    return {**base, **{key: _merged(base.get(key), value, hints.get(key)) for key, value in new.items()}}


def _part(hint: Any, choice: str | None) -> Any:
    """The config class that a type hint stands for, or None where it is none: a mapping, a list, a plain value."""
    for option in get_args(hint) or (hint,):
        if (
            isinstance(option, type)
            and issubclass(option, draccus.ChoiceRegistry)
            and choice in option.get_known_choices()
        ):
            return option.get_choice_class(choice)
        if dataclasses.is_dataclass(option) and not issubclass(option, draccus.ChoiceRegistry):  # type: ignore[arg-type]
            return option
    return None


def _set(values: dict[str, Any], key: str, text: str | None) -> None:
    """Set the entry at a dotted key, in place; without a text a switch is turned on."""
    value = True if text is None else _plain(text, f"command line: --{key}")
    value = None if value == "None" else value
    if value is None and key.endswith(".type"):
        key = key.removesuffix(".type")  # no part at all
    *path, last = key.split(".")
    node = values
    for i, name in enumerate(path):
        if name not in node:
            place = ".".join(path[:i]) or "the options"
            raise ConfigError(f"command line: --{key}: no {name!r} in {place}. {did_you_mean(name, node)}")
        node[name] = {} if node[name] is None else node[name]
        if not isinstance(node[name], dict):
            raise ConfigError(f"command line: --{key}: {name!r} is {node[name]!r}, which has no fields")
        node = node[name]
    if text is None and not isinstance(node.get(last), bool):
        raise ConfigError(f"command line: expected `--option value`, got '--{key}' alone")
    if last == "type" and node.get("type") != value:
        node.clear()
    node[last] = value


def config_hash(config: Any) -> str:
    """SHA-256 of a resolved config (or of its plain values) as canonical JSON."""
    values = config if isinstance(config, Mapping) else encode(config)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
