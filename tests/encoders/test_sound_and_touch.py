"""Sound and tactile pictures: heard in the right band, felt at the right step, and told apart where eyes cannot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, data_spec
from wamkit.contract.protocols import Encoder, EncoderConfig, SubstrateConfig
from wamkit.contract.types import Batch, Observation, WindowSpec
from wamkit.design import Design
from wamkit.encoders import AudioConfig, StateConfig, TactileImageConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.estimators import RegressorConfig
from wamkit.nn.transforms import LogMel, mel_filters
from wamkit.substrates import (
    AudioFuture,
    AudioFutureConfig,
    PatchPCAConfig,
    PixelLatentConfig,
    TactileFuture,
    TactileFutureConfig,
)
from wamkit.trunks import TransformerConfig
from wamkit.zoo.cells import Cell

RATE, SAMPLES = 16000.0, 256 + 7 * 128  # eight frames
DATA = replace(data_spec(), extras={"audio": (SAMPLES,), "tactile": (16, 16, 3), "wide": (16, 12, 4)})
WINDOW = WindowSpec(observation=(-2, 0))
MEL = LogMel(RATE, 256, 128, 32)


def tone(hertz: float | Tensor, samples: int = SAMPLES, amplitude: float = 0.5) -> Tensor:
    """(..., samples)."""
    phase = (
        2 * torch.pi * torch.as_tensor(hertz, dtype=torch.float64)[..., None] * torch.arange(samples) / RATE
    )
    return (amplitude * phase.sin()).float()


def touch(rows: Tensor, columns: Tensor) -> Tensor:
    """A bump on the skin, (..., 16, 16, 3) in [0, 1]."""
    grid = torch.arange(16.0)
    bump = torch.exp(-((grid - rows[..., None]) ** 2) / 8)[..., :, None]
    bump = bump * torch.exp(-((grid - columns[..., None]) ** 2) / 8)[..., None, :]
    return (0.3 + 0.6 * bump)[..., None].expand(*bump.shape, 3).contiguous()


class Senses(ToyWindows):
    """The toy with a sound and a touch per frame that its pictures do not show."""

    def __init__(self, frames: int = 400) -> None:
        super().__init__(frames)
        rng = np.random.default_rng(1)
        self.high = rng.integers(2, size=frames)
        hertz = torch.from_numpy(np.where(self.high, 3000.0, 700.0) * rng.uniform(0.9, 1.1, frames))
        places = torch.from_numpy(rng.uniform(2, 14, (2, frames))).float()
        places[1] = torch.from_numpy(np.where(self.high, 11.0, 4.0))
        self.extras = {"audio": tone(hertz), "tactile": touch(places[0], places[1])}

    def _observe(self, steps: np.ndarray, tasks: tuple[str, ...]) -> Observation:
        inside = torch.from_numpy(steps.clip(0, self.num_frames - 1))
        seen = super()._observe(steps, tasks)
        return replace(seen, extras={name: values[inside] for name, values in self.extras.items()})


SENSES = Senses()


def sense(index: list[int], spec: WindowSpec = WINDOW) -> Observation:
    return SENSES.windows(np.array(index), spec).observation


def build(config: EncoderConfig) -> Encoder:
    torch.manual_seed(0)
    return config.build(DATA, WINDOW, 16).eval()


# ------------------------------------------------------------------------------------------------ spectrogram


def test_the_filters_are_the_textbooks() -> None:
    audio = pytest.importorskip("transformers").audio_utils
    for bins, mels, rate in ((129, 32, 16000), (201, 40, 8000)):
        expected = audio.mel_filter_bank(bins, mels, 0.0, rate / 2, rate, norm=None, mel_scale="htk")
        np.testing.assert_allclose(mel_filters(bins, mels, rate).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("hertz", [400.0, 1000.0, 2500.0, 6000.0])
def test_a_pure_tone_lands_in_its_band_at_its_level(hertz: float) -> None:
    level = MEL(tone(hertz))
    assert level.shape == (8, 32)
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    band = 2595 * np.log10(1 + hertz / 700) / top * 33 - 1  # centres are equally spaced on the Mel scale
    assert (level.argmax(dim=-1) - band).abs().max() <= 0.75
    weaker = MEL(tone(hertz, amplitude=0.05))  # a tenth: 20 dB less
    assert (level.amax(dim=-1) - weaker.amax(dim=-1) - 20 / 80).abs().max() < 0.01
    assert torch.equal(MEL(torch.zeros(SAMPLES)), torch.zeros(8, 32))


def test_a_spectrogram_is_turned_back_into_sound() -> None:
    g = torch.Generator().manual_seed(0)
    ramp = torch.linspace(400, 5000, SAMPLES)
    sweep = (2 * torch.pi * ramp.cumsum(0) / RATE).sin() * 0.4
    for waveform in (tone(1000.0), sweep, 0.1 * torch.randn(SAMPLES, generator=g)):
        level = MEL(waveform)
        again = MEL(MEL.inverse(level))
        audible = level > level.amax() - 30 / 80
        error = 80 * (again - level).abs()[audible].mean()
        print(f"{error:.2f} dB")
        assert error < 3


# --------------------------------------------------------------------------------------------------- encoders

ENCODERS = {
    "audio": (AudioConfig(), 8, "audio"),
    "tactile_image": (TactileImageConfig(tokens=2), 2, "tactile"),
}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_what_is_sensed_shows_at_its_own_step(name: str) -> None:
    config, count, sensor = ENCODERS[name]
    encoder, seen = build(config), sense([50])
    assert encoder.extras == (sensor,)
    before, pad = encoder(seen)
    assert before.shape == (1, 2 * count, 16)
    assert pad.shape == (1, 2 * count)
    values = seen.extras[sensor].clone()
    values[0, 1] = values[0, 1].roll(5, dims=0) * 0.5
    after, _ = encoder(replace(seen, extras={**seen.extras, sensor: values}))
    changed = (before != after).any(dim=-1)[0]
    assert not changed[:count].any()
    assert changed[count:].all()


def test_a_click_shows_within_one_frame() -> None:
    encoder, silent = build(AudioConfig()), torch.zeros(1, 2, SAMPLES)
    click = silent.clone()
    click[0, 1, 700:710] = 0.8
    seen = sense([50])
    before, after = (encoder(replace(seen, extras={"audio": w}))[0] for w in (silent, click))
    changed = (before != after).any(dim=-1)[0].nonzero().flatten() - 8
    assert changed.tolist() == [4, 5]  # the two frames that overlap sample 700


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_garbage_in_a_missing_buffer_changes_nothing(name: str) -> None:
    config, count, sensor = ENCODERS[name]
    encoder, seen = build(config), sense([50])
    gone = {sensor: torch.tensor([[False, True]])}
    found = []
    for garbage in (0.0, 1e30, float("nan"), float("inf")):
        values = seen.extras[sensor].clone()
        values[0, 1] = garbage
        tokens = encoder(replace(seen, extras={**seen.extras, sensor: values}, missing=gone))[0]
        encoder.zero_grad()
        tokens.sum().backward()
        assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
        found.append(tokens.detach())
    assert all(torch.equal(found[0], other) for other in found)
    there = encoder(seen)[0]
    assert torch.equal(there[:, :count], found[0][:, :count])
    assert not torch.allclose(there[:, count:], found[0][:, count:])
    deaf = build(replace(config, dropout=1.0))
    every = replace(seen, missing={sensor: torch.ones(1, 2, dtype=torch.bool)})
    assert torch.equal(deaf.train()(seen)[0], deaf.eval()(every)[0])
    assert not torch.equal(deaf(seen)[0], deaf(every)[0])


def test_bytes_and_floats_are_the_same_picture() -> None:
    encoder, seen = build(TactileImageConfig()), sense([50])
    raw = (seen.extras["tactile"] * 255).round()
    tokens = [
        encoder(replace(seen, extras={"tactile": values}))[0] for values in (raw.to(torch.uint8), raw / 255)
    ]
    torch.testing.assert_close(tokens[0], tokens[1])


# ------------------------------------------------------------------------------------------------- substrates

AUDIO, TACTILE = AudioFutureConfig(), TactileFutureConfig(codec=PatchPCAConfig(patch=8, features=12))


def test_sound_comes_back() -> None:
    substrate = AUDIO.build(DATA)
    assert isinstance(substrate, AudioFuture)
    substrate.fit(SENSES, 0)
    seen = sense(list(range(0, 60, 3)), WindowSpec())
    values = substrate.encode(seen)
    spec = substrate.spec("future", "future", 1)
    assert values.shape == (20, 1, spec.tokens, spec.features) == (20, 1, 16, 8)
    level = MEL(seen.extras["audio"])
    assert 80 * (substrate.level(values) - level).abs().mean() < 2  # dB
    heard = MEL(substrate.heard(values))
    audible = level > level.amax() - 30 / 80
    error = 80 * (heard - level).abs()[audible].mean()
    print(f"heard again: {error:.2f} dB")
    assert error < 4
    assert torch.equal(heard.mean(dim=2).argmax(dim=-1), level.mean(dim=2).argmax(dim=-1))


def test_touch_comes_back() -> None:
    substrate = TACTILE.build(DATA)
    assert isinstance(substrate, TactileFuture)
    substrate.fit(SENSES, 0)
    seen = sense(list(range(0, 60, 3)), WindowSpec())
    values = substrate.encode(seen)
    assert values.shape == (20, 1, 4, 12)
    felt = substrate.felt(values)
    psnr = -10 * (felt - seen.extras["tactile"]).square().mean().log10()
    print(f"felt again: {psnr:.1f} dB")
    assert psnr > 30
    assert torch.equal(substrate.encode(replace(seen, images={})), values)


def outcomes(index: np.ndarray, spec: WindowSpec) -> Batch:
    """What is right to do depends on what is heard and felt next, which no picture tells."""
    batch = SENSES.windows(index, spec)
    later = (index + spec.future[0]).clip(0, SENSES.num_frames - 1)
    side = torch.from_numpy(2.0 * SENSES.high[later] - 1).float()
    action = torch.zeros_like(batch.action)
    action[..., 0] = 0.7 * side[:, None]
    return replace(batch, action=action)


def rightness(substrate: SubstrateConfig) -> tuple[float, Tensor]:
    """Share of held-out outcomes that a trained policy answers rightly, and its actions."""
    torch.manual_seed(0)
    trunk = TransformerConfig(width=32, depth=2, heads=2)
    cell = Cell(substrate, "post_head", RegressorConfig(), trunk=trunk, encoders={"state": StateConfig()})
    design = Design(replace(cell.design(), width=32), DATA)
    design.fit(SENSES, 0)
    optimizer = torch.optim.AdamW([p for p in design.train().parameters() if p.requires_grad], lr=2e-3)
    rng = np.random.default_rng(0)
    for _ in range(80):
        loss = design.loss(outcomes(rng.integers(280, size=32), design.training_window)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    design.eval()
    batch = outcomes(np.arange(300, 390), design.training_window)
    future = design.targets(batch)["future"].values
    found = design.sample(batch.observation, ["action"], given={"future": future}, seeds=range(90))
    decided = design.action.decode(found.values["action"])[:, :, 0].mean(dim=1)
    return float((decided.sign() == batch.action[:, 0, 0].sign()).float().mean()), decided


@pytest.mark.learns
def test_outcomes_that_look_alike_are_told_apart_by_sound_and_by_touch() -> None:
    shares = {
        name: rightness(config)[0]
        for name, config in {
            "audio": AUDIO,
            "tactile": TACTILE,
            "vision": PixelLatentConfig(PatchPCAConfig(patch=16, features=8)),
        }.items()
    }
    print(shares)
    assert shares["audio"] > 0.97
    assert shares["tactile"] > 0.97
    assert shares["vision"] < 0.7


# ----------------------------------------------------------------------------------------------------- errors


def test_what_cannot_be_heard_or_felt_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"needs the extra 'audo'"):
        build(AudioConfig("audo"))
    with pytest.raises(ConfigError, match=r"'tactile' has the shape \(16, 16, 3\)"):
        build(AudioConfig("tactile"))
    with pytest.raises(ConfigError, match="at least window = 4096 samples"):
        build(AudioConfig(window=4096))
    with pytest.raises(ConfigError, match=r"'wide' has the shape \(16, 12, 4\)"):
        build(TactileImageConfig(("wide",)))
    with pytest.raises(ConfigError, match="patch = 5 divides"):
        build(TactileImageConfig(patch=5))
    with pytest.raises(ConfigError, match="sensors: must not be empty"):
        build(TactileImageConfig(()))
    with pytest.raises(SpecError, match=r"no sensor 'audio' in the observation"):
        build(AudioConfig())(replace(sense([50]), extras={}))
    with pytest.raises(ConfigError, match=r"patch 5 does not divide the 8 x 32 values of 'audio'"):
        replace(AUDIO, codec=PatchPCAConfig(5, 4)).build(DATA)
    with pytest.raises(ConfigError, match=r"patch 5 does not divide the 16 x 16 values of 'tactile'"):
        replace(TACTILE, codec=PatchPCAConfig(5, 4)).build(DATA)
    for config in (replace(AUDIO, sensor="tactile"), replace(TACTILE, sensor="audio")):
        with pytest.raises(ConfigError, match="has the shape"):
            config.build(DATA)
