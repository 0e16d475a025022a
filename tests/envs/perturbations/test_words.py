"""Wordings: the task stays, what stands around it grows, slips are as many as the strength says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.envs import MetaWorldConfig
from wamkit.envs.perturbations import Perturbation
from wamkit.envs.perturbations.language import shared_words, slip

TASK = "drawer-open-v3"


def worded(kind: str, strength: int, seed: int = 0, task: str = TASK) -> str:
    phrases = MetaWorldConfig(task=task).phrases()
    part = Perturbation.get_choice_class(kind)(strength=strength)
    return part.on_instruction(phrases[0], phrases, np.random.default_rng(seed))


@pytest.mark.parametrize("task", MetaWorldConfig.task_names())
def test_paraphrases_of_every_task_drift_away(task: str) -> None:
    canonical = MetaWorldConfig(task=task).phrases()[0]
    shared = [shared_words(worded("paraphrase", k, task=task), canonical) for k in range(1, 6)]
    assert all(
        worded("paraphrase", k, task=task) in MetaWorldConfig(task=task).phrases()[1:] for k in range(1, 6)
    )
    assert shared == sorted(shared, reverse=True)
    assert shared[-1] < 1


@pytest.mark.parametrize("kind", ["added_context", "distraction"])
def test_the_instruction_stays_and_sentences_are_added(kind: str) -> None:
    canonical = MetaWorldConfig(task=TASK).phrases()[0].rstrip(".")
    for strength in range(1, 6):
        text = worded(kind, strength)
        assert canonical in text
        assert text.count(".") - MetaWorldConfig(task=TASK).phrases()[0].count(".") in (
            strength,
            strength + 1,
        )


def distance(a: str, b: str) -> int:
    """Edits between two words, a swap of neighbours counting as one (Damerau)."""
    table = {(i, -1): i + 1 for i in range(-1, len(a))} | {(-1, j): j + 1 for j in range(-1, len(b))}
    for i in range(len(a)):
        for j in range(len(b)):
            same = a[i] != b[j]
            best = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + same)
            if i and j and a[i] == b[j - 1] and a[i - 1] == b[j]:
                best = min(best, table[i - 2, j - 2] + 1)
            table[i, j] = best
    return table[len(a) - 1, len(b) - 1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_slip_is_one_edit(seed: int) -> None:
    canonical = MetaWorldConfig(task=TASK).phrases()[0]
    assert distance(slip(canonical, np.random.default_rng(seed)), canonical) == 1


@settings(max_examples=30, deadline=None)
@given(strength=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_slips_follow_one_another(strength: int, seed: int) -> None:
    """As many as the strength, by seed. (Later ones may fall on earlier ones, so edits do not add up.)"""
    text, rng = MetaWorldConfig(task=TASK).phrases()[0], np.random.default_rng(seed)
    for _ in range(strength):
        text = slip(text, rng)
    assert worded("typos", strength, seed) == text
