"""Future touch and sound, as pictures in the latents of a codec (`ps.sensor-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Positive, Size, Word
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Category, Standing, Substrate, SubstrateConfig
from wamkit.contract.streams import Reading, Sensor, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.nn.transforms import LogMel
from wamkit.substrates.codecs import CodecConfig, PatchPCAConfig, check_patch, codec_spec
from wamkit.substrates.views import FIT_FRAMES, sample_frames


@SubstrateConfig.register_subclass("tactile_image")
@dataclass(frozen=True)
class TactileFutureConfig(SubstrateConfig):
    """Future tactile pictures in the latents of a codec that decodes them (survey section 3, sensor).

    Attributes:
        sensor: name of the extra, (height, width, 3) per step, uint8 or float in [0, 1].
        codec: codec of the tactile pictures.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensor}",)
    sensor: Word = "tactile"
    codec: CodecConfig = field(default_factory=lambda: PatchPCAConfig(patch=8, features=16))

    @override
    def build(self, data: DataSpec) -> TactileFuture:
        """Build; raises :class:`ConfigError` when the extra is not a picture or patches do not tile it."""
        part = "substrate 'tactile_image'"
        shape = data.extra(self.sensor, part)
        if len(shape) != 3 or shape[2] != 3:
            raise ConfigError(
                f"{part}: {self.sensor!r} has the shape {shape} per step; it must be (height, width, 3)"
            )
        height, width, _ = shape
        check_patch(self.codec.patch, height, width, f"values of {self.sensor!r} per step", part)
        return TactileFuture(self, height, width)


@final
class TactileFuture(Substrate):
    """Codec latents (B, T, patches, D) of tactile pictures, or ids (B, T, patches)."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "tactile image"
    standing: Standing = "body"

    def __init__(self, config: TactileFutureConfig, height: int, width: int) -> None:
        super().__init__()
        self.config, self.height, self.width = config, height, width
        self.extras = (config.sensor,)
        self.codec = config.codec.build()

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        patch = self.config.codec.patch
        return codec_spec(self.codec, (self.height // patch) * (self.width // patch), name, role, steps)

    def pictures(self, observation: Observation) -> Tensor:
        """Tactile pictures of observations, (B, T, 3, height, width) in [0, 1]."""
        values = observation.extras[self.config.sensor]
        scale = 1.0 if values.is_floating_point() else 255.0
        return (values.float() / scale).movedim(-1, 2)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        pictures = self.pictures(observation)
        return self.codec.encode(pictures.flatten(0, 1)).unflatten(0, pictures.shape[:2])

    @torch.no_grad()
    def felt(self, values: Tensor) -> Tensor:
        """Tactile pictures (B, T, height, width, 3) in [0, 1] decoded from values."""
        pictures = self.codec.decode(values.flatten(0, 1), self.height, self.width)
        return pictures.unflatten(0, values.shape[:2]).movedim(2, -1)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        picture = self.felt(values).movedim(-1, 2).clamp(0, 1)
        return {self.config.sensor: Reading("picture", picture, shows=Sensor(self.config.sensor))}

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the codec to pictures drawn from the dataset."""
        self.codec.fit(self.pictures(sample_frames(windows, FIT_FRAMES, seed))[:, 0], seed)


@SubstrateConfig.register_subclass("audio")
@dataclass(frozen=True)
class AudioFutureConfig(SubstrateConfig):
    """Future sound: its Mel spectrogram in the latents of a codec that decodes it (survey section 3, sensor).

    Attributes:
        sensor: name of the extra with the waveform in [-1, 1] that ends at each step, (samples,) per step.
        rate_hz: sampling rate in samples per second.
        window: length of a frame in samples.
        hop: distance between successive frames in samples.
        mels: number of Mel bands.
        codec: codec of the spectrograms, whose patch must divide frames and bands.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensor}",)
    sensor: Word = "audio"
    rate_hz: Positive = 16000.0
    window: Size = 256
    hop: Size = 128
    mels: Size = 32
    codec: CodecConfig = field(default_factory=lambda: PatchPCAConfig(patch=4, features=8))

    @override
    def build(self, data: DataSpec) -> AudioFuture:
        """Build; raises :class:`ConfigError` without a waveform or if patches do not tile its spectrogram."""
        part = "substrate 'audio'"
        shape = data.extra(self.sensor, part)
        mel = LogMel(self.rate_hz, self.window, self.hop, self.mels)
        if len(shape) != 1 or not mel.frames(shape[0]):
            raise ConfigError(
                f"{part}: {self.sensor!r} has the shape {shape} per step; it must be a waveform of at least "
                f"window = {self.window} samples"
            )
        frames = mel.frames(shape[0])
        check_patch(self.codec.patch, frames, self.mels, f"values of {self.sensor!r} per step", part)
        return AudioFuture(self, mel, frames)


@final
class AudioFuture(Substrate):
    """Codec latents (B, T, patches, D) of Mel spectrograms, or ids (B, T, patches)."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "audio"
    standing: Standing = "body"

    def __init__(self, config: AudioFutureConfig, mel: LogMel, frames: int) -> None:
        super().__init__()
        self.config, self.mel, self.frames = config, mel, frames
        self.extras = (config.sensor,)
        self.codec = config.codec.build(channels=1)

    @override
    def cell(self) -> tuple[tuple[str, str], ...]:
        return (("Audio", "latent"),)

    @override
    def spec(self, name: str, role: Literal["future", "goal"], steps: int) -> StreamSpec:
        patch = self.config.codec.patch
        return codec_spec(self.codec, (self.frames // patch) * (self.config.mels // patch), name, role, steps)

    @override
    @torch.no_grad()
    def encode(self, observation: Observation, now: Observation | None = None) -> Tensor:
        level = self.mel(observation.extras[self.config.sensor].float())
        return self.codec.encode(level.flatten(0, 1)[:, None]).unflatten(0, level.shape[:2])

    @torch.no_grad()
    def level(self, values: Tensor) -> Tensor:
        """Spectrograms (B, T, frames, mels) decoded from values: 1 is full scale, 0 is -80 dB."""
        pictures = self.codec.decode(values.flatten(0, 1), self.frames, self.config.mels)
        return pictures[:, 0].unflatten(0, values.shape[:2])

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"sound": Reading("quantity", self.level(values) * 80, "dB")}

    @torch.no_grad()
    def heard(self, values: Tensor) -> Tensor:
        """Waveforms (B, T, (frames - 1) * hop + window) reconstructed from values."""
        return self.mel.inverse(self.level(values))

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the codec to sounds drawn from the dataset."""
        waveforms = sample_frames(windows, FIT_FRAMES, seed).extras[self.config.sensor][:, 0]
        self.codec.fit(self.mel(waveforms.float())[:, None], seed)
