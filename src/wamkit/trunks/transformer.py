"""A pre-norm transformer whose new tokens read cached keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError

NO_TIME = -1


@TrunkConfig.register_subclass("transformer")
@dataclass(frozen=True)
class TransformerConfig(TrunkConfig):
    """Pre-norm transformer whose tokens read cached keys and values (Vaswani et al. 2017).

    Attributes:
        width: features per token.
        depth: layers.
        heads: attention heads.
        expansion: hidden width of the feed-forward layer over ``width``.
        time_range: largest block distance that the relative time bias tells apart (0: no bias).
    """

    width: int = 128
    depth: int = 3
    heads: int = 4
    expansion: float = 4.0
    time_range: int = 0

    def build(self) -> Transformer:
        """Build the trunk; raises :class:`ConfigError` when ``width`` is not a multiple of ``heads``."""
        if self.width % self.heads:
            raise ConfigError(f"transformer: width {self.width} is not a multiple of heads {self.heads}")
        return Transformer(self)


def readable(
    rows: int, n: int, cache: Cache | None, attend: Tensor | None, pad: Tensor | None, device: torch.device
) -> Tensor:
    """(B, N, M + N) bool: which of the M cached and N new tokens each new token may read."""
    fresh = torch.ones(1, n, n, dtype=torch.bool, device=device) if attend is None else attend
    fresh = fresh.view(-1, n, n).expand(rows, n, n)
    if pad is not None:
        # A padded token still reads itself, so that no row of the softmax is empty.
        own = torch.eye(n, dtype=torch.bool, device=device)
        fresh = fresh & (~pad[:, None, :] | own)
    if cache is None:
        return fresh
    return torch.cat((~cache.pad[:, None, :].expand(rows, n, cache.length), fresh), dim=2)


def depth_of(layers: int | None, depth: int, place: str) -> int:
    """How many layers to run; raises :class:`ConfigError` when there are not that many."""
    if layers is None:
        return depth
    if not 1 <= layers <= depth:
        raise ConfigError(f"{place}: cannot stop after layer {layers}; it has layers 1 to {depth}")
    return layers


def relative_bias(table: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Time bias (B, heads, N, M) of block indices (B, N) and (B, M); tokens outside time get none.

    ``table`` is (heads, 2 * reach + 1); longer distances get the bias of the longest.
    """
    reach = table.shape[1] // 2
    distance = (query[:, :, None] - key[:, None, :]).clamp(-reach, reach) + reach
    timed = (query[:, :, None] != NO_TIME) & (key[:, None, :] != NO_TIME)
    return table[:, distance].transpose(0, 1) * timed[:, None]


class Block(nn.Module):
    """Self-attention over cached and new tokens, then a feed-forward layer."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.expansion)
        self.heads = config.heads
        self.norm_attention = nn.LayerNorm(config.width)
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm_mlp = nn.LayerNorm(config.width)
        self.mlp = nn.Sequential(nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width))

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, D) -> hidden (B, N, D) and the new keys and values (B, heads, N, d)."""
        b, n, d = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        keys, values = k, v
        if past is not None:
            keys, values = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + self.out(attended.transpose(1, 2).reshape(b, n, d))
        return x + self.mlp(self.norm_mlp(x)), k, v


@final
class Transformer(Trunk):
    """Decoder-style transformer. Context tokens are run once; stream tokens then read their cache."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth = config.width, config.depth
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.time_bias = (
            nn.Parameter(torch.zeros(config.heads, 2 * config.time_range + 1)) if config.time_range else None
        )

    def forward(
        self,
        tokens: Tensor,
        *,
        cache: Cache | None = None,
        attend: Tensor | None = None,
        pad: Tensor | None = None,
        times: Tensor | None = None,
        layout: Layout = (),
        layers: int | None = None,
    ) -> tuple[Tensor, Cache]:
        """See :meth:`wamkit.contract.Trunk.forward`."""
        b, n, _ = tokens.shape
        layers = depth_of(layers, self.depth, "trunk 'transformer'")
        new_pad = torch.zeros(b, n, dtype=torch.bool, device=tokens.device) if pad is None else pad
        new_times = torch.full((b, n), NO_TIME, device=tokens.device) if times is None else times
        mask = self._mask(n, cache, attend, pad, new_times)
        keys, values = [], []
        hidden = tokens
        for i, block in enumerate(self.blocks[:layers]):
            past = None if cache is None else (cache.keys[i], cache.values[i])
            hidden, k, v = block(hidden, past, mask)
            keys.append(k)
            values.append(v)
        if layers == self.depth:
            hidden = self.norm(hidden)
        return hidden, Cache(tuple(keys), tuple(values), new_pad, new_times)

    def empty(self, batch_size: int, length: int) -> Cache:
        """See :meth:`wamkit.contract.Trunk.empty`."""
        c = self.config
        zeros = self.norm.weight.new_zeros(batch_size, c.heads, length, c.width // c.heads)
        return Cache(
            keys=(zeros,) * c.depth,
            values=(zeros,) * c.depth,
            pad=torch.ones(batch_size, length, dtype=torch.bool, device=zeros.device),
            times=torch.full((batch_size, length), NO_TIME, device=zeros.device),
        )

    def _mask(
        self, n: int, cache: Cache | None, attend: Tensor | None, pad: Tensor | None, times: Tensor
    ) -> Tensor | None:
        """Additive or boolean mask (B, heads or 1, N, M + N), or None when everything may be read."""
        biased = self.time_bias is not None
        cached_pad = cache is not None and bool(cache.pad.any())
        if attend is None and pad is None and not cached_pad and not biased:
            return None
        allowed = readable(times.shape[0], n, cache, attend, pad, times.device)
        mask = allowed[:, None]
        if not biased:
            return mask
        keys = times if cache is None else torch.cat((cache.times, times), dim=1)
        bias = relative_bias(self.time_bias, times, keys)  # type: ignore[arg-type]
        return bias.masked_fill(~mask, float("-inf"))
