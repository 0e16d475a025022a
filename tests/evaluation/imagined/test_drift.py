"""A world model under actions that were taken: what it strays by, and what a score of its dreams can tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import data_spec
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec as spec_of
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import BodySensorsConfig, InstructionConfig, StateConfig
from wamkit.envs import MetaWorldConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.imagined.drift import drift_rows, one_step, tellings
from wamkit.evaluation.imagined.frames import TaskFrames, roc_auc
from wamkit.evaluation.imagined.stage import DreamPlan, DreamSetup, Executed, set_up_dreams
from wamkit.imagination.dreams import Dream, dream
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProprioceptionConfig, SensorValuesConfig
from wamkit.trunks import TransformerConfig

TASKS = ("drawer-open-v3", "window-open-v3")
LENGTHS = (30, 30, 9, 50, 17, 30)  # by turns of the two tasks
SUCCESSES = (True, False, True, True, False, False)
SPEED = 0.05


def dynamics(sensors: tuple[str, ...] = ("place", "base")) -> DesignConfig:
    """Cameras, body and sensors after four actions."""
    return DesignConfig(
        name="forward",
        horizon=4,
        stride=4,
        width=32,
        encoders={
            "instruction": InstructionConfig(),
            "state": StateConfig(),
            "sensors": BodySensorsConfig(("place", "base"), normalization="mean_std"),
        },
        substrates={
            "video": PixelLatentConfig(PatchPCAConfig(patch=16, features=4)),
            "body": ProprioceptionConfig(),
            "sensed": SensorValuesConfig(sensors),
        },
        futures={
            "future": FutureConfig("video", (4,)),
            "body": FutureConfig("body", (4,)),
            "sensed": FutureConfig("sensed", (4,)),
        },
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={name: RegressorConfig() for name in ("world", "policy", "renderer")},
        factors=(
            Factor(("action",), (), "policy"),
            Factor(("body", "sensed"), ("action",), "world"),
            Factor(("future",), ("body", "sensed"), "renderer"),
        ),
        controller=Chunked(4),
    )


def episodes(root: Path) -> Path:
    """States that the actions push; the place of a thing is minus the state's, its base stays."""
    spec, extras = data_spec(), {"place": ((2, 2), "float32"), "base": ((3,), "float32")}
    rng = np.random.default_rng(0)
    with DatasetWriter(root, spec.observation, spec.action, extras=extras) as writer:
        for i, (length, success) in enumerate(zip(LENGTHS, SUCCESSES, strict=True)):
            action = rng.uniform(-1, 1, (length, 4)).astype(np.float32)
            moved = SPEED * np.cumsum(action, axis=0)
            state = np.concatenate([np.zeros((1, 4)), moved[:-1]]).astype(np.float32)
            base = np.repeat(rng.standard_normal((1, 3)), length, 0).astype(np.float32)
            grey = (np.abs(state[:, :1, None, None]) * 200).clip(0, 255).astype(np.uint8)
            frames = np.broadcast_to(grey, (length, 32, 32, 3)).copy()
            words = replace(MetaWorldConfig(), task=TASKS[i % 2]).phrases()[0]
            sensed = {"place": -state.reshape(-1, 2, 2), "base": base}
            writer.add(Episode({"scene": frames, "gripper": frames}, state, action, words, success, sensed))
    return root


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> TaskFrames:
    root = episodes(tmp_path_factory.mktemp("drift") / "data")
    return TaskFrames(Dataset(root, extras=("place", "base")), MetaWorldConfig(), TASKS)


def world_of(config: DesignConfig, shown: TaskFrames) -> Design:
    torch.manual_seed(0)
    design = Design(config, spec_of(shown.dataset))
    design.fit(shown.dataset, 0)
    return design.eval()


@pytest.fixture(scope="module")
def world(shown: TaskFrames) -> Design:
    return world_of(dynamics(), shown)


def by_step(so_far: Dream) -> Tensor:
    """Rows in the order of the stage: 0 and 1 of the first task rise with the steps, the others stay."""
    slope = torch.tensor([0.1, 0.3, 0.0, 0.02, 0.0, 0.0])
    return 0.05 * (slope == 0) + slope * so_far.steps


