"""Teachers: several in one stream, pretrained ones frozen to the bit, worth predicting, blind to what they ignore."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from support import ToyWindows, acting_observation
from tiny_models import transformers, vision_model
from wamkit.config import decode, encode
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design, DesignConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import ImagesConfig, StateConfig
from wamkit.errors import ConfigError
from wamkit.estimators import RegressorConfig
from wamkit.substrates import (
    PretrainedTeacher,
    PretrainedTeacherConfig,
    SelfTrainedConfig,
    TeacherConfig,
    TeacherFeature,
    TeacherFeatureConfig,
)
from wamkit.trunks import TransformerConfig
from wamkit.zoo.cells import Cell

TOY = ToyWindows()
SELF = SelfTrainedConfig(steps=15, batch_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("teachers")
    for family in ("dinov2", "siglip", "vjepa2"):
        vision_model(root / family, family)
    return root


def features(folder: Path, *families: str, own: bool = False) -> TeacherFeatureConfig:
    teachers: dict[str, TeacherConfig] = {"own": SELF} if own else {}
    teachers |= {family: PretrainedTeacherConfig(str(folder / family)) for family in families}
    return TeacherFeatureConfig(features=6, grid=2, teachers=teachers)


def build(config: TeacherFeatureConfig, data: DataSpec) -> TeacherFeature:
    torch.manual_seed(0)
    return config.build(data)


def test_every_teacher_is_projected_and_standardised_on_its_own(folder: Path, data: DataSpec) -> None:
    substrate = build(features(folder, "dinov2", "siglip", "vjepa2", own=True), data)
    assert substrate.spec("future", "future", 2).tokens == 2 * 4 * 4  # views x teachers x cells
    substrate.fit(TOY, 0)
    values = substrate.encode(TOY.windows(np.arange(200), WindowSpec()).observation)
    assert values.shape == (200, 1, 32, 6)
    for teacher in values.unflatten(2, (2, 4, 4)).unbind(dim=3):
        flat = teacher.flatten(0, 3)
        assert flat.mean(dim=0).abs().max() < 0.2
        assert (flat.std(dim=0) - 1).abs().max() < 0.2
    alone = build(features(folder, own=True), data)
    alone.fit(TOY, 0)
    first = alone.encode(TOY.windows(np.arange(200), WindowSpec()).observation)
    found = values.unflatten(2, (2, 4, 4))[:, :, :, 0].flatten(2, 3)
    assert F.cosine_similarity(found, first, dim=-1).mean() > 0.99  # others do not disturb it


def test_the_projection_is_the_best_linear_one(folder: Path, data: DataSpec) -> None:
    substrate = build(features(folder, "dinov2"), data)
    teacher = substrate.teacher
    assert isinstance(teacher, PretrainedTeacher)
    before = {k: v.clone() for k, v in teacher.model.state_dict().items()}
    substrate.fit(TOY, 0)
    assert all(torch.equal(v, before[k]) for k, v in teacher.model.state_dict().items())
    torch.testing.assert_close(teacher.basis @ teacher.basis.T, torch.eye(6), atol=1e-5, rtol=0)
    images = TOY.windows(np.arange(0, 400, 2), WindowSpec()).observation.images
    seen = torch.cat([teacher.model(images[c][:, 0]) for c in substrate.cameras]).flatten(0, 1)
    centred = seen - seen.mean(dim=0)
    best = torch.linalg.svdvals(centred)[:6].square().sum()
    assert (centred @ teacher.basis.T).square().sum() > 0.98 * best
    own = transformers.AutoModel.from_pretrained(folder / "dinov2").state_dict()
    assert all(torch.equal(v, own[k]) for k, v in teacher.model.host.model.state_dict().items())


def post_head(config: TeacherFeatureConfig, images: bool = True) -> DesignConfig:
    seen = {"images": ImagesConfig(channels=(16, 16), features=8, shift=0)} if images else {}
    trunk = TransformerConfig(width=48, depth=2, heads=2)
    cell = Cell(
        config, "post_head", RegressorConfig(), trunk=trunk, encoders={**seen, "state": StateConfig()}
    )
    return replace(cell.design(), width=48)


def train(design: Design, steps: int) -> None:
    """On frames that end before those that the tests look at."""
    optimizer = torch.optim.AdamW([p for p in design.train().parameters() if p.requires_grad], lr=3e-3)
    rng = np.random.default_rng(0)
    for _ in range(steps):
        index = rng.integers(8, 300, size=32)
        loss = design.loss(TOY.windows(index, design.training_window)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    design.eval()


@pytest.mark.learns
def test_a_prediction_beats_the_current_frame_and_no_teacher_has_moved(folder: Path, data: DataSpec) -> None:
    torch.manual_seed(0)
    design = Design(post_head(features(folder, "dinov2", own=True)), data)
    design.fit(TOY, 0)
    before = {k: v.clone() for k, v in design.substrates.state_dict().items()}
    train(design, 150)
    assert all(torch.equal(v, before[k]) for k, v in design.substrates.state_dict().items())
    assert all(p.grad is None for p in design.substrates.parameters())
    batch = TOY.windows(np.arange(310, 380), design.training_window)
    substrate = design.substrates["substrate"]
    now = substrate.encode(batch.observation)  # type: ignore[operator]
    later = design.targets(batch)["future"].values
    found = design.sample(batch.observation, ["future"], seeds=range(70)).values["future"]
    for teacher in range(2):
        near, far, guess = (v.unflatten(2, (2, 2, 4))[:, :, :, teacher] for v in (now, later, found))
        copy = F.cosine_similarity(near, far, dim=-1).mean()
        predicted = F.cosine_similarity(guess, far, dim=-1).mean()
        print(f"teacher {teacher}: cosine {predicted:.3f}, of the current frame {copy:.3f}")
        assert predicted > copy + 0.01


def test_what_the_teacher_does_not_see_does_not_change_the_action(folder: Path, data: DataSpec) -> None:
    """A texture that is gone after the teacher's resize; the action is read off the future alone."""
    torch.manual_seed(0)
    design = Design(post_head(features(folder, "dinov2"), images=False), data)
    design.fit(TOY, 0)
    train(design, 60)
    frames = TOY.windows(np.arange(310, 330), WindowSpec()).observation
    middle = {c: v.clamp(20, 235) for c, v in frames.images.items()}
    # Halving with antialiasing weighs pixels 1 : 3 : 3 : 1, which this texture is orthogonal to wherever it is put.
    texture = torch.zeros(32, dtype=torch.int64)
    texture[5:25] = torch.tensor([1, -3, 3, -1] * 5)
    fine, coarse = 2 * texture[:, None] * texture, torch.zeros(32, 32, dtype=torch.int64)
    coarse[6:26, 6:16] = 15

    def act(change: torch.Tensor) -> torch.Tensor:
        images = {c: (v.long() + change).to(torch.uint8) for c, v in middle.items()}
        future = design.substrates["substrate"].encode(replace(frames, images=images))  # type: ignore[operator]
        given = {"future": future}
        return design.sample(frames, ["action"], given=given, seeds=range(20)).values["action"]

    plain = act(torch.zeros_like(fine))
    torch.testing.assert_close(act(fine), plain, atol=1e-3, rtol=0)
    assert (act(coarse) - plain).abs().max() > 0.02  # as strong a change that it does see


