"""Lines of a journal, for tests of what goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path


def lines_of(path: Path, kind: str) -> list[dict]:
    whole = path.read_text().rpartition("\n")[0].splitlines()
    contents = [json.loads(line.partition(" ")[2]) for line in whole]
    return [line[kind] for line in contents if kind in line]
