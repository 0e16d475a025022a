"""Mixture of transformers: own weights per expert, shared attention where declared (`bb.mot`, `cp.cross-stream`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Expansion, Room, Size, Words
from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.nn.named import Named
from wamkit.trunks.passes import Pass, check_depth, empty_cache, relative_bias

CONTEXT = "context"
PLACE = "trunk 'mixture_of_transformers'"


@TrunkConfig.register_subclass("mixture_of_transformers")
@dataclass(frozen=True)
class MixtureConfig(TrunkConfig):
    """Own weights per group of streams, shared attention where declared (MoT, Liang et al. 2024).

    Context tokens have an expert of their own, called ``context``. Every expert reads itself.

    Attributes:
        experts: expert -> streams whose tokens it computes.
        reads: expert -> experts whose keys it may attend to; an expert without an entry attends to all.
        bridges: expert -> experts that it reads layer by layer through its own gated attention instead of the
            shared one. The gates start at zero, so that the expert first acts exactly as if it were alone.
        insulated: experts that read the others' keys and values without sending gradients into them
            (knowledge insulation, Driess et al. 2025).
        width: features per token, the same for all experts.
        depth: layers.
        heads: attention heads.
        expansion: hidden width of the feed-forward layers, as a multiple of ``width``.
        expansions: expert -> its own ``expansion``, for example a smaller one.
        time_range: largest block distance that the relative time bias distinguishes; 0 switches the bias off.
    """

    experts: dict[str, Words] = field(default_factory=lambda: {"action": ("action",)})
    reads: dict[str, Words] = field(default_factory=dict)
    bridges: dict[str, Words] = field(default_factory=dict)
    insulated: Words = ()
    width: Size = 128
    depth: Size = 3
    heads: Size = 4
    expansion: Expansion = 4.0
    expansions: dict[str, Expansion] = field(default_factory=dict)
    time_range: Room = 0

    @override
    def build(self) -> Mixture:
        """Build the trunk.

        Raises:
            ConfigError: ``width`` is not a multiple of ``heads``, a name is unknown or belongs to two experts, or an
                expert has a bridge to itself.
        """
        if self.width % self.heads:
            raise ConfigError(f"{PLACE}: width {self.width} is not a multiple of heads {self.heads}")
        if CONTEXT in self.experts:
            raise ConfigError(f"{PLACE}: the expert {CONTEXT!r} always exists; remove it from `experts`")
        streams = [stream for group in self.experts.values() for stream in group]
        for stream in streams:
            if streams.count(stream) > 1:
                raise ConfigError(f"{PLACE}: stream {stream!r} belongs to two experts; keep one")
        names = (CONTEXT, *self.experts)
        named = {
            "reads": [*self.reads, *(e for group in self.reads.values() for e in group)],
            "bridges": [*self.bridges, *(e for group in self.bridges.values() for e in group)],
            "insulated": list(self.insulated),
            "expansions": list(self.expansions),
        }
        for key, used in named.items():
            for name in used:
                if name not in names:
                    raise ConfigError(f"{PLACE}: `{key}` names {name!r}. {did_you_mean(name, names)}")
        for name, bridged in self.bridges.items():
            if name in bridged:
                raise ConfigError(f"{PLACE}: expert {name!r} cannot have a bridge to itself; remove it")
        return Mixture(self)


class Layer(nn.Module):
    """Weights of one expert in one layer."""

    def __init__(self, width: int, heads: int, expansion: float, bridge: bool) -> None:
        super().__init__()
        hidden = int(width * expansion)
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
        self.bridge = nn.ModuleDict()
        if bridge:
            self.bridge = nn.ModuleDict({"query": nn.Linear(width, width), "out": nn.Linear(width, width)})
            self.gate = nn.Parameter(torch.zeros(()))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (B, N, D) to query, key and value, each (B, heads, N, d)."""
        b, n, d = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def attend(self, x: Tensor, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Add the shared attention to x."""
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return x + self.out(attended.transpose(1, 2).flatten(2))

    def cross(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Return what the gated bridge adds to x. A key of zeros comes first, so that nothing to read adds nothing."""
        b, n, d = x.shape
        q = self.bridge["query"](x).view(b, n, self.heads, d // self.heads).transpose(1, 2)
        keys, values = F.pad(keys, (0, 0, 1, 0)), F.pad(values, (0, 0, 1, 0))
        read = F.scaled_dot_product_attention(q, keys, values, attn_mask=F.pad(mask, (1, 0), value=True))
        return self.gate.tanh() * self.bridge["out"](read.transpose(1, 2).flatten(2))

    def feed(self, x: Tensor) -> Tensor:
        """Add the feed-forward layer to x."""
        return x + self.mlp(self.norm_mlp(x))


class Expert(nn.Module):
    """Weights of one expert in all layers."""

    def __init__(self, config: MixtureConfig, name: str) -> None:
        super().__init__()
        expansion = config.expansions.get(name, config.expansion)
        bridge = bool(config.bridges.get(name))
        self.layers = nn.ModuleList(
            Layer(config.width, config.heads, expansion, bridge) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width)
        span = 2 * config.time_range + 1
        self.time_bias = nn.Parameter(torch.zeros(config.heads, span)) if config.time_range else None

    def layer(self, index: int) -> Layer:
        """Weights of layer ``index``."""
        return cast(Layer, self.layers[index])


@dataclass(frozen=True)
class Turn:
    """Share of one expert in one call: a run of the new tokens and what they may read.

    Attributes:
        expert: the expert's weights.
        run: the expert's new tokens, after sorting all new tokens by expert.
        mask: mask of the shared attention, (B, heads or 1, n, M + N).
        bridge: mask of the bridge, (B, 1, n, M + N) bool, or None without a bridge.
        own: (B, 1, M + N, 1) bool, True for the expert's own tokens; None unless the expert is insulated.
    """

    expert: Expert
    run: slice
    mask: Tensor
    bridge: Tensor | None
    own: Tensor | None


@final
class Mixture(Trunk):
    """Experts that exchange only keys and values. An expert without tokens in a call does not run."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth = config.width, config.depth
        names = (CONTEXT, *config.experts)
        self.experts = Named({name: Expert(config, name) for name in names})
        self.streams = tuple(s for group in config.experts.values() for s in group)
        self.index = {s: i + 1 for i, group in enumerate(config.experts.values()) for s in group}
        shared, bridged = torch.eye(len(names), dtype=torch.bool), torch.zeros(len(names), len(names)).bool()
        for i, name in enumerate(names):
            bridges = config.bridges.get(name, ())
            reads = config.reads.get(name, names)
            for j, other in enumerate(names):
                bridged[i, j] = other in bridges
                shared[i, j] |= other in reads and other not in bridges
        self.register_buffer("shared", shared, persistent=False)
        self.register_buffer("bridged", bridged, persistent=False)

    shared: Tensor
    bridged: Tensor

    @override
    def check(self, streams: Sequence[str]) -> None:
        """Require an expert for every stream."""
        for stream in streams:
            if stream not in self.index:
                raise ConfigError(
                    f"{PLACE}: stream {stream!r} does not have an expert. "
                    f"{did_you_mean(stream, self.index)} Name it in `experts`."
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
        n, device = tokens.shape[1], tokens.device
        depth = check_depth(layers, self.depth, PLACE)
        self.check([stream for stream, _ in layout])
        new = Pass(tokens, cache, attend, pad, times)
        owner = [self.index[stream] for stream, length in layout for _ in range(length)] or [0] * n
        # A stable sort turns every expert's tokens into one run.
        order = torch.tensor(sorted(range(n), key=lambda i: owner[i]), device=device)
        back = order.argsort()
        owners = torch.tensor(owner, device=device).expand_as(new.pad)
        # Columns are the cache, then the new tokens; the new ones are sorted in rows and columns.
        before = 0 if cache is None else cache.length
        columns = torch.cat((torch.arange(before, device=device), before + order))
        allowed = new.readable()[:, order][:, :, columns]
        turns = self._turns(allowed, owners[:, order], new.times[:, order], cache)
        hidden, keys, values = self._layers(tokens[:, order], turns, cache, depth)
        keys, values = [k[:, :, back] for k in keys], [v[:, :, back] for v in values]
        return hidden[:, back], new.cached(keys, values, owners)

    def _turns(self, allowed: Tensor, owner: Tensor, times: Tensor, cache: Cache | None) -> list[Turn]:
        """Turns of the experts that have new tokens. All arguments are sorted by expert."""
        all_owners = owner if cache is None else torch.cat((cache.owners, owner), dim=1)
        all_times = times if cache is None else torch.cat((cache.times, times), dim=1)
        turns, start = [], 0
        counts = torch.bincount(owner[0], minlength=len(self.experts)).tolist()
        for i, ((name, expert), count) in enumerate(zip(self.experts.items(), counts, strict=True)):
            run = slice(start, start + count)
            start += count
            if not count:
                continue
            mask = (allowed[:, run] & self.shared[i][all_owners][:, None, :])[:, None]
            if expert.time_bias is not None:
                bias = relative_bias(expert.time_bias, times[:, run], all_times)
                mask = bias.masked_fill(~mask, float("-inf"))
            bridge = None
            if self.config.bridges.get(name):
                bridge = (allowed[:, run] & self.bridged[i][all_owners][:, None, :])[:, None]
            own = (all_owners == i)[:, None, :, None] if name in self.config.insulated else None
            turns.append(Turn(expert, run, mask, bridge, own))
        return turns

    def _layers(
        self, hidden: Tensor, turns: list[Turn], cache: Cache | None, depth: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden tokens after ``depth`` layers, and the new keys and values of each of these layers."""
        parts = [hidden[:, turn.run] for turn in turns]
        keys, values = [], []
        for i in range(depth):
            layers = [turn.expert.layer(i) for turn in turns]
            queries, own_keys, own_values = zip(
                *(layer.project(x) for layer, x in zip(layers, parts, strict=True)), strict=True
            )
            k, v = torch.cat(own_keys, dim=2), torch.cat(own_values, dim=2)
            keys.append(k)
            values.append(v)
            if cache is not None:
                k, v = torch.cat((cache.keys[i], k), dim=2), torch.cat((cache.values[i], v), dim=2)
            for j, (turn, layer) in enumerate(zip(turns, layers, strict=True)):
                read_k, read_v = k, v
                if turn.own is not None:
                    read_k, read_v = (
                        torch.where(turn.own, k, k.detach()),
                        torch.where(turn.own, v, v.detach()),
                    )
                x = layer.attend(parts[j], queries[j], read_k, read_v, turn.mask)
                if turn.bridge is not None:
                    x = x + layer.cross(parts[j], read_k, read_v, turn.bridge)
                parts[j] = layer.feed(x)
        if depth == self.depth:
            parts = [turn.expert.norm(x) for turn, x in zip(turns, parts, strict=True)]
        return torch.cat(parts, dim=1), keys, values

    @override
    def empty(self, batch_size: int, length: int) -> Cache:
        c = self.config
        zeros = next(self.parameters()).new_zeros(batch_size, c.heads, length, c.width // c.heads)
        return empty_cache(zeros, c.depth, owner=0)
