"""Rules that hold the rooms apart: imports one way, thin core, short functions, described and final parts."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import draccus
import pytest

import wamkit
from wamkit.contract import planning, protocols
from wamkit.controllers import Controller
from wamkit.substrates import Codec
from wamkit.verbs import catalog

ROOT = Path(wamkit.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}

# One way through the house: a room imports only rooms that stand before it.
ROOMS = (
    "errors", "progress", "storage", "config", "contract", "geometry", "nn", "views",
    "encoders", "substrates", "trunks", "estimators", "actions", "planners", "controllers", "memory", "augmentations",
    "data", "envs",
    "design", "zoo", "imagination", "training", "evaluation", "verbs", "api", "cli",
)  # fmt: skip
EVALUATION = (
    "report",
    "closed_loop",
    "prediction",
    "imagined",
    "output",
)  # the same rule inside the largest room
LOOSE = {"api.py", "cli.py", "errors.py"}
PARTS = ROOMS[8:19]
BELOW_PARTS = {"config", "contract", "errors", "geometry", "nn", "progress", "storage", "views"}
# Loaded when they are used: together they take longer than all of wamkit.
HEAVY = (
    "huggingface_hub.hf_api",
    "matplotlib",
    "metaworld",
    "mujoco",
    "scipy.optimize",
    "scipy.spatial",
    "scipy.stats",
    "torchmetrics",
    "transformers",
)
BOUNDARIES = {
    "evaluation/closed_loop/attempt.py",
    "envs/worker.py",
}  # where foreign code runs and its errors are reported


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    """Dotted name of a file."""
    return ".".join(("wamkit", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


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
    named = {module.split(".")[1] for module in imports(TREES[path]) if module.startswith("wamkit.")}
    return named - {room_of(path)}


def room_of(path: Path) -> str:
    """The folder of a file, or the name of a loose one."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def test_every_room_imports_only_rooms_before_it() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms == set(ROOMS)
    for path in FILES:
        if room_of(path) != "__init__":
            later = rooms_read(path) - set(ROOMS[: ROOMS.index(room_of(path))])
            assert not later, f"{name_of(path)} imports {later}"


def test_the_rooms_of_evaluation_import_only_rooms_before_them() -> None:
    folder = ROOT / "evaluation"
    assert {path.name for path in folder.iterdir() if path.suffix != ".pyc"} - {"__pycache__"} == {
        "__init__.py",
        *EVALUATION,
    }
    for i, room in enumerate(EVALUATION):
        for path in (folder / room).glob("*.py"):
            inside = [m.split(".")[2] for m in imports(TREES[path]) if m.startswith("wamkit.evaluation.")]
            assert set(inside) <= set(EVALUATION[: i + 1]), name_of(path)


def test_three_files_stand_loose() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", *LOOSE}


def test_tests_mirror_the_rooms() -> None:
    """A folder of tests is a room; what stands loose tests the whole."""
    tests = Path(__file__).parent
    folders = {path.parent.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")} - {"."}
    missing = [folder for folder in sorted(folders) if not (ROOT / folder).is_dir()]
    assert not missing


def files_read(tree: ast.AST, files: Container[str]) -> set[str]:
    """Modules of wamkit that a file imports: `from room import file` reads the file, not the room's face."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in files else node.module for name in names}
    return {name for name in found if name in files}


def test_no_file_imports_itself_through_others() -> None:
    """No circle, imports inside functions and for type checkers included."""
    files = {module_of(path): path for path in FILES}
    reads = {name: files_read(TREES[path], files) for name, path in files.items()}
    while reads:
        free = {name for name, needs in reads.items() if not needs & reads.keys()}
        assert free, f"these import each other: {sorted(reads)}"
        reads = {name: needs for name, needs in reads.items() if name not in free}


@pytest.mark.parametrize("room", PARTS)
def test_part_rooms_read_the_contract_and_nothing_else(room: str) -> None:
    files = [path for path in FILES if room_of(path) == room]
    assert files
    for path in files:
        assert rooms_read(path) <= BELOW_PARTS, name_of(path)


def test_controllers_know_arrays_only() -> None:
    for path in (ROOT / "controllers").glob("*.py"):
        assert rooms_read(path) <= {"config", "errors"}, name_of(path)
        assert "torch" not in {module.split(".")[0] for module in imports(TREES[path])}, name_of(path)


@pytest.mark.whole
def test_heavy_modules_are_not_imported_with_the_core() -> None:
    code = (
        "import sys\n"
        "for name in ('design', 'zoo', 'training', 'verbs.evaluate', 'verbs.catalog', 'cli'):\n"
        "    __import__(f'wamkit.{name}')\n"
        f"    print([f'wamkit.{{name}} imports {{m}}' for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"] * 6, done.stdout


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


def overrides(node: ast.AST) -> bool:
    """Whether a method says `@override`: its contract documents it."""
    names = [d.id for d in getattr(node, "decorator_list", ()) if isinstance(d, ast.Name)]
    return "override" in names


def undocumented(node: ast.Module | ast.ClassDef, place: str) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            documented = ast.get_docstring(child) is not None or overrides(child)
            if not child.name.startswith("_") and not documented:
                yield f"{place}:{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from undocumented(child, f"{place}:{child.name}")


def test_everything_public_has_a_docstring() -> None:
    missing = [name_of(path) for path in FILES if ast.get_docstring(TREES[path]) is None]
    assert missing + [name for path in FILES for name in undocumented(TREES[path], name_of(path))] == []


@pytest.mark.parametrize("entry", catalog.list_parts(), ids=lambda e: f"{e.kind}-{e.name}")
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


def test_every_exported_name_exists() -> None:
    exports = 0
    for name in map(module_of, FILES):
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
    planning.Planner,
    planning.Objective,
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
    for entry in catalog.list_parts():
        if entry.kind not in ("recipe", "design"):
            found = [
                cls for cls in vars(importlib.import_module(entry.module)).values() if is_choice(cls, entry)
            ]
            assert len(found) == 1, entry
            assert found[0].__dataclass_params__.frozen, entry


def is_choice(cls: Any, entry: catalog.Entry) -> bool:
    """Whether a value of the entry's module is the class that the entry names."""
    if not (
        isinstance(cls, type) and cls.__module__ == entry.module and issubclass(cls, draccus.ChoiceRegistry)
    ):
        return False
    return cls in cls.get_known_choices().values() and cls.get_choice_name(cls) == entry.name
