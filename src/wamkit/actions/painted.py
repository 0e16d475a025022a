"""Actions painted as heatmaps and read off their peaks (`ar.motion-recovery`; ActionImages, MV-VDP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Range, Size
from wamkit.contract.calls import ByColumn, ByLimits
from wamkit.contract.protocols import ActionConfig, ActionRepresentation, DataSpec
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError
from wamkit.nn.spots import draw_spots, spot_centres

MARGIN = (
    1.5  # cells between a limit of the action and the border, so that a peak has neighbours on both sides
)


@ActionConfig.register_subclass("painted")
@dataclass(frozen=True)
class PaintedConfig(ActionConfig):
    """Action as pictures: its entries are places on small maps, read off the peaks (ActionImages, MV-VDP, 2026).

    The first three entries are seen from three sides, as places (1, 2), (1, 3) and (2, 3) on a map each; every further
    entry is a place on the diagonal of a map of its own. An entry that is on two maps is their mean.

    Attributes:
        grid: rows and columns of a map.
        sigma: standard deviation of a spot, cells.
        channels: maps per token, side by side as the colours of one picture: with 3, a token has the layout of a patch
            of an RGB frame, and an action is a few more patches of the video.
        ticks_per_token: control ticks per step of the stream; must divide the horizon. Every tick keeps its own maps.
    """

    grid: Annotated[int, Range(6, 1024)] = 8
    sigma: Annotated[float, Range(0.5)] = 1.0
    channels: Size = 1
    ticks_per_token: Size = 1

    @override
    def build(self, data: DataSpec, horizon: int) -> Painted:
        """Build; raises :class:`ConfigError` when ``ticks_per_token`` does not divide ``horizon``."""
        if horizon % self.ticks_per_token:
            raise ConfigError(
                f"painted action: ticks_per_token {self.ticks_per_token} does not divide the horizon {horizon}"
            )
        return Painted(self, data, horizon)


def planes_of(width: int) -> tuple[tuple[int, int], ...]:
    """Entries (x, y) of every map of an action of ``width`` entries."""
    sides = ((0, 1), (0, 2), (1, 2)) if width >= 3 else ()
    return (*sides, *((i, i) for i in range(3 if sides else 0, width)))


@final
class Painted(ActionRepresentation, ByColumn, ByLimits):
    """Maps in [-1, 1]: (B, H, A) physical <-> (B, H / ticks, ticks * tokens, channels * grid * grid).

    A tick has as many tokens as its maps need. Channels that no map fills are -1 and are not read.
    """

    low: Tensor
    high: Tensor

    def __init__(self, config: PaintedConfig, data: DataSpec, horizon: int) -> None:
        super().__init__()
        self.config, self.horizon = config, horizon
        self.planes = planes_of(data.action.width)
        self.tokens = -(-len(self.planes) // config.channels)
        self.register_buffer("low", torch.tensor(data.action.low), persistent=False)
        self.register_buffer("high", torch.tensor(data.action.high), persistent=False)

    @override
    def spec(self, name: str) -> StreamSpec:
        ticks, size = self.config.ticks_per_token, self.config.channels * self.config.grid**2
        return StreamSpec(
            name, "action", self.horizon // ticks, ticks * self.tokens, size, ticks_per_step=ticks
        )

    @property
    def room(self) -> float:
        """Cells between the places of the lowest and the highest value of an entry."""
        return self.config.grid - 2 * MARGIN

    @override
    def encode(self, action: Tensor) -> Tensor:
        """Paint (B, H, A); values beyond the limits of the action are painted at the limits."""
        span = (self.high - self.low).clamp(
            min=torch.finfo(action.dtype).tiny
        )  # 0 for an entry that only pads
        place = MARGIN + ((action - self.low) / span).clamp(0, 1) * self.room
        pairs = torch.stack([place[..., list(pair)] for pair in self.planes], dim=-2)
        maps = draw_spots(pairs, self.config.grid, self.config.sigma)  # (B, H, planes, grid, grid)
        empty = self.tokens * self.config.channels - len(self.planes)
        maps = F.pad(maps, (0, 0, 0, 0, 0, empty), value=-1.0)
        patches = maps.unflatten(2, (self.tokens, self.config.channels)).flatten(3)
        return patches.unflatten(1, (-1, self.config.ticks_per_token)).flatten(2, 3)

    @override
    def real(self, columns: Tensor) -> Tensor:
        """A map is real where one of its two entries is; the other is then painted at its lower limit or at 0."""
        maps = torch.stack([columns[:, list(pair)].any(dim=1) for pair in self.planes], dim=1)
        maps = F.pad(maps, (0, self.tokens * self.config.channels - len(self.planes)), value=True)
        pixels = maps.unflatten(1, (self.tokens, self.config.channels)).repeat_interleave(
            self.config.grid**2, dim=2
        )
        return pixels.repeat(1, self.config.ticks_per_token, 1)[:, None]

    @override
    def decode(self, values: Tensor) -> Tensor:
        """Read the peaks: (B, H, A), clipped to the limits of the action."""
        grid = self.config.grid
        patches = values.unflatten(2, (self.config.ticks_per_token, self.tokens)).flatten(1, 2)
        maps = patches.unflatten(3, (self.config.channels, grid, grid)).flatten(2, 3)[
            :, :, : len(self.planes)
        ]
        places = (spot_centres(maps) - MARGIN) / self.room  # (B, H, planes, 2)
        total, count = (torch.zeros_like(self.low) for _ in range(2))
        total = total.expand(*places.shape[:2], -1).clone()
        for number, pair in enumerate(self.planes):
            for side, entry in enumerate(pair):
                total[..., entry] += places[:, :, number, side]
                count[entry] += 1
        action = self.low + total / count * (self.high - self.low)
        return action.clamp(self.low, self.high)
