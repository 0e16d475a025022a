"""Extras of a dataset behind a view: the same as a robot's, and the parts that read them find them where they look."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wamkit import api
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode, data_spec
from wamkit.design import Design
from wamkit.design.config import DesignConfig
from wamkit.design.robot import RobotPolicy, policy_of, seen_through
from wamkit.encoders import GesturesConfig, ImagesConfig
from wamkit.encoders.depth import DepthConfig
from wamkit.errors import ConfigError, DataError
from wamkit.trunks import TransformerConfig
from wamkit.views import View, ViewConfig

VIEW = ViewConfig(cameras={"scene": "front"}, size=(16, 16), points={"gesture": "front"}, every=2)
SHAPES = {
    "depth.front": (24, 32),
    "segmentation.front": (24, 32),
    "camera.front": (8,),
    "gesture": (2, 2),
    "tracks.front": (3, 2),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One episode whose depth and classes are painted as its picture."""
    folder, rng = tmp_path_factory.mktemp("extras") / "data", np.random.default_rng(0)
    observation = ObservationSpec({"front": CameraSpec(24, 32)}, ("x",), 10.0)
    action = ActionSpec(("x",), (-1.0,), (1.0,), 10.0, mode="absolute")
    kinds = {
        name: (shape, "uint8" if name.startswith("seg") else "float32") for name, shape in SHAPES.items()
    }
    picture = rng.integers(0, 256, (20, 24, 32), dtype=np.uint8)
    extras = {name: rng.uniform(1, 20, (20, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    painted: dict[str, np.ndarray] = {
        "depth.front": picture.astype(np.float32),
        "segmentation.front": picture,
    }
    state, acts = rng.uniform(-1, 1, (2, 20, 1)).astype(np.float32)
    with DatasetWriter(folder, observation, action, extras=kinds) as writer:
        writer.add(
            Episode(
                {"front": np.repeat(picture[..., None], 3, axis=3)},
                state,
                acts,
                "look",
                extras={**extras, **painted},
            )
        )
    return folder


def test_windows_hold_what_the_view_shows_of_the_recorded_ones(root: Path) -> None:
    recorded = ["depth.front", "segmentation.front", "camera.front", "gesture"]
    seen = [name.replace("front", "scene") for name in recorded]
    plain, shown = Dataset(root, extras=recorded), Dataset(root, extras=seen, view=VIEW)
    view = View(VIEW, plain.observation_spec, plain.action_spec)
    expected = view.observe(plain.windows(np.array([0, 4, 18]), WindowSpec(horizon=1)).observation)
    found = shown.windows(np.array([0, 2, 9]), WindowSpec(horizon=1)).observation
    assert set(found.extras) == set(expected.extras) == set(seen)
    for name, value in expected.extras.items():
        assert torch.equal(found.extras[name], value), name
    shapes = data_spec(shown).extras
    assert {name: shapes[name] for name in seen} == {
        name: tuple(value.shape[2:]) for name, value in expected.extras.items()
    }
    again = Dataset(root, view=VIEW).with_extras(["depth.scene"])
    assert np.array_equal(again.extras["depth.scene"], shown.extras["depth.scene"])


def test_what_cannot_follow_is_refused_when_the_dataset_is_opened(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"'tracks.front' of the shape \(3, 2\).*`view.points`"):
        Dataset(root, extras=["tracks.scene"], view=VIEW)
    moved = replace(VIEW, points={"tracks.front": "front"})
    assert Dataset(root, extras=["tracks.scene"], view=moved).extras["tracks.scene"].shape == (10, 3, 2)
    with pytest.raises(ConfigError, match=r"shows the extra 'depth.front' as 'depth.scene'"):
        Dataset(root, extras=["depth.front"], view=VIEW)
    with pytest.raises(DataError, match=r"no extra 'depht.front'.*depth.front"):
        Dataset(root, extras=["depht.scene"], view=VIEW)


def design(view: ViewConfig, camera: str = "scene") -> DesignConfig:
    direct = api.recipe("direct")
    images = ImagesConfig(patch=2, channels=(8, 8), features=4, tokens=1, shift=0)
    depth = DepthConfig(camera=camera, grid=4, points=1)
    gestures = GesturesConfig(camera=camera, source="clicks")
    return replace(
        direct, view=view, horizon=8, width=16, encoders={"images": images, "depth": depth, "gestures": gestures},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
    )  # fmt: skip


def test_a_policy_asks_the_robot_for_its_own_extras(root: Path) -> None:
    built = Design(design(VIEW), data_spec(Dataset(root, view=VIEW), 8)).eval()
    policy = policy_of(built)
    assert isinstance(policy, RobotPolicy)
    assert set(built.sensors) == {"depth.scene", "camera.scene", "gesture"}
    assert set(policy.sensors) == {"depth.front", "camera.front", "gesture"}
    assert policy.droppable["depth.front"] == (24, 32)
    names = list(policy.sensors)
    recorded = Dataset(root, extras=names).windows(np.array([4, 6]), policy.window).observation
    shown = (
        Dataset(root, extras=built.sensors, view=VIEW).windows(np.array([2, 3]), policy.window).observation
    )
    theirs = policy.forecast(recorded, policy.initial_state(2), Budget(), seeds=[0, 1])[0]
    ours = built.forecast(shown, built.initial_state(2), Budget(), seeds=[0, 1])[0]
    assert torch.equal(theirs.action, ours.action)
    other = replace(policy.observation_spec, cameras={"head": CameraSpec(24, 32)}, rate_hz=10.0)
    through = seen_through(policy, ViewConfig(cameras={"front": "head"}), other, policy.action_spec, "robot")
    assert set(through.sensors) == {"depth.head", "camera.head", "gesture"}


def test_pixels_that_the_view_does_not_move_are_refused_by_the_design(root: Path) -> None:
    for points, told in (
        ({}, "does not say so"),
        ({"gesture": "side"}, "says that they lie in that of 'side'"),
    ):
        view = replace(VIEW, points={})
        data = data_spec(Dataset(root, view=view), 8)
        if points:  # a second camera, so that the wrong one can be named
            robot = data.robots["robot"]
            cameras = {**robot.observation.cameras, "side": CameraSpec(8, 8)}
            seen = replace(robot, observation=replace(robot.observation, cameras=cameras))
            view = replace(VIEW, points=points)
            data = replace(data, robots={"robot": seen})
        with pytest.raises(ConfigError, match=rf"encoder 'gestures' reads the extra 'gesture'.*{told}"):
            Design(design(view), data)
    same = ViewConfig(every=2)
    Design(design(same, "front"), data_spec(Dataset(root, view=same), 8))
