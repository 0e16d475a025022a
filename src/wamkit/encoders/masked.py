"""Blocks of what is observed, hidden in training from the encoder that reads it (`bb.jepa-predictor`, eq. 28)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Count, Fraction, Size, Whole
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Encoder, EncoderConfig
from wamkit.contract.types import Observation, WindowSpec
from wamkit.encoders.images import ImagesConfig
from wamkit.errors import ConfigError

PART = "encoder 'masked'"


@EncoderConfig.register_subclass("masked")
@dataclass(frozen=True)
class MaskedConfig(EncoderConfig):
    """Encoder whose input lacks blocks in training, to be predicted (I-JEPA, Assran et al. 2023; V-JEPA, 2024).

    A hidden block is blank in what the inner encoder reads, and its tokens are padding. The blocks of a row are the
    same in all observed steps, so that over a clip they are tubes. When acting nothing is hidden, and the moving
    average of this encoder (substrate ``ema_feature``) sees everything.

    Attributes:
        inner: encoder whose tokens per step and view lie in a grid of ``rows`` x ``columns``.
        rows: rows of the grid; 1 for a signal over time.
        columns: columns of the grid.
        blocks: blocks that are hidden, drawn independently, so that they may overlap.
        share: side of a block as a share of the grid's sides, rounded up. At least one row or column stays visible.
        curriculum: calls in training over which the blocks grow from one cell to their size; 0 for full size at once
            (A-JEPA, Fei et al. 2023).
    """

    inner: EncoderConfig = field(default_factory=lambda: ImagesConfig(pool="grid", shift=0))
    rows: Size = 4
    columns: Size = 4
    blocks: Count = 2
    share: Fraction = 0.5
    curriculum: Whole = 0

    @override
    def build(self, data: DataSpec, window: WindowSpec, width: int) -> MaskedEncoder:
        """Build; raises :class:`ConfigError` for an inner encoder of a goal, or a grid of one cell."""
        if self.rows * self.columns < 2:
            raise ConfigError(f"{PART}: a grid of {self.rows} x {self.columns} has nothing to hide a part of")
        inner = self.inner.build(data, window, width)
        if inner.goal:
            raise ConfigError(
                f"{PART}: the inner encoder reads the goal, of which nothing is to be predicted"
            )
        return MaskedEncoder(self, inner)


@final
class MaskedEncoder(Encoder):
    """Tokens of the inner encoder; in training those of hidden blocks are padding."""

    def __init__(self, config: MaskedConfig, inner: Encoder) -> None:
        super().__init__()
        self.config, self.inner = config, inner
        self.extras, self.pixels = inner.extras, dict(inner.pixels)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    seen: Tensor

    def sides(self) -> tuple[int, int]:
        """Rows and columns of a block at this point of the curriculum."""
        config, grown = self.config, 1.0
        if config.curriculum:
            grown = min(1.0, float(self.seen) / config.curriculum)
        rows, columns = (
            max(1, math.ceil(config.share * grown * side)) for side in (config.rows, config.columns)
        )
        return min(rows, max(config.rows - 1, 1)), min(columns, max(config.columns - 1, 1))

    def draw(self, rows: int, device: torch.device) -> Tensor:
        """Draw hidden cells, (B, rows, columns) bool; in every row at least one cell is hidden and one is not."""
        config, sides = self.config, self.sides()
        hidden = torch.zeros(rows, config.rows, config.columns, dtype=torch.bool, device=device)
        for _ in range(config.blocks):
            inside = torch.ones_like(hidden)
            for axis, (side, length) in enumerate(zip(sides, (config.rows, config.columns), strict=True)):
                start = torch.randint(length - side + 1, (rows, 1), device=device)
                place = torch.arange(length, device=device)
                span = (place >= start) & (place < start + side)
                inside &= span[:, :, None] if axis == 0 else span[:, None, :]
            fuller = hidden | inside
            hidden = torch.where(fuller.all(dim=(1, 2), keepdim=True), hidden, fuller)
        return hidden

    def blank(self, observation: Observation, hidden: Tensor) -> Observation:
        """The observation without what lies in hidden cells: pictures are cut in rows and columns, signals in time."""
        return dataclasses.replace(
            observation,
            images={name: self._blank_picture(v, hidden) for name, v in observation.images.items()},
            extras=self._blank_signals(observation.extras, hidden),
        )

    @staticmethod
    def _blank_picture(picture: Tensor, hidden: Tensor) -> Tensor:
        """Set the pixels (B, T, 3, h, w) of hidden cells to the middle of the range."""
        shown = F.interpolate((~hidden)[:, None].float(), picture.shape[-2:])[:, None] > 0
        return torch.where(shown, picture, torch.full_like(picture, 128))

    def _blank_signals(self, extras: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        """Set the samples (B, T, samples) of hidden cells to zero, in signals that the inner encoder reads."""
        changed = dict(extras)
        for name in self.extras:
            value = extras[name]
            if value.dim() == 3:
                shown = F.interpolate((~hidden).flatten(1)[:, None].float(), value.shape[-1:]) > 0
                changed[name] = torch.where(shown, value, torch.zeros_like(value))
        return changed

    @override
    def forward(self, observation: Observation) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self.inner(observation)
        hidden = self.draw(observation.batch_size, observation.pad.device)
        self.seen += 1
        tokens, pad = self.inner(self.blank(observation, hidden))
        cells = hidden.flatten(1)
        if pad.shape[1] % cells.shape[1]:
            raise ConfigError(
                f"{PART}: the inner encoder makes {pad.shape[1]} tokens, which are no grids of {self.config.rows} x "
                f"{self.config.columns}. Set `rows` and `columns` to the grid of a step of one view."
            )
        return tokens, pad | cells.repeat(1, pad.shape[1] // cells.shape[1])
