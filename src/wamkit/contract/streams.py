"""Streams: variables of the distribution ``p(s, a | c)``.

Continuous values are (B, T, N, D): T time steps of N tokens with D features. Discrete values are token ids,
(B, T, N) int64, with a vocabulary size in the spec.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from wamkit.contract.grammar import Grammar
from wamkit.contract.scales import Scale, tokens_of
from wamkit.contract.values import whole
from wamkit.errors import ConfigError

Role = Literal["future", "action", "goal", "state", "text"]

ReadingKind = Literal["picture", "displacement", "rotation", "classes", "feature", "quantity", "token"]

SYMBOLS: Mapping[str, str] = {"future": "s", "action": "a", "goal": "g", "state": "z", "text": "l"}


@dataclass(frozen=True)
class StreamSpec:
    """Shape and meaning of one stream.

    Attributes:
        name: name of the stream in the design.
        role: ``future`` (s), ``action`` (a), ``goal`` (g), ``state`` (z, a latent that does not occur in the data) or
            ``text`` (l, words about the task, one token id per step).
        steps: T, time steps.
        tokens: N, tokens per step.
        features: D, features per token; 1 for discrete tokens.
        vocabulary: number of token ids, or None for continuous values.
        ticks_per_step: control ticks that one step covers (action streams).
        scales: token grids of ids that refine each other, coarsest first: rows and columns of every picture. A step's
            tokens are those of the coarsest scale, then the next, and id 0 adds nothing to the coarser scales.
        grammar: texts that may be written, for a stream of text.
    """

    name: str
    role: Role
    steps: int
    tokens: int
    features: int
    vocabulary: int | None = None
    ticks_per_step: int = 1
    scales: tuple[Scale, ...] = ()
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "features", "ticks_per_step"):
            whole(getattr(self, name), f"stream {self.name!r}: {name}", 1, ConfigError)
        if self.vocabulary is not None:
            whole(self.vocabulary, f"stream {self.name!r}: vocabulary", 1, ConfigError)
        tokens = sum(tokens_of(scale) for scale in self.scales)
        if self.scales and (self.vocabulary is None or tokens != self.tokens):
            raise ConfigError(
                f"stream {self.name!r}: scales {self.scales} hold {tokens} ids, but a step has {self.tokens} tokens of "
                f"{'continuous values' if self.vocabulary is None else 'ids'}. Give ids, one per token of each scale."
            )

    @property
    def step(self) -> tuple[int, ...]:
        """Shape of the values of one step: (N, D), of ids (N,)."""
        return (self.tokens,) if self.vocabulary is not None else (self.tokens, self.features)

    @property
    def length(self) -> int:
        """Number of tokens of the whole stream, T times N."""
        return self.steps * self.tokens

    def require_free(self, reader: str) -> None:
        """Raise :class:`ConfigError` when only certain texts may be written, which ``reader`` cannot guarantee."""
        if self.grammar is not None and not self.grammar.free:
            raise ConfigError(
                f"stream {self.name!r} has a list of sentences, and {reader} writes its tokens in no order, so they "
                f"could not be kept. Write it with an autoregressor, or leave `sentences` empty."
            )

    def require(self, *, discrete: bool, reader: str) -> None:
        """Raise :class:`ConfigError` unless the stream is discrete (or continuous), as ``reader`` needs."""
        if (self.vocabulary is not None) != discrete:
            carried = "continuous values" if self.vocabulary is None else f"{self.vocabulary} token ids"
            needed = "token ids" if discrete else "continuous values"
            raise ConfigError(
                f"stream {self.name!r} carries {carried}, but {reader} needs {needed}. Choose a "
                f"{'discrete' if discrete else 'continuous'} representation for {self.name!r} or another estimator."
            )


@dataclass(frozen=True)
class Target:
    """Ground truth of a stream.

    Attributes:
        values: true values, (B, T, N, D) float or (B, T, N) int64.
        pad: padding mask, (B, T) bool, True where the step lies outside the episode and must not be learned from.
        absent: (B,) bool, True for rows in which the stream was not recorded at all, so that nothing may read its
            values; None where every row was.
    """

    values: Tensor
    pad: Tensor
    absent: Tensor | None = None


@dataclass(frozen=True)
class Camera:
    """The picture of a camera, an entry of ``Observation.images``."""

    name: str


@dataclass(frozen=True)
class State:
    """The robot state of an observation."""


@dataclass(frozen=True)
class Sensor:
    """The values of a sensor, an entry of ``Observation.extras``."""

    name: str


Shows = Camera | State | Sensor


@dataclass(frozen=True)
class Reading:
    """Meaning of a stream's values, in a form in which a prediction can be measured against the ground truth.

    Attributes:
        kind: kind of the values, which decides how two readings are compared. ``picture`` (B, T, 3, height, width) in
            [0, 1]; ``displacement`` (B, T, K, C) of K points; ``rotation`` (B, T, K, 3, 3); ``classes`` (B, T, K)
            int64 of K places; ``feature`` (B, T, K, D); ``quantity`` (B, T, ...); ``token`` (B, T, K) ids.
        values: values in the shape of ``kind``.
        unit: unit of the values; empty for none.
        known: (B, T, K) bool, True for points with known ground truth (visible ones); None for all.
        classes: number of classes, for ``classes`` only.
        shows: part of an observation that the values estimate, in its own units; None for values that are not part
            of an observation.
    """

    kind: ReadingKind
    values: Tensor
    unit: str = ""
    known: Tensor | None = None
    classes: int = 0
    shows: Shows | None = None


@dataclass(frozen=True)
class PointMotion:
    """Points of one body now and at later steps, in a frame with the world's axes.

    Attributes:
        start: (B, K, 3), positions now, metres.
        later: (B, T, K, 3), positions at the later steps, metres.
        known: (B, T, K) bool, True where the point belongs to the body and is seen.
        anchored: True when the frame is the world; False when its origin is unknown.
    """

    start: Tensor
    later: Tensor
    known: Tensor
    anchored: bool


@dataclass(frozen=True)
class Past:
    """Real past in blocks of one model step each, oldest first; the last block is "now".

    Attributes:
        values: observed stream -> (B, K, N, D), its value at the end of each block (the observation).
        action: (B, K, T, N, D), executed action block that led to each observation.
        pad: (B, K) bool, True where the observation lies before the episode.
        action_pad: (B, K) bool, True where no action led to the observation (the first of an episode), or only a part
            of the block's.
        partial: (B,) bool, True in rows whose one block is not over yet: its observation stands for "now" in this call
            alone and is not kept. None where all are whole.
    """

    values: Mapping[str, Tensor]
    action: Tensor
    pad: Tensor
    action_pad: Tensor
    partial: Tensor | None = None


def masked_mean(error: Tensor, pad: Tensor, real: Tensor | None = None) -> Tensor:
    """Scalar mean of ``error`` over the steps that are not padded, and in each of them over the real features.

    Every step counts the same, however many of its features are real; one without any is left out.

    Args:
        error: (B, T, ...).
        pad: (B, T) bool, True where the step is padded.
        real: :attr:`wamkit.contract.calls.Call.real` of the stream, or its first dimensions; None for all features.
    """
    if real is not None:
        error, pad = feature_mean(error, real), pad | ~real.flatten(2).any(dim=2)
    keep = (~pad).to(error.dtype).reshape(*pad.shape, *[1] * (error.dim() - 2))
    per_step = error.numel() / pad.numel()
    return (error * keep).sum() / (keep.sum() * per_step).clamp(min=1.0)


def feature_mean(error: Tensor, real: Tensor | None) -> Tensor:
    """Mean of ``error`` (B, T, ...) over the real features of each step, (B, T); 0 for a step without any.

    An error with fewer dimensions than ``real``, such as one per token, counts where one of the features is real.
    """
    if real is None:
        return error.flatten(2).mean(dim=2)
    counts = real.flatten(error.dim()).any(dim=-1) if error.dim() < real.dim() else real
    weight = counts.to(error.dtype).expand_as(error).flatten(2)
    return (error.flatten(2) * weight).sum(dim=2) / weight.sum(dim=2).clamp(min=1.0)


def cleared(values: Tensor, real: Tensor | None) -> Tensor:
    """Values (B, T, N, D) or ids (B, T, N) of a stream with 0 where they are not real; None for all real."""
    return values if real is None else values.masked_fill(~real[:, : values.shape[1]], 0)


def row_seed(seed: int, *path: int | str) -> int:
    """Seed of one draw, derived from a row's seed and the path of the draw.

    The path identifies the draw, such as a call's number or ``("step", k)``. Seed and path are hashed, not added: the
    result is the same on every machine, and two draws share their noise only when seed and path are both equal.

    Returns:
        63 bits of BLAKE2b.
    """
    digest = hashlib.blake2b("/".join(map(str, (seed, *path))).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class RowNoise:
    """Noise from one generator per row, so that a sample depends on its row's seed only, not on the batch.

    Args:
        seeds: one seed per row.
        device: device of the noise; it is drawn on the CPU.
        copies: number of rows that each generator draws at once.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu", copies: int = 1) -> None:
        self.generators = [torch.Generator().manual_seed(int(s) & 0x7FFFFFFFFFFFFFFF) for s in seeds]
        self.device = torch.device(device)
        self.copies = copies

    def expand(self, copies: int) -> RowNoise:
        """Share the generators, with ``copies`` times as many rows each."""
        expanded = RowNoise((), self.device, self.copies * copies)
        expanded.generators = self.generators
        return expanded

    def fork(self) -> RowNoise:
        """Make a generator for each of the B * copies rows, seeded by one draw from these generators.

        Draws from the new generators do not advance these ones, so their order among other draws does not matter.
        """
        parts = (self.uniform(2).double() * 2**24).long().cpu()
        return RowNoise((parts[:, 0] * 2**24 + parts[:, 1]).tolist(), self.device)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal noise, (B * copies, *shape)."""
        rows = [torch.randn(self.copies, *shape, generator=g) for g in self.generators]
        return torch.cat(rows).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Draw uniform noise in [0, 1), (B * copies, *shape)."""
        rows = [torch.rand(self.copies, *shape, generator=g) for g in self.generators]
        return torch.cat(rows).to(self.device)
