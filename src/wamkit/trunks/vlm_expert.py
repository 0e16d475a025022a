"""A language model with an attached expert (`bb.vlm-expert`, eqs. 1, 32).

The context goes through the model once per call and leaves its keys and values, layer by layer. Streams go through a
smaller expert with weights of its own and the model's geometry of heads, whose every layer reads the same layer of
the model. Streams named in ``language`` go through the model itself: what it writes (a future in tokens, say) is then
read by the expert like the context.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.nn.pretrained import import_extra, load_transformers, pin
from wamkit.trunks.transformer import NO_TIME, depth_of, readable

PLACE = "trunk 'vlm_expert'"


@TrunkConfig.register_subclass("vlm_expert")
@dataclass(frozen=True)
class VlmExpertConfig(TrunkConfig):
    """Language model whose keys and values a smaller expert reads, layer by layer (pi0, Black et al. 2024; eq. 32).

    Attributes:
        model: a folder or a hub id of `transformers`; empty for random weights. Of a model with vision, its language
            model is taken.
        architecture: what the model is, JSON with its config under ``config``; filled in when ``model`` is named.
        expert: streams whose tokens the expert computes.
        language: streams whose tokens the model itself computes.
        width: features per token of the expert.
        expansion: hidden width of the expert's feed-forward layers over ``width``.
        prefix: who reads whom in the context: everyone (``bidirectional``) or a token those before it (``causal``).
        learning: what the streams of the expert may train of the model and what it reads: ``all`` of it, the
            model ``frozen`` but not the encoders before it, or none (``insulated``: no gradient passes, Driess et al.
            2025; then only streams of ``language`` train it).
    """

    model: str = ""
    architecture: str = ""
    expert: tuple[str, ...] = ("action",)
    language: tuple[str, ...] = ()
    width: int = 128
    expansion: float = 4.0
    prefix: Literal["bidirectional", "causal"] = "bidirectional"
    learning: Literal["all", "frozen", "insulated"] = "all"

    def __post_init__(self) -> None:
        """Read what the model is."""
        pin(self, PLACE)

    def build(self) -> VlmExpert:
        """Build; raises :class:`ConfigError` when the model is not there or keeps no keys and values per layer."""
        if not self.architecture:
            raise ConfigError(
                f"{PLACE}: name a `model` (a folder or a hub id), or give an `architecture` for random weights"
            )
        both = sorted({*self.expert} & {*self.language})
        if both:
            raise ConfigError(f"{PLACE}: {both} stand in `expert` and in `language`; keep one")
        return VlmExpert(self)


@final
class LanguageModel(nn.Module):
    """The decoder of a model of `transformers`, run on embeddings.

    Attributes:
        hidden: features per token.
        depth, heads, groups, size: layers; heads of queries, heads of keys, and features of one head.
    """

    def __init__(self, config: VlmExpertConfig) -> None:
        super().__init__()
        transformers = import_extra("transformers")
        facts = json.loads(config.architecture)
        settings = transformers.AutoConfig.for_model(**facts["config"])
        self.absent = ""
        whole: Any
        if config.model:
            whole, self.absent = load_transformers(config.model, settings, "joint", PLACE)
        else:
            whole = transformers.AutoModel.from_config(settings)
        self.decoder = whole.get_decoder()
        self.decoder.set_input_embeddings(nn.Identity())  # embeddings come in: words need no table here
        settings = self.decoder.config
        self.hidden, self.depth = int(settings.hidden_size), int(settings.num_hidden_layers)
        self.heads = int(getattr(settings, "num_attention_heads", 0))
        self.kinds = list(getattr(settings, "layer_types", None) or [""] * self.depth)
        self.rotary = getattr(self.decoder, "rotary_emb", None)
        turns = inspect.signature(self.rotary.forward).parameters if self.rotary is not None else {}
        self.turns_by_kind = (
            "layer_type" in turns
        )  # some models turn their global layers otherwise than their local
        self.frozen = config.learning == "frozen"
        self.decoder.requires_grad_(not self.frozen)
        self.train(False)
        keys = self._probe()
        self.groups, self.size = keys.shape[1], keys.shape[3]
        self.train(True)
        self.register_load_state_dict_post_hook(_arrived)

    def _probe(self) -> Tensor:
        """Keys of one layer; raises :class:`ConfigError` for a model without keys and values in every layer."""
        kept = import_extra("transformers").DynamicCache()
        if self.heads:
            with torch.no_grad():
                self._run(torch.zeros(1, 2, self.hidden), torch.ones(1, 2, 2, dtype=torch.bool), 0, kept)
        found: list[Tensor | None] = [getattr(layer, "keys", None) for layer in kept.layers]
        if len(found) != self.depth or any(k is None or k.dim() != 4 or k.shape[2] != 2 for k in found):
            raise ConfigError(
                f"{PLACE}: {type(self.decoder).__name__} does not keep keys and values of every token in every layer, "
                f"so no expert can read them. Use a decoder with plain attention (Llama, Qwen, Gemma, ...)."
            )
        return found[0]  # type: ignore[return-value]

    def _run(self, tokens: Tensor, allowed: Tensor, start: int, kept: Any) -> Tensor:
        place = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
        mask = torch.zeros(allowed.shape, dtype=tokens.dtype, device=tokens.device)
        mask = mask.masked_fill(~allowed, torch.finfo(tokens.dtype).min)[:, None]
        output = self.decoder(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=place.expand(tokens.shape[0], -1),
            past_key_values=kept,
            use_cache=True,
        )
        return output.last_hidden_state

    def forward(
        self, tokens: Tensor, allowed: Tensor, cache: Cache | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden tokens, and the new keys and values of every layer.

        Args:
            tokens: (B, N, hidden) embeddings, which stand after the cached tokens of the model.
            allowed: (B, N, M + N) bool, who may read whom.
            cache: M tokens computed before, or None.
        """
        if self.absent:
            raise ConfigError(self.absent)
        kept = import_extra("transformers").DynamicCache()
        before = 0 if cache is None else cache.length
        if cache is not None:
            for i, (k, v) in enumerate(zip(cache.keys, cache.values, strict=True)):
                kept.update(k, v, i)
        hidden = self._run(tokens, allowed, place_after(cache), kept)
        keys, values = [layer.keys for layer in kept.layers], [layer.values for layer in kept.layers]
        return hidden, [k[:, :, before:] for k in keys], [v[:, :, before:] for v in values]

    def turn(self, x: Tensor, place: int, layer: int) -> Tensor:
        """Turn queries or keys (B, heads, N, d) as the model turns its own at position ``place``."""
        if self.rotary is None:
            return x
        where = torch.full((1, 1), place, device=x.device)
        kind = {"layer_type": self.kinds[layer]} if self.turns_by_kind else {}
        cos, sin = self.rotary(x, where, **kind)
        width = cos.shape[-1]
        turned, rest = x[..., :width], x[..., width:]
        first, second = turned.chunk(2, dim=-1)
        turned = turned * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
        return torch.cat((turned, rest), dim=-1)

    def train(self, mode: bool = True) -> Self:
        """A frozen model is never in training mode."""
        return super().train(mode and not self.frozen)


