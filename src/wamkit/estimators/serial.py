"""One interleaved causal stream of elements, whatever an element is (`bb.autoregressive`, `cp.interleave`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wamkit.contract.calls import Call, Generated
from wamkit.contract.protocols import Estimator, Trunk
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint
from wamkit.estimators.tokens import StreamTokens, with_given


@dataclass(frozen=True)
class Piece:
    """A run of steps of one stream inside the serialised order: steps ``start`` to ``stop``."""

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
    """Raise :class:`ConfigError` on elements of the wrong kind or steps that cannot be cut evenly."""
    if segments < 1:
        raise ConfigError(f"{reader}: segments {segments} must be at least 1")
    require_disjoint(outputs, given, reader)
    for spec in outputs:
        spec.require(discrete=discrete, reader=reader)
        if spec.steps % segments:
            raise ConfigError(
                f"{reader}: segments {segments} does not divide the {spec.steps} steps of stream {spec.name!r}"
            )


class Serial(Estimator):
    """Element after element, each read off what the trunk knows of the elements before it.

    Values may be token ids (B, T, N) or vectors (B, T, N, D); a subclass says how one element is drawn.
    """

    def __init__(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk, segments: int
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.segments = segments
        self.outputs = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        self.begin = nn.Parameter(torch.randn(trunk.width) * 0.02)

    @abstractmethod
    def draw(self, name: str, hidden: Tensor, noise: RowNoise) -> Tensor:
        """One element of stream ``name`` from what is known before it, (B, width) -> (B,) ids or (B, D)."""

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def order(self, names: Sequence[str]) -> list[Piece]:
        """The declared order of the serialised stream, as pieces; raises :class:`ConfigError` on any other order."""
        declared = [name for name in self.outputs if name in names]
        if list(names) != declared:
            raise ConfigError(
                f"an interleaved stream of {list(names)} cannot be read or written: the factor declares {declared} of "
                f"{list(self.outputs)}. Keep the factor's order."
            )
        pieces = []
        for i in range(self.segments):
            for name in names:
                size = self._stream(name).spec.steps // self.segments
                pieces.append(Piece(name, i * size, (i + 1) * size))
        return pieces

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Elements per piece."""
        return [(p.stop - p.start) * self._stream(p.stream).spec.tokens for p in self.order(names)]

    def serialize(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """Values per stream -> one sequence (B, L) or, where all vectors are of one width, (B, L, D)."""
        return torch.cat(
            [values[p.stream][:, p.start : p.stop].flatten(1, 2) for p in self.order(names)], dim=1
        )

    def parse(self, sequence: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """Inverse of :meth:`serialize`."""
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for piece, part in zip(self.order(names), sequence.split(self.sizes(names), dim=1), strict=True):
            found[piece.stream].append(part.unflatten(1, (-1, self._stream(piece.stream).spec.tokens)))
        return {name: torch.cat(parts, dim=1) for name, parts in found.items()}

    def _slots(self, names: Sequence[str]) -> Tensor:
        """(L, width): what stream and position each element of the sequence is, told before it is known."""
        return torch.cat(
            [self._stream(p.stream).position[p.start : p.stop].flatten(0, 1) for p in self.order(names)]
        )

    def _embedded(self, values: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
        """(B, L, width) embeddings of the known elements in the declared order."""
        return torch.cat(
            [
                self._stream(p.stream).inward(values[p.stream][:, p.start : p.stop].flatten(1, 2))
                for p in self.order(names)
            ],
            dim=1,
        )

    def hidden(self, values: Mapping[str, Tensor], names: Sequence[str], call: Call) -> Tensor:
        """(B, L, width), without a decoding cache: what is known before element i of the sequence is read."""
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        known = self._embedded(values, names)[:, :-1]
        begin = self.begin.expand(call.rows, 1, -1)
        tokens = torch.cat((begin, known), dim=1) + self._slots(names)
        length = tokens.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=tokens.device).tril()
        layout = [(p.stream, size) for p, size in zip(self.order(names), self.sizes(names), strict=True)]
        found, _ = self.trunk(tokens, cache=cache, attend=causal, layout=layout)
        return found

    def kept(self, targets: Mapping[str, Target], piece: Piece) -> Tensor:
        """(B, elements of the piece), True where the target may be learned from."""
        pad = targets[piece.stream].pad[:, piece.start : piece.stop]
        return ~pad.repeat_interleave(self._stream(piece.stream).spec.tokens, dim=1)

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

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Decode element by element from the cache; streams that are given are forced, and cost no evaluation.

        With ``budget.horizon`` the action may come back shorter than H: its first T' <= T steps.
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
                    value = self.draw(piece.stream, hidden[:, 0], noise)
                    spent[piece.stream] = spent.get(piece.stream, 0) + 1
                else:
                    value = forced.flatten(1, 2)[:, piece.start * stream.spec.tokens + j]
                found[piece.stream].append(value)
                token = stream.inward(value)[:, None]
        values = {
            name: torch.stack(found[name], dim=1).unflatten(1, (-1, self._stream(name).spec.tokens))
            for name in outputs
        }
        return Generated(values, spent)

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: the number of elements is fixed by the representation."""
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
