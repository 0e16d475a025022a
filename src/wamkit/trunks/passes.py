"""One forward pass of a trunk: its new tokens, what they may read, and the cache they leave behind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.errors import ConfigError

NO_TIME = -1


class Pass:
    """New tokens of one forward pass. Arguments as in :meth:`wamkit.contract.Trunk.forward`.

    Attributes:
        cache: keys and values of M earlier tokens, or None.
        pad: (B, N) bool, True for new tokens that must not be read.
        times: (B, N) int64 block index of the new tokens; ``NO_TIME`` for tokens outside time.
    """

    def __init__(
        self,
        tokens: Tensor,
        cache: Cache | None,
        attend: Tensor | None,
        pad: Tensor | None,
        times: Tensor | None,
    ) -> None:
        shape, device = tokens.shape[:2], tokens.device
        self.cache, self.attend = cache, attend
        self.unpadded = pad is None
        self.pad = torch.zeros(shape, dtype=torch.bool, device=device) if pad is None else pad
        self.times = torch.full(shape, NO_TIME, device=device) if times is None else times

    @property
    def unmasked(self) -> bool:
        """True when every new token may read every other one and the whole cache."""
        if self.attend is not None or not self.unpadded:
            return False
        return self.cache is None or not bool(self.cache.pad.any())

    def readable(self) -> Tensor:
        """Mask (B, N, M + N) bool: cached and new tokens that each new token may read."""
        rows, n = self.pad.shape
        own = torch.eye(n, dtype=torch.bool, device=self.pad.device)
        attend = torch.ones_like(own) if self.attend is None else self.attend
        # A padded token still reads itself, so that no row of the softmax is empty.
        fresh = attend.view(-1, n, n).expand(rows, n, n) & (~self.pad[:, None, :] | own)
        if self.cache is None:
            return fresh
        return torch.cat((~self.cache.pad[:, None, :].expand(rows, n, self.cache.length), fresh), dim=2)

    def cached(self, keys: Sequence[Tensor], values: Sequence[Tensor], owner: Tensor | None = None) -> Cache:
        """Cache of the new tokens, from their keys and values per layer and the expert that owns each of them."""
        return Cache(tuple(keys), tuple(values), self.pad, self.times, owner)


def check_depth(layers: int | None, depth: int, place: str) -> int:
    """Return the number of layers to run; raises :class:`ConfigError` when the trunk has fewer."""
    if layers is None:
        return depth
    if not 1 <= layers <= depth:
        raise ConfigError(f"{place}: cannot stop after layer {layers}; it has layers 1 to {depth}")
    return layers


def relative_bias(table: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Time bias (B, heads, N, M) of block indices (B, N) and (B, M); zero for tokens outside time.

    ``table`` is (heads, 2 * reach + 1); longer distances get the bias of the longest.
    """
    reach = table.shape[1] // 2
    distance = (query[:, :, None] - key[:, None, :]).clamp(-reach, reach) + reach
    timed = (query[:, :, None] != NO_TIME) & (key[:, None, :] != NO_TIME)
    return table[:, distance].transpose(0, 1) * timed[:, None]


def empty_cache(zeros: Tensor, depth: int, owner: int | None = None) -> Cache:
    """Cache of padded tokens whose keys and values in each of ``depth`` layers are ``zeros`` (B, heads, N, d).

    Args:
        zeros: keys and values of one layer.
        depth: layers.
        owner: the expert that owns the tokens, or None for a trunk with one expert.
    """
    shape, device = (zeros.shape[0], zeros.shape[2]), zeros.device
    times = torch.full(shape, NO_TIME, device=device)
    padded = torch.ones(shape, dtype=torch.bool, device=device)
    owners = None if owner is None else torch.full_like(times, owner)
    return Cache((zeros,) * depth, (zeros,) * depth, padded, times, owners)
