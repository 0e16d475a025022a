"""Auto-encoders of `diffusers` as codecs: shapes, the model's own statistics, frozen, in the checkpoint."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation
from wamkit.contract.data import DataSpec
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.errors import ConfigError, MissingExtraError
from wamkit.substrates import PixelLatentConfig, PretrainedCodec, PretrainedCodecConfig
from wamkit.zoo import recipe

diffusers = pytest.importorskip("diffusers")
TOY = ToyWindows()
FOUR = {"block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8)}
MEAN, DEVIATION = [0.1, -0.1, 0.2, 0.0], [1.0, 2.0, 0.5, 1.0]
MODELS: dict[str, tuple[Callable[[], Any], int]] = {
    "kl": (
        lambda: diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=4,
            scaling_factor=0.2,
            shift_factor=0.5,
        ),
        2,
    ),
    "wan": (
        lambda: diffusers.AutoencoderKLWan(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            latents_mean=MEAN,
            latents_std=DEVIATION,
        ),
        8,
    ),
    "ltx": (
        lambda: diffusers.AutoencoderKLLTXVideo(
            latent_channels=4,
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
            patch_size=1,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            **FOUR,
        ),
        4,
    ),
    "cosmos": (
        lambda: diffusers.AutoencoderKLCosmos(
            latent_channels=4,
            encoder_block_out_channels=(8, 8, 8, 8),
            decode_block_out_channels=(8, 8, 8, 8),
            attention_resolutions=(8,),
            resolution=64,
            num_layers=1,
            patch_size=2,
            spatial_compression_ratio=4,
            temporal_compression_ratio=4,
            latents_mean=[m for m in MEAN for _ in range(2)],
            latents_std=[d for d in DEVIATION for _ in range(2)],
        ),
        4,
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("codecs")
    for name, (make, _) in MODELS.items():
        torch.manual_seed(1)
        model = make()
        if name == "ltx":  # its statistics lie beside the weights
            model.latents_mean.copy_(torch.tensor(MEAN))
            model.latents_std.copy_(torch.tensor(DEVIATION))
        model.save_pretrained(root / name)
    return root


def own_latent(model: Any, pictures: torch.Tensor) -> torch.Tensor:
    """(M, 4, h, w) as the library itself makes it of stills, not standardised."""
    with torch.no_grad():
        if isinstance(model, diffusers.AutoencoderKL):
            return model.encode(pictures * 2 - 1).latent_dist.mode()
        return model.encode((pictures * 2 - 1)[:, :, None]).latent_dist.mode()[:, :, 0]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_encode_and_decode_are_the_models_own_scaled_by_its_statistics(folder: Path, name: str) -> None:
    config, patch = PretrainedCodecConfig(model=str(folder / name)), MODELS[name][1]
    assert (config.patch, config.features) == (patch, 4)
    codec = config.build()
    pictures = torch.rand(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    codec.fit(pictures, 0)
    latents = codec.encode(pictures)
    assert latents.shape == (3, (32 // patch) * (48 // patch), 4)
    model = type(codec.model).from_pretrained(folder / name, low_cpu_mem_usage=False)  # type: ignore[attr-defined]
    raw = own_latent(model, pictures)
    mean, deviation = (torch.tensor(v).view(4, 1, 1) for v in (MEAN, DEVIATION))
    expected = (raw - 0.5) * 0.2 if name == "kl" else (raw - mean) / deviation
    torch.testing.assert_close(latents, expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    decoded = codec.decode(latents, 32, 48)
    assert decoded.shape == pictures.shape
    with torch.no_grad():
        own = model.decode(raw if name == "kl" else raw[:, :, None]).sample
    own = own if name == "kl" else own[:, :, 0]
    torch.testing.assert_close(decoded, (own / 2 + 0.5).clamp(0, 1), atol=1e-4, rtol=1e-4)
    assert not any(p.requires_grad for p in codec.parameters())
    assert not codec.train().model.training


def latent(folder: Path, name: str = "kl") -> PixelLatentConfig:
    return PixelLatentConfig(PretrainedCodecConfig(model=str(folder / name)))


def test_one_model_serves_all_cameras_and_a_design_trains_through_it(
    folder: Path, tmp_path: Path, data: DataSpec
) -> None:
    mine = tmp_path / "models"
    shutil.copytree(folder, mine)
    torch.manual_seed(0)
    design = Design(replace(recipe("joint"), substrates={"video": latent(mine, "wan")}), data)
    design.fit(TOY, 0)
    video = design.substrates["video"]
    codecs = list(video.codecs.values())  # type: ignore[operator, union-attr]
    assert len(codecs) == 2
    assert codecs[0] is codecs[1]
    assert isinstance(codecs[0], PretrainedCodec)
    before = {k: v.clone() for k, v in design.substrates.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in design.parameters() if p.requires_grad])
    for _ in range(2):
        loss = design.loss(TOY.windows(np.arange(20, 28), design.training_window)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in design.substrates.state_dict().items())
    save_pretrained(design.eval(), tmp_path / "model")
    seen = acting_observation(TOY, [30, 60], design.window)
    expected = design.forecast(seen, design.initial_state(2), Budget(), [1, 2])[0]
    shutil.rmtree(mine)
    again = from_pretrained(tmp_path / "model")
    found = again.forecast(seen, again.initial_state(2), Budget(), [1, 2])[0]
    assert torch.equal(found.action, expected.action)
    frames, known = again.decode_future(found), design.decode_future(expected)
    assert frames is not None
    assert known is not None
    assert frames["scene"].shape == (2, 1, 3, 32, 32)
    assert torch.equal(frames["scene"], known["scene"])


def test_statistics_beside_the_weights_come_back_too(folder: Path, tmp_path: Path, data: DataSpec) -> None:
    mine = tmp_path / "models"
    shutil.copytree(folder, mine)
    config = latent(mine, "ltx")
    substrate = config.build(data)
    seen = TOY.windows(np.array([3, 9]), WindowSpec()).observation
    expected, state = substrate.encode(seen), substrate.state_dict()
    shutil.rmtree(mine)
    again = config.build(data)
    with pytest.raises(ConfigError, match="cannot load the model"):
        again.fit(TOY, 0)
    with pytest.raises(ConfigError, match="cannot load the model"):
        again.encode(seen)
    again.load_state_dict(state)
    assert torch.equal(again.encode(seen), expected)


def test_a_codec_in_a_subfolder_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "kl", tmp_path / "pipeline" / "vae")
    config = PretrainedCodecConfig(model=str(tmp_path / "pipeline"), subfolder="vae")
    pictures = torch.rand(1, 3, 16, 16)
    direct = PretrainedCodecConfig(model=str(folder / "kl")).build()
    assert torch.equal(config.build().encode(pictures), direct.encode(pictures))
    shutil.copytree(folder / "wan", tmp_path / "pipeline" / "video")
    assert replace(config, subfolder="video").patch == 8  # another place is read anew


def test_what_does_not_fit_is_refused(
    folder: Path, tmp_path: Path, data: DataSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"cannot load the model '/nowhere/at/all'"):
        PretrainedCodecConfig(model="/nowhere/at/all")
    with pytest.raises(ConfigError, match="name a `model`"):
        PretrainedCodecConfig().build()
    codec = PretrainedCodecConfig(model=str(folder / "wan"))
    with pytest.raises(ConfigError, match="3 channels, not 4"):
        codec.build(4)
    with pytest.raises(ConfigError, match="cells of 8 pixels do not divide the image size 30 x 32"):
        codec.build().encode(torch.rand(1, 3, 30, 32))
    other = tmp_path / "unet"
    other.mkdir()
    (other / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ConfigError, match="UNet2DModel is not an auto-encoder"):
        PretrainedCodecConfig(model=str(other))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"wamkit\[pretrained\]"):
        codec.build()
