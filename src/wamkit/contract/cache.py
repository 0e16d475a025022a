"""Key-value cache: computed once, read many times."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cache:
    """Per-layer keys and values of N tokens.

    Attributes:
        keys: per layer (B, heads, N, d).
        values: per layer (B, heads, N, d).
        pad: (B, N) bool, True for tokens that must not be read.
        times: (B, N) int64, block index of each token; -1 for tokens outside time (the context).
        owner: (B, N) int64, index of the trunk's expert that made each token, 0 for the context's; None for all 0.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    pad: Tensor
    times: Tensor
    owner: Tensor | None = None

    @property
    def owners(self) -> Tensor:
        """Owner of every token, (B, N) int64, also for trunks with a single expert."""
        return torch.zeros_like(self.times) if self.owner is None else self.owner

    @property
    def length(self) -> int:
        """Number of cached tokens N."""
        return self.pad.shape[1]

    def append(self, other: Cache) -> Cache:
        """Concatenate the tokens of this cache and those of ``other``."""
        plain = self.owner is None and other.owner is None
        return Cache(
            keys=tuple(torch.cat((a, b), dim=2) for a, b in zip(self.keys, other.keys, strict=True)),
            values=tuple(torch.cat((a, b), dim=2) for a, b in zip(self.values, other.values, strict=True)),
            pad=torch.cat((self.pad, other.pad), dim=1),
            times=torch.cat((self.times, other.times), dim=1),
            owner=None if plain else torch.cat((self.owners, other.owners), dim=1),
        )

    def repeat(self, copies: int) -> Cache:
        """Repeat every row ``copies`` times, copies side by side: (B, ...) -> (B * copies, ...)."""
        return Cache(
            keys=tuple(k.repeat_interleave(copies, dim=0) for k in self.keys),
            values=tuple(v.repeat_interleave(copies, dim=0) for v in self.values),
            pad=self.pad.repeat_interleave(copies, dim=0),
            times=self.times.repeat_interleave(copies, dim=0),
            owner=None if self.owner is None else self.owner.repeat_interleave(copies, dim=0),
        )

    def last(self, count: int) -> Cache:
        """Cut to the newest ``count`` tokens (all of them when there are fewer), as a bounded memory does."""
        # Counted from the front, because a negative index would keep everything for count = 0.
        start = max(self.length - count, 0)
        return Cache(
            keys=tuple(k[:, :, start:] for k in self.keys),
            values=tuple(v[:, :, start:] for v in self.values),
            pad=self.pad[:, start:],
            times=self.times[:, start:],
            owner=None if self.owner is None else self.owner[:, start:],
        )
