"""Datasets through a view: windows agree with recorded frames seen one by one, statistics follow the view."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode, data_spec
from wamkit.errors import DataError
from wamkit.views import Declared, RangeView, RotationView, View, ViewConfig

LENGTHS = (20, 31)
WINDOW = WindowSpec(observation=(-2, 0), horizon=4, future=(3,), goal=True)


def record(root: Path, mode: Any = "absolute", actionless: bool = False) -> Path:
    """Two episodes of two cameras of different sizes."""
    cameras = {"front": CameraSpec(24, 32), "wrist": CameraSpec(16, 16)}
    observation = ObservationSpec(cameras, ("x", "y", "gripper"), 20.0)
    action = ActionSpec(("x", "y", "gripper"), (-9.0,) * 3, (9.0,) * 3, 20.0, mode=mode)
    rng = np.random.default_rng(0)
    with DatasetWriter(root, observation, action, actionless=actionless) as writer:
        for number, ticks in enumerate(LENGTHS):
            frames = {
                name: rng.integers(0, 256, (ticks, c.height, c.width, 3), dtype=np.uint8)
                for name, c in cameras.items()
            }
            state = np.cumsum(rng.normal(size=(ticks, 3)), axis=0).clip(-9, 9).astype(np.float32)
            acts = rng.uniform(-1, 1, (ticks, 3)).astype(np.float32)
            clip = actionless and number == 0
            writer.add(Episode(frames, state, None if clip else acts, "do it"))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("seen") / "data")


VIEW = ViewConfig(
    cameras={"hand": "wrist", "scene": "front"},
    size=(12, 20),
    state=("y", "gripper"),
    relative="state",
    relative_columns={"x": "x"},
    action_ranges={"gripper": RangeView((-1.0, 1.0), (1.0, -1.0))},
    action_width=5,
)


def test_windows_are_what_the_view_shows_of_the_recorded_windows(root: Path) -> None:
    plain, seen = Dataset(root), Dataset(root, view=VIEW)
    view = View(VIEW, plain.observation_spec, plain.action_spec)
    index = np.array([0, 7, 19, 20, 50])
    before, after = plain.windows(index, WINDOW), seen.windows(index, WINDOW)
    for name in ("observation", "future", "goal"):
        expected, found = view.observe(getattr(before, name)), getattr(after, name)
        assert torch.equal(expected.state, found.state)
        for camera in ("hand", "scene"):
            assert torch.equal(expected.images[camera], found.images[camera])
    expected_action = view.actions(before.action, before.observation.state[:, -1])
    torch.testing.assert_close(after.action, expected_action)
    assert torch.equal(before.action_pad, after.action_pad)
    assert seen.observation_spec == view.observation_spec
    assert seen.action_spec == view.action_spec
    assert np.array_equal(seen.milestones, plain.milestones)


def test_statistics_are_those_of_what_is_seen(root: Path) -> None:
    seen = Dataset(root, view=VIEW)
    stats = data_spec(seen, 4).stats
    inside = [seen.windows(np.arange(seen.num_frames), WINDOW)]
    action = inside[0].action[~inside[0].action_pad].numpy()
    np.testing.assert_allclose(stats["action"]["mean"], action.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["action"]["max"], action.max(axis=0), atol=1e-6)
    np.testing.assert_allclose(stats["observation.state"]["std"], seen.state.std(axis=0), atol=1e-6)
    assert set(stats) == {
        "action",
        "observation.state",
        "observation.images.hand",
        "observation.images.scene",
    }


def test_every_third_tick(root: Path) -> None:
    plain, seen = Dataset(root), Dataset(root, view=ViewConfig(every=3))
    ticks = np.concatenate((np.arange(0, 20, 3), 20 + np.arange(0, 31, 3)))
    assert seen.num_frames == len(ticks)
    assert [len(e) for e in seen.episodes] == [7, 11]
    assert np.array_equal(seen.state, plain.state[ticks])
    assert np.array_equal(seen.action, plain.action[ticks])
    batch = seen.windows(np.arange(len(ticks)), WindowSpec(horizon=1))
    recorded = plain.windows(ticks, WindowSpec(horizon=1))
    assert torch.equal(batch.observation.images["front"], recorded.observation.images["front"])
    assert seen.action_spec.rate_hz == pytest.approx(20 / 3)
    clock = Dataset(root, view=ViewConfig(every=3), extras=("episode_clock",)).extras["episode_clock"]
    assert clock[:7, 0].tolist() == list(range(7))


def test_steps_of_actions_are_averaged_between_the_ticks(tmp_path: Path) -> None:
    root = record(tmp_path / "data", mode="delta")
    plain, seen = Dataset(root), Dataset(root, view=ViewConfig(every=3))
    np.testing.assert_allclose(seen.action[1], plain.action[3:6].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(seen.action[6], plain.action[18:20].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(seen.action[7], plain.action[20:23].mean(axis=0), rtol=1e-6)
    faster = Dataset(root, view=ViewConfig(rate_hz=40.0))
    assert np.array_equal(faster.action[[0, 1, 2]], plain.action[[0, 1, 1]])


def test_frames_without_an_action_stay_zero_and_out_of_the_statistics(tmp_path: Path) -> None:
    root = record(tmp_path / "data", actionless=True)
    ranges = {"x": RangeView((0.0, 1.0), (5.0, 6.0))}
    for config in (ViewConfig(action_ranges=ranges), replace(VIEW, action_ranges=ranges)):
        seen = Dataset(root, view=config)
        assert not seen.action[:20].any()
        assert data_spec(seen, 4).stats["action"]["count"] <= 31 * 4


def test_the_default_view_is_bit_identical(root: Path) -> None:
    plain, seen = Dataset(root), Dataset(root, view=ViewConfig(most=32))
    assert data_spec(seen).robots == {}
    index = np.arange(0, 51, 5)
    before, after = plain.windows(index, WINDOW), seen.windows(index, WINDOW)
    assert torch.equal(before.action, after.action)
    assert torch.equal(before.observation.state, after.observation.state)
    assert torch.equal(before.observation.images["front"], after.observation.images["front"])


def pose_recording(root: Path, wrong: bool = False) -> Path:
    """One film without actions and one episode of quaternions, of which one frame of zeros."""
    names = ("x", "qx", "qy", "qz", "qw")
    spec = ActionSpec(names, (-2.0,) * 5, (2.0,) * 5, 20.0, mode="absolute")
    rng = np.random.default_rng(0)
    with DatasetWriter(root, ObservationSpec({}, names, 20.0), spec, actionless=True) as writer:
        for film in (True, False):
            values = rng.normal(size=(12, 5))
            values[:, 1:] /= np.linalg.norm(values[:, 1:], axis=1, keepdims=True)
            values = values.clip(-2, 2).astype(np.float32)
            acts = values.copy()
            acts[5, 1:] *= not (wrong and not film)
            writer.add(Episode({}, values, None if film else acts, "turn"))
    return root


@pytest.mark.parametrize("against", [(), ("qx", "qy", "qz", "qw")])
def test_films_have_no_turns_and_quaternions_of_zeros_are_named(
    tmp_path: Path, against: tuple[str, ...]
) -> None:
    turn = RotationView(("qx", "qy", "qz", "qw"), "quaternion_xyzw", "rot6d", "turn", against)
    relative: Any = "state" if against else "none"
    config = ViewConfig(
        action_rotations=(turn,), relative=relative, relative_columns={"x": "x"} if against else {}
    )
    seen = Dataset(pose_recording(tmp_path / "data"), view=config)
    assert not seen.action[:12].any()
    assert torch.isfinite(seen.windows(np.arange(24), WindowSpec(horizon=4)).action).all()
    assert data_spec(seen, 4).stats["action"]["count"] <= 12 * 4
    root = pose_recording(tmp_path / "wrong", wrong=True)
    with pytest.raises(
        DataError, match=r"episode 1, frame 5: qx, qy, qz, qw \(quaternion_xyzw\) is no rotation"
    ):
        Dataset(root, view=config)
    with pytest.raises(DataError, match="frame 5: qx"):  # ticks of the recording, not of the view
        Dataset(pose_recording(tmp_path / "half", wrong=True), view=replace(config, every=5))


def test_a_dataset_of_others_is_told_that_its_actions_are_steps(tmp_path: Path) -> None:
    root = record(tmp_path / "data", mode="delta")
    info = json.loads((root / "meta/info.json").read_text())
    del info["wamkit"]
    (root / "meta/info.json").write_text(json.dumps(info))
    silent = Dataset(root, view=ViewConfig(every=3))
    told = Dataset(root, view=ViewConfig(every=3, declare=Declared(mode="delta")))
    assert (silent.action_spec.mode, told.action_spec.mode) == ("absolute", "delta")
    plain = Dataset(root)
    assert np.array_equal(silent.action[1], plain.action[3])
    np.testing.assert_allclose(told.action[1], plain.action[3:6].mean(axis=0), rtol=1e-6)
    assert data_spec(told).robots["robot"].action.mode == "delta"
