"""Regions of the pages that follow from the code: the seven designs, the rooms, and the reference of every part."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from wamkit.api import list_parts, load
from wamkit.zoo import GROUPS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "wamkit"


def designs() -> str:
    """One row per recipe: formula, tuple (eq. 37) and how the future reaches the action, as `Design` computes them."""
    rows = [
        "| design | factorisation | substrate | coupling | backbone | deployment | the future reaches the action |"
    ]
    rows.append("|---|---|---|---|---|---|---|")
    for name in GROUPS["couplings"]:
        design = load(name)
        status = design.graph.wam()
        path = ", ".join(status.paths) or f"not at all: a {status.kind}"
        cells = [f"`{name}`", f"`{design.factorisation()}`", *design.cells().values(), path]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def summary(file: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    return re.split(r"(?<=[^.])\.(?:\s|$)", text, maxsplit=1)[0].replace("\n", " ").removesuffix(".")


def room_order(name: str) -> tuple[str, ...]:
    """An ordered tuple of rooms, as the test of the architecture states it."""
    tree = ast.parse((ROOT / "tests" / "test_architecture.py").read_text())
    values = {node.targets[0].id: node.value for node in tree.body
              if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}  # fmt: skip
    return ast.literal_eval(values[name])


def rooms(folder: Path, order: tuple[str, ...]) -> str:
    """Rooms or loose files in their order, with what their docstrings say and how large they are."""
    rows = ["| room | what is in it | files | lines |", "|---|---|---|---|"]
    for name in order:
        inside = folder / name
        files = sorted(inside.rglob("*.py")) if inside.is_dir() else [inside.with_suffix(".py")]
        face = inside / "__init__.py" if inside.is_dir() else files[0]
        lines = sum(len(file.read_text().splitlines()) for file in files)
        title = f"`{name}/`" if inside.is_dir() else f"`{name}.py`"
        rows.append(f"| {title} | {prose(summary(face))} | {len(files)} | {round(lines, -2) or lines} |")
    return "\n".join(rows)


def house() -> str:
    """All rooms."""
    return rooms(PACKAGE, room_order("ROOMS"))


def evaluation_rooms() -> str:
    """Rooms inside the largest room."""
    return rooms(PACKAGE / "evaluation", room_order("EVALUATION"))


def reference() -> str:
    """Every part with the fields of its config, by kind."""
    entries = [entry for entry in list_parts() if entry.kind != "recipe"]
    parts = []
    for kind in dict.fromkeys(entry.kind for entry in entries):
        parts.append(f"## {kind.capitalize()}s")
        for entry in (entry for entry in entries if entry.kind == kind):
            parts += [f"### `{entry.name}`", prose(entry.description)]
            source = f"Source: {prose(entry.source)} " if entry.source else ""
            parts.append(f"{source}Module: `{entry.module}`")
            if entry.extras:
                parts.append(f"Reads the extras {', '.join(extra(name) for name in entry.extras)}.")
            if entry.packages:
                parts.append(f"Needs `pip install 'wamkit[{','.join(entry.packages)}]'`.")
            if entry.fields:
                rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
                rows += [
                    "| " + " | ".join((f"`{f.name}`", code(f.type), code(f.default), prose(f.text))) + " |"
                    for f in entry.fields
                ]
                parts.append("\n".join(rows))
    return "\n\n".join(parts)


def extras() -> str:
    """Every part that reads extras of a dataset, with their names and what the part is."""
    rows = ["| part | reads | what it is |", "|---|---|---|"]
    for entry in list_parts():
        if entry.extras:
            cells = f"{entry.kind} `{entry.name}`", ", ".join(map(extra, entry.extras)), prose(entry.summary)
            rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def prose(text: str) -> str:
    """A docstring's text as one paragraph of Markdown."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def extra(text: str) -> str:
    """Names of extras as code, what is said about them as prose."""
    names, bracket, rest = text.partition("(")
    shown = " or ".join(f"`{name.strip()}`" for name in names.split(" or ") if name.strip())
    return f"{shown} {bracket}{rest}".strip()


def code(text: str) -> str:
    """Code in a cell of a table."""
    return "`" + text.replace("|", "\\|") + "`"
