"""The gate tells the truth: what an executed action is said to see is what moves it, for every recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from zoo_recordings import opened

from gates import moved_steps, sharpen, trained_together
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Batch, Observation
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.zoo import RECIPES, recipe

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def recorded(folder: Path) -> Dataset:
    """Two short recordings with all ground truth."""
    return opened("benchmark", folder)


def acting(batch: Batch) -> Observation:
    """The observation as a call sees it, with the executed actions."""
    if not batch.past:
        return batch.observation
    past, pad = batch.action[:, : batch.past], batch.action_pad[:, : batch.past]
    return replace(batch.observation, past_action=past, past_action_pad=pad, goal=batch.goal)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_what_an_executed_step_is_said_to_see_moves_it(name: str, recorded: Dataset) -> None:
    torch.manual_seed(0)
    design = Design(recipe(name), data_spec(recorded))
    design.fit(recorded, seed=0)
    sharpen(design)
    moved = moved_steps(design, acting(recorded.windows(np.array([20]), design.window)))
    graph, paths = design.graph, design.graph.wam().paths
    everywhere = "selects" in paths or "tap" in graph.tapped().values()
    said = tuple(everywhere or bool(step) for step in graph.sees(ACTION))
    assert moved == (said * len(moved) if len(said) == 1 else said)
    assert any(moved) == bool({"joint", "produces", "selects"} & set(paths))
    if paths == ("trains",):
        assert trained_together(design, recorded.windows(np.arange(4), design.training_window))
