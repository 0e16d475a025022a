"""Every part and recipe that a config can name, with the fields of each part."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wamkit.errors import ConfigError, did_you_mean
from wamkit.verbs.declarations import CHOICES, Declaration, Module, choices, declaration, module_named

# Folders whose files register choices, and where the base class of each registry is found once it is imported.
ROOMS = (
    "encoders", "substrates", "trunks", "estimators", "actions", "planners", "controllers", "memory", "augmentations",
    "envs", "design",
)  # fmt: skip
REGISTRIES = (
    "wamkit.contract.protocols",
    "wamkit.contract.planning",
    "wamkit.contract.augmenting",
    "wamkit.substrates.codecs",
    "wamkit.substrates.teachers",
    "wamkit.design.commands",
    "wamkit.controllers.base",
    "wamkit.envs.base",
    "wamkit.envs.perturbations.base",
)
# What parts are composed into, by the name under which it is listed.
DESIGN = "design"
DESIGNS = {
    "design": "wamkit.design.config.DesignConfig",
    "future": "wamkit.design.config.FutureConfig",
    "factor": "wamkit.design.graph.Factor",
}


@dataclass(frozen=True)
class Option:
    """One field of a part: its name, type and default as YAML, and its meaning."""

    name: str
    type: str
    default: str
    text: str


@dataclass(frozen=True)
class Entry:
    """A part or a recipe.

    Attributes:
        kind: what it is, e.g. ``estimator`` or ``recipe``.
        name: name that a config uses.
        summary: one line about it.
        module: module that defines it.
        description: the whole text about it.
        source: what its module says it implements: blocks of the field, equations and papers.
        fields: fields of its config; a recipe has none.
        extras: extras of a dataset that it reads: fields in braces, and in brackets when it reads one.
        packages: pip extras that it needs, such as ``pretrained``.
    """

    kind: str
    name: str
    summary: str
    module: str
    description: str = ""
    source: str = ""
    fields: tuple[Option, ...] = ()
    extras: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def list_parts() -> list[Entry]:
    """Parts of the package and those that imported modules registered, sorted within a kind; designs; recipes."""
    own = [_entry(CHOICES[base], name, config) for base, name, config in choices(ROOMS) if base in CHOICES]
    order = list(CHOICES.values())
    parts = sorted([*own, *_foreign()], key=lambda entry: (order.index(entry.kind), entry.name))
    designs = [_entry(DESIGN, name, declaration(place)) for name, place in DESIGNS.items()]
    return [*parts, *designs, *_recipes()]


def find_parts(name: str | None) -> list[Entry]:
    """Entries of one kind or of one name, all of them for None.

    Raises:
        ConfigError: neither a kind nor a name; the message names the nearest.
    """
    entries = list_parts()
    matching = [entry for entry in entries if name in (None, entry.kind, entry.name)]
    if not matching:
        known = {word for entry in entries for word in (entry.kind, entry.name)}
        raise ConfigError(f"list: no kind, part or recipe {name!r}. {did_you_mean(str(name), known)}")
    return matching


def find_part(kind: str, name: str) -> Entry:
    """The one entry of this kind and name; raises :class:`ConfigError` with the nearest where there is none."""
    entries = list_parts()
    kinds = list(dict.fromkeys(entry.kind for entry in entries))
    if kind not in kinds:
        raise ConfigError(f"list: no kind {kind!r}. {did_you_mean(kind, kinds)}")
    peers = {entry.name: entry for entry in entries if entry.kind == kind}
    if name not in peers:
        raise ConfigError(f"list: no {kind} {name!r}. {did_you_mean(name, peers)}")
    return peers[name]


def _entry(kind: str, name: str, config: Declaration) -> Entry:
    fields = tuple(Option(f.name, f.type, f.shown_default, f.text) for f in config.fields)
    source = config.module.description.partition("\n\n")[0]
    extras, packages = (tuple(config.constant(name) or ()) for name in ("extras", "packages"))
    described = (config.summary, config.module.name, config.description, source)
    return Entry(kind, name, *described, fields, extras, packages)


def _foreign() -> Iterator[Entry]:
    """Parts that are registered by modules outside the package."""
    for module in REGISTRIES:
        for base in CHOICES:
            registry = getattr(sys.modules.get(module), base, None)
            if registry is None or registry.__module__ != module:
                continue
            for name, part in registry.get_known_choices().items():
                if not part.__module__.startswith("wamkit."):
                    yield _imported(CHOICES[base], name, part)


def _imported(kind: str, name: str, part: type[Any]) -> Entry:
    """Entry of a class that is imported: from its source, or from the class where there is no file of it."""
    source = module_named(part.__module__)
    if source is not None and part.__name__ in source.classes:
        return _entry(kind, name, source.classes[part.__name__])
    text = inspect.getdoc(part) or ""
    fields = tuple(Option(f.name, str(f.type), "", "") for f in dataclasses.fields(part))
    described = (text.partition("\n")[0], part.__module__, text, "")
    return Entry(kind, name, *described, fields, part.extras, part.packages)


def recipes() -> dict[str, tuple[Module, ast.FunctionDef]]:
    """Recipe name -> the module and the function that defines it, in the order of the groups."""
    zoo = module_named("wamkit.zoo")
    assert zoo is not None
    groups = [node for node in ast.walk(zoo.values["GROUPS"]) if isinstance(node, ast.Dict)]
    functions: dict[str, tuple[Module, ast.FunctionDef]] = {}
    for key, value in (
        (key, value) for group in groups for key, value in zip(group.keys, group.values, strict=True)
    ):
        match key, value:
            case ast.Constant(value=str(name)), ast.Attribute(value=ast.Name(id=file), attr=function):
                module = module_named(f"wamkit.zoo.{file}")
                assert module is not None
                functions[name] = module, module.functions[function]
    return functions


def _recipes() -> list[Entry]:
    entries = []
    for name, (module, function) in recipes().items():
        text = ast.get_docstring(function) or ""
        entries.append(Entry("recipe", name, text.partition("\n")[0], module.name, text))
    return entries
