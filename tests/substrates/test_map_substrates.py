"""Maps and sensors: labels land where they belong, positions come back below a pixel, forces come back exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scenes import ABOVE, ASLANT, SIDE, look, pose, scene_spec
from wamkit.errors import ConfigError
from wamkit.geometry.cameras import project
from wamkit.substrates import (
    ContactConfig,
    DepthMapConfig,
    HeatmapConfig,
    SegmentationConfig,
    WrenchConfig,
)

DATA = scene_spec()
PLATE = pose(0.1, -0.1, 0.2, 0.4)


# ------------------------------------------------------------------------------------------------------ masks


def test_the_mask_covers_the_labelled_object() -> None:
    frame = look([PLATE])
    labels = frame.extras["segmentation.scene"][0, 0]
    fine = SegmentationConfig(grid=SIDE, values="ids").build(DATA)
    assert torch.equal(fine.classes(fine.encode(frame))[0, 0], labels.long())
    coarse = SegmentationConfig(grid=8).build(DATA)
    values = coarse.encode(frame)
    spec = coarse.spec("future", "future", 1)
    assert values.shape == (1, spec.steps, spec.tokens, spec.features) == (1, 1, 8, 40)
    shares = values.view(8, 8, 5)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(8, 8))
    row, column = divmod(int(shares[..., 4].argmax()), 8)
    assert (labels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] == 4).all()
    assert shares[..., 4].sum().item() * 16 == pytest.approx(float((labels == 4).sum()))
    ids = SegmentationConfig(grid=8, values="ids").build(DATA)
    assert ids.spec("future", "future", 1).vocabulary == 5
    assert torch.equal(ids.classes(ids.encode(frame)), coarse.classes(values))


def test_recolouring_and_relighting_leave_masks_unchanged() -> None:
    frame = look([PLATE])
    dark = replace(frame, images={"scene": frame.images["scene"] // 3})
    substrate = SegmentationConfig(grid=8).build(DATA)
    assert torch.equal(substrate.encode(frame), substrate.encode(dark))


def test_depth_maps_come_back_in_metres_and_cut_what_is_out_of_range() -> None:
    frame = look([PLATE], camera=ABOVE)
    substrate = DepthMapConfig(grid=SIDE, near_m=0.5, far_m=1.5).build(DATA)
    values = substrate.encode(frame)
    assert -1 <= values.min() < values.max() <= 1
    torch.testing.assert_close(substrate.metres(values), frame.extras["depth.scene"], atol=1e-5, rtol=0)
    short = DepthMapConfig(grid=8, near_m=0.5, far_m=0.9).build(DATA)
    assert short.metres(short.encode(frame)).max().item() == pytest.approx(0.9, abs=1e-5)
    plate = frame.extras["segmentation.scene"] == 4
    assert values[plate].min() > values[~plate].max()  # nearer is larger


# ---------------------------------------------------------------------------------------------------- heatmap


@settings(max_examples=40, deadline=None)
@given(x=st.floats(2.5, SIDE - 2.5), y=st.floats(2.5, SIDE - 2.5), sigma=st.floats(0.8, 3.0))
def test_a_pixel_position_comes_back_below_a_pixel(x: float, y: float, sigma: float) -> None:
    substrate = HeatmapConfig(grid=16, sigma=sigma).build(DATA)
    place = torch.tensor([[[x, y]]])
    torch.testing.assert_close(substrate.points(substrate.draw(place)), place, atol=0.02, rtol=0)


def test_the_map_peaks_at_the_end_effector() -> None:
    hand = torch.stack((pose(0.12, 0.15, 0.3), pose(-0.2, 0.03, 0.4), pose(0.0, 0.0, 3.0)))
    for camera in (ABOVE, ASLANT):
        substrate = HeatmapConfig(grid=16).build(DATA)
        values = substrate.encode(look([PLATE] * 3, hand, camera))
        assert values.shape == (1, 3, 16, 16)
        pixels, _ = project(hand[:2, None, :3], camera.expand(2, 8), SIDE, SIDE)
        torch.testing.assert_close(substrate.points(values)[0, :2], pixels[:, 0], atol=0.05, rtol=0)
        cell = values[0, :2].flatten(1).argmax(dim=1)
        expected = (pixels[:, 0] / 2).floor().long()
        assert torch.equal(cell, expected[:, 1] * 16 + expected[:, 0])
        assert (values[0, 2] == -1).all()  # behind the camera


# -------------------------------------------------------------------------------------------- contact, force


def test_forces_come_back_exactly_and_impacts_do_not_swamp_them() -> None:
    force = torch.tensor([0.0, 0.3, -2.0, 900.0, -7.0, 0.0, 40.0, 1e-3, 5.0]).view(1, 1, 3, 3)
    frame = replace(look([PLATE]), extras={"contact_force": force})
    substrate = WrenchConfig().build(DATA)
    values = substrate.encode(frame)
    assert values.shape == (1, 1, 1, 9)
    assert values.abs().max() < 7
    torch.testing.assert_close(substrate.newton(values), force, atol=1e-6, rtol=1e-5)
    assert substrate.label() == "Sensor (force)"


def test_two_outcomes_that_look_alike_and_feel_different_are_told_apart() -> None:
    quiet = look([PLATE])
    touch = replace(quiet, extras={**quiet.extras, "contact": torch.tensor([[[1, 0, 0]]], dtype=torch.uint8)})
    assert torch.equal(quiet.images["scene"], touch.images["scene"])
    substrate = ContactConfig().build(DATA)
    assert substrate.encode(quiet).flatten().tolist() == [-1, -1, -1]
    assert substrate.encode(touch).flatten().tolist() == [1, -1, -1]


def test_maps_and_sensors_refuse_what_they_cannot_read() -> None:
    for config in (WrenchConfig(), ContactConfig(), SegmentationConfig(), DepthMapConfig(), HeatmapConfig()):
        with pytest.raises(ConfigError, match="which the dataset does not have"):
            config.build(replace(DATA, extras={}))
    with pytest.raises(ConfigError, match="a grid of 5 does not divide"):
        SegmentationConfig(grid=5).build(DATA)
    for config in (SegmentationConfig("scen"), DepthMapConfig("scen"), HeatmapConfig("scen")):
        with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
            config.build(DATA)
    with pytest.raises(ConfigError, match="near_m < far_m"):
        DepthMapConfig(near_m=2.0, far_m=1.0).build(DATA)
    with pytest.raises(ConfigError, match=r"HeatmapConfig\.sigma: must be at least 0\.5, got 0\.1"):
        HeatmapConfig(sigma=0.1)
    with pytest.raises(ConfigError, match=r"WrenchConfig\.unit_n: must be more than 0, got 0"):
        WrenchConfig(unit_n=0.0)
