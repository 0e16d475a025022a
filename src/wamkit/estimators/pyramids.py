"""Scales of one stream's values, coarsest first (`bb.autoregressive`, next scale).

Vectors form a pyramid of residual means over steps and tokens, drawn by a flow head; ids come from a residual
quantiser of token grids (:attr:`StreamSpec.scales`), each drawn from its categorical.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.contract.scales import Ladder
from wamkit.contract.streams import RowNoise, cleared
from wamkit.estimators.samplers import choose
from wamkit.estimators.token_head import TokenHead
from wamkit.estimators.tokens import StreamTokens

Size = tuple[int, int]


def pyramid_sizes(steps: int, tokens: int, scales: int) -> list[Size]:
    """List (steps, tokens) of every scale, coarsest first; halved, rounding up, until ``scales`` or a single token."""
    sizes = [(steps, tokens)]
    while len(sizes) < scales and sizes[0] != (1, 1):
        sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
    return sizes


def resize(values: Tensor, size: Size) -> Tensor:
    """Resize (B, T, N, D) to (B, *size, D): means over cells when shrinking, copies when growing."""
    grid = values.permute(0, 3, 1, 2)
    down = size[0] <= values.shape[1] and size[1] <= values.shape[2]
    resized = F.adaptive_avg_pool2d(grid, size) if down else F.interpolate(grid, size, mode="nearest-exact")
    return resized.permute(0, 2, 3, 1)


class Pyramid(ABC):
    """Parts of one stream per scale, and the trunk tokens that are made from the coarser parts.

    Args:
        stream: token embedding of the stream, owned by the estimator.
        lengths: number of tokens of every scale, coarsest first.
    """

    def __init__(self, stream: StreamTokens, lengths: Sequence[int]) -> None:
        self.stream = stream
        self.lengths = tuple(lengths)

    @property
    def count(self) -> int:
        """Number of scales."""
        return len(self.lengths)

    @abstractmethod
    def cut(self, values: Tensor, real: Tensor | None = None) -> list[Tensor]:
        """Cut values of the stream into the part of every scale, (B, n_k, D) or ids (B, n_k), 0 if not ``real``."""

    @abstractmethod
    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """Invert :meth:`cut`; from the first parts alone, return the values at their coarser resolution."""

    @abstractmethod
    def blank(self, rows: int) -> Tensor:
        """Return the running sum before the coarsest scale: zeros (rows, T, N of the finest scale, features)."""

    @abstractmethod
    def add(self, coarser: Tensor, part: Tensor, k: int) -> Tensor:
        """Add the part of scale ``k`` to the running sum."""

    @abstractmethod
    def tokens(self, coarser: Tensor, k: int) -> Tensor:
        """Embed the running sum before scale ``k`` and the positions as trunk tokens (B, n_k, width)."""

    @abstractmethod
    def weight(self, pad: Tensor, k: int) -> Tensor:
        """Weight (B, n_k) of every token of scale ``k`` in the loss, given padded steps (B, T)."""

    @abstractmethod
    def real(self, real: Tensor | None, k: int) -> Tensor | None:
        """Features (B, n_k, D), of ids (B, n_k), of scale ``k`` that stand for a real one of the stream; None for all.

        ``real`` are those of the stream (:attr:`wamkit.contract.calls.Call.real`).
        """

    @abstractmethod
    def error(self, hidden: Tensor, part: Tensor, real: Tensor | None = None) -> Tensor:
        """Loss (B, n_k) of every token of a scale, given hidden tokens (B, n_k, width) and the true part."""

    @abstractmethod
    def draw(self, hidden: Tensor, noise: RowNoise, real: Tensor | None = None) -> Tensor:
        """Sample the part of a scale, its tokens independently: (B, n_k, width) -> (B, n_k, D) or ids.

        What is not ``real``, see :meth:`real`, is 0.
        """


@final
class Residuals(Pyramid):
    """Pyramid of vectors: the coarsest scale is a mean over large cells, the finest makes the sum exact."""

    def __init__(
        self,
        stream: StreamTokens,
        head: TokenHead,
        *,
        scales: int,
        steps: int,
        temperature: float,
        draws: int,
    ) -> None:
        self.sizes = pyramid_sizes(stream.spec.steps, stream.spec.tokens, scales)
        super().__init__(stream, [steps * tokens for steps, tokens in self.sizes])
        self.head, self.steps, self.temperature, self.draws = head, steps, temperature, draws

    @override
    def cut(self, values: Tensor, real: Tensor | None = None) -> list[Tensor]:
        parts, coarser = [], torch.zeros_like(values)
        for k, size in enumerate(self.sizes):
            parts.append(cleared(resize(values - coarser, size).flatten(1, 2), self.real(real, k)))
            coarser = self.add(coarser, parts[-1], k)
        return parts

    @override
    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        coarser = self.blank(len(parts[0]))
        for k, part in enumerate(parts):
            coarser = self.add(coarser, part, k)
        return coarser

    @override
    def blank(self, rows: int) -> Tensor:
        spec = self.stream.spec
        return self.stream.position.new_zeros(rows, spec.steps, spec.tokens, spec.features)

    @override
    def add(self, coarser: Tensor, part: Tensor, k: int) -> Tensor:
        return coarser + resize(part.unflatten(1, self.sizes[k]), self.sizes[-1])

    @override
    def tokens(self, coarser: Tensor, k: int) -> Tensor:
        size = self.sizes[k]
        position = resize(self.stream.position[None], size)
        return (self.stream.inward(resize(coarser, size)) + position).flatten(1, 2)

    @override
    def weight(self, pad: Tensor, k: int) -> Tensor:
        """Weight every cell by its share of real steps."""
        real = (~pad).float()[:, :, None, None].expand(-1, -1, self.stream.spec.tokens, -1)
        return resize(real, self.sizes[k]).flatten(1)

    @override
    def real(self, real: Tensor | None, k: int) -> Tensor | None:
        """A feature of a cell is real where it is in one of the tokens of the cell."""
        return None if real is None else resize(real.float(), self.sizes[k]).flatten(1, 2) > 0

    @override
    def error(self, hidden: Tensor, part: Tensor, real: Tensor | None = None) -> Tensor:
        """Flow matching error of every token."""
        return self.head.error(hidden, part, self.draws, real)

    @override
    def draw(self, hidden: Tensor, noise: RowNoise, real: Tensor | None = None) -> Tensor:
        return self.head.draw(hidden, self.steps, self.temperature, noise, real)


@final
class Ids(Pyramid):
    """Pyramid of ids: the running sum adds the embeddings of all coarser ids that cover a token.

    It is VAR's sum of codebook entries, with learned entries. A stream without scales has a single one.
    """

    def __init__(self, stream: StreamTokens, *, temperature: float) -> None:
        scales = stream.spec.scales or (((1, stream.spec.tokens),),)
        self.ladder = Ladder(scales)
        super().__init__(stream, [stream.spec.steps * tokens for tokens in self.ladder.lengths])
        self.temperature = temperature

    @override
    def cut(self, values: Tensor, real: Tensor | None = None) -> list[Tensor]:
        parts = [part.flatten(1, 2) for part in self.ladder.split(values)]
        return [cleared(part, self.real(real, k)) for k, part in enumerate(parts)]

    @override
    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """Invert :meth:`cut`; missing finer scales hold id 0, which adds nothing."""
        rows, steps = len(parts[0]), self.stream.spec.steps
        missing = [parts[0].new_zeros(rows, length) for length in self.lengths[len(parts) :]]
        return torch.cat([part.unflatten(1, (steps, -1)) for part in (*parts, *missing)], dim=2)

    @override
    def blank(self, rows: int) -> Tensor:
        """Return a running sum of zeros, with as many features as the trunk's width."""
        position = self.stream.position
        return position.new_zeros(rows, len(position), self.ladder.finest, position.shape[-1])

    @override
    def add(self, coarser: Tensor, part: Tensor, k: int) -> Tensor:
        return coarser + self.ladder.copy(
            self.stream.inward(part.unflatten(1, (self.stream.spec.steps, -1))), k
        )

    @override
    def tokens(self, coarser: Tensor, k: int) -> Tensor:
        position = self.ladder.split(self.stream.position[None])[k]
        return (self.ladder.mean(coarser, k) + position).flatten(1, 2)

    @override
    def weight(self, pad: Tensor, k: int) -> Tensor:
        return (~pad).float().repeat_interleave(self.ladder.lengths[k], dim=1)

    @override
    def real(self, real: Tensor | None, k: int) -> Tensor | None:
        return None if real is None else self.ladder.split(real)[k].flatten(1, 2)

    @override
    def error(self, hidden: Tensor, part: Tensor, real: Tensor | None = None) -> Tensor:
        """Cross-entropy of every token."""
        return F.cross_entropy(self.stream.outward(hidden).transpose(1, 2), part, reduction="none")

    @override
    def draw(self, hidden: Tensor, noise: RowNoise, real: Tensor | None = None) -> Tensor:
        return cleared(choose(self.stream.outward(hidden), self.temperature, noise), real)
