"""Augmentation in a run: resumed bit for bit, part of its identity, in training only, refused before any work."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wamkit
from small_runs import same_weights, settings
from support import ToyWindows, data_spec, write_dataset
from wamkit import api
from wamkit.api import PredictConfig
from wamkit.augmentations import PRESETS, Affine, DropCamera, DropInstruction, Noise, Shift, StateNoise
from wamkit.config import parse
from wamkit.contract.augmenting import Draws
from wamkit.contract.types import Budget, WindowSpec
from wamkit.data import Batches, Dataset
from wamkit.design import Design, DesignConfig, from_pretrained
from wamkit.encoders import DepthConfig, GesturesConfig, ImagesConfig, InstructionConfig
from wamkit.errors import ConfigError
from wamkit.evaluation.prediction.quality import PredictionConfig
from wamkit.training import TrainConfig, train
from wamkit.training.augmenting import augmenting, check_augment
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEPS = 6
EVERYTHING = (
    *PRESETS["standard"],
    Shift(),
    Affine(),
    StateNoise(),
    DropCamera(probability=0.5),
    DropInstruction(probability=0.5),
)


def seeing() -> DesignConfig:
    """A joint denoiser of action and pixel latents on a trunk of one layer."""
    config = recipe("joint")
    trunks = {"main": TransformerConfig(width=16, depth=1, heads=2)}
    images = ImagesConfig(channels=(8,), features=4)
    encoders = {"images": images, "instruction": InstructionConfig(hidden=8)}
    return dataclasses.replace(config, width=16, trunks=trunks, encoders=encoders)


def run(root: Path, out: str, **changes: Any) -> TrainConfig:
    return settings(root, out, **{"design": seeing(), "augment": EVERYTHING, "augment_from": 0.0, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("augmenting")
    write_dataset(folder / "data")
    train(run(folder, "whole"), progress=False)
    train(run(folder, "plain", augment=()), progress=False)
    return folder


def test_a_run_that_stopped_goes_on_bit_for_bit(root: Path) -> None:
    """The rest of a run, from the checkpoint in its middle, ends at the same weights and losses."""
    shutil.copytree(root / "whole", root / "again")
    for step in (4, 6):
        shutil.rmtree(root / f"again/checkpoints/step-{step:08d}")
    shutil.rmtree(root / "again/model")
    train(run(root, "again"), progress=False)
    assert same_weights(root / "again/model", root / "whole/model")
    assert (root / "again/log.jsonl").read_text() == (root / "whole/log.jsonl").read_text()


def test_augmentation_changes_what_is_learned_and_nothing_that_is_fitted_before(root: Path) -> None:
    whole, plain = (from_pretrained(root / name / "model") for name in ("whole", "plain"))
    assert not same_weights(root / "whole/model", root / "plain/model")
    codec = {k: v for k, v in whole.substrates.state_dict().items() if v.is_floating_point()}
    assert codec
    for name, value in plain.substrates.state_dict().items():
        assert torch.equal(value, whole.substrates.state_dict()[name]), name


def test_a_run_with_other_augmentations_is_another_run(root: Path) -> None:
    for augment in ((), "standard", (*EVERYTHING[:-1], DropInstruction(probability=0.4)), EVERYTHING[::-1]):
        with pytest.raises(ConfigError, match=r"holds a run with another config.*augment"):
            train(run(root, "whole", augment=augment), progress=False)


def test_the_name_of_a_preset_stands_for_its_operations() -> None:
    named = parse(TrainConfig, ["--augment", "standard"])
    assert named == TrainConfig(augment=PRESETS["standard"])
    listed = parse(TrainConfig, ["--augment", "[{type: shift, pixels: 2}]"])
    assert listed.augment == (Shift(pixels=2),)
    with pytest.raises(ConfigError, match=r"augment: must be one of standard, got the text 'standrd'"):
        parse(TrainConfig, ["--augment", "standrd"])
    with pytest.raises(ConfigError, match=r"augment\.0: no type 'shft'. Did you mean 'shift'"):
        parse(TrainConfig, ["--augment", "[{type: shft}]"])


def test_a_run_of_an_earlier_version_goes_on_without_augmentation(root: Path) -> None:
    shutil.copytree(root / "plain", root / "earlier")
    shutil.rmtree(root / "earlier/model")
    for file in [root / "earlier/config.json", *(root / "earlier").glob("checkpoints/*/run.json")]:
        values = json.loads(file.read_text())
        (values["config"] if file.name == "run.json" else values).pop("augment")
        file.write_text(json.dumps(values))
    folder = root / "earlier/checkpoints/step-00000006"
    before = json.loads((folder / "config.json").read_text())
    before.pop("digests", None)  # the digests know the files as they were
    (folder / "config.json").write_text(json.dumps(before))
    train(run(root, "earlier", augment=()), progress=False)
    assert same_weights(root / "earlier/model", root / "plain/model")


# ------------------------------------------------------------------------------------------- in training only


def test_only_the_batches_of_training_are_augmented(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def black(self: Noise, frames: torch.Tensor, draws: Draws) -> torch.Tensor:
        calls.append(len(frames))
        return torch.zeros_like(frames)

    monkeypatch.setattr(Noise, "pictures", black)
    config = run(root, "counted", augment=(Noise(cameras=("scene",)),))
    model = train(config, progress=False)
    prefetched = 2
    assert STEPS <= len(calls) <= STEPS + prefetched
    calls.clear()
    design, dataset = from_pretrained(model), Dataset(config.dataset)
    batch = dataset.windows(np.array([3, 40]), design.training_window)
    assert batch.observation.images["scene"].any()
    design.loss(batch)
    now = batch.acting(design.window)
    first, _ = design.forecast(now, design.initial_state(2), Budget(), seeds=[1, 2])
    measured = PredictConfig(str(model), config.dataset, root / "predicted", PredictionConfig(windows=2))
    api.predict(measured, progress=False)
    assert not calls
    assert "augment" not in (model / "config.json").read_text()
    # What acts sees the pictures: other pictures, other actions.
    dark = dataclasses.replace(now, images={k: torch.zeros_like(v) for k, v in now.images.items()})
    other, _ = design.forecast(dark, design.initial_state(2), Budget(), seeds=[1, 2])
    assert not torch.equal(first.action, other.action)


def test_nothing_but_training_imports_augmentations() -> None:
    package = Path(wamkit.__file__).parent
    readers = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if "from wamkit.augmentations" in path.read_text()
    }
    assert readers == {"augmentations", "training"}


def test_batches_are_changed_by_seed_step_and_row_in_the_background(root: Path) -> None:
    dataset, window = Dataset(root / "data"), WindowSpec(future=(4,))
    change = augmenting(run(root, "x", seed=3), data_spec())
    with Batches(dataset, window, 8, 3, change=change) as batches:
        first = [next(batches) for _ in range(4)]
    with Batches(dataset, window, 8, 3, start_step=2, prefetch=1, change=change) as batches:
        later = [next(batches) for _ in range(2)]
    for one, other in zip(first[2:], later, strict=True):
        assert torch.equal(one.observation.images["scene"], other.observation.images["scene"])
        assert torch.equal(one.observation.state, other.observation.state)
        assert one.observation.task == other.observation.task
    assert augmenting(run(root, "x", augment=()), data_spec()) is None


def test_windows_are_augmented_from_a_share_of_the_steps_on(root: Path) -> None:
    batch = Dataset(root / "data").windows(np.arange(6), WindowSpec())
    change = augmenting(run(root, "x", augment=(Noise(std=50.0),), augment_from=0.4, steps=10), data_spec())
    assert change is not None
    for step in range(10):
        same = torch.equal(change(batch, step).observation.images["scene"], batch.observation.images["scene"])
        assert same == (step < 4)
    with pytest.raises(ConfigError, match="augment_from"):
        TrainConfig(augment_from=1.0)


def test_a_pixel_target_is_the_transformation_of_the_recorded_future() -> None:
    """The design's own target is made of the augmented future, which a shift moves by whole pixels."""
    toy, data = ToyWindows(), data_spec()
    config = dataclasses.replace(recipe("pixels"), width=16)
    config = dataclasses.replace(config, trunks={n: TransformerConfig(16, 1, 2) for n in config.trunks})
    design = Design(config, data)
    design.fit(toy, 0)
    index = np.arange(20, 100, 10)
    batch = toy.windows(index, design.training_window)
    change = augmenting(TrainConfig(augment=(Shift(pixels=4),), augment_from=0.0, seed=2), data)
    assert change is not None
    changed = change(batch, 5)
    assert batch.future is not None
    assert changed.future is not None
    start = {c: Draws.of(2, 5, range(8)).at(0).at(c).integers("shift", 0, 8, 2) for c in batch.future.images}
    moved = {}
    for camera, images in batch.future.images.items():
        padded = np.pad(images.numpy(), ((0, 0),) * 3 + ((4, 4),) * 2, mode="edge")
        rows = [padded[i, ..., y : y + 32, x : x + 32] for i, (y, x) in enumerate(start[camera].tolist())]
        moved[camera] = torch.from_numpy(np.stack(rows))
        assert torch.equal(changed.future.images[camera], moved[camera])
    by_hand = dataclasses.replace(batch, future=dataclasses.replace(batch.future, images=moved))
    assert torch.equal(design.targets(changed)["future"].values, design.targets(by_hand)["future"].values)


