"""Discrete next-token estimator over one interleaved causal stream (`bb.autoregressive`, `cp.interleave`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.calls import Call, FactorLoss, Generated
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.tokens import StreamTokens, with_given
from wamkit.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.streams import Past, RowNoise, StreamSpec, Target
from wamkit.types import Budget


@EstimatorConfig.register_subclass("autoregressor")
@dataclass(frozen=True)
class AutoregressorConfig(EstimatorConfig):
    """Next-token prediction over one interleaved causal stream (survey eq. 26).

    Attributes:
        segments: how many pieces every stream is cut into (along time) before they are interleaved in the
            order in which the factor names them: 1 gives a...a s...s, 2 gives a.. s.. a.. s..
        temperature: sampling temperature; 0 takes the most likely token.
        lookahead: heads that are trained, the first on the next token, the k-th on the k-th next (multi-token
            prediction, Gloeckle et al. 2024). Decoding runs the first alone.
    """

    segments: int = 1
    temperature: float = 0.0
    lookahead: int = 1

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Autoregressor:
        """Build; raises :class:`ConfigError` on continuous outputs or steps that cannot be cut evenly."""
        if self.segments < 1:
            raise ConfigError(f"estimator 'autoregressor': segments {self.segments} must be at least 1")
        length = sum(spec.length for spec in outputs)
        if not 1 <= self.lookahead <= length:
            raise ConfigError(
                f"estimator 'autoregressor': lookahead {self.lookahead} must be 1 to {length}, the tokens of a window"
            )
        require_disjoint(outputs, given, "estimator 'autoregressor'")
        for spec in outputs:
            spec.require(discrete=True, reader="estimator 'autoregressor'")
            if spec.steps % self.segments:
                raise ConfigError(
                    f"estimator 'autoregressor': segments {self.segments} does not divide the {spec.steps} "
                    f"steps of stream {spec.name!r}"
                )
        return Autoregressor(self, outputs, given, require_trunk(trunk, "estimator 'autoregressor'"))


@dataclass(frozen=True)
class Piece:
    """A run of steps of one stream inside the serialised order: steps ``start`` to ``stop``."""

    stream: str
    start: int
    stop: int


@final
class Autoregressor(Estimator):
    """Cross-entropy on the next token (eq. 26); decoding reads the keys and values of earlier tokens."""

    family: ClassVar[Family] = "autoregressive"

    def __init__(
        self,
        config: AutoregressorConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        self.begin = nn.Parameter(torch.randn(trunk.width) * 0.02)
        d = trunk.width
        self.ahead = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
            for _ in range(config.lookahead - 1)
        )

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def order(self, names: Sequence[str]) -> list[Piece]:
        """The declared order of the serialised stream, as pieces."""
        pieces = []
        for i in range(self.config.segments):
            for name in names:
                size = self._stream(name).spec.steps // self.config.segments
                pieces.append(Piece(name, i * size, (i + 1) * size))
        return pieces

    def serialize(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """ids per stream (B, T, N) -> one sequence (B, L) in the declared order."""
        return torch.cat([values[p.stream][:, p.start : p.stop].flatten(1) for p in self.order(names)], dim=1)

    def parse(self, sequence: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Inverse of :meth:`serialize`."""
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        at = 0
        for piece in self.order(names):
            n = self._stream(piece.stream).spec.tokens
            length = (piece.stop - piece.start) * n
            found[piece.stream].append(sequence[:, at : at + length].unflatten(1, (-1, n)))
            at += length
        return {name: torch.cat(parts, dim=1) for name, parts in found.items()}

    def _slots(self, names: Sequence[str]) -> Tensor:
        """(L, width): what stream and position each element of the sequence is, told before it is known."""
        return torch.cat(
            [self._stream(p.stream).position[p.start : p.stop].flatten(0, 1) for p in self.order(names)]
        )

    def _embedded(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """(B, L, width) embeddings of the known ids in the declared order."""
        return torch.cat(
            [
                self._stream(p.stream).inward(values[p.stream][:, p.start : p.stop].flatten(1))
                for p in self.order(names)
            ],
            dim=1,
        )

    def logits(self, values: Mapping[str, Tensor], names: Sequence[str], call: Call) -> list[Tensor]:
        """Teacher-forced logits per piece, (B, tokens of the piece, vocabulary), without a decoding cache."""
        return self._read(self._hidden(values, names, call), names)

    def _hidden(self, values: Mapping[str, Tensor], names: Sequence[str], call: Call) -> Tensor:
        """(B, L, width): element i is what the trunk knows before element i of the sequence is read."""
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        known = self._embedded(values, names)[:, :-1]
        begin = self.begin.expand(call.rows, 1, -1)
        tokens = torch.cat((begin, known), dim=1) + self._slots(names)
        length = tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        layout = [(p.stream, size) for p, size in zip(self.order(names), self._sizes(names), strict=True)]
        hidden, _ = self.trunk(tokens, cache=cache, attend=causal, layout=layout)
        return hidden

    def _sizes(self, names: Sequence[str]) -> list[int]:
        """Tokens per piece."""
        return [(p.stop - p.start) * self._stream(p.stream).spec.tokens for p in self.order(names)]

    def _read(self, hidden: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Hidden tokens, one per element of the sequence -> logits per piece."""
        parts = hidden.split(self._sizes(names), dim=1)
        return [self._stream(p.stream).outward(h) for p, h in zip(self.order(names), parts, strict=True)]

    def foresee(self, hidden: Tensor, names: Sequence[str], distance: int) -> list[Tensor]:
        """Logits per piece of the head that sees ``distance`` elements further than the next.

        Nobody foresees the first ``distance`` elements of the sequence; their logits are of a padded zero.
        """
        if distance == 0:
            return self._read(hidden, names)
        seen = hidden[:, : hidden.shape[1] - distance]
        seen = seen + self.ahead[distance - 1](seen)  # one unembedding per stream for all heads
        return self._read(F.pad(seen, (0, 0, distance, 0)), names)

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Cross-entropy per stream, reported separately; with lookahead, the mean over all heads."""
        values = {name: targets[name].values for name in outputs}
        sums = {name: torch.zeros((), device=self.begin.device) for name in outputs}
        counts = {name: torch.zeros((), device=self.begin.device) for name in outputs}
        hidden = self._hidden(values, outputs, call)
        for distance in range(self.config.lookahead):
            start = 0
            for piece, logits in zip(
                self.order(outputs), self.foresee(hidden, outputs, distance), strict=True
            ):
                ids = values[piece.stream][:, piece.start : piece.stop]
                keep = ~targets[piece.stream].pad[:, piece.start : piece.stop, None].expand_as(ids).flatten(1)
                foreseen = torch.arange(start, start + keep.shape[1], device=keep.device) >= distance
                start += keep.shape[1]
                error = F.cross_entropy(logits.transpose(1, 2), ids.flatten(1), reduction="none")
                sums[piece.stream] = sums[piece.stream] + (error * (keep & foreseen)).sum()
                counts[piece.stream] = counts[piece.stream] + (keep & foreseen).sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    def needed(self, wanted: Sequence[str], budget: Budget) -> list[Piece]:
        """Pieces up to the last one that the caller asked for; decoding stops after it."""
        order = self.order(list(self.outputs))
        last = 0
        for i, piece in enumerate(order):
            spec = self._stream(piece.stream).spec
            beyond = (
                spec.role == "action"
                and budget.horizon is not None
                and piece.start * spec.ticks_per_step >= budget.horizon
            )
            if piece.stream in wanted and not beyond:
                last = i + 1
        return order[:last]

    def _choose(self, logits: Tensor, noise: RowNoise) -> Tensor:
        """(B, vocabulary) -> ids (B,)."""
        if self.config.temperature == 0:
            return logits.argmax(dim=-1)
        uniform = noise.uniform(logits.shape[-1]).clamp(min=1e-10)
        return (logits / self.config.temperature - (-uniform.log()).log()).argmax(dim=-1)  # Gumbel trick

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Decode token by token from the cache; streams that are given are forced, and cost no evaluation.

        With ``budget.horizon`` the action may come back shorter than H: (B, T', N) with T' <= T.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        token = self.begin.expand(call.rows, 1, -1)
        found: dict[str, list[Tensor]] = {name: [] for name in self.outputs}
        spent = dict.fromkeys(outputs, 0)
        for piece in self.needed(outputs, budget):
            stream = self._stream(piece.stream)
            slots = stream.position[piece.start : piece.stop].flatten(0, 1)
            forced = call.given.get(piece.stream)
            for j, slot in enumerate(slots):
                hidden, fresh = self.trunk(token + slot, cache=cache, layout=[(piece.stream, 1)])
                cache = cache.append(fresh)
                if forced is None:
                    ids = self._choose(stream.outward(hidden[:, 0]), noise)
                    spent[piece.stream] = spent.get(piece.stream, 0) + 1
                else:
                    ids = forced.flatten(1)[:, piece.start * stream.spec.tokens + j]
                found[piece.stream].append(ids)
                token = stream.inward(ids)[:, None]
        values = {
            name: torch.stack(found[name], dim=1).unflatten(1, (-1, self._stream(name).spec.tokens))
            for name in outputs
        }
        return Generated(values, spent)

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.protocols.Estimator`: the number of tokens is fixed by the representation."""
        for name in outputs:
            if name in budget.nfe:
                raise BudgetError(
                    f"nfe for stream {name!r}: an autoregressor spends one evaluation per token, which the "
                    f"representation fixes. Use `horizon` to stop early."
                )

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """A stream can be left out when all of it comes after what is wanted."""
        wanted = [name for name in outputs if name != stream]
        return stream not in {piece.stream for piece in self.needed(wanted, budget)}
