"""Conversion between the values of streams and the tokens of a trunk."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call
from wamkit.contract.protocols import Trunk
from wamkit.contract.streams import StreamSpec
from wamkit.nn.named import Named


class StreamTokens(nn.Module):
    """Embeds the values of one stream and reads them back from the trunk's hidden tokens."""

    def __init__(self, spec: StreamSpec, width: int) -> None:
        super().__init__()
        self.spec = spec
        self.inward: nn.Module
        if spec.vocabulary is None:
            self.inward = nn.Linear(spec.features, width)
            self.outward = nn.Linear(width, spec.features)
        else:
            self.inward = nn.Embedding(spec.vocabulary, width)
            self.outward = nn.Linear(width, spec.vocabulary)
        self.position = nn.Parameter(torch.randn(spec.steps, spec.tokens, width) * 0.02)

    def embed(self, values: Tensor) -> Tensor:
        """Embed (B, T, N, D) values or (B, T, N) ids as (B, T * N, width); T may be a prefix of the stream."""
        tokens: Tensor = self.inward(values)
        return (tokens + self.position[: values.shape[1]]).flatten(1, 2)

    def read(self, hidden: Tensor) -> Tensor:
        """Read (B, L, width) as values (B, T, N, D), or as logits (B, T, N, vocabulary)."""
        return self.outward(hidden).unflatten(1, (-1, self.spec.tokens))


class LevelEmbedding(nn.Module):
    """Embedding of a noise level in [0, 1]: sinusoids, then a small network."""

    frequencies: Tensor

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0, math.log(200.0), frequencies)), persistent=False
        )
        self.network = nn.Sequential(nn.Linear(2 * frequencies, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, level: Tensor) -> Tensor:
        """Embed levels (B,) as (B, 1, width)."""
        angle = level[:, None] * self.frequencies
        return self.network(torch.cat((angle.sin(), angle.cos()), dim=-1))[:, None]


def with_given(trunk: Trunk, streams: Named[StreamTokens], call: Call) -> Cache:
    """Append the tokens of the given streams, run through the trunk once, to the context cache.

    Given tokens read the context and each other; the generated streams read all of them.
    """
    names = [name for name in streams if name in call.given]
    if not names:
        return call.context
    parts = [streams[name].embed(call.given[name]) for name in names]
    layout = [(name, part.shape[1]) for name, part in zip(names, parts, strict=True)]
    _, cache = trunk(torch.cat(parts, dim=1), cache=call.context, layout=layout)
    return call.context.append(cache)


def split_tokens(hidden: Tensor, lengths: list[int]) -> tuple[Tensor, ...]:
    """Cut (B, sum of lengths, D) back into one piece per stream."""
    return hidden.split(lengths, dim=1)
