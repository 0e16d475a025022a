"""Oracle of plans in words, pictures and actions that take turns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from cases import Case

from gates import sharpen
from oracles.goals import milestoned
from oracles.probes import drawn
from oracles.registry import oracle
from wamkit.contract.specs import ACTION, MILESTONES
from wamkit.contract.types import WindowSpec
from wamkit.design.texts import Text


@oracle("re.interleaved-plan")
def interleaved_plan(case: Case) -> None:
    """Words name the part of the task that is due and never go back; a key frame follows them, and the action it."""
    design = sharpen(case.untrained())
    outputs = design.graph.factor_of(ACTION).generates
    words = [name for name in outputs if name in design.texts]
    keys = [name for name in outputs if name in milestoned(case)]
    assert words, "no words in front of the action"
    assert keys, "no key frame in front of the action"
    assert list(outputs) == [*words, *keys, ACTION], "not words, key frame, action"
    for name in words:
        advances(case, design.texts[name])
    observation = case.cut(design.window)
    plan = {name: drawn(design, name, 1) for name in words}
    for changed, generated in ((words[0], keys[0]), (keys[0], ACTION)):
        known = plan if changed in words else {**plan, changed: drawn(design, changed, 1)}
        other = {**known, changed: drawn(design, changed, 2)}
        shown = [
            design.sample(observation, [generated], seeds=[1], given=some).values[generated]
            for some in (known, other)
        ]
        assert not torch.equal(*shown), f"{generated} does not follow {changed}"
    forecast, _ = case.design.forecast(
        case.observation(), case.design.initial_state(1), replace(case.config.budget), [1]
    )
    assert set(words) <= set(forecast.text), "the plan cannot be read"


def advances(case: Case, text: Text) -> None:
    """Words of a task of three parts say which one is due; in the recordings, none comes back."""
    seen = case.data.windows(np.arange(0, 40, 3), WindowSpec()).observation
    said = text.of(seen)
    changes = [words for i, words in enumerate(said) if i == 0 or words != said[i - 1]]
    assert len(changes) == len(set(changes)), "a part of the task comes back"
    parts = torch.tensor([[1.0, 3], [1, 3], [2, 3], [3, 3]])
    rows = case.data.windows(np.arange(4), WindowSpec()).observation
    scripted = text.of(replace(rows, extras={**rows.extras, MILESTONES: parts[:, None]}))
    assert scripted[0] == scripted[1]
    assert len(set(scripted)) == 3, "the words do not say which part is due"
