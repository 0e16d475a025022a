"""Mixtures: windows of several robots as each view shows them, drawn by weight, scaled by each robot's statistics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_seen import LENGTHS, record

from wamkit import api
from wamkit.contract.specs import ActionSpec, CameraSpec, ObservationSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.mixture import Mixture, Owners, Weights
from wamkit.design.robot import RobotPolicy, load_policy
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.training import OptimConfig, TrainConfig
from wamkit.training.balance import Ramp
from wamkit.training.config import SourceConfig
from wamkit.training.imagined import ImaginedConfig
from wamkit.trunks import TransformerConfig
from wamkit.views import ViewConfig

WINDOW = WindowSpec(observation=(-1, 0), horizon=4, future=(2,), goal=True)
VIEWS = {
    "arm": ViewConfig(cameras={"scene": "front"}, size=(16, 16), state_width=6, action_width=5),
    "two": ViewConfig(
        cameras={"scene": "top"}, size=(16, 16), relative="state", state_width=6, action_width=5
    ),
}


def record_two(root: Path, seed: int = 1) -> Path:
    """Three episodes of a robot with five joints, in degrees, at another rate."""
    names = tuple(f"joint_{i}" for i in range(5))
    observation = ObservationSpec({"top": CameraSpec(20, 30)}, names, 25.0)
    action = ActionSpec(names, (-180.0,) * 5, (180.0,) * 5, 25.0, mode="absolute")
    rng = np.random.default_rng(seed)
    with DatasetWriter(root, observation, action) as writer:
        for ticks in (18, 25, 16):
            frames = rng.integers(0, 256, (ticks, 20, 30, 3), dtype=np.uint8)
            state = np.cumsum(rng.normal(size=(ticks, 5)), axis=0).astype(np.float32) + 50
            writer.add(
                Episode({"top": frames}, state, state + rng.normal(size=(ticks, 5)).astype(np.float32), "go")
            )
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("mixture")
    return {"arm": record(folder / "arm"), "two": record_two(folder / "two")}


@pytest.fixture(scope="module")
def mixture(roots: dict[str, Path]) -> Mixture:
    return Mixture({name: Dataset(root, view=VIEWS[name]) for name, root in roots.items()}, 4)


def test_windows_are_those_of_the_datasets_in_the_order_that_is_asked_for(mixture: Mixture) -> None:
    first = sum(LENGTHS)
    index = np.array([first + 3, 0, first + 58, 50, first])
    batch = mixture.windows(index, WINDOW)
    for name, rows, frames in (("arm", [1, 3], [0, 50]), ("two", [0, 2, 4], [3, 58, 0])):
        own = mixture.datasets[name].windows(np.array(frames), WINDOW)
        assert torch.equal(batch.action[rows], own.action)
        assert torch.equal(batch.observation.images["scene"][rows], own.observation.images["scene"])
        assert batch.future is not None
        assert own.future is not None
        assert torch.equal(batch.future.pad[rows], own.future.pad)
        assert tuple(batch.observation.task[row] for row in rows) == own.observation.task
    assert batch.index is not None
    assert batch.index.tolist() == index.tolist()


def test_every_robot_is_scaled_by_its_own_quantiles(mixture: Mixture) -> None:
    for name, width in (("arm", 3), ("two", 5)):
        dataset = mixture.datasets[name]
        inside = dataset.windows(np.arange(dataset.num_frames), WINDOW)
        values = dataset.action  # those of a view whose actions are relative are windows
        if name == "two":
            values = inside.action[~inside.action_pad].numpy()
        low, high = np.quantile(values[:, :width], [0.01, 0.99], axis=0)
        np.testing.assert_allclose(low, -1, atol=1e-4)
        np.testing.assert_allclose(high, 1, atol=1e-4)
        assert not inside.action[..., width:].any()


def test_the_robots_have_widths_and_pictures_in_common_and_keep_their_names(mixture: Mixture) -> None:
    data = mixture.spec()
    assert data.observation.state == (*(f"state_{i}" for i in range(5)), "padding_5")
    assert data.action.names == tuple(f"action_{i}" for i in range(5))
    assert set(data.robots) == {"arm", "two"}
    assert data.robots["two"].action.names == tuple(f"joint_{i}" for i in range(5))


@settings(max_examples=50, deadline=None)
@given(
    weights=st.lists(st.floats(0.05, 5.0), min_size=1, max_size=5),
    batch=st.integers(1, 40),
    step=st.integers(0, 2000),
)
def test_shares_are_weights_and_counts_are_counted(weights: list[float], batch: int, step: int) -> None:
    owners, share = Owners(constant(*weights)), np.array(weights) / sum(weights)
    count = owners.count(step, batch)
    assert count.sum() == step * batch
    assert (np.abs(count - share * step * batch) <= 12).all()
    again = owners.count(step + 1, batch) - count
    assert again.tolist() == np.bincount(owners.of(step, 1, batch), minlength=len(weights)).tolist()


def constant(*weights: float) -> Weights:
    return lambda steps: np.broadcast_to(weights, (len(steps), len(weights)))


@settings(max_examples=30, deadline=None)
@given(
    step=st.integers(0, 300), batch=st.integers(1, 9), begin=st.integers(0, 200), length=st.integers(0, 90)
)
def test_weights_may_change_from_step_to_step(step: int, batch: int, begin: int, length: int) -> None:
    ramp = Ramp(1.0, 0.0, begin, begin + length)
    config = TrainConfig(
        mixture={
            "a": SourceConfig(ramps=(ramp,)),
            "b": SourceConfig(weight=0.5),
            "c": SourceConfig(weight=0.25),
        }
    )
    owners = Owners(config.source_weights)
    drawn = [np.bincount(owners.of(k, 1, batch), minlength=3) for k in range(step + 1)]
    assert owners.count(step, batch).tolist() == np.sum([np.zeros(3), *drawn[:step]], axis=0).tolist()
    fresh = Owners(config.source_weights)  # a resumed run
    assert fresh.count(step, batch).tolist() == owners.count(step, batch).tolist()
    if step >= begin + length:
        assert drawn[step][0] == 0  # after the first stage
    wanted = sum(
        np.array([w / sum(v) for w in v]) * batch for v in config.source_weights(np.arange(step + 1))
    )
    assert (np.abs(np.sum(drawn, axis=0) - wanted) <= 15).all()


def test_every_frame_comes_once_per_epoch_and_held_out_frames_never(mixture: Mixture) -> None:
    frames = np.setdiff1d(np.arange(mixture.num_frames), np.arange(20))  # without the first episode
    draw = mixture.draw(frames, constant(1.0, 1.0))
    places = np.concatenate([draw(8, 5, step) for step in range(400)])
    found = frames[places]
    assert found.min() == 20
    arm, two = found[found < 51], found[found >= 51]
    for values, low, high in ((arm, 20, 51), (two, 51, 110)):
        for epoch in range(len(values) // (high - low)):
            own = values[epoch * (high - low) : (epoch + 1) * (high - low)]
            assert sorted(own.tolist()) == list(range(low, high))
    assert np.array_equal(mixture.draw(frames, constant(1.0, 1.0))(8, 5, 399), places[-8:])


def config(roots: dict[str, Path], out: Path, **fields: Any) -> TrainConfig:
    direct = api.recipe("direct")
    small = replace(
        direct,
        views=VIEWS,
        horizon=8,
        width=16,
        encoders={**direct.encoders, "images": ImagesConfig(channels=(8, 8), features=4, tokens=1, shift=0)},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
    )
    mixture = {
        name: SourceConfig(root, weight)
        for (name, root), weight in zip(roots.items(), (1.0, 3.0), strict=True)
    }
    given = {"mixture": mixture, "design": small, "steps": 4, "batch_size": 8, "optim": OptimConfig(warmup=1)}
    return TrainConfig(out=out, **{**given, "checkpoint_every": 2, **fields})


def test_one_model_drives_both_robots_in_their_own_coordinates(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    model = api.train(config(roots, tmp_path / "run"), progress=False)
    for name, root in roots.items():
        plain = Dataset(root)
        specs = plain.observation_spec, plain.action_spec
        policy = load_policy(model, specs=specs)
        assert isinstance(policy, RobotPolicy)
        assert policy.action_spec == plain.action_spec
        seen = plain.windows(np.array([3, 17]), policy.window).observation
        forecast, _ = policy.forecast(seen, policy.initial_state(2), Budget(), seeds=[1, 2])
        assert forecast.action.shape == (2, 8, plain.action_spec.width)
        named, _ = load_policy(model, robot=name).forecast(
            seen, policy.initial_state(2), Budget(), seeds=[1, 2]
        )
        assert torch.equal(named.action, forecast.action)
        if name == "two":  # around 50 degrees, where the other robot never is
            assert (forecast.action - seen.state[:, -1:, :]).abs().max() < 30


def test_a_model_of_several_robots_must_know_which_one_it_drives(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    model = api.train(config(roots, tmp_path / "run"), progress=False)
    with pytest.raises(
        ConfigError, match=r"robots arm, two, and nothing says which one.*Name one in `robot`"
    ):
        load_policy(model)
    with pytest.raises(ConfigError, match=r"knows no 'tow'.*two"):
        load_policy(model, robot="tow")
    plain = Dataset(roots["arm"])
    other = replace(plain.action_spec, rate_hz=99.0)
    with pytest.raises(ConfigError, match="none has the specs"):
        load_policy(model, specs=(plain.observation_spec, other))


def test_a_run_that_stopped_goes_on_bit_for_bit(roots: dict[str, Path], tmp_path: Path) -> None:
    whole = api.train(config(roots, tmp_path / "whole", held_out=1), progress=False)
    with pytest.raises(KeyboardInterrupt):
        api.train(config(roots, tmp_path / "half", held_out=1), progress=False, hook=stop)
    half = api.train(config(roots, tmp_path / "half", held_out=1), progress=False)
    assert (whole / "model.safetensors").read_bytes() == (half / "model.safetensors").read_bytes()


def stop(step: int, *more: object) -> None:
    if step == 3:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (
            "two",
            {"cameras": {"above": "top"}},
            r"shows the cameras above 16 x 16, the others scene 16 x 16",
        ),
        ("two", {"size": (32, 32)}, r"scene 32 x 32, the others scene 16 x 16.*`view.size`"),
        ("two", {"state_width": 7}, r"robot 'two' shows 7 state columns, the others 6.*`view.state_width`"),
        ("two", {"action_width": 0, "action": ("joint_0",)}, "shows 1 action columns, the others 5"),
    ],
)
def test_robots_that_have_nothing_in_common_are_refused(
    roots: dict[str, Path], name: str, changes: dict[str, Any], told: str
) -> None:
    views = {**VIEWS, name: replace(VIEWS[name], **changes)}
    with pytest.raises(SpecError, match=told):
        Mixture({n: Dataset(root, view=views[n]) for n, root in roots.items()}, 4)


def test_a_config_says_one_dataset_or_several(roots: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="choose one of the two"):
        config(roots, tmp_path, dataset=roots["arm"])
    with pytest.raises(ConfigError, match="Leave `imagined` out"):
        config(roots, tmp_path, imagined=ImaginedConfig())
    with pytest.raises(ConfigError, match="names a robot of `pretrained`"):
        TrainConfig(robot="arm")
    ramps = (Ramp(1.0, 0.0, 2, 2),)
    with pytest.raises(ConfigError, match="at step 2 the ramps leave no robot any weight"):
        config(roots, tmp_path, mixture={"arm": SourceConfig(roots["arm"], ramps=ramps)})
    wrong = config(roots, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"views: no robot 'tow'.*two"):
        api.train(
            replace(wrong, design=replace(wrong.design, views={**VIEWS, "tow": ViewConfig()})), progress=False
        )
