"""Corruptions of a stored folder (a dataset, a checkpoint): one fault each, drawn from a generator with a fixed seed.

`mutant(source, target, rng, kinds)` copies a folder and breaks the copy in one place. `FILE_KINDS` know nothing of what
the files hold; `VALUE_KINDS` edit JSON entries and parquet tables so that every file can still be read.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Mutant:
    """One corrupted folder.

    Attributes:
        kind: kind of the corruption.
        what: file and change, in words.
        root: the corrupted copy.
    """

    kind: str
    what: str
    root: Path


def mutant(source: Path, target: Path, rng: random.Random, kinds: Sequence[str] = ()) -> Mutant:
    """Copy ``source`` to ``target``, which is replaced, and break the copy in one place.

    Args:
        source: an intact folder.
        target: where the copy goes.
        rng: source of all choices; the same state gives the same mutant.
        kinds: kinds to choose from; all of :data:`KINDS` by default.
    """
    if target.exists():
        shutil.rmtree(target)
    shutil.copytree(source, target)
    kind = rng.choice(list(kinds or KINDS))
    what = KINDS[kind](target, rng)
    return Mutant(kind, what, target)


def mutants(
    source: Path, scratch: Path, rng: random.Random, count: int, kinds: Sequence[str] = ()
) -> Iterator[Mutant]:
    """Yield ``count`` corrupted copies of ``source``, one after the other in the same place below ``scratch``."""
    for _ in range(count):
        yield mutant(source, scratch / "mutant", rng, kinds)


def files(root: Path) -> list[Path]:
    """All files of a folder, in a fixed order; locks and other hidden files are no part of it."""
    return sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))


def pick(root: Path, rng: random.Random) -> Path:
    """A file, drawn by kind of file first, so that many videos do not hide the one JSON file."""
    by_suffix: dict[str, list[Path]] = {}
    for path in files(root):
        by_suffix.setdefault(path.suffix, []).append(path)
    return rng.choice(by_suffix[rng.choice(sorted(by_suffix))])


def named(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def flip(root: Path, rng: random.Random) -> str:
    """Change one to four bytes of one file."""
    path = pick(root, rng)
    content = bytearray(path.read_bytes())
    places = [rng.randrange(len(content)) for _ in range(rng.choice((1, 1, 2, 4)))] if content else []
    for place in places:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"{named(path, root)}: bits of bytes {places} flipped"


def truncate(root: Path, rng: random.Random) -> str:
    """Cut one file off."""
    path = pick(root, rng)
    content = path.read_bytes()
    size = len(content)
    keep = rng.choice((0, rng.randrange(size + 1), max(size - rng.randint(1, 16), 0)))
    path.write_bytes(content[:keep])
    return f"{named(path, root)}: cut to {keep} of {size} bytes"


def swap(root: Path, rng: random.Random) -> str:
    """Exchange two files, of one kind where there are two."""
    one = pick(root, rng)
    others = [p for p in files(root) if p != one]
    alike = [p for p in others if p.suffix == one.suffix]
    if not others:
        return "nothing to swap"
    other = rng.choice(alike or others)
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{named(one, root)} and {named(other, root)} exchanged"


def delete(root: Path, rng: random.Random) -> str:
    """Remove one file, or a folder with all that is in it."""
    path = pick(root, rng)
    if rng.random() < 0.25 and path.parent != root:
        shutil.rmtree(path.parent)
        return f"folder {named(path.parent, root)} deleted"
    path.unlink()
    return f"{named(path, root)} deleted"


def duplicate(root: Path, rng: random.Random) -> str:
    """Copy one file: beside itself under a further number or name, over another one, or behind itself."""
    path = pick(root, rng)
    way = rng.choice(("beside", "over", "behind"))
    others = [p for p in files(root) if p != path]
    alike = [p for p in others if p.suffix == path.suffix] or others
    if way == "over" and alike:
        target = rng.choice(alike)
        target.write_bytes(path.read_bytes())
        return f"{named(path, root)} copied over {named(target, root)}"
    if way == "behind":
        path.write_bytes(path.read_bytes() * 2)
        return f"{named(path, root)} written twice into one file"
    further = path.name.replace("-000", "-001") if "-000" in path.name else f"{path.stem} (copy){path.suffix}"
    target = path.with_name(further)
    target.write_bytes(path.read_bytes())
    return f"{named(path, root)} copied to {named(target, root)}"


STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 3, 1e300, 0.5, float("nan"), float("inf"), "", "text", "3", "../up",
    [], [[]], ["a", "a"], {}, {"a": 1},
)  # fmt: skip


def entry(root: Path, rng: random.Random) -> str:
    """Change, remove, rename or add one entry of a JSON file."""
    path = rng.choice([p for p in files(root) if p.suffix == ".json"])
    content = json.loads(path.read_text(encoding="utf-8"))
    holder, key, trail = descend(content, rng)
    if holder is None:
        return f"{named(path, root)}: nothing to change"
    way = rng.choice(("replace", "replace", "shift", "remove", "rename", "twice"))
    value = holder[key]
    if way == "remove":
        del holder[key]
    elif way == "rename" and isinstance(holder, dict):
        holder[f"{key}2"] = holder.pop(key)
    elif way == "shift" and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = shifted(value, rng)
    elif way == "twice" and isinstance(value, list) and value:
        value.append(value[0])
    else:
        way, holder[key] = "replace", rng.choice(STRANGE)
    new = holder[key] if isinstance(holder, list) and key < len(holder) else None
    if isinstance(holder, dict):
        new = holder.get(key)
    path.write_text(json.dumps(content), encoding="utf-8")
    return f"{named(path, root)}, {trail}: {way}, {str(value)[:60]} -> {str(new)[:60]}"


def descend(content: Any, rng: random.Random) -> tuple[Any, Any, str]:
    """A random place in nested values: what holds it, its key, and the way to it."""
    holder, key, trail = None, None, ""
    while isinstance(content, dict | list) and content:
        if holder is not None and rng.random() < 0.25:
            break
        holder = content
        key = rng.choice(sorted(content)) if isinstance(content, dict) else rng.randrange(len(content))
        trail += f"[{key!r}]"
        content = content[key]
    return holder, key, trail


def shifted(value: float, rng: random.Random) -> float:
    """Another number of the same kind."""
    return rng.choice((value + 1, value - 1, -value - 1, value * 2 + 1, value * 100 + 1))


def table_of(root: Path, rng: random.Random) -> tuple[Path, pa.Table]:
    path = rng.choice([p for p in files(root) if p.suffix == ".parquet"])
    return path, pq.read_table(path)


def cell(root: Path, rng: random.Random) -> str:
    """Change one value of one table: null, another number, another length of a list, another text."""
    path, table = table_of(root, rng)
    name, row = rng.choice(table.column_names), rng.randrange(table.num_rows)
    values = table.column(name).to_pylist()
    before = values[row]
    values[row] = changed(before, rng)
    pq.write_table(with_column(table, name, values), path)
    return f"{named(path, root)}, row {row}, {name!r}: {str(before)[:60]} -> {str(values[row])[:60]}"


def changed(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind, or null."""
    if value is None or rng.random() < 0.15:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice((value + 1, value - 1, -value - 1, 10**6))
    if isinstance(value, float):
        return rng.choice((value + 1.0, -value - 0.5, 0.9 * value + 1e-3, float("nan"), float("inf"), 1e30))
    if isinstance(value, str):
        return rng.choice(("", value + "!", "another text"))
    if isinstance(value, list) and value:
        place = rng.randrange(len(value))
        inner = [*value[:place], changed(value[place], rng), *value[place + 1 :]]
        return rng.choice((inner, inner, inner, value[:-1], [*value, value[-1]], []))
    if isinstance(value, dict):
        name = rng.choice(sorted(value))
        return {**value, name: None}
    return None


