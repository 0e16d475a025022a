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
from wamkit.contract.specs import CameraSpec
from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, Observation
from wamkit.data import Dataset, data_spec
from wamkit.design import Design
from wamkit.design.robot import RobotPolicy, load_policy, policy_of, seen_through
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.evaluation.prediction.replay import names_of, predict_actions
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
        encoders={**direct.encoders, "images": ImagesConfig(channels=(8, 8), features=4, tokens=1, shift=0)},
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


def test_open_loop_errors_are_in_recorded_units(root: Path, tmp_path: Path) -> None:
    model = api.train(config(root, tmp_path / "run"), progress=False)
    part = replace(VIEW, action=("x", "gripper"))
    policy, dataset = load_policy(model), Dataset(root, view=VIEW)
    assert isinstance(policy, RobotPolicy)
    index = np.array([3, 30])
    recorded = Dataset(root).windows(index, policy.window).observation
    seeds = [row_seed(0, "frame", int(frame)) for frame in index]
    forecast, _ = policy.forecast(recorded, policy.initial_state(2), Budget(), seeds=seeds)
    measured = predict_actions(policy.design, dataset, index, Budget(), 0)
    np.testing.assert_allclose(measured, forecast.action.numpy(), rtol=1e-5, atol=1e-5)
    seen = Dataset(root, view=part)
    windows = seen.windows(index, replace(policy.window, horizon=1))
    back = seen.view.measured(windows.action.numpy(), seen.recorded_state[index])
    np.testing.assert_allclose(back[:, 0], seen.recorded_action[index][:, [0, 2]], atol=1e-5)
    assert names_of(seen) == ("x", "gripper")


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> RobotPolicy:
    folder = tmp_path_factory.mktemp("through")
    loaded = load_policy(api.train(config(record(folder / "data"), folder / "run", VIEW), progress=False))
    assert isinstance(loaded, RobotPolicy)
    return loaded


def observation(rows: int = 24, columns: int = 32, **cameras: str) -> Observation:
    rng = np.random.default_rng(0)
    front, wrist = (rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((rows, columns), (16, 16)))
    names = {"front": "front", "wrist": "wrist"} | cameras
    return Observation.of_robot(
        {names["front"]: front, names["wrist"]: wrist}, np.array([0.1, 0.2, 0.3]), "do it"
    )


def test_another_robot_acts_through_a_view(policy: RobotPolicy) -> None:
    """Other names, twice the rate, a gripper of twice the range: the commands are the policy's own, mapped back."""
    own, act = policy.observation_spec, policy.action_spec
    cameras = {"head": own.cameras["front"], "hand": own.cameras["wrist"]}
    there = replace(own, cameras=cameras, rate_hz=40.0)
    doubled = replace(
        act, rate_hz=40.0, low=(*act.low[:2], 2 * act.low[2]), high=(*act.high[:2], 2 * act.high[2])
    )
    gripper = {"gripper": RangeView((-2.0, 2.0), (-1.0, 1.0))}
    view = ViewConfig(
        cameras={"front": "head", "wrist": "hand"}, every=2, action_ranges=gripper, state_ranges=gripper
    )
    other = seen_through(policy, view, there, doubled, "robot 'other'")
    assert isinstance(other, RobotPolicy)
    assert other.window.every == 2.0 * policy.window.every
    assert (other.observation_spec, other.action_spec) == (there, doubled)
    plain = observation()
    moved = replace(plain, images={"head": plain.images["front"], "hand": plain.images["wrist"]})
    moved = replace(moved, state=plain.state * torch.tensor([1.0, 1.0, 2.0]))
    mine = policy.forecast(plain, policy.initial_state(1), Budget(), seeds=[3])[0].action
    theirs = other.forecast(moved, other.initial_state(1), Budget(), seeds=[3])[0].action
    torch.testing.assert_close(theirs, mine * torch.tensor([1.0, 1.0, 2.0]))


def test_a_view_that_changes_nothing_adds_nothing(policy: RobotPolicy) -> None:
    same = seen_through(policy, ViewConfig(), policy.observation_spec, policy.action_spec, "robot")
    assert same is policy


def test_a_view_that_does_not_lead_to_the_robot_is_refused_with_both_sides(policy: RobotPolicy) -> None:
    there = replace(policy.observation_spec, cameras={"head": CameraSpec(24, 32)})
    with pytest.raises(SpecError, match=r"cameras.wrist: 16 x 16 pixels against none \(view: cameras\)"):
        seen_through(policy, ViewConfig(cameras={"front": "head"}), there, policy.action_spec, "robot")


def test_what_a_robot_delivers_is_checked_by_name(policy: RobotPolicy) -> None:
    state = policy.initial_state(1)
    for wrong, words in (
        (
            observation(rows=30),
            "camera 'front': a picture of 30 x 32 pixels; this policy was trained on 24 x 32",
        ),
        (observation(front="top"), "no image of camera 'front'"),
        (
            replace(observation(), state=torch.zeros(1, 1, 2)),
            "the state has 2 entries; this policy reads 3: x, y, g",
        ),
    ):
        with pytest.raises(SpecError, match=words):
            policy.forecast(wrong, state, Budget(), seeds=[0])


def test_a_robot_observation_has_the_axes_of_a_batch() -> None:
    seen = observation()
    assert seen.images["front"].shape == (1, 1, 3, 24, 32)
    assert seen.state.shape == (1, 1, 3)
    two = Observation.of_robot({"c": np.zeros((2, 4, 6, 3), np.uint8)}, np.zeros((2, 3)), "x")
    assert two.images["c"].shape == (1, 2, 3, 4, 6)
    assert two.pad.tolist() == [[False, False]]
    for picture in (
        np.zeros((4, 6, 3), np.float32),
        np.zeros((3, 4, 6), np.uint8),
        np.zeros((4, 6), np.uint8),
    ):
        with pytest.raises(SpecError, match="give uint8 of the shape"):
            Observation.of_robot({"c": picture}, np.zeros(3), "x")
