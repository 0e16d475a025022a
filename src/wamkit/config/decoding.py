"""Plain values -> configs: an unknown key or choice is refused with the nearest name, a fault with its dotted name."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import draccus

from wamkit.config.files import Written
from wamkit.config.values import Config, FieldError, describe, find_fault, hints_of
from wamkit.errors import ConfigError, did_you_mean

T = TypeVar("T")

NAMED = 16  # choices that a message names


def encode(config: Any) -> dict[str, Any]:
    """A config as plain values (JSON-able)."""
    return draccus.encode(config)


def _plain(value: Any, declared: Any = None) -> Any:
    """Plain values of a config and of what stands in it; the library's encoder does not know types with ranges."""
    if isinstance(value, Config):
        kind = type(value)
        choice = {"type": kind.get_choice_name(kind)} if issubclass(kind, draccus.ChoiceRegistry) else {}
        return {**choice, **{name: _plain(getattr(value, name)) for name in hints_of(kind)}}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else draccus.encode(value)


draccus.encode.register(Config, _plain, include_subclasses=True)


def decode(cls: type[T], values: Any, place: str) -> T:
    """Plain values -> config.

    Args:
        cls: the config's class.
        values: nested plain values.
        place: source of the values, for the message.

    Raises:
        ConfigError: an unknown key or choice (with the nearest known one), a value of the wrong type or outside its
            range. The message names the place, the dotted field and what it must be.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place}: must be a mapping of options, got {describe(values)}.")
    made = _read(cls, values, "", place)
    assert isinstance(made, cls)
    return made


def _read(hint: Any, value: Any, where: str, place: str) -> Any:
    """A plain value as its type has it. A value of another shape is left as it is, for the check to refuse.

    Args:
        hint: type, with its ranges.
        value: plain value, inside of which are :class:`Written` ones.
        where: dotted key of the value.
        place: source of the whole config.
    """
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, Written) and origin not in (Union, types.UnionType):
        value = _unwrap(hint, value)
    if origin in (Union, types.UnionType):
        return _read_union(arguments, value, where, place)
    if origin in (tuple, list) and isinstance(value, tuple | list):
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        kinds = [arguments[0]] * len(value) if many or len(arguments) < len(value) else arguments
        return tuple(
            _read(kind, v, f"{where}.{i}", place)
            for i, (kind, v) in enumerate(zip(kinds, value, strict=False))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        for key, inner in value.items():
            require_space(key, inner, where, place)
        # A part of a recipe is taken out by null, where a mapping holds configs by name.
        kept = {k: v for k, v in value.items() if not (is_config(arguments[1]) and _empty(v))}
        return {
            _key(arguments[0], key): _read(arguments[1], v, f"{where}.{key}", place)
            for key, v in kept.items()
        }
    if is_config(hint) and isinstance(value, Mapping):
        return _make(hint, value, where, place)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**300:
        return float(value)
    return Path(value) if hint is Path and isinstance(value, str) and value and "\0" not in value else value


def _unwrap(hint: Any, written: Written) -> Any:
    """The text of a value where its type is text, else its value."""
    textual = hint in (str, Path) or (get_origin(hint) is Literal and written.text in get_args(hint))
    if textual and not (written.value is None and written.problem is None):
        return written.text
    if written.problem is not None:
        raise ConfigError(written.problem)
    return written.value


def _read_union(options: Sequence[Any], value: Any, where: str, place: str) -> Any:
    """The value as the first of several types that takes it."""
    if _empty(value):
        return None
    made: list[Any] = []
    for option in options:
        if option is not type(None):
            made.append(_read(option, value, where, place))
            if find_fault(option, made[-1], where) is None:
                return made[-1]
    return made[0]


def _empty(value: Any) -> bool:
    """Whether a value is null."""
    return value.value is None and value.problem is None if isinstance(value, Written) else value is None


def require_space(key: Any, value: Any, where: str, place: str) -> None:
    """Raise :class:`ConfigError` for ``{a:b}``, which YAML takes for the key ``a:b`` with nothing behind it."""
    name, colon, rest = str(key).partition(":")
    if _empty(value) and name and colon and rest:
        raise ConfigError(
            f"{place}: {where}: {{{key}}} is one word to YAML. Put a space behind the colon: {{{name}: {rest}}}."
        )


def _key(kind: Any, key: Any) -> Any:
    """A key of a mapping; JSON and the command line write integers as text."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return int(key) if kind is int and isinstance(key, str) and re.fullmatch(r"-?[0-9]{1,9}", key) else key


def is_config(hint: Any) -> bool:
    """Whether a type is a config class or the base class of a registry."""
    return isinstance(hint, type) and (
        dataclasses.is_dataclass(hint) or issubclass(hint, draccus.ChoiceRegistry)
    )


def _make(hint: Any, values: Mapping[Any, Any], where: str, place: str) -> Any:
    """The config of a mapping; raises :class:`ConfigError` with the dotted key of what is wrong."""
    part, prefix = _chosen(hint, values, where, place), f"{place}: {where}".removesuffix(": ")
    hints = hints_of(part)
    arguments = {}
    for key, value in values.items():
        if key in hints:
            arguments[key] = _read(hints[key], value, f"{where}.{key}".lstrip("."), place)
        elif key != "type" or not issubclass(hint, draccus.ChoiceRegistry):
            raise ConfigError(f"{prefix}: no field `{key}`. {did_you_mean(str(key), hints)}")
    missing = [f.name for f in dataclasses.fields(part) if f.name not in arguments and _required(f)]
    if missing:
        raise ConfigError(
            f"{prefix}: no value for {', '.join(f'`{name}`' for name in missing)}, which has no default."
        )
    try:
        return part(**arguments)
    except FieldError as error:
        field = f"{where}.{error.field}".lstrip(".")
        raise ConfigError(f"{place}: {field}: {error.reason}") from error
    except ConfigError as error:
        raise ConfigError(f"{prefix}: {error}") from error


def _required(f: dataclasses.Field[Any]) -> bool:
    return f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING


def _chosen(hint: Any, values: Mapping[Any, Any], where: str, place: str) -> Any:
    """The config class that ``values`` choose; raises :class:`ConfigError` when the choice is missing or unknown."""
    if not issubclass(hint, draccus.ChoiceRegistry):
        return hint
    choices = hint.get_known_choices()
    if hint in choices.values():
        return hint  # one part, asked for by its own class
    prefix = f"{place}: {where}".removesuffix(": ")
    if "type" not in values:
        known = sorted(choices)
        more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
        raise ConfigError(f"{prefix}: the 'type' key is missing. Known: {', '.join(known[:NAMED])}{more}.")
    name = text_of(values["type"])
    if name not in choices:
        raise ConfigError(f"{prefix}: no type {name!r}. {did_you_mean(name, choices)}")
    return hint.get_choice_class(name)


def text_of(value: Any) -> str:
    """The text of a value that must be a name."""
    return value.text if isinstance(value, Written) else str(value)
