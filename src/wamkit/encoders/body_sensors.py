"""Body sensors (forces, contacts, poses) -> tokens, with flags for missing readings (`oe.body-sensors`, eq. 8)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Probability, SomeWords
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.errors import ConfigError, SpecError, did_you_mean
from wamkit.nn.named import Named
from wamkit.nn.transforms import Standardizer

FIT_FRAMES = 600
# Values per step that a linear layer embeds; larger extras are pictures and need an encoder of their own.
LARGEST = 64


@EncoderConfig.register_subclass("body_sensors")
@dataclass(frozen=True)
class BodySensorsConfig(EncoderConfig):
    """Force, contact and other sensors, one token per sensor and step; missing ones are flagged (survey eq. 8).

    Attributes:
        sensors: names of the extras to read.
        dropout: probability that one sensor of a training row is masked, so that acting tolerates a failed sensor.
        normalization: normalisation of the readings. ``mean_std`` standardises every entry over the dataset, for poses,
            whose small differences matter; ``none`` keeps physical units, for forces.
    """

    extras: ClassVar[tuple[str, ...]] = ("{sensors}",)
    sensors: SomeWords = ("contact_force",)
    dropout: Probability = 0.0
    normalization: Literal["none", "mean_std"] = "none"

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> BodySensorEncoder:
        """Build; raises :class:`ConfigError` when a sensor is unknown or has more than 64 values per step."""
        sizes = {name: math.prod(data.extra(name, "encoder 'body_sensors'")) for name in self.sensors}
        for name, size in sizes.items():
            if size > LARGEST:
                raise ConfigError(
                    f"encoder 'body_sensors': {name!r} has {size} values per step, more than {LARGEST}. Use an "
                    f"encoder that reads pictures."
                )
        return BodySensorEncoder(self, sizes, len(window.observation), width)


def sensed(encoder: Encoder, name: str, observation: Observation, dropout: float) -> tuple[Tensor, Tensor]:
    """Readings of a sensor and flags for missing ones.

    In training, all steps of a row are masked with probability ``dropout``.

    Returns:
        values (B, T, ...), zero where missing, and flags (B, T) bool, True where missing.

    Raises:
        SpecError: the observation does not have the sensor.
    """
    if name not in observation.extras:
        raise SpecError(
            f"no sensor {name!r} in the observation. {did_you_mean(name, observation.extras)} Keep the buffer of a "
            f"failed sensor and flag it in `missing`."
        )
    values = observation.extras[name]
    missing = observation.missing.get(name, torch.zeros_like(observation.pad))
    if encoder.training and dropout:
        missing = missing | (torch.rand(values.shape[0], 1, device=values.device) < dropout)
    # Zeroed before anything is computed from it: NaN times zero is still NaN.
    mask = missing.reshape(*missing.shape, *[1] * (values.dim() - 2))
    return torch.where(mask, torch.zeros_like(values), values), missing


@final
class BodySensorEncoder(Encoder):
    """Sensor readings as tokens, N = sensors x steps.

    Every value x enters twice: as sign(x) log(1 + |x|), which does not saturate on impacts, and linearly, clamped to
    [-1, 1], or to [-4, 4] where readings are standardised.
    """

    def __init__(self, config: BodySensorsConfig, sizes: dict[str, int], steps: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.extras = tuple(sizes)
        # Modules are numbered in the order of the sensors, because a module's name cannot contain a dot.
        standardised = sizes.values() if config.normalization == "mean_std" else ()
        self.standard = Named({str(i): Standardizer(size) for i, size in enumerate(standardised)})
        self.limit = 4.0 if standardised else 1.0
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
            values, missing = sensed(self, name, observation, self.config.dropout)
            values = values.flatten(2).float()
            if len(self.standard):
                values = self.standard[str(i)](values)
            clamped = values.clamp(-self.limit, self.limit)
            features = torch.cat((values.sign() * values.abs().log1p(), clamped), dim=-1)
            token = torch.where(missing[..., None], self.missing[i], self.embed[i](features))
            tokens.append(token + self.kind[i] + self.time[-values.shape[1] :])
        return torch.cat(tokens, dim=1), observation.pad.repeat(1, len(tokens))

    @override
    @torch.no_grad()
    def fit(self, windows: Windows, seed: int) -> None:
        """Estimate mean and standard deviation of every sensor from frames drawn from the dataset."""
        if not len(self.standard):
            return
        index = np.random.default_rng(seed).permutation(windows.num_frames)[:FIT_FRAMES]
        frames = windows.windows(np.sort(index), WindowSpec(horizon=1)).observation
        for standard, name in zip(self.standard.values(), self.extras, strict=True):
            missing = frames.missing.get(name, torch.zeros_like(frames.pad))
            standard.fit(frames.extras[name].flatten(2).float()[~missing])
