"""Continuous action chunks (`ar.continuous-chunk`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import ActionConfig, ActionRepresentation
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError
from wamkit.nn.transforms import Mode, Normalizer


@ActionConfig.register_subclass("chunk")
@dataclass(frozen=True)
class ChunkConfig(ActionConfig):
    """Continuous action chunk: normalised, several ticks per token (action chunking, Zhao et al. 2023).

    Attributes:
        normalization: statistics that normalise actions, such as mean_std.
        ticks_per_token: number of control ticks that share one token; must divide the horizon.
    """

    normalization: Mode = "mean_std"
    ticks_per_token: Size = 1

    @override
    def build(self, data: DataSpec, horizon: int) -> Chunk:
        """Build; raises :class:`ConfigError` when ``ticks_per_token`` does not divide ``horizon``."""
        if horizon % self.ticks_per_token:
            raise ConfigError(
                f"action chunk: ticks_per_token {self.ticks_per_token} does not divide the horizon {horizon}"
            )
        return Chunk(self, data, horizon)


@final
class Chunk(ActionRepresentation, ByColumn):
    """Normalised chunks: (B, H, A) physical <-> (B, H / ticks_per_token, 1, ticks_per_token * A)."""

    low: Tensor
    high: Tensor

    def __init__(self, config: ChunkConfig, data: DataSpec, horizon: int) -> None:
        super().__init__()
        self.config = config
        self.horizon = horizon
        self.width = data.action.width
        self.normalize = Normalizer(data.stats, "action", config.normalization)
        self.register_buffer("low", torch.tensor(data.action.low), persistent=False)
        self.register_buffer("high", torch.tensor(data.action.high), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        p = self.config.ticks_per_token
        return StreamSpec(name, "action", self.horizon // p, 1, p * self.width, ticks_per_step=p)

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Encode (B, H, A) as (B, T, 1, D). H may be any multiple of ``ticks_per_token``."""
        p = self.config.ticks_per_token
        return self.normalize(action).unflatten(1, (-1, p)).flatten(2)[:, :, None]

    @override
    def real(self, columns: Tensor) -> Tensor:
        return columns.repeat(1, self.config.ticks_per_token)[:, None, None]

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Decode (B, T, 1, D) to (B, H, A), clipped to the action limits."""
        action = values.squeeze(2).unflatten(2, (self.config.ticks_per_token, self.width)).flatten(1, 2)
        return self.normalize.inverse(action).clamp(self.low, self.high)
