"""Help of a verb: every option with its meaning and default, grouped, from the declaration of the verb's config."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wamkit.verbs.catalog import DESIGN, DESIGNS, ROOMS
from wamkit.verbs.declarations import CHOICES, REQUIRED, ConfigField, Declaration, Made, choices, shown

DEPTH = 2  # configs nested deeper are one option, given in YAML
WIDE = 32  # characters of a type; longer ones are cut
FEW = 5  # choices that are listed; more are looked up with `wamkit list`


@dataclass(frozen=True)
class Row:
    """One option: its dotted key, type, meaning and default."""

    key: str
    type: str
    text: str
    default: str


@dataclass
class Group:
    """Options with one prefix.

    Attributes:
        title: prefix and name of what it configures.
        rows: the options.
    """

    title: str
    rows: list[Row] = field(default_factory=list)


def add_options(
    parser: argparse.ArgumentParser, config: Declaration, values: Mapping[str, Any], chosen: Mapping[str, str]
) -> None:
    """Add every option of a config to a parser, for its help.

    Args:
        parser: gets a group per nested config or part.
        config: the verb's config.
        values: plain values that replace the config's defaults, such as those of a recipe.
        chosen: dotted key of a part -> its type, as the command line says; the fields of that part are shown.
    """
    registry = Registry()
    for group in groups_of(config, "", registry.recognise(config, values).values, chosen, registry):
        target = parser.add_argument_group(group.title) if group.title else parser
        for row in group.rows:
            text = f"{row.text} (default: {row.default})".replace("%", "%%")
            kind = row.type if len(row.type) <= WIDE else row.type[: WIDE - 3] + "..."
            target.add_argument(f"--{row.key}", metavar=kind, help=text, default=argparse.SUPPRESS)


class Registry:
    """Choices of every registry, by base class and name."""

    def __init__(self) -> None:
        self._choices: dict[str, dict[str, Declaration]] = {}
        for base, name, config in choices(ROOMS):
            self._choices.setdefault(base, {})[name] = config

    def of(self, base: str) -> Mapping[str, Declaration]:
        """Name -> declaration of the choices of a base class."""
        return self._choices[base]

    def recognise(self, config: Declaration, values: Mapping[str, Any]) -> Made:
        """Plain values of a config, as a config file holds them, with the configs inside recognised by type."""
        fields = {f.name: f for f in config.fields}
        return Made(config, {k: self._value(fields[k], v) for k, v in values.items() if k in fields})

    def _value(self, option: ConfigField, value: Any) -> Any:
        kind = target_of(option)
        if kind.base is not None and isinstance(value, Mapping):
            if kind.named:
                return {name: self._part(kind.base, part) for name, part in value.items()}
            return self._part(kind.base, value)
        if kind.config is not None and isinstance(value, Mapping):
            if kind.named:
                return {name: self.recognise(kind.config, part) for name, part in value.items()}
            return self.recognise(kind.config, value)
        return value

    def _part(self, base: str, values: Mapping[str, Any]) -> Made:
        return self.recognise(self._choices[base][values["type"]], values)


@dataclass(frozen=True)
class FieldKind:
    """Kind of value that a field holds: a config, a part of a registry, or a plain value.

    Attributes:
        config: class of a nested config.
        base: name of the registry's base class.
        named: whether it is a mapping of names to those.
    """

    config: Declaration | None = None
    base: str | None = None
    named: bool = False


def target_of(option: ConfigField) -> FieldKind:
    """Kind of value that a field holds, from its annotation."""
    return _target(option.hint, option)


def _target(node: ast.expr, option: ConfigField) -> FieldKind:
    match node:
        case ast.BinOp(op=ast.BitOr()):
            return _target(node.left, option)
        case ast.Subscript(value=ast.Name(id="dict" | "Mapping"), slice=ast.Tuple(elts=[_, value])):
            inner = _target(value, option)
            return FieldKind(inner.config, inner.base, named=inner != FieldKind())
        case ast.Name():
            target = option.owner.resolve(node.id)
            if isinstance(target, Declaration):
                return FieldKind(base=target.name) if target.name in CHOICES else FieldKind(target)
    return FieldKind()


def groups_of(
    config: Declaration, prefix: str, values: Mapping[str, Any], chosen: Mapping[str, str], registry: Registry
) -> Iterator[Group]:
    """Groups of options: first the config's own, then one per config or part inside it.

    Args:
        config: the config.
        prefix: dotted key of the config with a trailing dot, or empty.
        values: values that replace its defaults.
        chosen: dotted key of a part -> its type.
        registry: choices of all registries.
    """
    own, inner = Group(f"--{prefix}*  ({_name_of(config)})" if prefix else ""), []
    for option in config.fields:
        key, kind = prefix + option.name, target_of(option)
        default = values.get(option.name, option.default)
        if kind.named and isinstance(default, Mapping):
            names = ", ".join(f"{name}: {_name(p)}" for name, p in default.items() if isinstance(p, Made))
            own.rows.append(Row(key, _listed(kind, registry), _text(option) + _where(kind), f"{{{names}}}"))
            parts = {f"{key}.{name}": part for name, part in default.items()}
            inner += [(at, part, part.config) for at, part in parts.items() if isinstance(part, Made)]
        elif kind.base is not None:
            part = _chosen_part(key, default, kind.base, chosen, registry)
            own.rows.append(
                Row(
                    f"{key}.type",
                    _listed(kind, registry),
                    _text(option) + _where(kind),
                    "null" if part is None else _name(part),
                )
            )
            if part is not None:
                inner.append((key, part, part.config))
        elif kind.config is not None and key.count(".") < DEPTH:
            made = default if isinstance(default, Made) else Made(kind.config)
            inner.append((key, made, kind.config))
        else:
            own.rows.append(_leaf(option, key, default, option.type))
    if own.rows:
        yield own
    for at, part, declared in inner:
        yield from groups_of(declared, f"{at}.", part.values, chosen, registry)


def _chosen_part(
    key: str, default: Any, base: str, chosen: Mapping[str, str], registry: Registry
) -> Made | None:
    """The part whose fields are shown: the one that the command line chooses, else the default."""
    name = chosen.get(key, "")
    if name in registry.of(base) and not (isinstance(default, Made) and _name(default) == name):
        return Made(registry.of(base)[name])
    return default if isinstance(default, Made) else None


def _leaf(option: ConfigField, key: str, default: Any, kind: str) -> Row:
    text = _text(option) + _where(FieldKind(), option.type)
    return Row(key, kind, text, "required" if default is REQUIRED else shown(default))


def _listed(kind: FieldKind, registry: Registry) -> str:
    """Names of the choices, or the kind of part where there are many."""
    if kind.base is None:
        return "{name: ...}"
    names = sorted(registry.of(kind.base))
    word = CHOICES[kind.base] if len(names) > FEW else "{" + ",".join(names) + "}"
    return f"{{name: {word}}}" if kind.named else word


def _where(kind: FieldKind, type_text: str = "") -> str:
    """Where the parts or configs that a field takes are listed, with the fields that this help does not show."""
    if kind.base is not None:
        word = CHOICES[kind.base]
        return f"; `wamkit list {word}` names them, `wamkit list {word} NAME` prints the fields of one"
    entry = kind.config.name if kind.config is not None else type_text.strip("[]., ")
    name = {place.rpartition(".")[2]: name for name, place in DESIGNS.items()}.get(entry)
    return "" if name is None else f"; `wamkit list {DESIGN} {name}` prints the fields of one"


def _name(part: Made) -> str:
    return part.config.choice[1] if part.config.choice is not None else part.config.name


def _name_of(config: Declaration) -> str:
    return config.choice[1] if config.choice is not None else plain_text(first_sentence(config.description))


def _text(option: ConfigField) -> str:
    return plain_text(first_sentence(option.text))


def first_sentence(text: str) -> str:
    """Text up to the first full stop that ends a sentence, without it."""
    return re.split(r"(?<!e\.g)(?<!i\.e)(?<!eq)(?<!al)[.;](?:\s|$)", text, maxsplit=1)[0]


def plain_text(text: str) -> str:
    """Text without the marks of reStructuredText."""
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", text).replace("``", "").replace("`", "")


def chosen_types(args: Sequence[str]) -> dict[str, str]:
    """Dotted key -> type, from ``--key.type NAME`` and ``--key.type=NAME``."""
    types = {}
    for i, arg in enumerate(args):
        key, equals, value = arg.removeprefix("--").partition("=")
        if arg.startswith("--") and key.endswith(".type"):
            following = args[i + 1] if i + 1 < len(args) else ""
            types[key.removesuffix(".type")] = value if equals else following
    return types