# ------------------------------------------------------------------------------------------------- refused


def with_extras(**encoders: Any) -> Design:
    data = dataclasses.replace(
        data_spec(),
        extras={"depth.scene": (32, 32), "camera.scene": (8,), "gripper_pose": (7,), "gesture": (2, 2)},
    )
    trunks = {"main": TransformerConfig(width=16, depth=1, heads=2)}
    config = dataclasses.replace(recipe("regression"), width=16, trunks=trunks)
    return Design(dataclasses.replace(config, encoders={**config.encoders, **encoders}), data)


def test_a_design_that_reads_the_picture_plane_is_refused() -> None:
    lifted = with_extras(depth=DepthConfig(grid=4))
    with pytest.raises(
        ConfigError, match=r"'affine' moves pixels, but encoder 'depth' reads the extra 'camera.scene'"
    ):
        check_augment((Noise(), Affine()), lifted)
    check_augment((Noise(), Affine(cameras=("gripper",))), lifted)
    clicked = with_extras(points=GesturesConfig(source="clicks"))
    with pytest.raises(
        ConfigError, match=r"'shift' moves pixels, but encoder 'points' reads the extra 'gesture'"
    ):
        check_augment((Shift(),), clicked)


def test_a_run_that_does_not_fit_is_refused_before_it_begins(root: Path) -> None:
    with pytest.raises(ConfigError, match="augment 'shift': no camera 'scen'"):
        train(run(root, "refused", augment=(Shift(cameras=("scen",)),)), progress=False)
    assert not (root / "refused/checkpoints").exists()
