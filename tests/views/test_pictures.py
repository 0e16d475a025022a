"""Sizes of pictures: closed forms of letterbox, crop and stretch, and means over the covered area."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wamkit.contract.specs import CameraSpec
from wamkit.views import ViewConfig
from wamkit.views.pictures import Sizing

ROUNDING = 1.01  # rows and columns are rounded one after the other


def noise(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
def test_a_whole_fraction_is_the_mean_of_its_pixels(fit: Any) -> None:
    image = noise(48, 64)
    small = Sizing((48, 64), (12, 16), fit).image(image)
    mean = image.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).max() <= ROUNDING


def test_letterbox_puts_the_whole_picture_between_black_bars() -> None:
    small = Sizing((48, 64), (16, 16), "letterbox").image(np.full((48, 64, 3), 200, np.uint8))
    assert not small[:2].any()
    assert not small[14:].any()
    assert (small[2:14] == 200).all()


def test_crop_keeps_the_middle() -> None:
    image = noise(48, 64)
    small = Sizing((48, 64), (24, 24), "crop").image(image)
    middle = image[:, 8:56].reshape(24, 2, 24, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - middle).max() <= ROUNDING


def test_stretch_averages_each_axis_alone() -> None:
    small = Sizing((48, 64), (48, 16), "stretch").image(noise(48, 64))
    assert np.abs(small - noise(48, 64).reshape(48, 16, 4, 3).mean(axis=2)).max() <= ROUNDING


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    fit=st.sampled_from(("letterbox", "crop", "stretch")),
    level=st.integers(0, 255),
)
def test_any_size_is_met_and_a_plain_picture_stays_plain(
    source: tuple[int, int], target: tuple[int, int], fit: Any, level: int
) -> None:
    sizing = Sizing(source, target, fit)
    small = sizing.image(np.full((*source, 3), level, np.uint8))
    assert small.shape == (*target, 3)
    assert small.dtype == np.uint8
    left, upper, right, lower = sizing.place
    assert (small[upper:lower, left:right] == level).all()
    assert 0 <= left < right <= target[1]
    assert 0 <= upper < lower <= target[0]


def test_tensors_and_single_pictures_give_the_same() -> None:
    sizing, images = Sizing((48, 64), (20, 20), "letterbox"), np.stack([noise(48, 64), noise(48, 64)[::-1]])
    tensor = torch.from_numpy(images.copy()).permute(0, 3, 1, 2)[None]
    expected = np.stack([sizing.image(np.ascontiguousarray(image)) for image in images])
    assert np.array_equal(sizing.tensor(tensor)[0].permute(0, 2, 3, 1).numpy(), expected)


def test_only_pictures_above_the_limit_change() -> None:
    config = ViewConfig(most=64)
    assert Sizing.of(config, CameraSpec(64, 48)).same
    assert Sizing.of(config, CameraSpec(480, 640)).target == (64, 64)
    assert Sizing.of(ViewConfig(size=(30, 40)), CameraSpec(480, 640)).target == (30, 40)


def test_pictures_whose_sides_are_no_multiples_change_as_well() -> None:
    config = ViewConfig(most=64, multiple=32)
    for same in ((64, 64), (32, 32), (32, 64)):
        assert Sizing.of(config, CameraSpec(*same)).same
    for odd in ((60, 80), (36, 64), (24, 32), (100, 30), (50, 50), (16, 16), (1, 1)):
        assert Sizing.of(config, CameraSpec(*odd)).target == (64, 64)
    assert Sizing.of(replace(config, size=(48, 48)), CameraSpec(60, 80)).target == (48, 48)
