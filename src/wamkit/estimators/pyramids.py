"""How the values of one stream are made scale by scale, coarsest first (`bb.autoregressive`, next scale).

Vectors are a pyramid of residual means over steps and tokens that a flow head draws; ids are those that a
residual quantiser made of token grids (:attr:`StreamSpec.scales`), and each is drawn from its categorical.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.contract.scales import Ladder
from wamkit.contract.streams import RowNoise
from wamkit.estimators.samplers import choose
from wamkit.estimators.token_head import TokenHead
from wamkit.estimators.tokens import StreamTokens

Size = tuple[int, int]


def pyramid_sizes(steps: int, tokens: int, scales: int) -> list[Size]:
    """(steps, tokens) of every scale, coarsest first; halved, rounding up, until ``scales`` or a single token."""
    sizes = [(steps, tokens)]
    while len(sizes) < scales and sizes[0] != (1, 1):
        sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
    return sizes


def resize(values: Tensor, size: Size) -> Tensor:
    """(B, T, N, D) -> (B, *size, D): means over cells on the way down, copies on the way up."""
    grid = values.permute(0, 3, 1, 2)
    down = size[0] <= values.shape[1] and size[1] <= values.shape[2]
    made = F.adaptive_avg_pool2d(grid, size) if down else F.interpolate(grid, size, mode="nearest-exact")
    return made.permute(0, 2, 3, 1)


class Pyramid(ABC):
    """The parts of one stream and what its trunk tokens are told of the coarser ones.

    Args:
        stream: the stream's tokens, owned by the estimator.
        lengths: tokens of every scale, coarsest first.
    """

    def __init__(self, stream: StreamTokens, lengths: Sequence[int]) -> None:
        self.stream = stream
        self.lengths = tuple(lengths)

    @property
    def count(self) -> int:
        """Number of scales."""
        return len(self.lengths)

    @abstractmethod
    def cut(self, values: Tensor) -> list[Tensor]:
        """Values of the stream -> the part of every scale, (B, n_k, D) or ids (B, n_k)."""

    @abstractmethod
    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """Inverse of :meth:`cut`; of the first parts alone, the values as coarse as these leave them."""

    @abstractmethod
    def blank(self, rows: int) -> Tensor:
        """What is known of the stream before its coarsest scale: (rows, T, N of the finest scale, features)."""

    @abstractmethod
    def add(self, known: Tensor, part: Tensor, k: int) -> Tensor:
        """What is known after the part of scale ``k``."""

    @abstractmethod
    def tokens(self, known: Tensor, k: int) -> Tensor:
        """(B, n_k, width): what is known before scale ``k`` at each of its tokens, and where the token is."""

    @abstractmethod
    def weight(self, pad: Tensor, k: int) -> Tensor:
        """(B, T) padded steps -> (B, n_k): how much each token of scale ``k`` counts."""

    @abstractmethod
    def error(self, hidden: Tensor, part: Tensor) -> Tensor:
        """Loss of every token of a scale: (B, n_k, width) and its part -> (B, n_k)."""

    @abstractmethod
    def draw(self, hidden: Tensor, noise: RowNoise) -> Tensor:
        """Sample the part of a scale, its tokens independently: (B, n_k, width) -> (B, n_k, D) or ids."""


@final
class Residuals(Pyramid):
    """Vectors: the coarsest scale is their mean over large cells, the finest makes the sum of all scales exact."""

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

    def cut(self, values: Tensor) -> list[Tensor]:
        """See :meth:`Pyramid.cut`."""
        parts, known = [], torch.zeros_like(values)
        for k, size in enumerate(self.sizes):
            parts.append(resize(values - known, size).flatten(1, 2))
            known = self.add(known, parts[-1], k)
        return parts

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """See :meth:`Pyramid.whole`."""
        known = self.blank(len(parts[0]))
        for k, part in enumerate(parts):
            known = self.add(known, part, k)
        return known

    def blank(self, rows: int) -> Tensor:
        """See :meth:`Pyramid.blank`."""
        spec = self.stream.spec
        return self.stream.position.new_zeros(rows, spec.steps, spec.tokens, spec.features)

    def add(self, known: Tensor, part: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.add`."""
        return known + resize(part.unflatten(1, self.sizes[k]), self.sizes[-1])

    def tokens(self, known: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.tokens`."""
        size = self.sizes[k]
        position = resize(self.stream.position[None], size)
        return (self.stream.inward(resize(known, size)) + position).flatten(1, 2)

    def weight(self, pad: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.weight`. A cell counts by its share of real steps."""
        real = (~pad).float()[:, :, None, None].expand(-1, -1, self.stream.spec.tokens, -1)
        return resize(real, self.sizes[k]).flatten(1)

    def error(self, hidden: Tensor, part: Tensor) -> Tensor:
        """See :meth:`Pyramid.error`: flow matching."""
        return self.head.error(hidden, part, self.draws)

    def draw(self, hidden: Tensor, noise: RowNoise) -> Tensor:
        """See :meth:`Pyramid.draw`."""
        return self.head.draw(hidden, self.steps, self.temperature, noise)


@final
class Ids(Pyramid):
    """Ids: what is known is the sum of the embeddings of all coarser ids that cover a token.

    It is VAR's sum of codebook entries, with entries that are learned. A stream that tells no scales is one scale.
    """

    def __init__(self, stream: StreamTokens, *, temperature: float) -> None:
        scales = stream.spec.scales or (((1, stream.spec.tokens),),)
        self.ladder = Ladder(scales)
        super().__init__(stream, [stream.spec.steps * tokens for tokens in self.ladder.lengths])
        self.temperature = temperature

    def cut(self, values: Tensor) -> list[Tensor]:
        """See :meth:`Pyramid.cut`."""
        return [part.flatten(1, 2) for part in self.ladder.split(values)]

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        """See :meth:`Pyramid.whole`. Finer scales than were made hold id 0, which adds nothing."""
        rows, steps = len(parts[0]), self.stream.spec.steps
        missing = [parts[0].new_zeros(rows, length) for length in self.lengths[len(parts) :]]
        return torch.cat([part.unflatten(1, (steps, -1)) for part in (*parts, *missing)], dim=2)

    def blank(self, rows: int) -> Tensor:
        """See :meth:`Pyramid.blank`; the features are the trunk's width."""
        position = self.stream.position
        return position.new_zeros(rows, len(position), self.ladder.finest, position.shape[-1])

    def add(self, known: Tensor, part: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.add`."""
        return known + self.ladder.copy(
            self.stream.inward(part.unflatten(1, (self.stream.spec.steps, -1))), k
        )

    def tokens(self, known: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.tokens`."""
        position = self.ladder.split(self.stream.position[None])[k]
        return (self.ladder.mean(known, k) + position).flatten(1, 2)

    def weight(self, pad: Tensor, k: int) -> Tensor:
        """See :meth:`Pyramid.weight`."""
        return (~pad).float().repeat_interleave(self.ladder.lengths[k], dim=1)

    def error(self, hidden: Tensor, part: Tensor) -> Tensor:
        """See :meth:`Pyramid.error`: cross-entropy."""
        return F.cross_entropy(self.stream.outward(hidden).transpose(1, 2), part, reduction="none")

    def draw(self, hidden: Tensor, noise: RowNoise) -> Tensor:
        """See :meth:`Pyramid.draw`."""
        return choose(self.stream.outward(hidden), self.temperature, noise)
