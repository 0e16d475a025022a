"""Oracle of reasoning in words that the action is generated from."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from cases import Case

from gates import sharpen
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design
from wamkit.errors import DataError

FRAMES = tuple(range(0, 40, 4))


@oracle("re.text-cot")
def text_cot(case: Case) -> None:
    """Words come before the action and move it, a person may edit them, what is written is well formed and is told."""
    design = sharpen(case.untrained())
    graph = design.graph
    names = [name for name in design.texts if name in graph.ancestors([ACTION])]
    assert names, "the action is generated from no words"
    for name in names:
        edited(case, design, name)
        written(case, design, name)
        learned(case, design, name)


def edited(case: Case, design: Design, name: str) -> None:
    """Other words, another action; the same words, the same; words that are given are not written again."""
    text, graph = design.texts[name], design.graph
    recorded = text.of(case.cut(WindowSpec(), FRAMES))
    phrases = list(dict.fromkeys([*recorded, *text.config.every_sentence()]))[:3]
    assert len(phrases) > 1, f"nothing but {phrases} can be said"
    observation = case.cut(design.window)
    writer = graph.factor_of(name).estimator
    runs = calls(design.estimators[writer], "generate")
    acts = {}
    for phrase in phrases:
        given = {name: text.encode([phrase])}
        forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [1], given)
        again, _ = design.forecast(observation, design.initial_state(1), Budget(), [1], given)
        acts[phrase] = forecast.action
        assert torch.equal(forecast.action, again.action)
    if writer != graph.factor_of(ACTION).estimator:
        assert not runs, "words that a person gave were written again"
    assert all(not torch.equal(acts[a], acts[b]) for a, b in pairwise(phrases)), (
        "the words do not move the action"
    )


def written(case: Case, design: Design, name: str) -> None:
    """What is written can be read, is a sentence of the grammar where there is one, and its length is told."""
    text = design.texts[name]
    forecast, _ = design.forecast(case.cut(design.window), design.initial_state(1), Budget(), [1])
    (said,) = forecast.text[name]
    assert 1 <= forecast.nfe[name] <= design.streams[name].steps
    if text.config.sentences:
        assert said in text.config.every_sentence(), said
        with pytest.raises(DataError, match="none of the sentences"):
            text.encode(["it"])


def learned(case: Case, design: Design, name: str) -> None:
    """The words have a loss of their own, against what the recordings say."""
    design.train()
    batch = case.batch(FRAMES, design)
    term = design.loss(batch).terms[name]
    design.eval()
    assert term.isfinite()
    target = design.targets(batch)[name]
    assert design.texts[name].decode(target.values) == tuple(design.texts[name].of(batch.observation))
