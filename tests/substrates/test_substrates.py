"""Substrates: codecs project and decode, the teacher is frozen and standardised, no gradient into a target."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import SIZE, ToyWindows, data_spec
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import SubstrateConfig
from wamkit.contract.specs import ObservationSpec
from wamkit.contract.types import WindowSpec
from wamkit.design import Design
from wamkit.errors import ConfigError, DataError
from wamkit.substrates import (
    PatchPCA,
    PatchPCAConfig,
    PatchVQ,
    PatchVQConfig,
    PixelLatent,
    PixelLatentConfig,
    ProprioceptionConfig,
    TeacherFeatureConfig,
)
from wamkit.substrates.teachers import vicreg
from wamkit.training import OptimConfig
from wamkit.zoo import recipe

TOY = ToyWindows(frames=200)
TEACHER = TeacherFeatureConfig(features=8, grid=2, steps=15, batch_size=16)


def images(index: range, camera: str = "scene") -> Tensor:
    return torch.from_numpy(TOY.images[camera][index.start : index.stop : index.step]).float() / 255


def pca(features: int, patch: int = 8) -> PatchPCA:
    codec = PatchPCAConfig(patch, features).build()
    codec.fit(images(range(0, 200, 2)), 0)
    return codec


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * (a - b).square().mean().log10().item()


# ---------------------------------------------------------------------------------------------------- codecs


def test_pca_meets_a_psnr_floor_on_held_out_frames_that_rises_with_features() -> None:
    held_out = images(range(1, 200, 2))
    found = []
    for features in (2, 8, 24):
        codec = pca(features)
        found.append(psnr(codec.decode(codec.encode(held_out), SIZE, SIZE), held_out))
    assert found == sorted(found)
    assert found[0] > 20
    assert found[-1] > 35


def test_pca_with_all_components_is_lossless() -> None:
    codec = pca(features=48, patch=4)
    x = images(range(1, 20))
    torch.testing.assert_close(codec.decode(codec.encode(x), SIZE, SIZE), x, atol=1e-4, rtol=0)


def test_pca_is_a_projection() -> None:
    """decode then encode gives the latents back, so a second round trip changes nothing."""
    codec = pca(8)
    latents = codec.encode(
        images(range(1, 40)) * 0.2 + 0.4
    )  # away from black and white, where decoding clips
    decoded = codec.decode(latents, SIZE, SIZE)
    assert 0 < decoded.min() <= decoded.max() < 1
    torch.testing.assert_close(codec.encode(decoded), latents, atol=1e-3, rtol=0)
    torch.testing.assert_close(codec.decode(codec.encode(decoded), SIZE, SIZE), decoded, atol=1e-4, rtol=0)


def test_pca_is_the_best_linear_code_of_the_frames_it_was_fitted_on() -> None:
    """Its squared error is the sum of the eigenvalues that were left out (Eckart and Young 1936)."""
    codec = pca(8)
    x = images(range(0, 200, 2))
    patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    centred = (patches - patches.mean(dim=0)).flatten(0, 1)
    left_out = torch.linalg.svdvals(centred.double())[8:].square().sum().item()
    residual = centred - codec.encode(x).flatten(0, 1) * codec.scale @ codec.basis
    assert residual.square().sum().item() == pytest.approx(left_out, rel=0.02)
    assert codec.encode(x).square().mean().item() == pytest.approx(1.0, rel=1e-3)


def test_codecs_follow_their_seed() -> None:
    for config in (PatchPCAConfig(8, 4), PatchVQConfig(8, 4, 16)):
        first, second = config.build(), config.build()
        torch.manual_seed(1)
        first.fit(images(range(50)), 7)
        torch.manual_seed(2)
        second.fit(images(range(50)), 7)
        assert torch.equal(first.encode(images(range(5))), second.encode(images(range(5))))


def test_vq_takes_the_nearest_centre() -> None:
    codec = PatchVQConfig(8, 4, 16).build()
    assert isinstance(codec, PatchVQ)
    codec.fit(images(range(100)), 0)
    x = images(range(100, 130))
    ids, latents = codec.encode(x), codec.linear.encode(x)
    assert ids.shape == (30, 16)
    distance = (latents[:, :, None] - codec.centres).square().sum(dim=-1)
    assert torch.equal(ids, distance.argmin(dim=-1))
    assert torch.equal(codec.decode(ids, SIZE, SIZE), codec.linear.decode(codec.centres[ids], SIZE, SIZE))
    grey = codec.decode(ids, SIZE, SIZE)
    assert psnr(grey, x) > psnr(x.mean(dim=0).expand_as(x), x) - 3
    centres = codec.centres[torch.arange(16)][None]
    assert torch.equal(torch.cdist(centres, codec.centres[None]).argmin(dim=-1)[0], torch.arange(16))


def test_codecs_refuse_what_cannot_be_fitted() -> None:
    with pytest.raises(ConfigError, match="13 features, but a patch has only 12 values"):
        PatchPCAConfig(patch=2, features=13).build()
    with pytest.raises(DataError, match=r"20 features need at least as many patches .* 1 images give 16"):
        PatchPCAConfig(8, 20).build().fit(images(range(1)), 0)
    with pytest.raises(DataError, match="64 codes need at least as many patches"):
        PatchVQConfig(8, 4, 64).build().fit(images(range(2)), 0)
    with pytest.raises(ConfigError, match="patch 7 does not divide the image size 32 x 32"):
        PatchPCAConfig(7, 4).build().encode(images(range(1)))


# ---------------------------------------------------------------------------------------------- pixel latent


def build(config: SubstrateConfig, data: DataSpec) -> PixelLatent:
    substrate = config.build(data)
    assert isinstance(substrate, PixelLatent)
    return substrate


def test_pixel_latent_keeps_cameras_apart(data: DataSpec) -> None:
    substrate = build(PixelLatentConfig(PatchPCAConfig(8, 16)), data)
    substrate.fit(TOY, 0)
    frames = TOY.windows(np.array([3, 90]), WindowSpec((-2, 0))).observation
    values = substrate.encode(frames)
    spec = substrate.spec("future", "future", 2)
    assert values.shape == (2, spec.steps, spec.tokens, spec.features) == (2, 2, 32, 16)
    decoded = substrate.decode(values)
    for camera in ("gripper", "scene"):
        assert decoded[camera].dtype == torch.uint8
        error = (decoded[camera].float() - frames.images[camera].float()) / 255
        assert -10 * error.square().mean().log10().item() > 30
    blank = replace(frames, images={**frames.images, "scene": torch.zeros_like(frames.images["scene"])})
    changed = substrate.encode(blank)
    assert torch.equal(changed[:, :, :16], values[:, :, :16])
    assert not torch.equal(changed[:, :, 16:], values[:, :, 16:])


def test_pixel_latent_refuses_at_build(data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="patch 12 does not divide the 32 x 32 pixels of camera 'scene'"):
        PixelLatentConfig(PatchPCAConfig(patch=12), cameras=("scene",)).build(data)
    with pytest.raises(ConfigError, match=r"no camera 'scen'. Did you mean 'scene'"):
        PixelLatentConfig(PatchPCAConfig(8, 4), cameras=("scen",)).build(data)
    blind = replace(data, observation=ObservationSpec({}, data.observation.state, 40.0))
    for config in (PixelLatentConfig(), TEACHER):
        with pytest.raises(ConfigError, match="the dataset has no camera"):
            config.build(blind)


# --------------------------------------------------------------------------------------------------- teacher


def test_teacher_features_are_standardised(data: DataSpec) -> None:
    torch.manual_seed(0)
    substrate = TEACHER.build(data)
    substrate.fit(TOY, 0)
    values = substrate.encode(TOY.windows(np.arange(200), WindowSpec()).observation)
    assert values.shape == (200, 1, 8, 8)
    flat = values.flatten(0, 2)
    assert flat.mean(dim=0).abs().max() < 0.15
    assert (flat.std(dim=0) - 1).abs().max() < 0.15


def test_teacher_does_not_collapse(data: DataSpec) -> None:
    """The deviation of its features over frames stays away from zero (VICReg's variance term)."""
    torch.manual_seed(0)
    substrate = TEACHER.build(data)
    substrate.fit(TOY, 0)
    values = substrate.encode(TOY.windows(np.arange(0, 200, 3), WindowSpec()).observation)
    assert values.std(dim=0).mean() > 0.2


def test_fitting_a_teacher_follows_the_seed(data: DataSpec) -> None:
    fitted = []
    for before in (1, 2):
        torch.manual_seed(0)
        substrate = TEACHER.build(data)
        torch.manual_seed(before)
        substrate.fit(TOY, 5)
        fitted.append(substrate.encode(TOY.windows(np.arange(4), WindowSpec()).observation))
    assert torch.equal(*fitted)


def test_vicreg_closed_forms() -> None:
    z = torch.zeros(6, 4)
    assert vicreg(z, z).item() == pytest.approx(
        2 * 25 * (1 - 1e-4**0.5), rel=1e-4
    )  # collapsed: variance only
    hadamard = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 2
    assert vicreg(hadamard, hadamard).item() == 0  # same views, deviation above one, uncorrelated
    assert vicreg(hadamard, hadamard + 3).item() == pytest.approx(25 * 9, rel=1e-5)  # invariance only


def test_teacher_is_bit_identical_after_the_design_is_trained(data: DataSpec) -> None:
    torch.manual_seed(0)
    config = recipe("post_head")
    design = Design(replace(config, substrates={"teacher": TEACHER}), data)
    design.fit(TOY, 0)
    before = {k: v.clone() for k, v in design.substrates.state_dict().items()}
    others = {k: v.clone() for k, v in design.estimators.state_dict().items()}
    optimizer = OptimConfig(lr=1e-2).build(design.train())
    for _ in range(2):
        loss = design.loss(TOY.windows(np.arange(20, 28), design.training_window)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in design.substrates.state_dict().items())
    assert all(p.grad is None for p in design.substrates.parameters())
    assert any(not torch.equal(v, others[k]) for k, v in design.estimators.state_dict().items())


# ------------------------------------------------------------------------------------------------------- all

EVERY = {
    "pca": PixelLatentConfig(PatchPCAConfig(8, 4)),
    "teacher": TEACHER,
    "proprioception": ProprioceptionConfig(),
}


@pytest.mark.parametrize("name", sorted(EVERY))
def test_a_target_carries_no_gradient_and_matches_its_spec(name: str, data: DataSpec) -> None:
    substrate = EVERY[name].build(data)
    frames = TOY.windows(np.array([50, 60]), WindowSpec((-3, -1, 0))).observation
    for parameter in substrate.parameters():
        parameter.requires_grad_(True)
    values = substrate.encode(replace(frames, state=frames.state.requires_grad_(True)))
    assert not values.requires_grad
    spec = substrate.spec("s", "future", 3)
    assert values.shape == (2, spec.steps, spec.tokens, spec.features)
    assert torch.equal(values, substrate.encode(frames))


def test_labels_and_decoders() -> None:
    data = data_spec()
    labels = {name: config.build(data).label() for name, config in EVERY.items()}
    assert labels == {
        "pca": "Pixel (latent)",
        "teacher": "Feature (teacher)",
        "proprioception": "Sensor (proprioception)",
    }
    blind = ProprioceptionConfig().build(data)
    assert not blind.decodable
    with pytest.raises(NotImplementedError, match="has no decoder"):
        blind.decode(torch.zeros(1, 1, 1, 4))