def _arrived(model: nn.Module, keys: Any) -> None:
    """After weights were read from a checkpoint: they are there."""
    assert isinstance(model, LanguageModel)
    model.absent = ""


def place_after(cache: Cache | None) -> int:
    """The position that follows what the model itself has read: streams of the expert take none of their own."""
    return 0 if cache is None or not cache.length else int((cache.owners[0] == 0).sum())


class ExpertLayer(nn.Module):
    """One layer of the expert: attention over the model's keys and its own, then a feed-forward layer."""

    def __init__(self, width: int, expansion: float, heads: int, groups: int, size: int) -> None:
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, size
        self.norm_attention = nn.RMSNorm(width)
        self.query = nn.Linear(width, heads * size, bias=False)
        self.key_value = nn.Linear(width, 2 * groups * size, bias=False)
        self.out = nn.Linear(heads * size, width, bias=False)
        self.norm_mlp = nn.RMSNorm(width)
        hidden = int(width * expansion)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, N, width) -> queries (B, heads, N, d), keys and values (B, groups, N, d)."""
        x = self.norm_attention(x)
        q = self.query(x).unflatten(2, (self.heads, self.size)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(2, (2, self.groups, self.size)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def feed(self, x: Tensor, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention and feed-forward layer, added to x."""
        found = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=self.heads != self.groups
        )
        x = x + self.out(found.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


@final
class VlmExpert(Trunk):
    """The model's tokens never read the expert's, so that its cache holds for every evaluation of the expert.

    All tokens of the expert stand at one rotary position, the one after what the model has read: estimators add
    learned positions to them, and a stream that is left out moves no other. Block times are not used.
    """

    language = True

    def __init__(self, config: VlmExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LanguageModel(config)
        self.width, self.depth = config.width, self.model.depth
        shape = (self.model.heads, self.model.groups, self.model.size)
        self.layers = nn.ModuleList(
            ExpertLayer(config.width, config.expansion, *shape) for _ in range(self.depth)
        )
        self.norm = nn.RMSNorm(config.width)
        if config.language:
            self.inward = nn.Linear(config.width, self.model.hidden)
            self.outward = nn.Linear(self.model.hidden, config.width)

    @property
    def context_width(self) -> int:
        """Features of the model's tokens."""
        return self.model.hidden

    def check(self, streams: Sequence[str]) -> None:
        """See :meth:`wamkit.contract.Trunk.check`: every stream is the expert's or the model's."""
        known = (*self.config.expert, *self.config.language)
        for stream in streams:
            if stream not in known:
                raise ConfigError(
                    f"{PLACE}: stream {stream!r} is neither the expert's nor the model's. "
                    f"{did_you_mean(stream, known)} Name it in `expert` or `language`."
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
        """See :meth:`wamkit.contract.Trunk.forward`. Raises :class:`ConfigError` on a call of both kinds."""
        b, n, _ = tokens.shape
        self.check([stream for stream, _ in layout])
        depth = depth_of(layers, self.depth, PLACE)
        written = [stream for stream, _ in layout if stream in self.config.language]
        own = bool(layout) and not written
        if written and len(written) < len(layout):
            raise ConfigError(
                f"{PLACE}: {written} of the model and {[s for s, _ in layout if s not in written]} of the expert "
                f"cannot go side by side. Give them factors of their own, or declare who reads whom (`reads`)."
            )
        if not own and depth != self.depth:
            raise ConfigError(f"{PLACE}: the model itself cannot stop after layer {depth} of {self.depth}")
        if not layout and attend is None and self.config.prefix == "causal":
            attend = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()
        allowed = readable(b, n, cache, attend, pad, tokens.device)
        if own:
            hidden, keys, values = self._expert(tokens, allowed, cache, depth)
        else:
            hidden, keys, values = self.model(self.inward(tokens) if written else tokens, allowed, cache)
            hidden = self.outward(hidden) if written else hidden
        new_pad = torch.zeros(b, n, dtype=torch.bool, device=tokens.device) if pad is None else pad
        new_times = torch.full((b, n), NO_TIME, device=tokens.device) if times is None else times
        return hidden, Cache(tuple(keys), tuple(values), new_pad, new_times, torch.full_like(new_times, own))

    def _expert(
        self, hidden: Tensor, allowed: Tensor, cache: Cache | None, depth: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden tokens of the expert, and their keys and values in its first ``depth`` layers."""
        place = place_after(cache)
        mask = allowed[:, None]
        keys, values = [], []
        for i, layer in enumerate(self.layers[:depth]):
            assert isinstance(layer, ExpertLayer)
            q, k, v = layer.project(hidden)
            q, k = self.model.turn(q, place, i), self.model.turn(k, place, i)
            keys.append(k)
            values.append(v)
            if cache is not None:
                k = torch.cat((self._seen(cache.keys[i], cache), k), dim=2)
                v = torch.cat((self._seen(cache.values[i], cache), v), dim=2)
            hidden = layer.feed(hidden, q, k, v, mask)
        return self.norm(hidden) if depth == self.depth else hidden, keys, values

    def _seen(self, made: Tensor, cache: Cache) -> Tensor:
        """Cached keys or values, those of the model without gradient where the expert is insulated from it."""
        if self.config.learning != "insulated":
            return made
        return torch.where((cache.owners == 0)[:, None, :, None], made.detach(), made)

    def empty(self, batch_size: int, length: int) -> Cache:
        """See :meth:`wamkit.contract.Trunk.empty`."""
        zeros = self.norm.weight.new_zeros(batch_size, self.model.groups, length, self.model.size)
        clock = torch.full((batch_size, length), NO_TIME, device=zeros.device)
        padded = torch.ones(batch_size, length, dtype=torch.bool, device=zeros.device)
        return Cache((zeros,) * self.depth, (zeros,) * self.depth, padded, clock, torch.ones_like(clock))
