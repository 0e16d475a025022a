"""Tactile pictures -> tokens, with flags for missing ones (`oe.body-sensors`, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Length, Probability, Size, SomeWords
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.body_sensors import sensed
from wamkit.encoders.readout import Keypoints, Stem
from wamkit.errors import ConfigError


@EncoderConfig.register_subclass("tactile_image")
@dataclass(frozen=True)
class TactileImageConfig(EncoderConfig):
    """Tactile pictures (GelSight, Yuan et al. 2017) as keypoints; missing ones are flagged (survey eq. 8).

    Attributes:
        sensors: names of the extras to read, (height, width, 3) per step each, uint8 or float in [0, 1].
        patch: stride of the first convolution in pixels; its kernel is twice as wide.
        channels: output channels of the convolutions.
        keypoints: number of keypoints per sensor.
        tokens: number of tokens per sensor and step.
        dropout: probability that one sensor of a training row is masked, so that acting tolerates a failed sensor.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensor}",)
    sensors: SomeWords = ("tactile",)
    patch: Size = 4
    channels: Annotated[tuple[Size, ...], Length(1)] = (16, 24)
    keypoints: Size = 8
    tokens: Size = 1
    dropout: Probability = 0.0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> TactileImageEncoder:
        """Build; raises :class:`ConfigError` when an extra is not a picture or patches do not tile it."""
        for name in self.sensors:
            shape = data.extra(name, "encoder 'tactile_image'")
            if len(shape) != 3 or shape[2] != 3 or shape[0] % self.patch or shape[1] % self.patch:
                raise ConfigError(
                    f"encoder 'tactile_image': {name!r} has the shape {shape} per step; it must be (height, width, "
                    f"3) with sides that patch = {self.patch} divides"
                )
        return TactileImageEncoder(self, len(window.observation), width)


@final
class TactileImageEncoder(Encoder):
    """Tactile pictures as tokens, N = sensors x steps x tokens."""

    def __init__(self, config: TactileImageConfig, steps: int, width: int) -> None:
        super().__init__()
        self.config, self.extras = config, config.sensors
        count, last = len(config.sensors), config.channels[-1]
        self.stems = nn.ModuleList(Stem(config.patch, config.channels) for _ in config.sensors)
        self.heads = nn.ModuleList(
            Keypoints(last, config.keypoints, config.tokens, width) for _ in config.sensors
        )
        self.missing = nn.Parameter(torch.randn(count, config.tokens, width) * 0.02)
        self.kind = nn.Parameter(torch.randn(count, config.tokens, width) * 0.02)
        self.time = nn.Parameter(torch.randn(steps, 1, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens = []
        for i, name in enumerate(self.extras):
            values, missing = sensed(self, name, observation, self.config.dropout)
            scale = 1.0 if values.is_floating_point() else 255.0
            pictures = (values.float() / scale * 2 - 1).movedim(-1, 2)
            steps = self.heads[i](self.stems[i](pictures.flatten(0, 1))).unflatten(0, pictures.shape[:2])
            steps = torch.where(missing[..., None, None], self.missing[i], steps)
            tokens.append((steps + self.kind[i] + self.time[-steps.shape[1] :]).flatten(1, 2))
        pad = observation.pad.repeat_interleave(self.config.tokens, dim=1).repeat(1, len(tokens))
        return torch.cat(tokens, dim=1), pad
