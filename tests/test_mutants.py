"""A small mutation run: broken datasets and checkpoints are read as the original, or refused in our own words."""

from __future__ import annotations

import pytest

import mutants

COUNT, SEED = 200, 0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[mutants.Result]:
    return mutants.run(COUNT, SEED, tmp_path_factory.mktemp("mutants"))


def test_no_mutant_is_believed(results: list[mutants.Result]) -> None:
    assert [result for result in results if result.outcome not in ("same", "refused")] == []


def test_the_run_breaks_something(results: list[mutants.Result]) -> None:
    """A run that found everything intact, or refused the intact ones, would show nothing."""
    refused = sum(result.outcome == "refused" for result in results)
    assert len(results) == COUNT
    assert COUNT // 2 < refused < COUNT


def test_a_refusal_names_a_file_of_the_mutant(results: list[mutants.Result]) -> None:
    assert [r for r in results if r.outcome == "refused" and "/" not in r.said] == []
