"""A design behind its view: the robot's observations go in, its actions come out, in training and after a reload."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_seen import record

from support import data_spec as toy_spec
from wamkit import api
from wamkit.contract.types import Budget
from wamkit.data import Dataset, data_spec
from wamkit.design import Design
from wamkit.design.robot import RobotPolicy, load_policy, policy_of
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.training import OptimConfig, TrainConfig
from wamkit.trunks import TransformerConfig
from wamkit.views import RangeView, ViewConfig

VIEW = ViewConfig(
    cameras={"hand": "wrist", "scene": "front"},
    size=(16, 16),
    state=("y", "gripper"),
    relative="state",
    action_ranges={"gripper": RangeView((-1.0, 1.0), (1.0, -1.0))},
    action_width=5,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("robot") / "data")


def config(root: Path, out: Path, view: ViewConfig = VIEW) -> TrainConfig:
    direct = api.recipe("direct")
    small = replace(
        direct,
        view=view,
        horizon=8,
        width=16,
        encoders={**direct.encoders, "images": ImagesConfig(channels=(8, 8), keypoints=4, tokens=1, shift=0)},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
    )
    return TrainConfig(
        dataset=root, out=out, design=small, steps=3, batch_size=4, optim=OptimConfig(warmup=1)
    )


def test_acting_is_the_way_back_of_what_the_design_gives(root: Path, tmp_path: Path) -> None:
    model = api.train(config(root, tmp_path / "run"), progress=False)
    policy = load_policy(model)
    assert isinstance(policy, RobotPolicy)
    plain, seen = Dataset(root), Dataset(root, view=VIEW)
    assert policy.observation_spec == plain.observation_spec
    assert policy.action_spec == plain.action_spec
    index = np.array([3, 30])
    recorded = plain.windows(index, policy.window).observation
    shown = seen.windows(index, policy.window).observation
    forecast, _ = policy.forecast(recorded, policy.initial_state(2), Budget(), seeds=[1, 2])
    inner, _ = policy.design.forecast(shown, policy.design.initial_state(2), Budget(), seeds=[1, 2])
    assert inner.action.shape == (2, 8, 5)
    now = recorded.state[:, -1:]
    expected = inner.action[..., :3] + now
    expected[..., 2] = (
        -inner.action[..., 2] + now[..., 2]
    )  # a difference of the gripper changes its sign only
    torch.testing.assert_close(forecast.action, expected)


def test_a_design_that_changes_nothing_is_its_own_policy(root: Path, tmp_path: Path) -> None:
    only = replace(VIEW, cameras={"wrist": "wrist"}, size=())
    with pytest.raises(ConfigError, match=r"24 x 32 .*--design.view.size '\[32, 32\]'"):
        Design(config(root, tmp_path, ViewConfig()).design, data_spec(Dataset(root)))
    design = Design(config(root, tmp_path, only).design, data_spec(Dataset(root, view=only), 8))
    assert isinstance(policy_of(design), RobotPolicy)
    unseen = Design(config(root, tmp_path, ViewConfig(most=64)).design, toy_spec())
    assert policy_of(unseen) is unseen


def test_data_that_were_not_seen_through_the_view_are_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"Dataset\(root, view=design.view\)"):
        Design(config(root, tmp_path).design, data_spec(Dataset(root)))


def test_a_robot_that_needs_more_columns_is_not_driven(root: Path, tmp_path: Path) -> None:
    part = replace(VIEW, action=("x",), action_ranges={})
    design = Design(config(root, tmp_path, part).design, data_spec(Dataset(root, view=part), 8))
    with pytest.raises(ConfigError, match="also needs y, gripper"):
        policy_of(design)
