"""Token grids from coarse to fine, and the map from fine tokens to the coarse ones that cover them."""

from __future__ import annotations

import torch
from torch import Tensor

Grid = tuple[int, int]
Scale = tuple[Grid, ...]


def tokens_of(scale: Scale) -> int:
    """Number of tokens of one scale: rows times columns, summed over the pictures."""
    return sum(rows * columns for rows, columns in scale)


def halved(finest: Scale, count: int) -> tuple[Scale, ...]:
    """Build ``count`` scales, coarsest first: each has half the rows and columns of the next, rounded up.

    A picture of one token stays one token, so that scales coarser than this quantise the same place again (residual
    quantisation, Lee et al. 2022).
    """
    scales = [finest]
    while len(scales) < count:
        scales.insert(0, tuple((-(-rows // 2), -(-columns // 2)) for rows, columns in scales[0]))
    return tuple(scales)


def cover(coarse: Scale, fine: Scale) -> Tensor:
    """Token of ``coarse`` that covers each token of ``fine``, (tokens of ``fine``,) int64."""
    parts, offset = [], 0
    for (rows, columns), (h, w) in zip(coarse, fine, strict=True):
        row = torch.arange(h) * rows // h
        column = torch.arange(w) * columns // w
        parts.append((offset + row[:, None] * columns + column[None, :]).flatten())
        offset += rows * columns
    return torch.cat(parts)


class Ladder:
    """Means of the finest tokens over the cells of a scale, and copies of a scale's tokens into their cells.

    Every finest token lies in exactly one cell. So subtracting the copied means of a scale never increases the squared
    norm, and neither does subtracting any values that are at least as close to the means as zero is.

    Args:
        scales: scales of the same pictures, coarsest first.
    """

    def __init__(self, scales: tuple[Scale, ...]) -> None:
        self.lengths = [tokens_of(scale) for scale in scales]
        self._cells = [cover(scale, scales[-1]) for scale in scales]
        self._means = []
        for cell, length in zip(self._cells, self.lengths, strict=True):
            member = (cell[None, :] == torch.arange(length)[:, None]).double()
            self._means.append(member / member.sum(dim=1, keepdim=True))

    @property
    def count(self) -> int:
        """Number of scales."""
        return len(self.lengths)

    @property
    def finest(self) -> int:
        """Number of tokens of the finest scale."""
        return self.lengths[-1]

    def area(self, k: int) -> Tensor:
        """Number of finest tokens in every cell of scale ``k``, (n_k,)."""
        return self._cells[k].bincount(minlength=self.lengths[k])

    def mean(self, values: Tensor, k: int) -> Tensor:
        """Average over the cells of scale ``k``: (..., N, D) -> (..., n_k, D)."""
        if self.lengths[k] == self.finest:
            return values
        return self._means[k].to(values) @ values

    def copy(self, part: Tensor, k: int) -> Tensor:
        """Copy the tokens of scale ``k`` into their cells: (..., n_k, D) -> (..., N, D)."""
        return part.index_select(-2, self._cells[k].to(part.device))

    def split(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """Split (B, T, sum of n_k, ...) into the tokens of every scale, (B, T, n_k, ...)."""
        return tokens.split(self.lengths, dim=2)
