"""Named sensors (forces, contacts, poses) -> tokens, with flags for missing ones (`oe.body-sensors`, eq. 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.protocols import DataSpec, Encoder, EncoderConfig, Windows
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.nn.named import Named
from wamkit.nn.transforms import Standardizer

FIT_FRAMES = 600
LARGEST = 64  # values per step; a picture is not for a linear layer


@EncoderConfig.register_subclass("body_sensors")
@dataclass(frozen=True)
class BodySensorsConfig(EncoderConfig):
    """Force, contact and other sensors, a token per sensor and step; missing ones are flagged (survey eq. 8).

    Attributes:
        sensors: names of the dataset's extras.
        dropout: probability that a sensor is hidden from a training row, so that it may fail when acting.
        normalization: scaling of the readings. ``mean_std`` standardises every entry over the dataset, for
            poses, whose small differences matter; ``none`` keeps units, for forces.
    """

    sensors: tuple[str, ...] = ("contact_force",)
    dropout: float = 0.0
    normalization: Literal["none", "mean_std"] = "none"

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> BodySensorEncoder:
        """Build; raises :class:`ConfigError` when a sensor is unknown or as large as a picture."""
        if not self.sensors:
            raise ConfigError(f"encoder 'body_sensors': name some `sensors`, of {sorted(data.extras)}")
        sizes = {name: math.prod(data.extra(name, "encoder 'body_sensors'")) for name in self.sensors}
        for name, size in sizes.items():
            if size > LARGEST:
                raise ConfigError(
                    f"encoder 'body_sensors': {name!r} has {size} values per step, more than {LARGEST}. Use an "
                    f"encoder for pictures."
                )
        return BodySensorEncoder(self, sizes, len(window.observation), width)


def sensed(encoder: Encoder, name: str, observation: Observation, dropout: float) -> tuple[Tensor, Tensor]:
    """Readings of a sensor and flags of missing ones.

    Returns:
        values (B, T, ...), zero where they are missing, and flags (B, T) bool. A training row misses the sensor with
        probability ``dropout``.

    Raises:
        SpecError: the observation has no such sensor.
    """
    if name not in observation.extras:
        raise SpecError(
            f"no sensor {name!r} in the observation. {did_you_mean(name, observation.extras)} A sensor that "
            f"failed keeps its buffer and is named in `missing`."
        )
    values = observation.extras[name]
    gone = observation.missing.get(name, torch.zeros_like(observation.pad))
    if encoder.training and dropout:
        gone = gone | (torch.rand(values.shape[0], 1, device=values.device) < dropout)
    # Emptied before anything is computed from it: not a number times zero is still not a number.
    blank = gone.reshape(*gone.shape, *[1] * (values.dim() - 2))
    return torch.where(blank, torch.zeros_like(values), values), gone


@final
class BodySensorEncoder(Encoder):
    """N = sensors x steps. Values enter as sign(x) log(1 + |x|), which no impact saturates, and as they are.

    As they are, they end at 1; standardised ones at 4.
    """

    def __init__(self, config: BodySensorsConfig, sizes: dict[str, int], steps: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.extras = tuple(sizes)
        standardised = config.normalization == "mean_std"
        self.standard = Named(
            {str(i): Standardizer(size) for i, size in enumerate(sizes.values()) if standardised}
        )
        self.limit = 4.0 if standardised else 1.0
        # A name with a dot cannot name a module, so sensors are kept in order.
        self.embed = nn.ModuleList(
            nn.Sequential(nn.Linear(2 * size, width), nn.GELU(), nn.Linear(width, width))
            for size in sizes.values()
        )
        self.missing = nn.Parameter(torch.randn(len(sizes), width) * 0.02)
        self.kind = nn.Parameter(torch.randn(len(sizes), width) * 0.02)
        self.time = nn.Parameter(torch.randn(steps, width) * 0.02)

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        tokens = []
        for i, name in enumerate(self.extras):
            values, gone = sensed(self, name, observation, self.config.dropout)
            values = values.flatten(2).float()
            if len(self.standard):
                values = self.standard[str(i)](values)
            clamped = values.clamp(-self.limit, self.limit)
            features = torch.cat((values.sign() * values.abs().log1p(), clamped), dim=-1)
            token = torch.where(gone[..., None], self.missing[i], self.embed[i](features))
            tokens.append(token + self.kind[i] + self.time[-values.shape[1] :])
        return torch.cat(tokens, dim=1), observation.pad.repeat(1, len(tokens))

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Fit mean and deviation of every sensor to frames drawn from the dataset."""
        if not len(self.standard):
            return
        index = np.random.default_rng(seed).permutation(windows.num_frames)[:FIT_FRAMES]
        frames = windows.windows(np.sort(index), WindowSpec(horizon=1)).observation
        for standard, name in zip(self.standard.values(), self.extras, strict=True):
            gone = frames.missing.get(name, torch.zeros_like(frames.pad))
            standard.fit(frames.extras[name].flatten(2).float()[~gone])
