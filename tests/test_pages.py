"""The Python of the pages runs, and the examples start: each in a process of its own."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from fenced import PAGES, ROOT, blocks
from fresh import run_script

pytestmark = [pytest.mark.whole, pytest.mark.long]


def check_runs(args: list[str], folder: Path) -> str:
    status, printed = run_script(args, folder)
    assert status == 0, printed
    return printed


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


COMMANDS = sorted(p.name for p in (ROOT / "examples").glob("*.py") if "__main__" in p.read_text())


@pytest.mark.parametrize("script", COMMANDS)
def test_examples_start(script: str, tmp_path: Path) -> None:
    """They import what exists and take options."""
    assert "--seed" in check_runs([str(ROOT / "examples" / script), "--help"], tmp_path)
