"""Checks of configs: every field of every config is compared with its type and range when the config is made."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from wamkit.errors import ConfigError

SHOWN = 60  # characters of a refused value that a message shows


class FieldError(ConfigError):
    """A field that holds what it may not hold.

    Attributes:
        field: dotted name of the field inside its config.
        reason: what it must be and what it is.
    """

    def __init__(self, message: str, field: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.field, self.reason = field, reason


class Config:
    """Base of every config: a frozen dataclass whose fields are checked before its own ``__post_init__`` runs.

    Attributes:
        error: the error that it raises.
        extras: of a part, the extras of a dataset that it reads, fields in braces, and in brackets when it reads one.
        packages: of a part, the pip extras that it needs, such as ``pretrained``.

    Raises:
        ConfigError: a field holds a value of another type or outside its range.
    """

    error: ClassVar[type[FieldError]] = FieldError
    extras: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        own = cls.__dict__.get("__post_init__")
        if own is not None:
            cls.__post_init__ = _checked(own)  # type: ignore[assignment,method-assign]

    def __post_init__(self) -> None:
        check_fields(self)


def _checked(own: Callable[[Any], None]) -> Callable[[Any], None]:
    """``__post_init__`` that checks the fields first, so that the rules of a class compare valid values only."""

    @functools.wraps(own)
    def checked(self: Any) -> None:
        if type(self).__post_init__ is checked:  # the outermost: base classes need not check again
            check_fields(self)
        own(self)

    return checked


def hints_of(cls: type[Any]) -> dict[str, Any]:
    """Field name -> type with its ranges, of a config class."""
    if cls not in _HINTS:
        hints = get_type_hints(cls, include_extras=True)
        _HINTS[cls] = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    return _HINTS[cls]


_HINTS: dict[type[Any], dict[str, Any]] = {}


def check_fields(config: Any) -> None:
    """Compare every field of a config with its type and range.

    Raises:
        ConfigError: with the field, what it must be, and what it is.
    """
    for name, hint in hints_of(type(config)).items():
        found = find_fault(hint, getattr(config, name), name)
        if found is not None:
            field, reason = found
            raise config.error(f"{type(config).__name__}.{field}: {reason}", field, reason)


Fault = tuple[str, str]  # dotted name of a field, what is wrong with it


def find_fault(hint: Any, value: Any, where: str) -> Fault | None:
    """The first place in which a value is not what its type says, and why; None where it is right.

    Args:
        hint: a type, with its ranges.
        value: the value.
        where: dotted name of the value.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _find_outside(arguments[0], arguments[1:], value, where)
    if origin in (Union, types.UnionType):
        return _find_in_union(arguments, value, where)
    if origin in (tuple, list):
        return _find_in_list(arguments, value, where)
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return _find_in_mapping(arguments, value, where)
    if origin is Literal:
        options = ", ".join(map(str, arguments))
        matches = any(value == option and type(value) is type(option) for option in arguments)
        return None if matches else (where, f"must be one of {options}, got {describe(value)}.")
    return None if holds(hint, value) else (where, f"must be {name_of(hint)}, got {describe(value)}.")


def _find_outside(kind: Any, ranges: Sequence[Any], value: Any, where: str) -> Fault | None:
    found = find_fault(kind, value, where)
    if found is not None:
        return found
    for bounds in ranges:
        reason = bounds.fault(value) if not isinstance(value, Path) else None
        if reason is not None:
            return where, f"{reason}, got {describe(value)}."
    return None


def _find_in_union(options: Sequence[Any], value: Any, where: str) -> Fault | None:
    found = [find_fault(option, value, where) for option in options if option is not type(None)]
    if (value is None and type(None) in options) or None in found:
        return None
    return found[0]


def _find_in_list(entries: Sequence[Any], value: Any, where: str) -> Fault | None:
    if isinstance(value, str):
        return where, f"must be a list, got {describe(value)}. Write [{value[:SHOWN]}]."
    if not isinstance(value, tuple | list):
        return where, f"must be a list, got {describe(value)}."
    many = len(entries) == 2 and entries[1] is Ellipsis
    kinds = [entries[0]] * len(value) if many or len(entries) == 1 else list(entries)
    if len(kinds) != len(value):
        return where, f"must have {len(kinds)} entries, got {describe(value)}."
    faults = (
        find_fault(kind, v, f"{where}.{i}") for i, (kind, v) in enumerate(zip(kinds, value, strict=True))
    )
    return next((found for found in faults if found is not None), None)


def _find_in_mapping(kinds: Sequence[Any], value: Any, where: str) -> Fault | None:
    if not isinstance(value, Mapping):
        return where, f"must be a mapping, such as {{name: value}}, got {describe(value)}."
    for key, entry in value.items():
        found = find_fault(kinds[0], key, where) or find_fault(kinds[1], entry, f"{where}.{key}")
        if found is not None:
            return found
    return None


def holds(kind: Any, value: Any) -> bool:
    """Whether a value is of a plain type or of a config class. A truth value is no number, an integer is a float."""
    if kind is Any:
        return True
    if kind in (int, float):
        numbers = (int, float) if kind is float else (int,)
        return isinstance(value, numbers) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind not in (str, Path) or _writable(str(value)))


def _writable(text: str) -> bool:
    """Whether a text can stand in a file or name one: UTF-8 without NUL."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def name_of(kind: Any) -> str:
    """A type in the words of a message."""
    words = {int: "an integer", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
    return words.get(kind) or f"the settings of a {kind.__name__} (a mapping of its fields)"


def describe(value: Any) -> str:
    """A value in the words of a message, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return f"the text {_cut(repr(value))}"
    if isinstance(value, Mapping):
        return f"the mapping {_cut(str(dict(value)))}"
    if isinstance(value, tuple | list):
        return f"the list {_cut(str(list(value)))}"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return f"an integer of more than {SHOWN} digits"
    if isinstance(value, int | float):
        return str(value)
    return f"a value of type {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
