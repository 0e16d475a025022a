"""What an augmentation refuses before work starts, and what it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from support import data_spec
from wamkit.augmentations import (
    Affine,
    Blur,
    Colour,
    Crop,
    DropCamera,
    DropInstruction,
    Noise,
    Paraphrase,
    Shift,
    StateNoise,
)
from wamkit.contract.augmenting import AugmentConfig, Scope
from wamkit.errors import ConfigError

DATA = data_spec()
CAMERA = replace(DATA, extras={"camera.scene": (8,), "depth.scene": (32, 32), "gesture": (2, 2)})


@pytest.mark.parametrize(
    ("operation", "scope", "says"),
    [
        (Shift(cameras=("scen",)), Scope(DATA), "augment 'shift': no camera 'scen'. Did you mean 'scene'"),
        (DropCamera(cameras=("scen",)), Scope(DATA), "augment 'drop_camera': no camera 'scen'"),
        (
            Affine(),
            Scope(CAMERA, {"camera.scene": "encoder 'depth'"}),
            "encoder 'depth' reads the extra 'camera.scene'",
        ),
        (
            Crop(),
            Scope(CAMERA, {"gesture": "e"}, {"gesture": "encoder 'g'"}),
            "encoder 'g' reads the extra 'gesture'",
        ),
        (
            Paraphrase(phrases={"a": ("b",)}),
            Scope(DATA, texts=True),
            "augment 'paraphrase': the design learns to write",
        ),
        (
            DropInstruction(),
            Scope(DATA, texts=True),
            "augment 'drop_instruction': the design learns to write",
        ),
        (Paraphrase(), Scope(DATA), "no paraphrase is declared"),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_refused(operation: AugmentConfig, scope: Scope, says: str) -> None:
    assert says in refusal(lambda: operation.check(scope))


def test_what_fits_is_not_refused() -> None:
    extras = {"camera.scene": "encoder 'depth'", "depth.scene": "encoder 'depth'"}
    assert refusal(lambda: Shift(cameras=("gripper",)).check(Scope(CAMERA, extras))) == ""
    assert refusal(lambda: Shift().check(Scope(CAMERA, {"depth.scene": "substrate 'depth'"}))) == ""
    assert refusal(lambda: Colour().check(Scope(CAMERA, extras))) == ""


def test_one_camera_cannot_be_dropped() -> None:
    cameras = {"scene": DATA.observation.cameras["scene"]}
    single = replace(DATA, observation=replace(DATA.observation, cameras=cameras))
    with pytest.raises(ConfigError, match="has 1 cameras, and one must stay"):
        DropCamera().check(Scope(single))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Shift(pixels=-1), "Shift.pixels: must be at least 0"),
        (lambda: Crop(share=0.0), "Crop.share: must be more than 0"),
        (lambda: Affine(zoom=1.0), "Affine.zoom: must be at least 0 and less than 1"),
        (lambda: Affine(degrees=200.0), "Affine.degrees: must be at least 0 and at most 180"),
        (lambda: Colour(hue=0.7), "Colour.hue: must be at least 0 and at most 0.5"),
        (lambda: Blur(probability=1.5), "Blur.probability: must be at least 0 and at most 1"),
        (lambda: Noise(std=float("nan")), "Noise.std: must be finite"),
        (lambda: Paraphrase(phrases={"a": ()}), "Paraphrase.phrases.a: must not be empty"),
        (lambda: StateNoise(std=-0.1), "StateNoise.std: must be at least 0"),
    ],
)
def test_bad_values_are_refused(make: Callable[[], AugmentConfig], says: str) -> None:
    assert says in refusal(make)


def refusal(work: Callable[[], object]) -> str:
    """Why something is refused; empty where it is not."""
    try:
        work()
    except ConfigError as error:
        return str(error)
    return ""
