"""Rules that hold the rooms apart: imports one way, thin core, short functions, described and final parts."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wamkit
from wamkit.contract import protocols
from wamkit.controllers import Controller
from wamkit.substrates import Codec
from wamkit.verbs import catalog

ROOT = Path(wamkit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}

CONTRACT = {"contract", "errors", "geometry", "nn"}
ROOMS = (
    "encoders",
    "substrates",
    "trunks",
    "estimators",
    "actions",
    "controllers",
    "planners",
    "envs",
    "data",
)
HEAVY = ("metaworld", "mujoco", "matplotlib")
BOUNDARIES = {
    "evaluation/closed_loop/pilot.py",
    "envs/worker.py",
}  # where foreign code runs and its errors are reported


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room they come from"
            assert node.module is not None
            if node.module == "wamkit":
                yield from (f"wamkit.{alias.name}" for alias in node.names)
            yield node.module


def rooms_read(path: Path) -> set[str]:
    """Top-level names of wamkit that a file imports."""
    found = {module.split(".")[1] for module in imports(TREES[path]) if module.startswith("wamkit.")}
    return found - {path.relative_to(ROOT).parts[0]}


@pytest.mark.parametrize("room", ROOMS)
def test_part_rooms_read_the_contract_and_nothing_else(room: str) -> None:
    files = [path for path in FILES if path.relative_to(ROOT).parts[0] == room]
    assert files
    for path in files:
        assert rooms_read(path) <= CONTRACT, name_of(path)


def test_the_contract_reads_itself_only() -> None:
    for path in (ROOT / "contract").glob("*.py"):
        assert rooms_read(path) <= {"errors"}, name_of(path)


def test_controllers_know_arrays_only() -> None:
    for path in (ROOT / "controllers").glob("*.py"):
        assert rooms_read(path) <= {"errors"}, name_of(path)
        assert "torch" not in {module.split(".")[0] for module in imports(TREES[path])}, name_of(path)


def test_heavy_extras_are_not_imported_with_the_core() -> None:
    code = (
        "import sys\n"
        "for name in ('design', 'zoo', 'catalog', 'cli'):\n"
        "    __import__(f'wamkit.{name}')\n"
        f"    print([f'wamkit.{{name}} imports {{m}}' for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"] * 4, done.stdout


# ------------------------------------------------------------------------------------------------------ size


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_no_function_is_longer_than_a_screen() -> None:
    found = {
        f"{name_of(path)}:{f.name}": f.end_lineno - f.lineno + 1
        for path in FILES
        for f in functions(TREES[path])
        if f.end_lineno is not None and f.end_lineno - f.lineno >= 60
    }
    assert not found


def test_no_file_is_longer_than_400_lines() -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: lines for name, lines in sizes.items() if lines > 400}


# ------------------------------------------------------------------------------------------------- docstrings


def undocumented(node: ast.Module | ast.ClassDef, place: str) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not child.name.startswith("_") and ast.get_docstring(child) is None:
                yield f"{place}:{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{place}:{child.name}")


def test_everything_public_has_a_docstring() -> None:
    missing = [name_of(path) for path in FILES if ast.get_docstring(TREES[path]) is None]
    assert missing + [name for path in FILES for name in undocumented(TREES[path], name_of(path))] == []


@pytest.mark.parametrize("entry", catalog.entries(), ids=lambda e: f"{e.kind}-{e.name}")
def test_the_list_of_parts_says_what_each_one_is(entry: catalog.Entry) -> None:
    assert 20 <= len(entry.summary) <= 110
    assert entry.summary.endswith(".")
    assert not entry.summary.startswith("See")
    assert ":class:" not in entry.summary


# ------------------------------------------------------------------------------------------------ other rules


def broad_handlers(tree: ast.AST) -> Iterator[ast.ExceptHandler]:
    """Handlers that catch everything and do not raise it again."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            kind = node.type
            broad = kind is None or (isinstance(kind, ast.Name) and kind.id in ("Exception", "BaseException"))
            again = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
            if broad and not again:
                yield node


def test_errors_are_swallowed_at_the_process_boundary_only() -> None:
    found = {name_of(path) for path in FILES if list(broad_handlers(TREES[path]))}
    assert found <= BOUNDARIES


def test_no_part_is_asked_what_it_is() -> None:
    """No `hasattr`: whatever a part must have stands in its contract."""
    calls = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(TREES[path])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
    ]
    assert calls == []


def modules() -> list[str]:
    names = [name_of(path)[: -len(".py")].replace("/", ".").removesuffix(".__init__") for path in FILES]
    return [f"wamkit.{name}" if name != "__init__" else "wamkit" for name in names]


def test_every_exported_name_exists() -> None:
    exports = 0
    for name in modules():
        module = importlib.import_module(name)
        for exported in getattr(module, "__all__", ()):
            getattr(module, exported)
            exports += 1
        assert sorted(set(getattr(module, "__all__", ()))) == sorted(getattr(module, "__all__", ()))
    assert exports > 50


CONTRACTS: tuple[type[Any], ...] = (
    protocols.Encoder,
    protocols.Substrate,
    protocols.ActionRepresentation,
    protocols.Trunk,
    protocols.Estimator,
    protocols.Planner,
    Codec,
)


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for child in cls.__subclasses__():
        if child.__module__.startswith("wamkit"):
            yield child
        yield from subclasses(child)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: c.__name__)
def test_a_part_is_abstract_or_final(contract: type[Any]) -> None:
    assert inspect.isabstract(contract)
    parts = list(subclasses(contract))
    assert parts
    for part in parts:
        assert inspect.isabstract(part) or getattr(part, "__final__", False), part


def test_a_controller_that_can_be_named_is_concrete() -> None:
    for name, controller in Controller.get_known_choices().items():
        assert not inspect.isabstract(controller), name


def test_parts_are_frozen_configs() -> None:
    for kind, registry in catalog.KINDS.items():
        for name, config in registry.get_known_choices().items():
            assert config.__dataclass_params__.frozen, (kind, name)
