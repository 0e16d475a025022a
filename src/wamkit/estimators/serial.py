"""One interleaved causal stream of elements, ids or vectors (`bb.autoregressive`, `cp.interleave`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.contract.calls import Call, Generated, LearnsApart
from wamkit.contract.protocols import Estimator, Trunk
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint
from wamkit.estimators.tokens import StreamTokens, with_given
from wamkit.nn.named import Named


@dataclass(frozen=True)
class Piece:
    """Run of steps of one stream in the serialised order: steps ``start`` to ``stop``."""

    stream: str
    start: int
    stop: int


def require_serial(
    outputs: Sequence[StreamSpec],
    given: Sequence[StreamSpec],
    segments: int,
    *,
    discrete: bool,
    reader: str,
) -> None:
    """Raise :class:`ConfigError` on elements of the wrong kind or steps that ``segments`` does not divide."""
    if segments < 1:
        raise ConfigError(f"{reader}: segments {segments} must be at least 1")
    require_disjoint(outputs, given, reader)
    for spec in outputs:
        spec.require(discrete=discrete, reader=reader)
        if spec.steps % segments:
            raise ConfigError(
                f"{reader}: segments {segments} does not divide the {spec.steps} steps of stream {spec.name!r}"
            )


class Serial(Estimator, LearnsApart):
    """Generates element after element, each from the trunk's hidden token of the elements before it.

    Values may be token ids (B, T, N) or vectors (B, T, N, D); subclasses implement the draw of one element.
    """

    def __init__(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk, segments: int
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.segments = segments
        self.outputs = Named({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})
        self.begin = nn.Parameter(torch.randn(trunk.width) * 0.02)

    @abstractmethod
    def draw(
        self,
        name: str,
        hidden: Tensor,
        noise: RowNoise,
        written: Sequence[Tensor] = (),
        real: Tensor | None = None,
    ) -> Tensor:
        """Draw one element of stream ``name`` from the hidden token before it, (B, width) -> (B,) ids or (B, D).

        ``written`` are the elements of this stream before it, ``real`` the features of this one, (B,) or (B, D) bool,
        that are not 0; None for all.
        """

    def order(self, names: Sequence[str]) -> list[Piece]:
        """List the pieces in the declared order; raises :class:`ConfigError` when ``names`` has another order."""
        declared = [name for name in self.outputs if name in names]
        if list(names) != declared:
            raise ConfigError(
                f"an interleaved stream of {list(names)} cannot be read or written: the factor declares {declared} of "
                f"{list(self.outputs)}. Keep the factor's order."
            )
        pieces = []
        for i in range(self.segments):
            for name in names:
                size = self.outputs[name].spec.steps // self.segments
                pieces.append(Piece(name, i * size, (i + 1) * size))
        return pieces

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Number of elements of each piece."""
        return [(p.stop - p.start) * self.outputs[p.stream].spec.tokens for p in self.order(names)]

    def serialize(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """Join the values of all streams into one sequence (B, L), or (B, L, D) of vectors of one width."""
        return torch.cat(
            [values[p.stream][:, p.start : p.stop].flatten(1, 2) for p in self.order(names)], dim=1
        )

    def parse(self, sequence: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Invert :meth:`serialize`."""
        values: dict[str, list[Tensor]] = {name: [] for name in names}
        for piece, part in zip(self.order(names), sequence.split(self.sizes(names), dim=1), strict=True):
            values[piece.stream].append(part.unflatten(1, (-1, self.outputs[piece.stream].spec.tokens)))
        return {name: torch.cat(parts, dim=1) for name, parts in values.items()}

    def _slots(self, names: Sequence[str]) -> Tensor:
        """Embeddings (L, width) of the stream and position of each element, known before its value."""
        return torch.cat(
            [self.outputs[p.stream].position[p.start : p.stop].flatten(0, 1) for p in self.order(names)]
        )

    def _embedded(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """Embeddings (B, L, width) of the elements' values in the declared order."""
        return torch.cat(
            [
                self.outputs[p.stream].inward(values[p.stream][:, p.start : p.stop].flatten(1, 2))
                for p in self.order(names)
            ],
            dim=1,
        )

    def hidden(self, values: Mapping[str, Tensor], names: Sequence[str], call: Call) -> Tensor:
        """Hidden tokens (B, L, width) in one teacher-forced pass; token i has read the elements before i."""
        cache = with_given(self.trunk, self.given, call)
        earlier = self._embedded(values, names)[:, :-1]
        begin = self.begin.expand(call.rows, 1, -1)
        tokens = torch.cat((begin, earlier), dim=1) + self._slots(names)
        length = tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        layout = [(p.stream, size) for p, size in zip(self.order(names), self.sizes(names), strict=True)]
        hidden, _ = self.trunk(tokens, cache=cache, attend=causal, layout=layout)
        return hidden

    def kept(self, targets: Mapping[str, Target], piece: Piece, call: Call) -> Tensor:
        """Mask (B, elements of the piece), True where the target is not padded and has a real feature."""
        pad = targets[piece.stream].pad[:, piece.start : piece.stop]
        keep = ~pad.repeat_interleave(self.outputs[piece.stream].spec.tokens, dim=1)
        real = self.real(piece, call)
        return keep if real is None else keep & real.reshape(*keep.shape, -1).any(dim=2)

    def real(self, piece: Piece, call: Call) -> Tensor | None:
        """Real features of the elements of a piece, (B, elements) or (B, elements, D) bool; None for all."""
        real = call.real.get(piece.stream)
        return None if real is None else real[:, piece.start : piece.stop].flatten(1, 2)

    def needed(self, wanted: Sequence[str], budget: Budget) -> list[Piece]:
        """List the pieces to decode: all up to the last one that ``wanted`` and ``budget`` ask for."""
        order = self.order(list(self.outputs))
        last = 0
        for i, piece in enumerate(order):
            spec = self.outputs[piece.stream].spec
            beyond = (
                spec.role == "action"
                and budget.horizon is not None
                and piece.start * spec.ticks_per_step >= budget.horizon
            )
            if piece.stream in wanted and not beyond:
                last = i + 1
        return order[:last]

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Decode element by element from the cache; given streams are forced and do not count as evaluations.

        With ``budget.horizon`` the action may be shorter than H: its first T' <= T steps.
        """
        cache = with_given(self.trunk, self.given, call)
        token = self.begin.expand(call.rows, 1, -1)
        elements: dict[str, list[Tensor]] = {name: [] for name in self.outputs}
        spent = dict.fromkeys(outputs, 0)
        for piece in self.needed(outputs, budget):
            stream = self.outputs[piece.stream]
            slots = stream.position[piece.start : piece.stop].flatten(0, 1)
            forced, real = call.given.get(piece.stream), self.real(piece, call)
            for j, slot in enumerate(slots):
                hidden, fresh = self.trunk(token + slot, cache=cache, layout=[(piece.stream, 1)])
                cache = cache.append(fresh)
                if forced is None:
                    own = None if real is None else real[:, j]
                    value = self.draw(piece.stream, hidden[:, 0], noise, elements[piece.stream], own)
                    spent[piece.stream] = spent.get(piece.stream, 0) + 1
                else:
                    value = forced.flatten(1, 2)[:, piece.start * stream.spec.tokens + j]
                elements[piece.stream].append(value)
                token = stream.inward(value)[:, None]
        values = {
            name: torch.stack(elements[name], dim=1).unflatten(1, (-1, self.outputs[name].spec.tokens))
            for name in outputs
        }
        return Generated(values, spent)

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """Refuse ``nfe``, because the representation fixes the number of elements."""
        for name in outputs:
            if name in budget.nfe:
                raise BudgetError(
                    f"nfe for stream {name!r}: an autoregressor spends one evaluation per token, which the "
                    f"representation fixes. Use `horizon` to stop early."
                )

    @override
    def sees(self, spec: StreamSpec, outputs: Sequence[str]) -> tuple[frozenset[str], ...]:
        """Streams with an element before the step in the serialised order."""
        order = self.order([name for name in self.outputs if name in outputs])
        seen: list[frozenset[str]] = []
        before: set[str] = set()
        for piece in order:
            if piece.stream == spec.name:
                seen += [frozenset(before)] * (piece.stop - piece.start)
            before.add(piece.stream)
        return tuple(seen)

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True when an element of every output comes after one of ``stream``, whose elements are forced."""
        return stream in self.outputs and all(
            any(stream in seen for seen in self.sees(self.outputs[name].spec, [*outputs, stream]))
            for name in outputs
        )

    @override
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        """Outputs whose elements all come before those of the missing streams, so that they read none of them."""
        before: set[str] = set()
        after: set[str] = set()
        for piece in self.order(list(outputs)):
            (after if after or piece.stream in missing else before).add(piece.stream)
        return before - after

    @override
    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """True for a stream that comes after all the other outputs."""
        wanted = [name for name in outputs if name != stream]
        return stream not in {piece.stream for piece in self.needed(wanted, budget)}
