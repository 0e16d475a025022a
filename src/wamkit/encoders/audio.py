"""Audio: waveform -> tokens of its log-Mel spectrogram, with a flag for missing sound (`oe.body-sensors`, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Positive, Probability, Size, Word
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.body_sensors import sensed
from wamkit.errors import ConfigError
from wamkit.nn.transforms import LogMel


@EncoderConfig.register_subclass("audio")
@dataclass(frozen=True)
class AudioConfig(EncoderConfig):
    """Log-Mel spectrogram of a microphone, one token per frame; missing sound is flagged (survey eq. 8).

    Attributes:
        sensor: name of the extra with the waveform. Per step it holds (samples,) in [-1, 1], ending at that step.
        rate_hz: sampling rate in Hz.
        window: length of a spectrogram frame, in samples.
        hop: distance between the starts of consecutive frames, in samples.
        mels: number of Mel bands.
        dropout: probability that the sound of a training row is masked, so that acting tolerates a failed microphone.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensor}",)
    sensor: Word = "audio"
    rate_hz: Positive = 16000.0
    window: Size = 256
    hop: Size = 128
    mels: Size = 32
    dropout: Probability = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> AudioEncoder:
        """Build; raises :class:`ConfigError` when the extra is not a waveform or is shorter than one frame."""
        shape = data.extra(self.sensor, "encoder 'audio'")
        mel = LogMel(self.rate_hz, self.window, self.hop, self.mels)
        if len(shape) != 1 or not mel.frames(shape[0]):
            raise ConfigError(
                f"encoder 'audio': {self.sensor!r} has the shape {shape} per step; it must be a waveform of at least "
                f"window = {self.window} samples"
            )
        return AudioEncoder(self, mel, mel.frames(shape[0]), len(window.observation), width)


@final
class AudioEncoder(Encoder):
    """Spectrogram frames as tokens, N = steps x frames; frames of missing sound become one shared learned vector."""

    def __init__(self, config: AudioConfig, mel: LogMel, frames: int, steps: int, width: int) -> None:
        super().__init__()
        self.config, self.mel = config, mel
        self.extras = (config.sensor,)
        self.embed = nn.Sequential(nn.Linear(config.mels, width), nn.GELU(), nn.Linear(width, width))
        self.missing = nn.Parameter(torch.randn(width) * 0.02)
        self.frame = nn.Parameter(torch.randn(frames, width) * 0.02)
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        values, missing = sensed(self, self.config.sensor, observation, self.config.dropout)
        tokens = self.embed(self.mel(values.float()) * 2 - 1)
        tokens = torch.where(missing[..., None, None], self.missing, tokens)
        tokens = tokens + self.frame + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(len(self.frame), dim=1)
