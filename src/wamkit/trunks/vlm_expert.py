"""Language model with an attached expert (`bb.vlm-expert`, eqs. 1, 32).

The context passes through the model once per call and leaves keys and values in every layer. Streams pass through a
smaller expert with its own weights and the model's head geometry; each of its layers reads the same layer of the
model. Streams named in ``language`` pass through the model itself, and the expert reads what the model writes there
(a tokenized future, for example) in the same way as the context.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Expansion, Size, Words
from wamkit.contract.cache import Cache
from wamkit.contract.protocols import Layout, Trunk, TrunkConfig
from wamkit.errors import ConfigError, did_you_mean
from wamkit.nn.pretrained import import_extra, load_transformers, pin
from wamkit.trunks.passes import Pass, check_depth, empty_cache

PLACE = "trunk 'vlm_expert'"


@TrunkConfig.register_subclass("vlm_expert")
@dataclass(frozen=True)
class VlmExpertConfig(TrunkConfig):
    """Language model whose keys and values a smaller expert reads, layer by layer (pi0, Black et al. 2024; eq. 32).

    Attributes:
        model: folder or hub id of a `transformers` model; empty for random weights. Only the language model of a
            vision-language model is used.
        architecture: architecture of the model, JSON with its config under ``config``; filled in from ``model``.
        expert: streams whose tokens the expert computes.
        language: streams whose tokens the model itself computes.
        width: features per token of the expert.
        expansion: hidden width of the expert's feed-forward layers, as a multiple of ``width``.
        prefix: attention among the context tokens: ``bidirectional``, or ``causal`` (each token reads earlier ones).
        learning: weights that the expert's streams train besides the expert: ``all`` (the model and the encoders
            before it), ``frozen`` (the encoders, but not the model) or ``insulated`` (neither, because no gradient
            passes, Driess et al. 2025; only streams of ``language`` then train the model).
    """

    packages: ClassVar[tuple[str, ...]] = ("pretrained",)
    model: str = ""
    architecture: str = ""
    expert: Words = ("action",)
    language: Words = ()
    width: Size = 128
    expansion: Expansion = 4.0
    prefix: Literal["bidirectional", "causal"] = "bidirectional"
    learning: Literal["all", "frozen", "insulated"] = "all"

    def __post_init__(self) -> None:
        """Fill in ``architecture`` from ``model``."""
        pin(self, PLACE)

    @override
    def build(self) -> VlmExpert:
        """Build the trunk.

        Raises:
            ConfigError: the model is missing or does not keep keys and values in every layer, or a stream belongs to
                both the expert and the model.
        """
        if not self.architecture:
            raise ConfigError(
                f"{PLACE}: name a `model` (a folder or a hub id), or give an `architecture` for random weights"
            )
        both = sorted({*self.expert} & {*self.language})
        if both:
            raise ConfigError(f"{PLACE}: {both} are in both `expert` and `language`; keep one")
        return VlmExpert(self)


@final
class LanguageModel(nn.Module):
    """Decoder of a `transformers` model, run on embeddings.

    Attributes:
        hidden: features per token.
        depth: layers.
        heads: query heads.
        groups: key and value heads.
        size: features per head.
        absent: message of the error that every call raises while the weights are missing; empty otherwise.
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
        # The inputs are embeddings already, so the word table is not needed.
        self.decoder.set_input_embeddings(nn.Identity())
        settings = self.decoder.config
        self.hidden, self.depth = int(settings.hidden_size), int(settings.num_hidden_layers)
        self.heads = int(getattr(settings, "num_attention_heads", 0))
        self.kinds = list(getattr(settings, "layer_types", None) or [""] * self.depth)
        self.rotary = getattr(self.decoder, "rotary_emb", None)
        parameters = inspect.signature(self.rotary.forward).parameters if self.rotary is not None else {}
        # Some models use different rotary embeddings in global and local layers.
        self.rotary_by_kind = "layer_type" in parameters
        self.frozen = config.learning == "frozen"
        self.decoder.requires_grad_(not self.frozen)
        self.train(False)
        keys = self._probe()
        self.groups, self.size = keys.shape[1], keys.shape[3]
        self.train(True)
        self.register_load_state_dict_post_hook(_mark_loaded)

    def _probe(self) -> Tensor:
        """Keys of the first layer; raises :class:`ConfigError` for a model without keys in every layer."""
        kept = import_extra("transformers").DynamicCache()
        if self.heads:
            with torch.no_grad():
                self._run(torch.zeros(1, 2, self.hidden), torch.ones(1, 2, 2, dtype=torch.bool), 0, kept)
        keys = [getattr(layer, "keys", None) for layer in kept.layers]
        plain = [k for k in keys if isinstance(k, Tensor) and k.dim() == 4 and k.shape[2] == 2]
        if not len(plain) == len(keys) == self.depth:
            raise ConfigError(
                f"{PLACE}: {type(self.decoder).__name__} does not keep keys and values of every token in every layer, "
                f"so no expert can read them. Use a decoder with plain attention (Llama, Qwen, Gemma, ...)."
            )
        return plain[0]

    def _run(self, tokens: Tensor, allowed: Tensor, start: int, kept: Any) -> Tensor:
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
        mask = torch.zeros(allowed.shape, dtype=tokens.dtype, device=tokens.device)
        mask = mask.masked_fill(~allowed, torch.finfo(tokens.dtype).min)[:, None]
        output = self.decoder(
            inputs_embeds=tokens,
            attention_mask=mask,
            position_ids=positions.expand(tokens.shape[0], -1),
            past_key_values=kept,
            use_cache=True,
        )
        return output.last_hidden_state

    def forward(
        self, tokens: Tensor, allowed: Tensor, cache: Cache | None
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return hidden tokens, and the new keys and values of every layer.

        Args:
            tokens: (B, N, hidden) embeddings, at the positions after the model's cached tokens.
            allowed: (B, N, M + N) bool, True where the new token of the row may read the token of the column.
            cache: M tokens computed before, or None.
        """
        if self.absent:
            raise ConfigError(self.absent)
        kept = import_extra("transformers").DynamicCache()
        before = 0 if cache is None else cache.length
        if cache is not None:
            for i, (k, v) in enumerate(zip(cache.keys, cache.values, strict=True)):
                kept.update(k, v, i)
        hidden = self._run(tokens, allowed, next_position(cache), kept)
        keys, values = [layer.keys for layer in kept.layers], [layer.values for layer in kept.layers]
        return hidden, [k[:, :, before:] for k in keys], [v[:, :, before:] for v in values]

    def rotate(self, x: Tensor, position: int, layer: int) -> Tensor:
        """Apply the model's rotary embedding of one position to queries or keys (B, heads, N, d)."""
        if self.rotary is None:
            return x
        positions = torch.full((1, 1), position, device=x.device)
        kind = {"layer_type": self.kinds[layer]} if self.rotary_by_kind else {}
        cos, sin = self.rotary(x, positions, **kind)
        width = cos.shape[-1]
        rotated, rest = x[..., :width], x[..., width:]
        first, second = rotated.chunk(2, dim=-1)
        rotated = rotated * cos[:, None] + torch.cat((-second, first), dim=-1) * sin[:, None]
        return torch.cat((rotated, rest), dim=-1)

    @override
    def train(self, mode: bool = True) -> Self:
        """Set the training mode, which a frozen model never enters."""
        return super().train(mode and not self.frozen)


def _mark_loaded(model: LanguageModel, keys: object) -> None:
    """Hook after loading a checkpoint: the weights are no longer missing."""
    model.absent = ""


def next_position(cache: Cache | None) -> int:
    """Position after the tokens that the model itself has read; the expert's tokens do not advance it."""
    return 0 if cache is None or not cache.length else int((cache.owners[0] == 0).sum())


class ExpertLayer(nn.Module):
    """Layer of the expert: attention over the model's keys and its own, then a feed-forward layer."""

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
        """Map x (B, N, width) to queries (B, heads, N, d), keys and values (B, groups, N, d)."""
        x = self.norm_attention(x)
        q = self.query(x).unflatten(2, (self.heads, self.size)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(2, (2, self.groups, self.size)).permute(2, 0, 3, 1, 4)
        return q, k, v

    def feed(self, x: Tensor, q: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Add attention and the feed-forward layer to x."""
        attended = F.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=self.heads != self.groups
        )
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))


@final
class VlmExpert(Trunk):
    """The model's tokens never read the expert's, so the model's cache is valid for every evaluation of the expert.

    All tokens of the expert share one rotary position, the one after the tokens that the model has read: estimators
    add learned positions to them, and leaving a stream out does not shift the others. Block times are not used.
    """

    language = True

    def __init__(self, config: VlmExpertConfig) -> None:
        super().__init__()
        self.config = config
        self.streams = (*config.expert, *config.language)
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
    @override
    def context_width(self) -> int:
        """Features per token of the model."""
        return self.model.hidden

    @override
    def check(self, streams: Sequence[str]) -> None:
        """Require that every stream is in ``expert`` or ``language``."""
        names = (*self.config.expert, *self.config.language)
        for stream in streams:
            if stream not in names:
                raise ConfigError(
                    f"{PLACE}: stream {stream!r} is neither the expert's nor the model's. "
                    f"{did_you_mean(stream, names)} Name it in `expert` or `language`."
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
        """Run the network over new tokens, see :meth:`wamkit.contract.Trunk.forward`.

        Raises:
            ConfigError: ``layout`` mixes streams of the model with streams of the expert, or ``layers`` stops inside
                the model.
        """
        self.check([stream for stream, _ in layout])
        depth = check_depth(layers, self.depth, PLACE)
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
            n = tokens.shape[1]
            attend = torch.ones(n, n, dtype=torch.bool, device=tokens.device).tril()
        new = Pass(tokens, cache, attend, pad, times)
        allowed = new.readable()
        if own:
            hidden, keys, values = self._expert(tokens, allowed, cache, depth)
        else:
            hidden, keys, values = self.model(self.inward(tokens) if written else tokens, allowed, cache)
            hidden = self.outward(hidden) if written else hidden
        return hidden, new.cached(keys, values, torch.full_like(new.times, own))

    def _expert(
        self, hidden: Tensor, allowed: Tensor, cache: Cache | None, depth: int
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Hidden tokens of the expert after ``depth`` layers, and their keys and values in these layers."""
        position = next_position(cache)
        mask = allowed[:, None]
        keys, values = [], []
        for i in range(depth):
            layer = cast(ExpertLayer, self.layers[i])
            q, k, v = layer.project(hidden)
            q, k = self.model.rotate(q, position, i), self.model.rotate(k, position, i)
            keys.append(k)
            values.append(v)
            if cache is not None:
                k = torch.cat((self._insulate(cache.keys[i], cache), k), dim=2)
                v = torch.cat((self._insulate(cache.values[i], cache), v), dim=2)
            hidden = layer.feed(hidden, q, k, v, mask)
        return self.norm(hidden) if depth == self.depth else hidden, keys, values

    def _insulate(self, cached: Tensor, cache: Cache) -> Tensor:
        """Cached keys or values; the model's are detached when the expert is insulated from it."""
        if self.config.learning != "insulated":
            return cached
        return torch.where((cache.owners == 0)[:, None, :, None], cached.detach(), cached)

    @override
    def empty(self, batch_size: int, length: int) -> Cache:
        zeros = self.norm.weight.new_zeros(batch_size, self.model.groups, length, self.model.size)
        return empty_cache(zeros, self.depth, owner=1)
