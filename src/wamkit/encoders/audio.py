"""Sound -> tokens of its Mel spectrogram, with a flag for a missing microphone (`oe.body-sensors`, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.body_sensors import sensed
from wamkit.errors import ConfigError
from wamkit.nn.transforms import LogMel


@EncoderConfig.register_subclass("audio")
@dataclass(frozen=True)
class AudioConfig(EncoderConfig):
    """Sound as a log-Mel spectrogram, a token per frame; missing sound is flagged (survey eq. 8).

    Attributes:
        sensor: name of the extra with the waveform up to each step, (samples,) in [-1, 1].
        rate_hz: sampling rate, Hz.
        window: samples per frame.
        hop: samples between frames.
        mels: number of Mel bands.
        dropout: probability that sound is hidden from a training row, so that the microphone may fail when acting.
    """

    sensor: str = "audio"
    rate_hz: float = 16000.0
    window: int = 256
    hop: int = 128
    mels: int = 32
    dropout: float = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> AudioEncoder:
        """Build; raises :class:`ConfigError` when there is no waveform, or it is shorter than a frame."""
        shape = data.extra(self.sensor, "encoder 'audio'")
        mel = LogMel(self.rate_hz, self.window, self.hop, self.mels)
        if len(shape) != 1 or not mel.frames(shape[0]):
            raise ConfigError(
                f"encoder 'audio': {self.sensor!r} has the shape {shape} per step; needed is a waveform of at least "
                f"window = {self.window} samples"
            )
        return AudioEncoder(self, mel, mel.frames(shape[0]), len(window.observation), width)


@final
class AudioEncoder(Encoder):
    """N = steps x frames. All frames of a step whose sound is missing are one learned token each."""

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
        values, gone = sensed(self, self.config.sensor, observation, self.config.dropout)
        tokens = self.embed(self.mel(values.float()) * 2 - 1)
        tokens = torch.where(gone[..., None, None], self.missing, tokens)
        tokens = tokens + self.frame + self.time[-tokens.shape[1] :]
        return tokens.flatten(1, 2), observation.pad.repeat_interleave(len(self.frame), dim=1)
