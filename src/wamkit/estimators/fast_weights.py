"""Memory in weights that are trained while acting (`mm.ttt-memory`; eq. 36).

A matrix W models the observations: it maps the key of every observed token to its value. One gradient step on
``|W k - v|^2 / 2`` per token is the delta rule

    W  <-  W + b (v - W k) k^T,    |k| = 1,    b in (0, 1) learned from the token

(Schlag et al. 2021; TTT-Linear of Sun et al. 2024 with a minibatch of one). Keys have length one, so a step never
overshoots, and writing under one key does not change what orthogonal keys return. The memory is read with a few
queries and passed on as a state stream z, so every estimator that accepts a state gets a memory: the factor here is
``p(z | c)``, and ``p(s, a | z, c)`` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Size, Word
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError


@EstimatorConfig.register_subclass("fast_weights")
@dataclass(frozen=True)
class FastWeightsConfig(EstimatorConfig):
    """Memory of constant size: weights trained at test time by the delta rule (TTT-Linear, Sun et al. 2024).

    Attributes:
        stream: future stream whose observed values are stored.
        shape: tokens and features per step of that stream.
        width: rows and columns of the fast weights.
        queries: number of values read from the memory per call.
        past: blocks of real past in training; when acting, the memory covers the whole episode.
    """

    trunk: str | None = None
    stream: Word = "future"
    shape: tuple[Size, Size] = (1, 4)
    width: Size = 32
    queries: Size = 4
    past: Size = 4

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> FastWeights:
        """Build the estimator; raises :class:`ConfigError` on other factors than p(state | c)."""
        if [s.role for s in outputs] != ["state"] or given:
            raise ConfigError(
                "estimator 'fast_weights' needs one factor p(state | c); it outputs "
                f"{[s.name for s in outputs]} and is given {[s.name for s in given]}"
            )
        return FastWeights(self, outputs[0])


@final
class FastWeights(Estimator):
    """Writes every observed token into (B, width, width) fast weights and reads a state from them."""

    family: ClassVar[Family] = "state-space"

    def __init__(self, config: FastWeightsConfig, state: StreamSpec) -> None:
        super().__init__()
        self.config, self.state, self.past = config, state, config.past
        tokens, features = config.shape
        width = config.width
        self.place = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.embed = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.rate = nn.Linear(width, 1)
        self.ask = nn.Linear(width, width, bias=False)
        self.queries = nn.Parameter(torch.randn(config.queries, width))
        self.read = nn.Linear(config.queries * width, state.features)

    def _tokens(self, values: Tensor) -> Tensor:
        """Embed (B, N, D) as (B, N, width); raises :class:`ConfigError` when the stream has another shape."""
        if tuple(values.shape[1:]) != tuple(self.config.shape) or not values.is_floating_point():
            raise ConfigError(
                f"estimator 'fast_weights': stream {self.config.stream!r} has {tuple(values.shape[1:])} "
                f"{values.dtype} per step, but `shape` says {tuple(self.config.shape)} floating-point values"
            )
        return self.embed(values) + self.place

    def _write(self, weights: Tensor, tokens: Tensor, pad: Tensor) -> Tensor:
        """Take a delta-rule step per token of one block; padded rows, ``pad`` (B,), write nothing."""
        keys, values = F.normalize(self.key(tokens), dim=-1), self.value(tokens)
        rates = torch.sigmoid(self.rate(tokens)) * (~pad)[:, None, None]
        for k, v, b in zip(keys.unbind(1), values.unbind(1), rates.unbind(1), strict=True):
            error = v - (weights @ k[..., None])[..., 0]
            weights = weights + (b * error)[..., None] * k[:, None]
        return weights

    def _query(self, tokens: Tensor) -> Tensor:
        """Queries (B, queries, width), given the tokens observed now."""
        return F.normalize(self.queries + self.ask(tokens.mean(dim=1))[:, None], dim=-1)

    def _recall(self, carry: Mapping[str, Tensor]) -> Tensor:
        """Read the state (B, 1, 1, features)."""
        values = carry["query"] @ carry["weights"].mT
        return self.read(values.flatten(1))[:, None, None]

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Return no loss term: the factors that read the state train it, through all blocks of the past."""
        assert past is not None
        carry = self.observe(self.initial_carry(call.rows), call.context, past)
        return FactorLoss({}, {self.state.name: self._recall(carry)})

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True for the state: the real past determines it, whatever is known of the future."""
        return self.state.name in outputs

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Read the state from the carried memory."""
        return Generated({self.state.name: self._recall(call.carry)}, {self.state.name: 1})

    @override
    def initial_carry(self, batch_size: int) -> Any:
        """Return zero weights, which answer every query with zero."""
        width, queries = self.config.width, self.config.queries
        return {
            "weights": self.queries.new_zeros(batch_size, width, width),
            "query": self.queries.new_zeros(batch_size, queries, width),
        }

    @override
    def observe(self, carry: Any, context: Cache, past: Past) -> Any:
        """Write the blocks of ``past`` in order. The size of the carry does not change."""
        if self.config.stream not in past.values:
            raise ConfigError(
                f"estimator 'fast_weights': `stream` {self.config.stream!r} is not a future stream of the design, "
                f"which has {sorted(past.values)}"
            )
        weights, query = carry["weights"], carry["query"]
        for values, pad in zip(past.values[self.config.stream].unbind(1), past.pad.unbind(1), strict=True):
            tokens = self._tokens(values)
            weights = self._write(weights, tokens, pad)
            query = torch.where(pad[:, None, None], query, self._query(tokens))
        return {"weights": weights, "query": query}
