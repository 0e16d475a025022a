"""What will be heard and felt, as pictures in a codec's latents (`ps.sensor-latent`, eq. 13)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.protocols import Category, DataSpec, Substrate, SubstrateConfig, Windows
from wamkit.contract.streams import Reading, StreamSpec
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError
from wamkit.nn.transforms import LogMel
from wamkit.substrates.codecs import Codec, CodecConfig, PatchPCAConfig
from wamkit.substrates.pixel_latent import FIT_FRAMES, sample_frames


def check_size(part: str, name: str, height: int, width: int, patch: int) -> None:
    """Raise :class:`ConfigError` when patches do not tile the picture."""
    if height % patch or width % patch:
        raise ConfigError(
            f"{part}: patch {patch} does not divide the {height} x {width} values of {name!r} per step"
        )


def codec_spec(
    codec: Codec, count: int, name: str, role: Literal["future", "goal"], steps: int
) -> StreamSpec:
    """A stream of ``count`` tokens of a codec per step."""
    features = 1 if codec.vocabulary is not None else codec.config.features
    return StreamSpec(name, role, steps, count, features, codec.vocabulary)


@SubstrateConfig.register_subclass("tactile_image")
@dataclass(frozen=True)
class TactileFutureConfig(SubstrateConfig):
    """Future tactile pictures in the latents of a codec that decodes them (survey section 3, sensor).

    Attributes:
        sensor: the extra, (height, width, 3) per step, uint8 or float in [0, 1].
        codec: the codec.
    """

    sensor: str = "tactile"
    codec: CodecConfig = field(default_factory=lambda: PatchPCAConfig(patch=8, features=16))

    @override
    def build(self, data: DataSpec) -> TactileFuture:
        """Build; raises :class:`ConfigError` when the extra is no picture or patches do not tile it."""
        part = "substrate 'tactile_image'"
        shape = data.extra(self.sensor, part)
        if len(shape) != 3 or shape[2] != 3:
            raise ConfigError(
                f"{part}: {self.sensor!r} has the shape {shape} per step; needed is (height, width, 3)"
            )
        check_size(part, self.sensor, shape[0], shape[1], self.codec.patch)
        return TactileFuture(self, shape[0], shape[1])


@final
class TactileFuture(Substrate):
    """(B, T, patches, D) or ids."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "tactile image"

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
        """(B, T, 3, height, width) in [0, 1]."""
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
        """Values -> tactile pictures (B, T, height, width, 3) in [0, 1]."""
        pictures = self.codec.decode(values.flatten(0, 1), self.height, self.width)
        return pictures.unflatten(0, values.shape[:2]).movedim(2, -1)

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {self.config.sensor: Reading("picture", self.felt(values).movedim(-1, 2).clamp(0, 1))}

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the codec on pictures drawn from the dataset."""
        self.codec.fit(self.pictures(sample_frames(windows, FIT_FRAMES, seed))[:, 0], seed)


@SubstrateConfig.register_subclass("audio")
@dataclass(frozen=True)
class AudioFutureConfig(SubstrateConfig):
    """Future sound: its Mel spectrogram in the latents of a codec that decodes it (survey section 3, sensor).

    Attributes:
        sensor: the extra that holds, per step, the waveform in [-1, 1] that ends at the step: (samples,).
        rate_hz: samples per second.
        window: samples of one frame.
        hop: samples from frame to frame.
        mels: Mel bands.
        codec: the codec of spectrograms; its patch divides both frames and bands.
    """

    sensor: str = "audio"
    rate_hz: float = 16000.0
    window: int = 256
    hop: int = 128
    mels: int = 32
    codec: CodecConfig = field(default_factory=lambda: PatchPCAConfig(patch=4, features=8))

    @override
    def build(self, data: DataSpec) -> AudioFuture:
        """Build; raises :class:`ConfigError` when there is no waveform or patches do not tile its spectrogram."""
        part = "substrate 'audio'"
        shape = data.extra(self.sensor, part)
        mel = LogMel(self.rate_hz, self.window, self.hop, self.mels)
        if len(shape) != 1 or not mel.frames(shape[0]):
            raise ConfigError(
                f"{part}: {self.sensor!r} has the shape {shape} per step; needed is a waveform of at least window = "
                f"{self.window} samples"
            )
        check_size(part, self.sensor, mel.frames(shape[0]), self.mels, self.codec.patch)
        return AudioFuture(self, mel, mel.frames(shape[0]))


@final
class AudioFuture(Substrate):
    """(B, T, patches, D) or ids."""

    category: ClassVar[Category] = "sensor"
    variant: ClassVar[str] = "audio"

    def __init__(self, config: AudioFutureConfig, mel: LogMel, frames: int) -> None:
        super().__init__()
        self.config, self.mel, self.frames = config, mel, frames
        self.extras = (config.sensor,)
        self.codec = config.codec.build(channels=1)

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
        """Values -> spectrograms (B, T, frames, mels): 1 is full scale, 0 is -80 dB."""
        pictures = self.codec.decode(values.flatten(0, 1), self.frames, self.config.mels)
        return pictures[:, 0].unflatten(0, values.shape[:2])

    @override
    def readings(self, values: Tensor) -> dict[str, Reading]:
        return {"sound": Reading("quantity", self.level(values) * 80, "dB")}

    @torch.no_grad()
    def heard(self, values: Tensor) -> Tensor:
        """Values -> waveforms (B, T, (frames - 1) * hop + window)."""
        return self.mel.inverse(self.level(values))

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit the codec on sounds drawn from the dataset."""
        heard = sample_frames(windows, FIT_FRAMES, seed).extras[self.config.sensor][:, 0]
        self.codec.fit(self.mel(heard.float())[:, None], seed)