def test_teachers_travel_with_the_checkpoint(folder: Path, tmp_path: Path, data: DataSpec) -> None:
    mine = tmp_path / "models"
    shutil.copytree(folder, mine)
    config = features(mine, "siglip", own=True)
    assert decode(TeacherFeatureConfig, encode(config), "here") == config
    design = Design(post_head(config), data).eval()
    design.fit(TOY, 0)
    save_pretrained(design, tmp_path / "model")
    seen = acting_observation(TOY, [30, 60], design.window)
    expected = design.forecast(seen, design.initial_state(2), Budget(), [1, 2])[0]
    target = design.substrates["substrate"].encode(seen)  # type: ignore[operator]
    shutil.rmtree(mine)
    again = from_pretrained(tmp_path / "model")
    found = again.forecast(seen, again.initial_state(2), Budget(), [1, 2])[0]
    assert torch.equal(found.action, expected.action)
    assert torch.equal(again.substrates["substrate"].encode(seen), target)  # type: ignore[operator]


def test_a_teacher_that_does_not_fit_is_refused(folder: Path, data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="16 features, fewer than features = 20"):
        replace(features(folder, "dinov2"), features=20).build(data)
    with pytest.raises(ConfigError, match=r"cannot load the model '/nowhere/at/all'"):
        PretrainedTeacherConfig("/nowhere/at/all")
    with pytest.raises(ConfigError, match="name a `model`"):
        TeacherFeatureConfig(teachers={"dino": PretrainedTeacherConfig()}).build(data)
