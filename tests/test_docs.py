"""The pages are true: their commands parse, their paths exist, their tables are current."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fenced import PAGES, ROOT, blocks
from wamkit import api, cli
from wamkit.zoo import GROUPS, RECIPES

sys.path.insert(0, str(ROOT / "docs"))
import generate


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
    targets = re.findall(r"^([a-z0-9_]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for target in re.findall(r"`make ([a-z0-9_]+)", page.read_text()):
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
    for _, block, here, tested, _, _ in cells:
        for name in re.findall(r"`([a-z_/]+)`", tested):
            assert name in tests, f"{block}: {name}"
        assert here.strip()
    known = {entry.name for entry in api.list_parts()}
    words = {word for _, _, here, *_ in cells for word in re.findall(r"`([a-z_]+)`", here)}
    fields = {"history", "reads", "segments", "bridges", "absent", "clean", "exit", "future", "transformers"}
    fields |= {"diffusers", "mink", "drop", "imagine", "gradient_norms", "remember", "remembers"}
    assert words - fields <= known, words - fields - known
