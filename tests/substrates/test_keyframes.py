"""Keyframes: milestones of recorded tasks, predicted with their progress, and what they cost and keep."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from support import data_spec
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Observation, WindowSpec
from wamkit.controllers import Chunked
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.milestones import milestones
from wamkit.data.spec import data_spec as spec_of
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import PatchPCAConfig, PixelLatentConfig, ProgressConfig, ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

ROBOT = ActionSpec(("dx", "dy", "grip"), (-0.1, -0.1, -1.0), (0.1, 0.1, 1.0), 10.0, gripper="positive_closes")
STATE = ("x", "y", "held", "placed", "from_x", "from_y", "to_x", "to_y")
TAIL = 6  # ticks after the object was put down
PICKED, PLACED, END = 0, 1, 2


class PickAndPlace:
    """B points on a table that pick up things and put them down elsewhere."""

    def __init__(self, rows: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.hand = rng.uniform((0.1, -1.2), (1.2, 1.2), (rows, 2))
        self.source = rng.uniform((-1, -0.5), (-0.5, 0.5), (rows, 2))
        self.target = rng.uniform((0.5, -0.5), (1, 0.5), (rows, 2))
        self.held, self.done = np.zeros(rows, bool), np.zeros(rows, bool)
        self.missed = np.full(rows, np.inf)

    def state(self) -> np.ndarray:
        return np.concatenate(
            (self.hand, self.held[:, None], self.done[:, None], self.source, self.target), 1
        ).astype(np.float32)

    def expert(self) -> np.ndarray:
        """Go there, close; go there, open."""
        goal = np.where(self.held[:, None], self.target, self.source)
        goal = np.where(self.done[:, None], self.hand, goal)
        arrived = np.abs(goal - self.hand).max(axis=1) < 1e-6
        closing = np.where(arrived, ~self.held & ~self.done, self.held)
        return np.concatenate(
            ((goal - self.hand).clip(-0.1, 0.1), closing[:, None] * 2.0 - 1), axis=1
        ).astype(np.float32)

    def step(self, action: np.ndarray) -> None:
        self.hand = self.hand + action[:, :2].clip(-0.1, 0.1)
        near = np.linalg.norm(self.hand - self.source, axis=1) < 0.2
        closing = action[:, 2] > 0
        dropped = self.held & ~closing
        self.missed[dropped] = np.linalg.norm(self.hand - self.target, axis=1)[dropped]
        self.held = closing & (self.held | (near & ~self.done))
        self.done |= dropped


def episode(seed: int) -> Episode:
    world, states, actions, left = PickAndPlace(1, seed), [], [], TAIL
    while left:
        action = world.expert()
        states.append(world.state()[0])
        actions.append(action[0])
        world.step(action)
        left -= int(world.done[0])
    return Episode({}, np.stack(states), np.stack(actions), "put it there")


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("keyframes") / "data"
    with DatasetWriter(out, ObservationSpec({}, STATE, 10.0), ROBOT) as writer:
        for seed in range(80):
            writer.add(episode(seed))
    return out


# -------------------------------------------------------------------------------------------- what counts as one


def test_the_gripper_rests_and_the_end_are_milestones() -> None:
    move, stay = [0.1, 0.0], [0.0, 0.0]
    plan = [(move, -1)] * 8 + [(stay, 1)] * 3 + [(move, 1)] * 8 + [(stay, 1)] * 5 + [(move, 1)] * 4
    action = np.array([[*m, grip] for m, grip in plan])
    assert milestones(action, ROBOT).tolist() == [8, 19, 27]
    absolute = replace(ROBOT, mode="absolute")
    path = np.concatenate((np.cumsum(action[:, :2], axis=0), action[:, 2:]), axis=1)
    assert milestones(path, absolute).tolist() == [8, 19, 27]
    assert milestones(action[:1], ROBOT).tolist() == [0]
    flicker = action.copy()
    flicker[1:8:2, 2] = 1  # a gripper command that flickers counts once per few ticks, not every time
    assert len(milestones(flicker, ROBOT)) <= 5


def test_windows_show_the_milestones_that_are_left(recording: Path) -> None:
    data = Dataset(recording)
    for row in data.episodes[:20]:
        done = data.state[row.start : row.stop]
        found = data.milestones[(data.milestones >= row.start) & (data.milestones < row.stop)] - row.start
        assert len(found) == 3
        np.testing.assert_allclose(done[found[PICKED], :2], done[0, 4:6], atol=0.01)
        np.testing.assert_allclose(done[found[PLACED], :2], done[0, 6:8], atol=0.01)
        assert found[END] == len(row) - 1
        now = row.start + np.array([0, found[PICKED], found[PLACED] - 1, len(row) - 1])
        seen = data.windows(now, WindowSpec(milestones=3)).milestones
        assert seen is not None
        p, q, e = (torch.from_numpy(done[i]) for i in found)
        expected = torch.stack([torch.stack(s) for s in ((p, q, e), (q, e, e), (q, e, e), (e, e, e))])
        assert torch.equal(seen.state, expected)
        assert not seen.pad.any()
    assert data.windows(np.array([0]), WindowSpec()).milestones is None


# ------------------------------------------------------------------------------------------------ closed loop

DENSE = tuple(range(2, 17, 2))


def design_of(future: FutureConfig) -> DesignConfig:
    return DesignConfig(
        horizon=8,
        stride=4,
        width=64,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig(), "progress": ProgressConfig()},
        futures={"frames": future, "when": replace(future, substrate="progress")},
        trunks={"main": TransformerConfig(width=64, depth=1, heads=2)},
        estimators={"planner": RegressorConfig()},
        factors=(Factor(("frames", "when"), (), "planner"),),
        controller=Chunked(4),
    )


@cache
def trained_on(milestones: int, recording: Path) -> Design:
    return trained(design_of(FutureConfig("body", () if milestones else DENSE, milestones)), recording)


def trained(config: DesignConfig, recording: Path, steps: int = 400) -> Design:
    data = Dataset(recording, extras=("episode_clock",))
    torch.manual_seed(0)
    design = Design(config, spec_of(data))
    optimizer = torch.optim.AdamW(design.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        batch = data.windows(rng.integers(0, data.num_frames, 48), design.training_window)
        optimizer.zero_grad()
        design.loss(batch).total.backward()
        optimizer.step()
        schedule.step()
    return design.eval()


def observe(world: PickAndPlace) -> Observation:
    rows = len(world.hand)
    return Observation(
        {}, torch.from_numpy(world.state())[:, None], ("put it there",) * rows, torch.zeros(rows, 1).bool()
    )


def rollout(design: Design, seed: int) -> tuple[bool, int, Tensor]:
    """One new task: whether it succeeded, the frames that were generated for it, and the tags of the first plan.

    The executor visits one predicted frame after the other and holds on where the frame after it holds. It asks for
    a new plan when it has visited all.
    """
    world, stats, frames = PickAndPlace(1, seed), design.data.stats["observation.state"], 0
    tags = None
    for _ in range(6):
        made = design.sample(observe(world), ["frames", "when"], seeds=[0]).values
        tags = made["when"] if tags is None else tags
        states = made["frames"][0, :, 0].numpy() * stats["std"] + stats["mean"]
        frames += len(states)
        for k, state in enumerate(states):
            hold = float(states[min(k + 1, len(states) - 1), 2] > 0.5) * 2 - 1
            for _ in range(30):
                way = state[:2] - world.hand[0]
                arrived = np.abs(way).max() < 0.02
                world.step(np.array([[*way.clip(-0.1, 0.1), hold if arrived else world.held[0] * 2.0 - 1]]))
                if arrived:
                    break
        if world.done[0]:
            break
    assert tags is not None
    return bool(world.missed[0] < 0.2), frames, tags


@pytest.mark.learns
def test_milestones_keep_the_success_of_dense_frames_at_fewer_frames(recording: Path) -> None:
    tasks = range(10_000, 10_040)
    dense = [rollout(trained_on(0, recording), i) for i in tasks]
    sparse = [rollout(trained_on(3, recording), i) for i in tasks]
    won, kept = (float(np.mean([r[0] for r in runs])) for runs in (dense, sparse))
    many, few = (float(np.mean([r[1] for r in runs])) for runs in (dense, sparse))
    assert kept >= 0.9
    assert kept >= won
    assert few < 3.2  # one plan of three frames does the task
    assert many / few > 5
    # As many frames as the task has milestones: the last one is the first whose tag says that all is done.
    share = (torch.cat([tags for *_, tags in sparse])[..., 0, 0] + 1) / 2
    assert (share.diff(dim=1) > 0).float().mean() > 0.95
    assert ((share < 0.96).sum(dim=1) + 1 == 3).float().mean() > 0.9


def test_what_does_not_fit_is_refused(recording: Path) -> None:
    spec = spec_of(Dataset(recording))
    both = design_of(FutureConfig("body", (4,), 2))
    with pytest.raises(ConfigError, match="not both"):
        Design(both, spec)
    with pytest.raises(ConfigError, match="must be ascending and at least 1"):
        Design(design_of(FutureConfig("body")), spec)
    design = Design(design_of(FutureConfig("body", milestones=2)), spec)
    assert design.training_window.milestones == 2
    assert design.training_window.future == ()
    with pytest.raises(ConfigError, match="milestones have no fixed time, so a controller"):
        design.perceived("frames")
    config = recipe("chunk_causal")
    futures = {name: FutureConfig(f.substrate, milestones=1) for name, f in config.futures.items()}
    with pytest.raises(ConfigError, match="an estimator that keeps a past"):
        Design(replace(config, futures=futures), data_spec())


def test_keyframes_are_not_filmed_as_if_they_came_at_a_fixed_time() -> None:
    config = recipe("joint")
    name = next(iter(config.futures))
    config = replace(
        config,
        substrates={config.futures[name].substrate: PixelLatentConfig(PatchPCAConfig(16, 8))},
        futures={name: FutureConfig(config.futures[name].substrate, milestones=2)},
    )
    design = Design(config, data_spec()).eval()
    assert design.window.future == ()
