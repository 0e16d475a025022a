"""Task maps: progress and value of recorded episodes, maps of places, and a map that is predicted for new scenes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes import ABOVE, ASLANT, HALF, SIDE, look, pose, scene_spec
from support import ToyWindows, data_spec, write_dataset
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.streams import RowNoise, Sensor, Target
from wamkit.contract.types import Budget, Observation, WindowSpec
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec as spec_of
from wamkit.encoders import ImagesConfig
from wamkit.errors import ConfigError, DataError
from wamkit.estimators import RegressorConfig
from wamkit.geometry.cameras import project
from wamkit.substrates import (
    HeatmapConfig,
    PixelLatentConfig,
    ProgressConfig,
    ProprioceptionConfig,
    RewardConfig,
    ValueConfig,
)
from wamkit.trunks import TransformerConfig

DATA: DataSpec = replace(scene_spec(), extras={**scene_spec().extras, "episode_clock": (3,)})
WINDOW = WindowSpec(horizon=1, future=(5, 40), goal=True)


def clocked(frame: Observation, clock: list[list[float]]) -> Observation:
    return replace(frame, extras={**frame.extras, "episode_clock": torch.tensor([clock])})


# ------------------------------------------------------------------------------------------ progress and value


def test_progress_and_value_of_a_recording(tmp_path: Path) -> None:
    """Episodes of 30, 31 and 32 frames, all successful; no reader needs more than the recording has."""
    data = Dataset(write_dataset(tmp_path / "d"), extras=("episode_clock",))
    spec = spec_of(Dataset(tmp_path / "d"))
    assert spec.extras == {"episode_clock": (3,), "episode_milestones": (2,)}
    progress, value = ProgressConfig().build(spec), ValueConfig(0.9).build(spec)
    batch = data.windows(np.array([0, 10, 29, 30, 31 + 29]), WINDOW)
    now, goal = batch.observation, batch.goal
    assert batch.future is not None
    assert goal is not None
    done = progress.share(progress.encode(now))[:, 0]
    torch.testing.assert_close(done, torch.tensor([0, 10 / 29, 1, 0, 1]))
    assert torch.equal(progress.encode(goal).flatten(), torch.ones(5))
    later = progress.share(progress.encode(batch.future))
    torch.testing.assert_close(
        later[0], torch.tensor([5 / 29, 1.0])
    )  # outside the episode: what it ended with
    left = torch.tensor([29.0, 19, 0, 30, 0])
    torch.testing.assert_close(value.encode(now).flatten(), 2 * 0.9**left - 1)
    torch.testing.assert_close(value.ticks_left(value.encode(now))[:, 0], left, atol=1e-3, rtol=0)
    assert value.encode(batch.future).shape == (5, 2, 1, 1)
    assert [s.label() for s in (progress, value)] == ["Affordance (progress)", "Affordance (value)"]


def test_a_failed_episode_is_worth_nothing_and_silence_is_not_success(tmp_path: Path) -> None:
    toy, spec = ToyWindows(8), data_spec()
    images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
    with DatasetWriter(tmp_path / "d", spec.observation, spec.action) as writer:
        writer.add(Episode(images, toy.state, toy.action, "push it", success=False))
        writer.add(Episode(images, toy.state, toy.action, "push it"))
    data = Dataset(tmp_path / "d", extras=("episode_clock",))
    seen = data.windows(np.array([7, 15]), WINDOW).observation
    value = ValueConfig().build(DATA)
    assert value.encode(seen).flatten().tolist() == [-1, 1]
    silent = replace(seen, extras={"episode_clock": torch.tensor([[[3.0, 4.0, torch.nan]]])})
    with pytest.raises(DataError, match="does not record for all its episodes"):
        value.encode(silent)
    assert ProgressConfig().build(DATA).encode(silent).item() == pytest.approx(2 * 3 / 7 - 1)


def test_the_value_is_the_discounted_sum_of_the_rewards(tmp_path: Path) -> None:
    toy, spec = ToyWindows(8), data_spec()
    images = {c: np.ascontiguousarray(v.transpose(0, 2, 3, 1)) for c, v in toy.images.items()}
    with DatasetWriter(tmp_path / "d", spec.observation, spec.action) as writer:
        for success in (True, False):
            writer.add(Episode(images, toy.state, toy.action, "push it", success=success))
    data = Dataset(tmp_path / "d", extras=("episode_clock",))
    reward, value = RewardConfig(scale=0.5).build(DATA), ValueConfig(0.9).build(DATA)
    every = data.windows(np.arange(16), WINDOW).observation
    rewards = reward.readings(reward.encode(every))["reward"].values.view(2, 8)
    assert rewards.sum(dim=1).tolist() == [1, 0]
    returns = torch.stack([(rewards[:, t:] * 0.9 ** torch.arange(8 - t)).sum(dim=1) for t in range(8)], dim=1)
    torch.testing.assert_close((value.encode(every).view(2, 8) + 1) / 2, returns)
    assert reward.encode(every).max() == 2


def test_a_reward_may_be_an_extra_of_the_dataset() -> None:
    spec = replace(DATA, extras={**DATA.extras, "reward": (1,), "pose": (7,)})
    reward = RewardConfig(extra="reward").build(spec)
    frame = look([pose(0, 0, 0)])
    seen = replace(frame, extras={"reward": torch.full((1, 1, 1), 0.25)})
    assert reward.encode(seen).tolist() == [[[[0.25]]]]
    reading = reward.readings(reward.encode(seen))["reward"]
    assert reading.shows == Sensor("reward")
    assert torch.equal(reading.values, seen.extras["reward"])
    with pytest.raises(ConfigError, match="a reward is one number"):
        RewardConfig(extra="pose").build(spec)
    with pytest.raises(ConfigError, match="rewrd"):
        RewardConfig(extra="rewrd").build(spec)


def test_scores_and_the_body_are_no_part_of_the_world() -> None:
    standing = {c: c.build(DATA).standing for c in (ProgressConfig(), ValueConfig(), RewardConfig())}
    assert set(standing.values()) == {"score"}
    assert ProprioceptionConfig().build(data_spec()).standing == "body"
    assert PixelLatentConfig().build(data_spec()).standing == "world"


# ------------------------------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("camera", [ABOVE, ASLANT])
def test_the_placement_map_peaks_where_the_object_ends(camera: Tensor) -> None:
    end = pose(-0.12, 0.1, 0.2, 0.3)
    goal = look([end], camera=camera, second=pose(0.2, -0.2, 0.1))
    substrate = HeatmapConfig(where="object").build(DATA)
    values = substrate.encode(goal)
    spec = substrate.spec("goal", "goal", 1)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features)
    pixel, _ = project(end[None, :3], camera, SIDE, SIDE)
    torch.testing.assert_close(substrate.points(values)[0, 0], pixel[0], atol=0.05, rtol=0)
    dark = replace(goal, images={"scene": goal.images["scene"] // 3})
    assert torch.equal(substrate.encode(dark), values)


def test_a_contact_map_is_empty_until_something_is_touched() -> None:
    hand = torch.stack((pose(0.1, 0.1, 0.3), pose(0.1, 0.1, 0.3)))
    frame = look([pose(0.1, 0.1, 0.2)] * 2, hand)
    touch = torch.tensor([[[0, 0, 0], [0, 1, 0]]], dtype=torch.uint8)
    frame = replace(frame, extras={**frame.extras, "contact": touch})
    substrate = HeatmapConfig(where="contact").build(DATA)
    values = substrate.encode(frame)
    assert (values[0, 0] == -1).all()
    pixel, _ = project(hand[:1, :3], ABOVE, SIDE, SIDE)
    torch.testing.assert_close(substrate.points(values)[0, 1], pixel[0], atol=0.05, rtol=0)


def test_a_value_map_is_as_high_as_success_is_near() -> None:
    frame = clocked(look([pose(0.1, 0.1, 0.2)] * 3), [[0, 20, 1], [20, 0, 1], [20, 0, 0]])
    flat = HeatmapConfig(where="object", sigma=3.0).build(DATA)
    worth = HeatmapConfig(where="object", sigma=3.0, discount=0.95).build(DATA)
    plain, values = flat.encode(frame), worth.encode(frame)
    torch.testing.assert_close(values[0, 0] + 1, (plain[0, 0] + 1) * 0.95**20)
    torch.testing.assert_close(values[0, 1], plain[0, 1])
    assert (values[0, 2] == -1).all()
    torch.testing.assert_close(worth.points(values)[0, :2], flat.points(plain)[0, :2], atol=1e-3, rtol=0)


def scenes(rows: int, seed: int) -> Observation:
    """The target plate and a brighter one that is not meant, anywhere on the table."""
    g = torch.Generator().manual_seed(seed)
    frames = []
    while len(frames) < rows:
        x, y, u, v = ((torch.rand(4, generator=g) - 0.5) * 0.7).tolist()
        if max(abs(x - u), abs(y - v)) > 2 * HALF:  # neither hides the other
            frames.append(look([pose(x, y, 0.1)], second=pose(u, v, 0.1)))
    return Observation(
        images={"scene": torch.cat([f.images["scene"] for f in frames])},
        state=torch.zeros(rows, 1, 4),
        task=("",) * rows,
        pad=torch.zeros(rows, 1, dtype=torch.bool),
        extras={k: torch.cat([f.extras[k] for f in frames]) for k in ("object_pose", "camera.scene")},
    )


def test_the_predicted_map_peaks_on_the_labelled_target_in_held_out_scenes() -> None:
    torch.manual_seed(0)
    substrate = HeatmapConfig(grid=8, sigma=1.0, where="object").build(DATA)
    encoder = ImagesConfig(channels=(16, 16), shift=0).build(DATA, WindowSpec(), 32)
    spec = substrate.spec("map", "future", 1)
    model = RegressorConfig().build([spec], [], TransformerConfig(width=32, depth=2, heads=2).build())

    def call(seen: Observation) -> Call:
        tokens, _ = encoder(seen)
        return Call(model.trunk(tokens)[1], {}, (), seen.batch_size)

    known, steps = scenes(256, 0), 200
    parameters = [*encoder.parameters(), *model.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    target = substrate.encode(known)
    for _ in range(steps):
        rows = torch.randint(256, (32,))
        batch = replace(
            known,
            images={"scene": known.images["scene"][rows]},
            state=known.state[rows],
            task=("",) * 32,
            pad=known.pad[rows],
            extras={},
        )
        loss = model.loss(["map"], call(batch), {"map": Target(target[rows], batch.pad)}, None).terms["map"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    new = scenes(100, 1)
    encoder.eval()
    with torch.no_grad():
        made = model.generate(["map"], call(new), Budget(), RowNoise(range(100))).values["map"]
    pixel, _ = project(new.extras["object_pose"][:, 0, :1, :3], ABOVE.expand(100, 8), SIDE, SIDE)
    peak = substrate.points(made)[:, 0]
    off = (peak - pixel[:, 0]).norm(dim=1)
    plate = HALF / 0.9 * SIDE / 2 / np.tan(np.pi / 6)  # half of the plate's side, pixels
    assert (off < plate).float().mean() > 0.9
    # Neither a map that ignores the scene nor the label of another scene comes near.
    elsewhere = (peak - pixel[:, 0].roll(1, 0)).norm(dim=1)
    assert (elsewhere < plate).float().mean() < 0.3
    middle = (pixel[:, 0] - pixel[:, 0].mean(dim=0)).norm(dim=1)
    assert (middle < plate).float().mean() < 0.3
    # A predicted map is a map: as sharp as the label where it is sure, and nowhere far above it.
    label = substrate.encode(new)
    assert (made - label).square().mean() < 0.25 * (label - label.mean(dim=0)).square().mean()


def test_maps_refuse_what_they_cannot_read() -> None:
    for config in (ProgressConfig(), ValueConfig(), HeatmapConfig(discount=0.9)):
        with pytest.raises(ConfigError, match="needs the extra 'episode_clock'"):
            config.build(scene_spec())
    with pytest.raises(
        ConfigError, match=r"ValueConfig\.discount: must be more than 0 and less than 1, got 1\.0"
    ):
        ValueConfig(1.0)
    with pytest.raises(
        ConfigError,
        match=r"HeatmapConfig\.where: must be one of gripper, object, contact, got the text 'hand'",
    ):
        HeatmapConfig(where="hand")  # type: ignore[arg-type]
    for where, extra in (("object", "object_pose"), ("contact", "contact")):
        less = replace(DATA, extras={k: v for k, v in DATA.extras.items() if k != extra})
        with pytest.raises(ConfigError, match=f"needs the extra '{extra}'"):
            HeatmapConfig(where=where).build(less)  # type: ignore[arg-type]
