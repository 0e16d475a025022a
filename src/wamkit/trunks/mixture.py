"""Mixture of transformers: own weights per expert, shared attention where declared (`bb.mot`, `cp.cross-stream`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.trunks.transformer import NO_TIME, depth_of, readable, relative_bias

CONTEXT = "context"


@TrunkConfig.register_subclass("mixture_of_transformers")
@dataclass(frozen=True)
class MixtureConfig(TrunkConfig):
    """Own weights per group of streams, shared attention where declared (MoT, Liang et al. 2024).

    The context tokens have an expert of their own, called ``context``. An expert always reads itself.

    Attributes:
        experts: expert -> streams whose tokens it computes.
        reads: expert -> experts whose keys it may attend to; all of them where nothing is said.
        bridges: expert -> experts that it reads through a gated attention of its own, layer by layer, in place
            of the shared one. The gates start at zero: the expert is then exactly as if it stood alone.
        insulated: experts that read the others' keys and values without sending a gradient into them
            (knowledge insulation, Driess et al. 2025).
        width: features per token, the same for all experts.
        depth: layers.
        heads: attention heads.
        expansion: hidden width of the feed-forward layers over ``width``.
        expansions: expert -> its own ``expansion``, for a narrower expert.
        time_range: largest block distance that the relative time bias tells apart (0: no bias).
    """

    experts: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"action": ("action",)})
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    bridges: dict[str, tuple[str, ...]] = field(default_factory=dict)
    insulated: tuple[str, ...] = ()
    width: int = 128
    depth: int = 3
    heads: int = 4
    expansion: float = 4.0
    expansions: dict[str, float] = field(default_factory=dict)
    time_range: int = 0

    def build(self) -> Mixture:
        """Build the trunk; raises :class:`ConfigError` on names that do not exist or exist twice."""
        place = "trunk 'mixture_of_transformers'"
        if self.width % self.heads:
            raise ConfigError(f"{place}: width {self.width} is not a multiple of heads {self.heads}")
        if CONTEXT in self.experts:
            raise ConfigError(f"{place}: the expert {CONTEXT!r} is there anyway; remove it from `experts`")
        streams = [stream for group in self.experts.values() for stream in group]
        for stream in streams:
            if streams.count(stream) > 1:
                raise ConfigError(f"{place}: stream {stream!r} belongs to two experts; keep one")
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
                    raise ConfigError(f"{place}: `{key}` names {name!r}. {did_you_mean(name, names)}")
        for name, bridged in self.bridges.items():
            if name in bridged:
                raise ConfigError(f"{place}: expert {name!r} cannot have a bridge to itself; remove it")
        return Mixture(self)


class Layer(nn.Module):
    """The weights of one expert in one layer."""

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
        """x (B, N, D) -> query, key and value, each (B, heads, N, d)."""
        b, n, d = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(b, n, 3, self.heads, d // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def attend(self, x: Tensor, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Shared attention, added to x."""
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        return x + self.out(attended.transpose(1, 2).flatten(2))

    def cross(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Gated bridge; what it adds to x. A key of zeros is always there: nothing to read adds nothing."""
        b, n, d = x.shape
        q = self.bridge["query"](x).view(b, n, self.heads, d // self.heads).transpose(1, 2)
        keys, values = F.pad(keys, (0, 0, 1, 0)), F.pad(values, (0, 0, 1, 0))
        read = F.scaled_dot_product_attention(q, keys, values, attn_mask=F.pad(mask, (1, 0), value=True))
        return self.gate.tanh() * self.bridge["out"](read.transpose(1, 2).flatten(2))

    def feed(self, x: Tensor) -> Tensor:
        """Feed-forward layer, added to x."""
        return x + self.mlp(self.norm_mlp(x))


class Expert(nn.Module):
    """All weights of one expert."""

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


@dataclass(frozen=True)
class Turn:
    """What one expert computes in one call: its run of the new tokens and what they may read.

    Attributes:
        expert: its weights.
        run: its new tokens, after they were sorted by expert.
        mask: (B, heads or 1, n, M + N) of the shared attention.
        bridge: (B, 1, n, M + N) bool of the bridge, or None without one.
        own: (B, 1, M + N, 1) bool, True for its own tokens, where it is insulated from the others; or None.
    """

    expert: Expert
    run: slice
    mask: Tensor
    bridge: Tensor | None
    own: Tensor | None


@final
class Mixture(Trunk):
    """Experts that exchange keys and values, and nothing else. An expert without tokens in a call does not run."""

    def __init__(self, config: MixtureConfig) -> None:
        super().__init__()
        self.config = config
        self.width, self.depth = config.width, config.depth
        names = (CONTEXT, *config.experts)
        self.experts = nn.ModuleDict({name: Expert(config, name) for name in names})
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

    def check(self, streams: Sequence[str]) -> None:
        """See :meth:`wamkit.contract.Trunk.check`: every stream needs an expert."""
        for stream in streams:
            if stream not in self.index:
                raise ConfigError(
                    f"trunk 'mixture_of_transformers': stream {stream!r} has no expert. "
                    f"{did_you_mean(stream, self.index)} Name it in `experts`."
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
        device = tokens.device
        layers = depth_of(layers, self.depth, "trunk 'mixture_of_transformers'")
        self.check([stream for stream, _ in layout])
        owner = [self.index[stream] for stream, length in layout for _ in range(length)] or [0] * n
        order = sorted(range(n), key=lambda i: owner[i])  # stable: an expert's tokens become one run
        there, back = (
            torch.tensor(order, device=device),
            torch.tensor(order, device=device).argsort(),
        )
        owners = torch.tensor(owner, device=device).expand(b, n)
        new_pad = torch.zeros(b, n, dtype=torch.bool, device=device) if pad is None else pad
        new_times = torch.full((b, n), NO_TIME, device=device) if times is None else times
        allowed = readable(b, n, cache, attend, pad, device)
        if cache is not None:  # columns: the cache, then the new tokens, both rows and columns sorted
            columns = torch.cat((torch.arange(cache.length, device=device), cache.length + there))
        else:
            columns = there
        turns = self._turns(allowed[:, there][:, :, columns], owners[:, there], new_times[:, there], cache)
        hidden, keys, values = self._layers(tokens[:, there], turns, cache, layers)
        fresh = Cache(
            tuple(k[:, :, back] for k in keys),
            tuple(v[:, :, back] for v in values),
            new_pad,
            new_times,
            owners,
        )
        return hidden[:, back], fresh

    def _turns(self, allowed: Tensor, owner: Tensor, times: Tensor, cache: Cache | None) -> list[Turn]:
        """One turn per expert that has new tokens; everything here is sorted by expert."""
        all_owners = owner if cache is None else torch.cat((cache.owners, owner), dim=1)
        all_times = times if cache is None else torch.cat((cache.times, times), dim=1)
        found, start = [], 0
        for i, count in enumerate(torch.bincount(owner[0], minlength=len(self.experts)).tolist()):
            run = slice(start, start + count)
            start += count
            if not count:
                continue
            name = (CONTEXT, *self.config.experts)[i]
            expert = self.experts[name]
            assert isinstance(expert, Expert)
            mask = (allowed[:, run] & self.shared[i][all_owners][:, None, :])[:, None]
            if expert.time_bias is not None:
                bias = relative_bias(expert.time_bias, times[:, run], all_times)
                mask = bias.masked_fill(~mask, float("-inf"))
            crossing = None
            if self.config.bridges.get(name):
                crossing = (allowed[:, run] & self.bridged[i][all_owners][:, None, :])[:, None]
            own = (all_owners == i)[:, None, :, None] if name in self.config.insulated else None
            found.append(Turn(expert, run, mask, crossing, own))
        return found

    def _layers(
        self, hidden: Tensor, turns: list[Turn], cache: Cache | None, depth: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden tokens and the new keys and values per layer, of the first ``depth`` layers."""
        parts = [hidden[:, turn.run] for turn in turns]
        keys, values = [], []
        for i in range(depth):
            layers: list[Layer] = [turn.expert.layers[i] for turn in turns]  # type: ignore[misc]
            made = [layer.project(x) for layer, x in zip(layers, parts, strict=True)]
            k, v = torch.cat([m[1] for m in made], dim=2), torch.cat([m[2] for m in made], dim=2)
            keys.append(k)
            values.append(v)
            if cache is not None:
                k, v = torch.cat((cache.keys[i], k), dim=2), torch.cat((cache.values[i], v), dim=2)
            for j, (turn, layer) in enumerate(zip(turns, layers, strict=True)):
                seen, what = k, v
                if turn.own is not None:
                    seen, what = torch.where(turn.own, k, k.detach()), torch.where(turn.own, v, v.detach())
                x = layer.attend(parts[j], made[j][0], seen, what, turn.mask)
                if turn.bridge is not None:
                    x = x + layer.cross(parts[j], seen, what, turn.bridge)
                parts[j] = layer.feed(x)
        if depth == self.depth:
            parts = [turn.expert.norm(x) for turn, x in zip(turns, parts, strict=True)]
        return torch.cat(parts, dim=1), keys, values

    def empty(self, batch_size: int, length: int) -> Cache:
        """See :meth:`wamkit.contract.Trunk.empty`."""
        c = self.config
        zeros = next(self.parameters()).new_zeros(batch_size, c.heads, length, c.width // c.heads)
        clock = torch.full((batch_size, length), NO_TIME, device=zeros.device)
        return Cache(
            (zeros,) * c.depth,
            (zeros,) * c.depth,
            torch.ones(batch_size, length, dtype=torch.bool, device=zeros.device),
            clock,
            torch.zeros_like(clock),
        )