def stage_of(
    world: Design, shown: TaskFrames, steps: int, fixed: tuple[str, ...] = ()
) -> tuple[DreamSetup, Executed]:
    plan = DreamPlan((steps,), 0, fixed)
    setup, executed = set_up_dreams(world, shown, None, dict.fromkeys(TASKS, by_step), plan)
    return replace(setup, scorer=by_step), executed


def test_what_cannot_change_stays_and_what_moves_is_imagined(world: Design, shown: TaskFrames) -> None:
    stage, executed = stage_of(world, shown, 3, ("base",))
    assert stage.start.task == tuple(shown.instruction(task) for task in TASKS for _ in range(3))
    assert shown.instruction(TASKS[1]) == replace(MetaWorldConfig(), task=TASKS[1]).phrases()[0]
    whole = stage.dream(executed.replay)
    seen = whole.observation()
    assert torch.equal(seen.extras["base"], stage.start.extras["base"])
    values = world.substrates["sensed"].readings(whole.values("sensed"))  # type: ignore[operator]
    assert torch.equal(seen.extras["place"], values["place"].values)
    assert seen.extras["place"].shape == (6, 1, 2, 2)
    free = stage_of(world, shown, 3)[0].dream(executed.replay).observation()
    assert not torch.equal(free.extras["base"], stage.start.extras["base"])
    with pytest.raises(ConfigError, match=r"\['bass'\] to keep fixed. Did you mean 'base'"):
        dream(world, executed.replay, stage.start, 1, seeds=range(6), fixed=("bass",))


def test_a_sensor_that_is_read_and_not_imagined_is_named(shown: TaskFrames) -> None:
    blind = world_of(dynamics(("place",)), shown)
    stage, executed = stage_of(blind, shown, 2)
    with pytest.raises(ConfigError, match="imagines no sensor 'base'"):
        stage.dream(executed.replay)
    kept, _ = stage_of(blind, shown, 2, ("base",))
    assert kept.dream(executed.replay).steps == 2


def test_one_step_is_measured_beside_what_needs_no_world(world: Design, shown: TaskFrames) -> None:
    found = one_step(stage_of(world, shown, 2)[0], shown)
    assert (found.ticks, found.n) == (4, 8 * 5 + 5)  # the shortest has 5 frames with four ticks after them
    assert max(found.linear) < 1e-5  # the episodes are sums of their actions
    assert all(0.03 < still < 0.2 for still in found.still)
    assert min(found.state) > 0.03  # it was never trained
    assert len(found.sensors["place"]) == 4
    assert found.codec["scene"] > found.psnr["scene"]


def test_drift_is_measured_while_the_episode_lasts(world: Design, shown: TaskFrames) -> None:
    stage, executed = stage_of(world, shown, 15)
    rows = drift_rows(stage, executed, stage.dream(executed.replay))
    assert [row.ticks for row in rows] == list(range(4, 49, 4))  # the longest ends at 49
    ends = [sum(length > ticks for length in LENGTHS) for ticks in range(4, 49, 4)]
    assert [row.n for row in rows] == ends
    assert set(rows[0].psnr) == {"gripper", "scene"}


def test_dreams_of_solved_and_failed_episodes_are_told_apart(world: Design, shown: TaskFrames) -> None:
    stage, executed = stage_of(world, shown, 10)
    whole = stage.dream(executed.replay)
    every, drawer, window = tellings(stage, whole, shown, None)
    # drawer: 30 ticks solved, 9 ticks solved, 17 ticks failed; each is judged up to the step that ends it
    assert (drawer.task, drawer.solved, drawer.failed) == (TASKS[0], 2, 1)
    assert drawer.score_solved == pytest.approx((0.1 * 8 + 0.3 * 3) / 2)
    assert (drawer.score_failed, drawer.auc) == (pytest.approx(0.05), 1.0)
    # window: 30 ticks failed, 50 ticks solved (after the last of ten steps of four), 30 ticks failed
    assert (window.solved, window.failed, window.auc, window.score_solved) == (0, 2, None, None)
    assert window.score_failed == pytest.approx((0.02 * 8 + 0.05) / 2)
    assert (every.solved, every.failed, every.auc) == (2, 3, 1.0)


def test_above() -> None:
    assert roc_auc(np.array([1.0, 2.0]), np.array([0.0, 1.0])) == pytest.approx(3.5 / 4)
