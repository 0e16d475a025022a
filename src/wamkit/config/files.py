"""YAML as a user writes it: a value keeps its text, a key given twice is an error, and so is anything unreadable.

The values are those of the core schema of YAML 1.2, in which ``no`` is a text and ``1e-3`` a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from wamkit.errors import ConfigError, DataError
from wamkit.storage.documents import read_text

WAY_OUT = "Name a text file of YAML in UTF-8."
INTEGER = re.compile(r"[-+]?[0-9]+")
BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
STANDARD = "tag:yaml.org,2002:"
PLAIN_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "map", "seq", "merge", "value"}
SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(f"{sign}inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True)
class Written:
    """A value together with its text, which is the value where a field holds text.

    Attributes:
        value: what the text means in YAML.
        text: the text as it was written.
        problem: why the text means nothing in YAML, or None.
    """

    value: Any
    text: str
    problem: str | None = None


def read_config(path: Path) -> dict[str, Any]:
    """The values of a config file, in YAML or JSON, with :class:`Written` for every value that is not text.

    Raises:
        ConfigError: it cannot be read, is not YAML, gives a key twice, or does not hold a mapping.
    """
    try:
        text = read_text(path, WAY_OUT)
    except DataError as error:
        raise ConfigError(str(error)) from error
    values = read_yaml(text, str(path))
    if not isinstance(values, dict):
        held = "nothing" if not text.strip() else "another value"
        raise ConfigError(f"{path}: must hold a mapping such as `name: value`, and holds {held}. {WAY_OUT}")
    return values


def read_yaml(text: str, place: str) -> Any:
    """The value of a YAML text.

    Raises:
        ConfigError: it is not YAML, gives a key twice, or uses tags, anchors or keys that are no plain values.
    """
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _value(node, place)
    except RecursionError as error:
        raise ConfigError(f"{place}: not YAML: nested too deep.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: not YAML: {_problem(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _problem(error: yaml.YAMLError) -> str:
    """What is wrong and where, on one line."""
    mark = getattr(error, "problem_mark", None)
    line = "" if mark is None else f" (line {mark.line + 1})"
    return f"{getattr(error, 'problem', None) or str(error).splitlines()[0]}{line}."


def _value(node: yaml.Node, place: str, above: tuple[int, ...] = ()) -> Any:
    """The value of a node.

    Args:
        node: a node of a YAML document.
        place: source of the document, for messages.
        above: identities of the nodes around it; one of them inside itself has no value.
    """
    line = f"{place}: line {node.start_mark.line + 1}"
    if id(node) in above:
        raise ConfigError(f"{line}: an alias stands inside its own anchor. Write the values out.")
    if node.tag.removeprefix(STANDARD) not in PLAIN_TAGS:
        raise ConfigError(
            f"{line}: the tag {node.tag} means nothing here. Quote a text that begins with `!`."
        )
    inside = (*above, id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(entry, place, inside) for entry in node.value]
    if isinstance(node, yaml.MappingNode):
        values: dict[Any, Any] = {}
        for key_node, entry in node.value:
            key = _key(key_node, place)
            if key in values:
                where = f"{place}: line {key_node.start_mark.line + 1}"
                raise ConfigError(f"{where}: the key {key!r} is given twice. Remove one of them.")
            values[key] = _value(entry, place, inside)
        return values
    assert isinstance(node, yaml.ScalarNode)
    return node.value if node.style is not None else _plain(node.value)


def _key(node: yaml.Node, place: str) -> str:
    """Text of a key."""
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigError(
            f"{place}: line {node.start_mark.line + 1}: a key must be a text, not a list or mapping."
        )
    return str(node.value)


def _plain(text: str) -> Any:
    """Value of a text without quotes."""
    if text in SPECIAL:
        return Written(SPECIAL[text], text)
    if len(text) < 1000 and INTEGER.fullmatch(text):
        return Written(int(text), text)
    if len(text) < 1000 and BASED.fullmatch(text):
        return Written(int(text, 0), text)
    return Written(float(text), text) if len(text) < 1000 and NUMBER.fullmatch(text) else text


def read_option(text: str, place: str) -> Written:
    """The value of a command-line option: YAML, or the text itself for a field that holds text."""
    if not text:
        return Written("", "")
    try:
        value = read_yaml(text, place)
    except ConfigError as error:
        return Written(None, text, str(error))
    if value is None or (isinstance(value, Written) and value.value is None and text.strip() not in SPECIAL):
        return Written(None, text, f"{place}: {text!r} means nothing in YAML. Quote a text.")
    quoted = text.lstrip()[:1] in ("'", '"') and isinstance(value, str)
    return Written(value.value if isinstance(value, Written) else value, value if quoted else text)
