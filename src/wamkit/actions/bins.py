"""Binned action tokens (`ar.discrete-tokens`): RT-1, RT-2, OpenVLA."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Range, Size
from wamkit.contract.calls import ByColumn
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import ActionConfig, ActionRepresentation
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError
from wamkit.nn.transforms import quantile_range


@ActionConfig.register_subclass("bins")
@dataclass(frozen=True)
class BinsConfig(ActionConfig):
    """Discrete actions: equal bins between the 1 % and 99 % quantiles (RT-1, RT-2, OpenVLA).

    Attributes:
        bins: number of bins per action dimension.
        ticks_per_token: number of control ticks that share one token; must divide the horizon. The mean action over
            these ticks is coded and held.
    """

    bins: Annotated[int, Range(2, 16384)] = 256
    ticks_per_token: Size = 1

    @override
    def build(self, data: DataSpec, horizon: int) -> Bins:
        """Build; raises :class:`ConfigError` when ``ticks_per_token`` does not divide ``horizon``."""
        if horizon % self.ticks_per_token:
            raise ConfigError(
                f"action bins: ticks_per_token {self.ticks_per_token} does not divide the horizon {horizon}"
            )
        return Bins(self, data, horizon)


@final
class Bins(ActionRepresentation, ByColumn):
    """Binned actions: (B, H, A) physical <-> (B, H / ticks_per_token, A) ids, one token per action dimension."""

    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, config: BinsConfig, data: DataSpec, horizon: int) -> None:
        super().__init__()
        self.config = config
        self.horizon = horizon
        self.width = data.action.width
        # Movements within one bin of the whole range are standing still.
        bounds = quantile_range(data.stats, "action", resolution=1 / config.bins)
        low, high = (torch.from_numpy(bound.copy()) for bound in bounds)
        # A dimension without spread gets a narrow range, wide enough to be resolved in float32 at any offset.
        narrow = 1e-6 * low.abs().clamp(min=1.0)
        high = torch.where(high - low < narrow, low + narrow, high)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.register_buffer("least", torch.tensor(data.action.low), persistent=False)
        self.register_buffer("most", torch.tensor(data.action.high), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        p = self.config.ticks_per_token
        return StreamSpec(name, "action", self.horizon // p, self.width, 1, self.config.bins, p)

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Encode (B, H, A) as int64 ids (B, T, A); values outside the quantiles fall into the outer bins."""
        mean = action.unflatten(1, (-1, self.config.ticks_per_token)).mean(dim=2)
        unit = (mean - self.low) / (self.high - self.low)
        return (unit * self.config.bins).floor().long().clamp(0, self.config.bins - 1)

    @override
    def real(self, columns: Tensor) -> Tensor:
        return columns[:, None]

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Decode ids (B, T, A) to bin centres (B, H, A), clipped to the action limits."""
        unit = (values.float() + 0.5) / self.config.bins
        action = (self.low + unit * (self.high - self.low)).clamp(self.least, self.most)
        return action.repeat_interleave(self.config.ticks_per_token, dim=1)
