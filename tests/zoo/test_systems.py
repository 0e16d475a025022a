"""Systems of the field: every check of a part of them here, of all of them in `make zoo`.

The part is one system of each tuple of the census, the first one in its order, and the first of every other kind. The
recorded results, from which `wamkit zoo` computes the states, must be those of the recipes as they are.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from checks import result
from zoo_recordings import case_of

from wamkit.zoo.registry import systems
from wamkit.zoo.rows import rows
from wamkit.zoo.states import fingerprint, recorded, standings
from wamkit.zoo.system import System

pytestmark = [pytest.mark.sim, pytest.mark.long]


def part() -> list[System]:
    """One system of each tuple of the census, and one of each kind outside it."""
    chosen: dict[tuple[str, ...], System] = {}
    for name, found in systems().items():
        row = rows()[name]
        chosen.setdefault((row.kind, *row.cells.values()), found)
    return list(chosen.values())


@pytest.mark.parametrize("found", part(), ids=lambda found: found.name)
def test_a_system_is_what_its_row_says(found: System, folder: Path) -> None:
    seen = result(case_of(found.name, folder))
    assert seen["checks"] == recorded()[found.name]["checks"]
    assert {key: seen[key] for key in ("tuple", "formula", "kind", "paths")} == {
        key: recorded()[found.name][key] for key in ("tuple", "formula", "kind", "paths")
    }


def test_the_recorded_results_are_those_of_the_recipes() -> None:
    stale = [
        name
        for name, found in systems().items()
        if name in recorded() and recorded()[name]["config"] != fingerprint(found.make())
    ]
    assert not stale, "run `make zoo`: these recipes have changed since their results were recorded"
    assert set(recorded()) <= set(systems())


def test_every_row_says_where_it_stands() -> None:
    for one in standings().values():
        assert one.missing or one.state == "works", one.row.name
        assert (one.state == "works") <= bool(one.checks), one.row.name
