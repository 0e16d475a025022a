"""The gate tells the truth: what an executed action is said to see is what moves it, for every recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from gates import moved_steps, sharpen, trained_together
from wamkit.api import CollectConfig, collect
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Batch, Observation
from wamkit.data import Dataset
from wamkit.data.spec import data_spec
from wamkit.design import Design
from wamkit.envs.ground_truth import RECORDABLE
from wamkit.zoo import RECIPES, recipe

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Two short recordings with all ground truth."""
    root = tmp_path_factory.mktemp("gate") / "data"
    config = CollectConfig(
        out=root, tasks=("button-press-topdown-v3",), episodes=2, image_size=32, record=RECORDABLE, workers=1
    )
    collect(config, progress=False)
    return Dataset(root, extras=tuple(data_spec(Dataset(root)).extras))


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
