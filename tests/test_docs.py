"""The pages are true: their code runs, their commands parse, their paths exist, their tables are current."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from wamkit import api, cli
from wamkit.zoo import GROUPS, RECIPES

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402  (docs/generate.py)

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its title if it is a file, its text and the line it begins at (1-based)."""

    language: str
    title: str | None
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        info = match["info"].split(maxsplit=1)
        title = re.search(r'title="([^"]+)"', match["info"])
        line = text.count("\n", 0, match.start("body")) + 1
        found.append(Block(info[0] if info else "", title and title[1], match["body"], line))
    return found


def commands(language: str) -> list[Any]:
    """Every `wamkit ...` line of the blocks in a language, continued lines joined."""
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language == language:
                lines = block.text.replace("\\\n", " ").splitlines()
                calls = [line.removeprefix("$ ") for line in lines]
                found += [pytest.param(c, id=c[:60]) for c in calls if re.match(r"\S*wamkit ", c)]
    return found


def check_runs(args: list[str], folder: Path) -> None:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, *args], cwd=folder, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def calls(text: str) -> list[str]:
    """Commands `wamkit ...` as lines of Python that run them in this process and expect success."""
    lines = []
    for line in text.replace("\\\n", "\\").splitlines():
        words = shlex.split(line.replace("\\", " "), comments=True)
        assert words[:1] in ([], ["wamkit"]), line
        run = f"__import__('wamkit.cli').cli.main({words[1:]!r})"
        lines.append(f"assert {run} == 0, {line!r}" if words else "")
        lines += [""] * line.count("\\")
    return lines


def pages_with_python() -> list[Any]:
    found = []
    for page in PAGES:
        if any(block.language == "python" for block in blocks(page)):
            marks = [pytest.mark.sim] if page.name == "benchmark.md" else []
            found.append(pytest.param(page, id=page.name, marks=marks))
    return found


@pytest.mark.whole
@pytest.mark.parametrize("page", pages_with_python())
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """In order, in one namespace, in an empty folder. A block with a title is a file; a test file is run.

    Commands of a block `sh` run between them, where their turn is. All in a process of its own, so that parts which a
    page registers are not there for other tests.
    """
    script: list[str] = []
    for block in blocks(page):
        if block.language in ("python", "yaml") and block.title is not None:
            (tmp_path / block.title).write_text(block.text)
        elif block.language in ("python", "sh"):
            script += [""] * (block.line - 1 - len(script))  # so that a traceback names the line of the page
            script += block.text.splitlines() if block.language == "python" else calls(block.text)
    (tmp_path / page.name).write_text("\n".join(script) + "\n")
    check_runs([page.name], tmp_path)
    tests = sorted(path.name for path in tmp_path.glob("test_*.py"))
    if tests:
        check_runs(["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], tmp_path)


@pytest.mark.parametrize("command", commands("console"))
def test_console_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("command", commands("bash"))
def test_long_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that take minutes are parsed as far as the configuration they would run; it must be accepted."""
    seen: list[Any] = []

    class Accepted(Exception):
        pass

    def accept(*config: Any) -> None:
        seen.extend(config)
        raise Accepted

    for verb in (
        "collect",
        "train",
        "evaluate",
        "sweep",
        "predict",
        "imagine",
        "report",
        "compare",
        "inspect",
    ):
        monkeypatch.setattr(api, verb, accept)
    with pytest.raises(Accepted):
        cli.main(shlex.split(command, comments=True)[1:])
    assert seen


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for target in re.findall(r"`make ([a-z_]+)", page.read_text()):
            assert target in targets, f"{page.name}: make {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_named_paths_exist(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    relative = [link for link in links if "://" not in link]
    quoted = re.findall(r"`((?:src|tests|docs|examples|benchmarks|scripts)/[^`\s:<>*]*)", text)
    missing = [link for link in relative if not (page.parent / link).exists()]
    missing += [path for path in quoted if not (ROOT / path).exists()]
    assert not missing, f"{page.name} names what does not exist: {missing}"


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_regions_are_current(page: str) -> None:
    text = (ROOT / page).read_text()
    assert any(f"<!-- {name} -->" in text for name in generate.REGIONS)
    assert text == generate.filled(text), f"{page} is out of date: python docs/generate.py"


def test_the_walks_of_the_map_name_functions_that_exist() -> None:
    steps = re.findall(
        r"^\| \d+ \| `(src/[^`]+)` `(\w+)` \|", (ROOT / "docs" / "map.md").read_text(), re.MULTILINE
    )
    assert len(steps) > 15
    for file, name in steps:
        tree = ast.parse((ROOT / file).read_text())
        named = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        assert name in named, f"{file} has no {name}"


def test_every_reference_design_is_in_the_table() -> None:
    rows = [line.split("|")[1].strip(" `") for line in generate.designs().splitlines()[2:]]
    recipes = [entry.name for entry in api.list_parts() if entry.kind == "recipe"]
    assert rows == recipes[: len(rows)] == list(GROUPS["couplings"])
    assert sorted(recipes) == sorted(RECIPES)


def test_the_coverage_page_names_what_exists() -> None:
    """Every test file that it names is there, and so is every part in code font that looks like a choice."""
    page = (ROOT / "docs" / "coverage.md").read_text()
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    cells = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    assert len(cells) > 40
    for _, blocks, here, tested, _, _ in cells:
        for name in re.findall(r"`([a-z_/]+)`", tested):
            assert name in tests, f"{blocks}: {name}"
        assert here.strip()
    known = {entry.name for entry in api.list_parts()}
    words = {word for _, _, here, *_ in cells for word in re.findall(r"`([a-z_]+)`", here)}
    fields = {"history", "reads", "segments", "bridges", "absent", "clean", "exit", "future", "transformers"}
    fields |= {"diffusers", "mink", "drop", "imagine", "gradient_norms", "remember", "remembers"}
    assert words - fields <= known, words - fields - known


@pytest.mark.whole
@pytest.mark.parametrize("script", sorted(p.name for p in (ROOT / "examples").glob("*.py")))
def test_examples_start(script: str) -> None:
    """They import what exists and take options."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--seed" in done.stdout
