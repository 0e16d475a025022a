"""Pre-norm transformer whose new tokens read cached keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Expansion, Room, Size
from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError
from wamkit.trunks.passes import Pass, check_depth, empty_cache, relative_bias


@TrunkConfig.register_subclass("transformer")
@dataclass(frozen=True)
class TransformerConfig(TrunkConfig):
    """Pre-norm transformer whose tokens read cached keys and values (Vaswani et al. 2017).

    Attributes:
        width: features per token.
        depth: layers.
        heads: attention heads.
        expansion: hidden width of the feed-forward layers, as a multiple of ``width``.
        time_range: largest block distance that the relative time bias distinguishes; 0 switches the bias off.
    """

    width: Size = 128
    depth: Size = 3
    heads: Size = 4
    expansion: Expansion = 4.0
    time_range: Room = 0

    @override
    def build(self) -> Transformer:
        """Build the trunk; raises :class:`ConfigError` when ``width`` is not a multiple of ``heads``."""
        if self.width % self.heads:
            raise ConfigError(f"transformer: width {self.width} is not a multiple of heads {self.heads}")
        return Transformer(self)


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
        """Map x (B, N, D) to hidden (B, N, D) and the new keys and values (B, heads, N, d)."""
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
    """Decoder-style transformer: context tokens run once, then stream tokens read their cache."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth = config.width, config.depth
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.time_bias = (
            nn.Parameter(torch.zeros(config.heads, 2 * config.time_range + 1)) if config.time_range else None
        )

    @override
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
        depth = check_depth(layers, self.depth, "trunk 'transformer'")
        new = Pass(tokens, cache, attend, pad, times)
        mask = self._mask(new)
        keys, values = [], []
        hidden = tokens
        for i, block in enumerate(self.blocks[:depth]):
            past = None if cache is None else (cache.keys[i], cache.values[i])
            hidden, k, v = block(hidden, past, mask)
            keys.append(k)
            values.append(v)
        return self.norm(hidden) if depth == self.depth else hidden, new.cached(keys, values)

    @override
    def empty(self, batch_size: int, length: int) -> Cache:
        c = self.config
        return empty_cache(
            self.norm.weight.new_zeros(batch_size, c.heads, length, c.width // c.heads), c.depth
        )

    def _mask(self, new: Pass) -> Tensor | None:
        """Additive or boolean mask (B, heads or 1, N, M + N), or None when every token may read everything."""
        if self.time_bias is None:
            return None if new.unmasked else new.readable()[:, None]
        keys = new.times if new.cache is None else torch.cat((new.cache.times, new.times), dim=1)
        bias = relative_bias(self.time_bias, new.times, keys)
        return bias.masked_fill(~new.readable()[:, None], float("-inf"))
