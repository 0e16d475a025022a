"""Transformer over clips: attention in space, in time, or in both, layer by layer (`bb.denoising` of video)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Expansion, Length, Size
from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError
from wamkit.trunks.passes import NO_TIME, Pass, check_depth, empty_cache
from wamkit.trunks.transformer import Block, TransformerConfig

PLACE = "trunk 'space_time'"
FINE = 1 << 16  # a moment is a share of the horizon, kept as a whole number of these
Reach = Literal["space", "time", "joint"]


@TrunkConfig.register_subclass("space_time")
@dataclass(frozen=True)
class SpaceTimeConfig(TrunkConfig):
    """Layers that read within a frame, across frames, or both (Latte, Ma et al. 2024; AnimateDiff, Guo et al. 2024).

    A frame is a step of a stream. A ``space`` layer reads the tokens of the same frame, a ``time`` layer those at the
    same place of all frames, a ``joint`` layer all; every layer reads the context.

    Attributes:
        width: features per token.
        heads: attention heads.
        expansion: hidden width of the feed-forward layers, as a multiple of ``width``.
        pattern: reach of each layer, first layer first.
        causal: true when no frame reads a later one.
        aligned: true when a frame reads, of a given action, only the steps that lead to it from the frame before, in
            ``space`` layers (frame-level conditioning of IRASim, Zhu et al. 2025).
        motion: reaches whose layers are added to a model of single frames: a gate on what they change starts at zero,
            so that the clip begins as independent frames (the motion module of AnimateDiff).
        frozen: reaches whose layers keep their weights.
        skips: true for long skip connections from the first half of the layers to the second (U-ViT, Bao et al. 2023).
    """

    width: Size = 128
    heads: Size = 4
    expansion: Expansion = 4.0
    pattern: Annotated[tuple[Reach, ...], Length(1)] = ("space", "time")
    causal: bool = False
    aligned: bool = False
    motion: tuple[Reach, ...] = ()
    frozen: tuple[Reach, ...] = ()
    skips: bool = False

    @override
    def build(self) -> SpaceTime:
        """Build; raises :class:`ConfigError` for a width that the heads do not divide, or a reach of no layer."""
        if self.width % self.heads:
            raise ConfigError(f"{PLACE}: width {self.width} is not a multiple of heads {self.heads}")
        for key, reaches in (("motion", self.motion), ("frozen", self.frozen)):
            for reach in reaches:
                if reach not in self.pattern:
                    raise ConfigError(
                        f"{PLACE}: `{key}` names {reach!r}, but the pattern is {list(self.pattern)}"
                    )
        return SpaceTime(self)


@final
class SpaceTime(Trunk):
    """Transformer whose layers have the reaches of a pattern. Tokens of one step of a stream run together."""

    def __init__(self, config: SpaceTimeConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth = config.width, len(config.pattern)
        layer = TransformerConfig(config.width, self.depth, config.heads, config.expansion)
        self.blocks = nn.ModuleList(Block(layer) for _ in config.pattern)
        for block, reach in zip(self.blocks, config.pattern, strict=True):
            block.requires_grad_(reach not in config.frozen)
        self.gates = nn.ParameterDict(
            {str(i): torch.zeros(()) for i, reach in enumerate(config.pattern) if reach in config.motion}
        )
        self.skips = nn.ModuleList(
            nn.Linear(2 * config.width, config.width) for _ in range(self.depth // 2 if config.skips else 0)
        )
        self.norm = nn.LayerNorm(config.width)
        self.specs: dict[str, StreamSpec] = {}

    @override
    def shape(self, streams: Sequence[StreamSpec]) -> None:
        self.specs |= {spec.name: spec for spec in streams}

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
        if times is not None:
            raise ConfigError(
                f"{PLACE}: it has no blocks of a past. Set `history` to 0, or use another trunk."
            )
        depth = check_depth(layers, self.depth, PLACE)
        moments, places = self._where(tokens, layout)
        new = Pass(tokens, cache, attend, pad, moments if layout else None)
        masks = {reach: self._mask(new, reach, places) for reach in set(self.config.pattern[:depth])}
        keys, values = [], []
        hidden, kept = tokens, list[Tensor]()
        for i, block in enumerate(self.blocks[:depth]):
            past = None if cache is None else (cache.keys[i], cache.values[i])
            if len(self.skips) and i >= self.depth - len(self.skips):
                joined = torch.cat((hidden, kept.pop()), dim=-1)
                hidden = hidden + self.skips[i - self.depth + len(self.skips)](joined)
            changed, k, v = block(hidden, past, masks[self.config.pattern[i]])
            gate = self.gates.get(str(i))
            hidden = changed if gate is None else hidden + gate.tanh() * (changed - hidden)
            if i < len(self.skips):
                kept.append(hidden)
            keys.append(k)
            values.append(v)
        return self.norm(hidden) if depth == self.depth else hidden, new.cached(keys, values)

    @override
    def empty(self, batch_size: int, length: int) -> Cache:
        c = self.config
        zeros = self.norm.weight.new_zeros(batch_size, c.heads, length, c.width // c.heads)
        return empty_cache(zeros, self.depth)

    def _where(self, tokens: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Moment at which the frame of each token ends, as a share of the horizon, and its place in the frame."""
        rows, count = tokens.shape[:2]
        moments, places, offset = [], [], 0
        for stream, length in layout:
            spec = self.specs.get(stream)
            if spec is None or length % spec.tokens or length > spec.length:
                raise ConfigError(
                    f"{PLACE}: it needs whole frames of stream {stream!r}, and cannot run {length} of its tokens. "
                    f"Generate it with an estimator that runs all tokens of a stream at once, such as 'denoiser'."
                )
            step = torch.arange(length, device=tokens.device) // spec.tokens
            moments.append((step + 1) * FINE // spec.steps)
            places.append(torch.arange(length, device=tokens.device) % spec.tokens + offset)
            offset += spec.tokens
        if not layout:
            outside = torch.full((rows, count), NO_TIME, device=tokens.device)
            return outside, outside[0]
        return torch.cat(moments)[None].expand(rows, -1), torch.cat(places)

    def _mask(self, new: Pass, reach: Reach, places: Tensor) -> Tensor | None:
        """Mask (B, 1, N, M + N) bool of one reach."""
        readable = new.readable()
        own = new.times
        keys = own if new.cache is None else torch.cat((new.cache.times, own), dim=1)
        cached = keys.shape[1] - own.shape[1]
        timed = (own[:, :, None] != NO_TIME) & (keys[:, None, :] != NO_TIME)
        allowed = torch.ones_like(timed)
        if reach == "space":
            # A cached stream with steps of its own is read as a whole unless it is aligned with the frames.
            within = self._before(own, keys) if self.config.aligned else allowed
            allowed = torch.cat((within[:, :, :cached], self._same(own, keys)[:, :, cached:]), dim=2)
        elif reach == "time":
            together = (places[:, None] == places[None, :]).expand(len(own), -1, -1)
            allowed = torch.cat((~timed[:, :, :cached] | (not self.config.aligned), together), dim=2)
        if self.config.causal:
            allowed = allowed & (keys[:, None, :] <= own[:, :, None])
        return (readable & (allowed | ~timed))[:, None]

    @staticmethod
    def _same(own: Tensor, keys: Tensor) -> Tensor:
        return own[:, :, None] == keys[:, None, :]

    @staticmethod
    def _before(own: Tensor, keys: Tensor) -> Tensor:
        """True where a key lies after the frame before the reader's and not after the reader's own."""
        frames = own[0].unique()
        earlier = torch.cat((frames.new_zeros(1), frames[:-1]))
        start = earlier[torch.searchsorted(frames, own.contiguous())]
        moment = keys[:, None, :]
        return (moment <= own[:, :, None]) & (moment > start[:, :, None])
