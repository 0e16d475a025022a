"""Decoded pixels, RGB-D and the trained codec: round trips with a floor, shapes, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from scenes import ABOVE, HALF, SIDE, look, pose, scene_spec
from support import ToyWindows, data_spec
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.errors import ConfigError, DataError
from wamkit.geometry.cameras import pixel_centres, unproject
from wamkit.substrates import (
    PatchPCAConfig,
    PatchVQConfig,
    PixelLatentConfig,
    PixelsConfig,
    RGBDConfig,
    VAEConfig,
)

DATA = scene_spec()
TOY = ToyWindows(frames=200)
VAE = VAEConfig(patch=8, features=8, channels=12, steps=150, batch_size=16)


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * (a.float() - b.float()).square().mean().log10().item()


# ----------------------------------------------------------------------------------------------------- pixels


def test_pixels_that_are_not_shrunk_come_back_bit_for_bit() -> None:
    frames = TOY.windows(np.array([3, 50]), WindowSpec((-2, 0))).observation
    substrate = PixelsConfig(shrink=1, patch=8).build(data_spec())
    values = substrate.encode(frames)
    spec = substrate.spec("future", "future", 2)
    assert values.shape == (2, spec.steps, spec.tokens, spec.features) == (2, 2, 32, 192)
    assert -1 <= values.min() < values.max() <= 1
    decoded = substrate.decode(values)
    assert all(torch.equal(decoded[c], frames.images[c]) for c in ("scene", "gripper"))
    assert substrate.label() == "Pixel (decoded)"


def test_shrunken_pixels_are_the_means_of_their_cells() -> None:
    frames = TOY.windows(np.array([3]), WindowSpec()).observation
    decoded = PixelsConfig(("scene",), shrink=4, patch=4).build(data_spec())
    picture = decoded.decode(decoded.encode(frames))["scene"][0, 0]
    cells = frames.images["scene"][0, 0].float().unfold(1, 4, 4).unfold(2, 4, 4).mean(dim=(3, 4))
    assert picture.shape == (3, 32, 32)
    assert (picture[:, ::4, ::4].float() - cells).abs().max() <= 0.5 + 1e-3
    assert torch.equal(picture[:, 1::4, 3::4], picture[:, ::4, ::4])


# ------------------------------------------------------------------------------------------------------- VAE


def images(index: range) -> Tensor:
    return torch.from_numpy(TOY.images["scene"][index.start : index.stop : index.step]).float() / 255


@pytest.mark.learns
def test_the_vae_meets_a_psnr_floor_on_held_out_frames() -> None:
    codec = VAE.build()
    codec.fit(images(range(0, 200, 2)), 0)
    held_out = images(range(1, 200, 2))
    latents = codec.encode(held_out)
    assert latents.shape == (100, 16, 8)
    assert latents.flatten(0, 1).std(dim=0).sub(1).abs().max() < 0.2
    decoded = codec.decode(latents, SIDE, SIDE)
    floor = psnr(images(range(0, 200, 2)).mean(dim=0).expand_as(held_out), held_out)
    assert psnr(decoded, held_out) > floor + 6
    assert psnr(decoded, held_out) > 24
    assert torch.equal(codec.encode(held_out), latents)  # the mean, not a sample
    assert not any(p.requires_grad for p in codec.parameters())
    assert all(p.grad is None for p in codec.parameters())


def test_the_vae_follows_its_seed_whatever_was_drawn_before() -> None:
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        codec = replace(VAE, steps=5).build()
        with torch.no_grad():  # as a substrate calls it
            codec.fit(images(range(50)), 7)
        found.append(codec.encode(images(range(3))))
    assert torch.equal(*found)
    other = replace(VAE, steps=5).build()
    other.fit(images(range(50)), 8)
    assert not torch.equal(other.encode(images(range(3))), found[0])


def test_the_vae_fits_where_a_codec_goes() -> None:
    substrate = PixelLatentConfig(replace(VAE, steps=5), ("scene",)).build(data_spec())
    substrate.fit(TOY, 0)
    frames = TOY.windows(np.array([3, 50]), WindowSpec()).observation
    values = substrate.encode(frames)
    assert values.shape == (2, 1, 16, 8)
    assert substrate.decode(values)["scene"].shape == frames.images["scene"].shape


def test_the_vae_refuses_what_it_cannot_train_on() -> None:
    with pytest.raises(ConfigError, match="patch 12 must be a power of two"):
        replace(VAE, patch=12).build()
    with pytest.raises(ConfigError, match=r"VAEConfig\.steps: must be at least 1, got 0"):
        replace(VAE, steps=0)
    with pytest.raises(DataError, match="at least two pictures"):
        VAE.build().fit(images(range(1)), 0)
    with pytest.raises(ConfigError, match="patch 8 does not divide the image size 20 x 32"):
        VAE.build().encode(torch.zeros(1, 3, 20, 32))


# ----------------------------------------------------------------------------------------------------- RGB-D


class Plates:
    """Frames of a plate that moves a little from one to the next."""

    num_frames = 60

    def observe(self, index: np.ndarray) -> Observation:
        frames = [look([pose(0.004 * i - 0.12, 0.1, 0.2 + 0.002 * i)]) for i in index]
        return Observation(
            images={"scene": torch.cat([f.images["scene"] for f in frames])},
            state=torch.zeros(len(index), 1, 4),
            task=("",) * len(index),
            pad=torch.zeros(len(index), 1, dtype=torch.bool),
            extras={"depth.scene": torch.cat([f.extras["depth.scene"] for f in frames])},
        )

    def windows(self, index: np.ndarray, spec: WindowSpec) -> Batch:
        shape = (len(index), spec.horizon)
        return Batch(self.observe(index), torch.zeros(*shape, 4), torch.zeros(*shape, dtype=torch.bool))


def test_colour_and_depth_come_back_and_the_points_lie_on_the_plate() -> None:
    """The decoded depth, unprojected, is the plate that was put there."""
    substrate = RGBDConfig(codec=PatchPCAConfig(8, 24), near_m=0.5, far_m=1.5).build(DATA)
    substrate.fit(Plates(), 0)
    frame = Plates().observe(np.array([31]))
    values = substrate.encode(frame)
    assert values.shape == (1, 1, 16, 24)
    colour = substrate.decode(values)["scene"].float() / 255
    assert psnr(colour, frame.images["scene"].float() / 255) > 28
    metres = substrate.metres(values)["scene"]
    torch.testing.assert_close(metres, frame.extras["depth.scene"], atol=0.08, rtol=0)
    points = unproject(metres.flatten(), pixel_centres(SIDE, SIDE, metres.device), ABOVE, SIDE, SIDE)
    plate = points[points[:, 2] > 0.2]
    centre = torch.tensor([0.004 * 31 - 0.12, 0.1, 0.262])
    assert (plate.mean(dim=0) - centre).abs().max() < 0.02
    assert (plate[:, :2] - centre[:2]).abs().max() < HALF + 0.04


def test_a_change_of_depth_alone_changes_the_values() -> None:
    assert RGBDConfig(codec=PatchVQConfig(8, 8, 16)).build(DATA).spec("f", "future", 1).vocabulary == 16
    substrate = RGBDConfig(codec=PatchPCAConfig(8, 8)).build(DATA)
    substrate.fit(Plates(), 0)
    frame = Plates().observe(np.array([5]))
    near = replace(frame, extras={"depth.scene": frame.extras["depth.scene"] * 0.3})
    assert not torch.equal(substrate.encode(frame), substrate.encode(near))


def test_pixels_and_rgbd_refuse_at_build() -> None:
    with pytest.raises(ConfigError, match=r"'rgbd' needs the extra 'depth.scene'"):
        RGBDConfig().build(replace(DATA, extras={}))
    with pytest.raises(ConfigError, match="patch 12 does not divide"):
        RGBDConfig(codec=PatchPCAConfig(patch=12)).build(DATA)
    with pytest.raises(ConfigError, match="near_m < far_m"):
        RGBDConfig(near_m=3.0).build(DATA)
    with pytest.raises(ConfigError, match="shrink 3 times patch 4 does not divide"):
        PixelsConfig(shrink=3).build(DATA)
    for config in (PixelsConfig(("scen",)), RGBDConfig(("scen",))):
        with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
            config.build(DATA)