def with_column(
    table: pa.Table, name: str, values: Sequence[Any], kind: pa.DataType | None = None
) -> pa.Table:
    """The table with other values in one column, in the same type where they fit into it."""
    place = table.column_names.index(name)
    kind = kind or table.schema.field(name).type
    if pa.types.is_fixed_size_list(kind):
        kind = pa.list_(kind.value_type)
    try:
        array = pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        array = pa.array([str(v) for v in values])
    return table.set_column(place, name, array)


def column(root: Path, rng: random.Random) -> str:
    """Drop, rename, retype, shuffle or shift one column of one table."""
    path, table = table_of(root, rng)
    name = rng.choice(table.column_names)
    values = table.column(name).to_pylist()
    way = rng.choice(("drop", "rename", "text", "nulls", "reverse", "shift", "float", "add", "swap"))
    if way == "drop":
        table = table.drop_columns([name])
    elif way == "rename":
        table = table.rename_columns([n + "2" if n == name else n for n in table.column_names])
    elif way == "text":
        table = with_column(table, name, [str(v) for v in values], pa.string())
    elif way == "nulls":
        table = with_column(table, name, [None] * len(values))
    elif way == "reverse":
        table = with_column(table, name, values[::-1])
    elif way == "add":
        table = table.append_column("further", pa.array(range(table.num_rows)))
    elif way == "swap":
        other = rng.choice(table.column_names)
        names = {name: other, other: name}
        table = table.rename_columns([names.get(n, n) for n in table.column_names])
        name = f"{name} and {other}"
    elif way == "float" and all(isinstance(v, int) for v in values):
        table = with_column(table, name, [v + rng.choice((0.0, 0.5)) for v in values], pa.float64())
    else:
        way, table = "shift", with_column(table, name, values[1:] + values[:1])
    pq.write_table(table, path)
    return f"{named(path, root)}, column {name!r}: {way}"


def rows(root: Path, rng: random.Random) -> str:
    """Drop, repeat or exchange rows of one table."""
    path, table = table_of(root, rng)
    order = list(range(table.num_rows))
    way = rng.choice(("drop", "repeat", "exchange", "reverse", "none left"))
    row, other = rng.choice(order), rng.choice(order)
    if way == "drop":
        order.remove(row)
    elif way == "repeat":
        order.insert(row, row)
    elif way == "exchange":
        order[row], order[other] = order[other], order[row]
    elif way == "reverse":
        order.reverse()
    else:
        order = []
    pq.write_table(table.take(pa.array(order, pa.int64())), path)
    return f"{named(path, root)}, rows: {way} ({row}, {other})"


FILE_KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "flip": flip, "truncate": truncate, "swap": swap, "delete": delete, "duplicate": duplicate,
}  # fmt: skip
VALUE_KINDS: dict[str, Callable[[Path, random.Random], str]] = {
    "entry": entry, "cell": cell, "column": column, "rows": rows,
}  # fmt: skip
KINDS = FILE_KINDS | VALUE_KINDS
