"""Command line and config files -> configs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import draccus

from wamkit.config.decoding import decode, encode, text_of
from wamkit.config.files import Written, read_config, read_option
from wamkit.config.values import describe, hints_of
from wamkit.errors import ConfigError, did_you_mean

T = TypeVar("T")


def parse(cls: type[T], args: Sequence[str], defaults: Any | None = None) -> T:
    """Command line -> config.

    Args:
        cls: the config's class.
        args: arguments such as ``--steps 100 --design.estimators.policy.draws 4``; ``--config_path file.yaml``
            sets many at once, and single arguments win over it. A value is written as in YAML. Setting a
            ``type`` drops the other fields of the part that it replaces.
        defaults: a config whose values hold where the arguments say nothing.

    Raises:
        ConfigError: an unknown option (with the nearest known one), a value of the wrong type, or an option that is
            given twice.
    """
    values = _default_values(cls) if defaults is None else encode(defaults)
    options = _options(args)
    for key, file in options:
        if key == "config_path":
            values = _merged(values, _read(file), cls)
    options = [(key, text) for key, text in options if key != "config_path"]
    for key, text in sorted(options, key=_turn):
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
        text = value if equals else None if alone else rest.pop(0)
        for earlier in (value for name, value in options if name == key):
            raise _twice(f"--{key}", earlier, text)
        options.append((key, text))
    return options


def require_once(flags: Iterable[str], args: Sequence[str]) -> None:
    """Raise :class:`ConfigError`, with both values, if one of ``flags`` such as ``--out`` stands twice in ``args``."""
    for flag in flags:
        given = [i for i, arg in enumerate(args) if arg.partition("=")[0] == flag]
        if len(given) > 1:
            one, other = (
                (args[i].partition("=")[2] if "=" in args[i] else " ".join(args[i + 1 : i + 2]))
                for i in given[:2]
            )
            raise _twice(flag, one, other)


def _twice(flag: str, one: str | None, other: str | None) -> ConfigError:
    shown = ["a switch" if text is None else repr(text) for text in (one, other)]
    return ConfigError(f"command line: {flag} is given twice, as {shown[0]} and as {shown[1]}. Give it once.")


def _turn(option: tuple[str, str | None]) -> tuple[int, bool]:
    """Place of an option in the order of setting: a part as a whole, its type, its fields. The narrower one wins."""
    *path, last = option[0].split(".")
    return (len(path), True) if last == "type" else (len(path) + 1, False)


def _default_values(cls: type[Any]) -> dict[str, Any]:
    """Plain values of every field that has a default; required fields are left out."""
    hints, values = get_type_hints(cls), {}  # without ranges, which the encoder does not know
    for f in dataclasses.fields(cls):
        if f.default_factory is not dataclasses.MISSING:
            values[f.name] = draccus.encode(f.default_factory(), hints[f.name])
        elif f.default is not dataclasses.MISSING:
            values[f.name] = draccus.encode(f.default, hints[f.name])
    return values


def _read(file: str | None) -> dict[str, Any]:
    if not file:
        raise ConfigError("command line: --config_path: name a YAML file")
    path = Path(file)
    if not path.exists():
        raise ConfigError(f"command line: --config_path {file}: no such file")
    return read_config(path)


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
    choice = text_of(new["type"]) if "type" in new else base.get("type")
    part = _part(hint, choice)
    if part is None or base.get("type") != choice:
        return new
    hints = hints_of(part)
    return {**base, **{key: _merged(base.get(key), value, hints.get(key)) for key, value in new.items()}}


def _part(hint: Any, choice: str | None) -> Any:
    """The config class that a type hint stands for, or None where it is none: a mapping, a list, a plain value."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
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
    value: Any = True if text is None else read_option(text, f"command line: --{key}")
    if text == "None":
        value = None
    if key.endswith(".type") and isinstance(value, Written):
        value = None if value.value is None and value.problem is None else value.text
    if value is None and key.endswith(".type"):
        key = key.removesuffix(".type")  # no part at all
    *path, last = key.split(".")
    node = values
    for i, name in enumerate(path):
        if name not in node:
            place = ".".join(path[:i]) or "the options"
            deeper = [outer for outer, inner in node.items() if isinstance(inner, dict) and name in inner]
            way_out = f"Did you mean --{deeper[0]}.{key}?" if deeper and not i else did_you_mean(name, node)
            raise ConfigError(f"command line: --{key}: no {name!r} in {place}. {way_out}")
        inner = _bare(node[name])
        node[name] = {} if inner is None else inner
        if not isinstance(node[name], dict):
            raise ConfigError(f"command line: --{key}: {name!r} is {describe(inner)}, which has no fields")
        node = node[name]
    if text is None and not isinstance(_bare(node.get(last)), bool):
        raise ConfigError(f"command line: expected `--option value`, got '--{key}' alone")
    if last == "type" and node.get("type") != value:
        node.clear()
    node[last] = value


def _bare(value: Any) -> Any:
    """A value without its text."""
    return value.value if isinstance(value, Written) else value
