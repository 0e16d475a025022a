"""Configs read from the source: names, types, defaults and texts of their fields, without importing what they build.

Help pages and the list of parts need no torch this way. A test compares every declaration with the
imported class.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import docstring_parser
import yaml

from wamkit.config.ranges import Range

PACKAGE = "wamkit"
FOLDER = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Unevaluated:
    """Expression that could not be evaluated without importing, shown as it is written."""

    text: str


@dataclass(frozen=True)
class Made:
    """Call of a config's constructor.

    Attributes:
        config: the declared class.
        values: arguments by name, as plain values.
    """

    config: Declaration
    values: Mapping[str, Any] = field(default_factory=dict)


REQUIRED = Unevaluated("required")


@dataclass(frozen=True)
class ConfigField:
    """One field of a config.

    Attributes:
        name: its name, which is the option's.
        type: its type as a reader of the help sees it.
        default: plain value, :class:`Made`, :class:`Unevaluated`, or :data:`REQUIRED`.
        text: meaning, from the ``Attributes`` block of its class.
        hint: annotation in the source.
        owner: module that the annotation stands in.
    """

    name: str
    type: str
    default: Any
    text: str
    hint: ast.expr
    owner: Module

    @property
    def shown_default(self) -> str:
        """The default in YAML, as it may be typed on the command line."""
        return shown(self.default)


@dataclass(frozen=True)
class Declaration:
    """A config class as its source declares it.

    Attributes:
        name: name of the class.
        module: module that declares it.
        node: its definition.
        choice: (base, name) where it is registered as a choice of ``base``, else None.
    """

    name: str
    module: Module
    node: ast.ClassDef
    choice: tuple[str, str] | None = None

    @cached_property
    def _docstring(self) -> docstring_parser.Docstring:
        return docstring_parser.parse(
            ast.get_docstring(self.node) or "", docstring_parser.DocstringStyle.GOOGLE
        )

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (ast.get_docstring(self.node) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """Docstring up to the list of attributes."""
        parts = (self._docstring.short_description, self._docstring.long_description)
        return "\n\n".join(part for part in parts if part)

    @cached_property
    def bases(self) -> tuple[Declaration, ...]:
        """Declared base classes inside the package, nearest first."""
        named = [self.module.resolve(base.id) for base in self.node.bases if isinstance(base, ast.Name)]
        return tuple(base for base in named if isinstance(base, Declaration))

    def constant(self, name: str) -> Any:
        """Value of a class variable, its own or an inherited one; None where there is none."""
        own = [n for n in self.node.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == name]
        values = [self.module.evaluate(node.value) for node in own if node.value is not None]
        inherited = [base.constant(name) for base in self.bases]
        return next((value for value in [*values, *inherited] if value is not None), None)

    @cached_property
    def fields(self) -> tuple[ConfigField, ...]:
        """Fields in the order of the constructor: those of base classes first."""
        fields = {f.name: f for base in reversed(self.bases) for f in base.fields}
        texts = {
            name.strip(): " ".join((entry.description or "").split())
            for entry in self._docstring.params
            for name in entry.arg_name.split(",")
        }
        for name, text in texts.items():
            if name in fields:
                fields[name] = replace(fields[name], text=text)
        for node in self.node.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                if "ClassVar" in ast.unparse(node.annotation):
                    continue
                name = node.target.id
                inherited = fields[name].text if name in fields else ""
                default = REQUIRED if node.value is None else self.module.evaluate(node.value)
                text = texts.get(name, inherited)
                fields[name] = ConfigField(
                    name, self.module.type_text(node.annotation), default, text, node.annotation, self.module
                )
        return tuple(fields.values())


class Module:
    """One source file: the names it defines or imports.

    Args:
        name: dotted name.
        path: the file.
        package: modules read so far, by name; new ones are added.
    """

    def __init__(self, name: str, path: Path, package: dict[str, Module]) -> None:
        self.name, self.path, self._package = name, path, package
        self.tree = ast.parse(path.read_text())
        self.values: dict[str, ast.expr] = {}
        self.classes: dict[str, Declaration] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self._imports: dict[str, tuple[str, str]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = Declaration(node.name, self, node, _choice(node))
            elif isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign) and len(node.targets) == 1:
                self._assign(node.targets[0], node.value)
            elif (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.value is not None
            ):
                self.values[node.target.id] = node.value
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    self._imports[alias.asname or alias.name] = (node.module, alias.name)

    def _assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.values[target.id] = value
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, part in zip(target.elts, value.elts, strict=False):
                self._assign(one, part)

    @property
    def description(self) -> str:
        """Docstring of the file."""
        return ast.get_docstring(self.tree) or ""

    def resolve(self, name: str) -> Declaration | tuple[Module, ast.expr] | None:
        """The class or value that ``name`` stands for here; imports from its own package and ours are followed."""
        if name in self.classes:
            return self.classes[name]
        if name in self.values:
            return self, self.values[name]
        if name in self._imports:
            module, original = self._imports[name]
            if module.partition(".")[0] not in (PACKAGE, self.name.partition(".")[0]):
                return None
            origin = module_named(module, self._package)
            return origin.resolve(original) if origin is not None else None
        return None

    def evaluate(self, node: ast.expr) -> Any:
        """Plain value of an expression, :class:`Made` for a config, :class:`Unevaluated` for anything else."""
        match node:
            case ast.Constant():
                return node.value
            case ast.Tuple() | ast.List():
                return [self.evaluate(item) for item in node.elts]
            case ast.Dict():
                keys = [self.evaluate(key) for key in node.keys if key is not None]
                return dict(zip(keys, map(self.evaluate, node.values), strict=False))
            case ast.UnaryOp(op=ast.USub()):
                return -self.evaluate(node.operand)
            case ast.Name():
                return self._evaluate_name(node)
            case ast.Subscript(value=ast.Name(id="Literal"), slice=ast.Tuple(elts=options)):
                return [self.evaluate(option) for option in options]
            case ast.Call(func=ast.Name(id="get_args"), args=[literal]):  # the options of a literal
                return self.evaluate(literal)
            case ast.Call(func=ast.Name(id="field")):
                return self._evaluate_field(node)
            case ast.Call(func=ast.Name(id="Path")):
                return str(self.evaluate(node.args[0]))
            case ast.Call(func=ast.Name(id=name)):
                return self._evaluate_call(name, node)
            case ast.Lambda():
                return self.evaluate(node.body)
        return Unevaluated(ast.unparse(node))

    def _evaluate_name(self, node: ast.Name) -> Any:
        target = self.resolve(node.id)
        if isinstance(target, tuple):
            return target[0].evaluate(target[1])
        return Unevaluated(node.id)

    def _evaluate_call(self, name: str, node: ast.Call) -> Any:
        if name in ("dict", "list", "tuple") and not node.args and not node.keywords:
            return {} if name == "dict" else []
        config = self.resolve(name)
        if not isinstance(config, Declaration):
            return Unevaluated(ast.unparse(node))
        names = [f.name for f in config.fields]
        values = dict(zip(names, map(self.evaluate, node.args), strict=False))
        values |= {k.arg: self.evaluate(k.value) for k in node.keywords if k.arg is not None}
        return Made(config, values)

    def _evaluate_field(self, node: ast.Call) -> Any:
        arguments = {keyword.arg: keyword.value for keyword in node.keywords}
        if "default" in arguments:
            return self.evaluate(arguments["default"])
        factory = arguments.get("default_factory")
        if factory is None:
            return REQUIRED
        if isinstance(factory, ast.Name):
            return self.evaluate(ast.Call(func=factory, args=[], keywords=[]))
        return self.evaluate(factory)

    def type_text(self, node: ast.expr) -> str:
        """A type as a reader of the help sees it: aliases of literals are spelled out, quotes and paths are gone."""
        match node:
            case ast.Constant(value=None):
                return "null"
            case ast.Constant(value=str(text)):
                return self.type_text(ast.parse(text, mode="eval").body)
            case ast.BinOp(op=ast.BitOr()):
                return f"{self.type_text(node.left)} | {self.type_text(node.right)}"
            case ast.Subscript(value=ast.Name(id="Literal")):
                options = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                return "{" + ",".join(str(self.evaluate(option)) for option in options) + "}"
            case ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=[kind, *bounds])):
                return self._ranged_text(self.type_text(kind), bounds)
            case ast.Subscript(value=ast.Name(id="tuple")):
                items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                return "[" + ", ".join(self.type_text(item) for item in items) + "]"
            case ast.Subscript(value=ast.Name(id="dict" | "Mapping"), slice=ast.Tuple(elts=[key, value])):
                return "{" + f"{self.type_text(key)}: {self.type_text(value)}" + "}"
            case ast.Constant(value=value) if value is Ellipsis:
                return "..."
            case ast.Name():
                target = self.resolve(node.id)
                if isinstance(target, tuple):
                    return target[0].type_text(target[1])
                if isinstance(target, Declaration) and target.name in CHOICES:
                    return CHOICES[target.name]
                return {"str": "text", "bool": "true|false", "Path": "path"}.get(node.id, node.id)
        return ast.unparse(node)

    def _ranged_text(self, kind: str, bounds: list[ast.expr]) -> str:
        """A type with its ranges, as their own class writes them."""
        for bound in bounds:
            made = self.evaluate(bound)
            if isinstance(made, Made) and made.config.name == Range.__name__:
                kind = Range(**made.values).text(kind)
        return kind


# Base class of a registry -> the word for one of its choices.
CHOICES: Mapping[str, str] = {
    "EncoderConfig": "encoder",
    "SubstrateConfig": "substrate",
    "CodecConfig": "codec",
    "TeacherConfig": "teacher",
    "ActionConfig": "action",
    "TrunkConfig": "trunk",
    "EstimatorConfig": "estimator",
    "PlannerConfig": "planner",
    "ObjectiveConfig": "objective",
    "CommandConfig": "command",
    "Controller": "controller",
    "EnvConfig": "environment",
    "Perturbation": "perturbation",
    "AugmentConfig": "augment",
}
_MODULES: dict[str, Module] = {}


def module_named(name: str, package: dict[str, Module] | None = None) -> Module | None:
    """A module of the package, or one that is loaded; None for anything else."""
    modules = _MODULES if package is None else package
    if name not in modules:
        path = _file(name)
        if path is None:
            return None
        modules[name] = Module(name, path, modules)
    return modules[name]


def _file(name: str) -> Path | None:
    head, _, rest = name.partition(".")
    if head != PACKAGE:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        return Path(loaded) if loaded is not None else None
    path = FOLDER.joinpath(*rest.split(".")) if rest else FOLDER
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def declaration(place: str) -> Declaration:
    """The declaration of a config class, by its dotted name."""
    module, _, name = place.rpartition(".")
    source = module_named(module)
    if source is None:
        raise KeyError(place)
    return source.classes[name]


def _choice(node: ast.ClassDef) -> tuple[str, str] | None:
    """(base, name) of ``@Base.register_subclass("name")``."""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=base), attr="register_subclass"),
                args=[ast.Constant(value=str(name))],
            ):
                return base, name
    return None


def choices(rooms: tuple[str, ...]) -> Iterator[tuple[str, str, Declaration]]:
    """(base, name, declaration) of every registered choice in these folders of the package."""
    for room in rooms:
        for path in sorted((FOLDER / room).rglob("*.py")):
            if "register_subclass" not in path.read_text():
                continue  # reading is cheap, parsing is not
            parts = path.relative_to(FOLDER).with_suffix("").parts
            module = module_named(".".join((PACKAGE, *parts)))
            if module is not None:
                yield from ((*c.choice, c) for c in module.classes.values() if c.choice is not None)


def plain(value: Any) -> Any:
    """A default as the plain value that a config file would hold."""
    if isinstance(value, Made):
        kind = {} if value.config.choice is None else {"type": value.config.choice[1]}
        return {**kind, **{name: plain(part) for name, part in value.values.items()}}
    if isinstance(value, Unevaluated):
        return value.text
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    return value


def shown(value: Any) -> str:
    """A default in YAML on one line."""
    if isinstance(value, Unevaluated):
        return value.text
    if isinstance(value, Made) and value.config.choice is not None and not value.values:
        return value.config.choice[1]
    text = yaml.safe_dump(
        plain(value), default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...").strip()
