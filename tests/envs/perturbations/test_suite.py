"""The list of variants: stable, balanced, on the clean arm's episodes, and it can be written and read."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import draccus
import pytest

from wamkit.envs import MetaWorldConfig
from wamkit.envs.perturbations import DIMENSIONS, Perturbation
from wamkit.envs.perturbations.suite import CLEAN, suite, write_variants
from wamkit.errors import ConfigError

KINDS = MetaWorldConfig().perturbations()
TASKS = ("drawer-open-v3", "window-open-v3", "button-press-topdown-v3")


def test_every_arm_has_the_clean_arm_s_episodes() -> None:
    variants = suite(TASKS, KINDS, 40)
    arms = {d: [(v.task, v.episode) for v in variants if v.dimension == d] for d in (CLEAN, *DIMENSIONS)}
    assert all(arm == arms[CLEAN] for arm in arms.values())
    assert len(set(arms[CLEAN])) == 40
    assert len({v.id for v in variants}) == len(variants) == 320


def test_kinds_and_strengths_are_balanced() -> None:
    for dimension in DIMENSIONS:
        chosen = [v for v in suite(TASKS, KINDS, 70) if v.dimension == dimension]
        for counts in (Counter(v.strength for v in chosen), Counter(repr(v.perturbation) for v in chosen)):
            assert max(counts.values()) - min(counts.values()) <= (7 if len(counts) == 5 else 1)
        assert len({v.kind for v in chosen}) >= 2


def test_a_dimension_s_variants_do_not_depend_on_the_others() -> None:
    whole = [v for v in suite(TASKS, KINDS, 12) if v.dimension in ("Sensor Noise", CLEAN)]
    assert whole == list(suite(TASKS, KINDS, 12, dimensions=("Sensor Noise",)))


def test_it_is_written_line_by_line(tmp_path: Path) -> None:
    variants = suite(TASKS, KINDS, 5)
    write_variants(tmp_path / "variants.jsonl", variants)
    rows = [json.loads(line) for line in (tmp_path / "variants.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == [v.id for v in variants]
    for row, variant in zip(rows, variants, strict=True):
        again = draccus.decode(Perturbation, row["perturbation"]) if row["perturbation"] else None
        assert again == variant.perturbation
        assert (row["dimension"], row["kind"], row["strength"]) == (
            variant.dimension,
            variant.kind,
            variant.strength,
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": ()}, "0 tasks"),
        ({"tasks": TASKS, "dimensions": ("Sensor noise",)}, "Did you mean 'Sensor Noise'"),
        ({"tasks": TASKS, "strengths": (0,)}, "clean episode"),
    ],
)
def test_errors_name_the_value(arguments: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=message):
        suite(**{"kinds": KINDS, **arguments})
