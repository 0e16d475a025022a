"""Lines of a journal, for tests of what goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path


def lines_of(path: Path, kind: str) -> list[dict]:
    whole = path.read_text().rpartition("\n")[0].splitlines()
    return [line[kind] for line in map(json.loads, whole) if kind in line]
