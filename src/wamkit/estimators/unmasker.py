"""Masked discrete denoiser: all token ids start hidden and are revealed by confidence (`bb.denoising`, discrete).

Noise is a mask. Every stream has a mask rate of its own; a stream of which nothing is revealed holds no
information, so no other stream reads it, and leaving it out of the call is exactly marginalising it. Tokens that
are revealed in one call are chosen independently of each other: few calls are cheap, and as many calls as tokens
follow the joint density. A stream with more calls than another one waits for it, as far as it can, and then reads it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated, Revises
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.estimators.checks import require_levels, require_trunk
from wamkit.estimators.joint import StreamReads, run_joint
from wamkit.estimators.samplers import choose, evaluations_spent, gumbel
from wamkit.estimators.tokens import StreamTokens, with_given


@EstimatorConfig.register_subclass("unmasker")
@dataclass(frozen=True)
class UnmaskerConfig(EstimatorConfig):
    """Masked discrete denoiser, unmasking by confidence (MaskGIT, Chang et al. 2022; UD-VLA, survey eq. 23).

    Attributes:
        steps: default function evaluations per stream.
        nfe: stream name -> function evaluations, where they differ from ``steps``. A stream with fewer is revealed
            before the others, which then read all of it.
        rates: ``independent`` draws a mask rate per stream (two processes on one trunk); ``shared`` draws one.
        reads: stream -> the streams generated with it that it may read; without an entry, all of them. What no
            wanted stream reads can be skipped without ``absent``.
        absent: stream name -> probability that all of it is masked in training. Streams named here can be skipped.
        clean: stream name -> probability that none of it is masked in training. Streams named here can be given.
        temperature: of the tokens; 1 samples the learned density, 0 takes the most likely token.
        shuffle: randomness of the order in which tokens are revealed, falling to nothing over the calls. Zero
            goes by confidence alone, which favours the larger mode.
    """

    steps: int = 8
    nfe: dict[str, int] = field(default_factory=dict)
    rates: Literal["independent", "shared"] = "independent"
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    absent: dict[str, float] = field(default_factory=dict)
    clean: dict[str, float] = field(default_factory=dict)
    temperature: float = 1.0
    shuffle: float = 4.5

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Unmasker:
        """Build; raises :class:`ConfigError` on continuous outputs or unknown stream names."""
        require_levels(
            outputs,
            given,
            {"nfe": self.nfe, "absent": self.absent, "clean": self.clean},
            discrete=True,
            shared="rates" if self.rates == "shared" else None,
            reader="estimator 'unmasker'",
        )
        return Unmasker(self, outputs, given, require_trunk(trunk, "estimator 'unmasker'"))


def masked_after(length: int, calls: int) -> list[int]:
    """How many of ``length`` tokens are still masked after each of ``calls`` calls (MaskGIT's cosine schedule).

    With more calls than tokens, the first ones wait for what other streams reveal; every later one reveals a token.
    """
    waiting = max(0, calls - length)
    left = [length] * (waiting + 1)
    calls -= waiting
    for call in range(1, calls):
        planned = int(length * math.cos(0.5 * math.pi * call / calls))
        left.append(max(1, min(planned, left[-1] - 1)))
    return [*left[1:], 0]


@final
class Unmasker(Estimator, Revises):
    """Bidirectional token predictor over all output streams in one sequence."""

    family: ClassVar[Family] = "diffusion"

    def __init__(
        self, config: UnmaskerConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        self.mask = nn.ParameterDict({s.name: torch.randn(trunk.width) * 0.02 for s in outputs})
        self.processes = len(outputs) if config.rates == "independent" else 1
        self.reads = dict(config.reads)
        self.joint = StreamReads([s.name for s in outputs], config.reads, "estimator 'unmasker'")

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def logits(
        self, ids: Mapping[str, Tensor], masked: Mapping[str, Tensor], cache: Cache
    ) -> dict[str, Tensor]:
        """One evaluation: ids and masks (B, L) per stream -> logits (B, L, vocabulary) per stream."""
        tokens, hidden = {}, {}
        for name, values in ids.items():
            stream = self._stream(name)
            shown = torch.where(masked[name][..., None], self.mask[name], stream.inward(values))
            tokens[name] = shown + stream.position.flatten(0, 1)
            hidden[name] = masked[name].all(dim=1)
        found = run_joint(self.trunk, self.joint, tokens, hidden, cache, None)
        return {name: self._stream(name).outward(part) for name, part in found.items()}

    def _draw_masks(self, outputs: Sequence[str], rows: int, device: torch.device) -> dict[str, Tensor]:
        """Training masks (B, L): a rate in (0, 1] by the cosine density, none or all of a stream by chance."""
        shared = torch.rand(rows, device=device)
        masks = {}
        for name in outputs:
            length = self._stream(name).spec.length
            drawn = shared if self.config.rates == "shared" else torch.rand(rows, device=device)
            count = ((0.5 * math.pi * drawn).cos() * length).ceil()
            atom = torch.rand(rows, device=device)
            count = torch.where(atom < self.config.absent.get(name, 0.0), length, count)
            count = torch.where(atom > 1 - self.config.clean.get(name, 0.0), 0, count)
            rank = torch.rand(rows, length, device=device).argsort(dim=1).argsort(dim=1)
            masks[name] = rank < count[:, None]
        return masks

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Cross-entropy of the masked tokens, per stream."""
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        ids = {name: targets[name].values.flatten(1) for name in outputs}
        masked = self._draw_masks(outputs, call.rows, cache.pad.device)
        logits = self.logits(ids, masked, cache)
        terms = {}
        for name in outputs:
            pad = targets[name].pad.repeat_interleave(self._stream(name).spec.tokens, dim=1)
            error = F.cross_entropy(logits[name].transpose(1, 2), ids[name], reduction="none")
            counts = masked[name] & ~pad
            terms[name] = (error * counts).sum() / counts.sum().clamp(min=1)
        return FactorLoss(terms)

    def _choose(self, logits: Tensor, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Logits (B, L, vocabulary) -> ids (B, L) and the log-probability of each."""
        ids = choose(logits, self.config.temperature, noise)
        return ids, logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0]

    def _reveal(
        self, logits: Tensor, ids: Tensor, masked: Tensor, left: int, shuffle: float, noise: RowNoise
    ) -> tuple[Tensor, Tensor]:
        """Fill in the most confident masked tokens, so that ``left`` remain masked."""
        chosen, confidence = self._choose(logits, noise)
        confidence = confidence + shuffle * gumbel(noise.uniform(ids.shape[1]))
        order = confidence.masked_fill(~masked, float("inf")).argsort(dim=1)  # least confident first
        still = torch.zeros_like(masked).scatter(1, order[:, :left], True)
        return torch.where(masked & ~still, chosen, ids), still

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Reveal tokens call by call; every stream has its own number of calls.

        Streams of this estimator that are given are never masked; those neither wanted nor given are left out.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        default = {name: self.config.nfe.get(name, self.config.steps) for name in outputs}
        calls = {name: evaluations_spent(name, budget, default[name]).whole for name in outputs}
        ids = {n: call.given[n].flatten(1) for n in self.outputs if n in call.given}
        masked = {n: torch.zeros_like(v, dtype=torch.bool) for n, v in ids.items()}
        for name in outputs:
            shape, device = (call.rows, self._stream(name).spec.length), cache.pad.device
            ids[name] = torch.zeros(shape, dtype=torch.long, device=device)
            masked[name] = torch.ones(shape, dtype=torch.bool, device=device)
        left = {name: masked_after(self._stream(name).spec.length, calls[name]) for name in outputs}
        drawn = [name for block in self.joint.blocks(list(self.outputs)) for name in block if name in outputs]
        sources = {name: noise.fork() for name in drawn}
        for k in range(max(calls.values())):
            logits = self.logits(ids, masked, cache)
            for name in drawn:
                if k < calls[name]:
                    shuffle = self.config.shuffle * (1 - k / calls[name])
                    ids[name], masked[name] = self._reveal(
                        logits[name], ids[name], masked[name], left[name][k], shuffle, sources[name]
                    )
        shaped = {name: ids[name].unflatten(1, (-1, self._stream(name).spec.tokens)) for name in outputs}
        return Generated(shaped, calls)

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: every wanted stream needs at least one evaluation."""
        for name in outputs:
            evaluations_spent(name, budget, self.config.nfe.get(name, self.config.steps))

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """A stream can be left out when training has seen it absent, or when no other one reads it."""
        return self.joint.unread(outputs, stream) or self.config.absent.get(stream, 0.0) > 0

    def revisable(self, outputs: Sequence[str]) -> bool:
        """See :class:`wamkit.contract.Revises`: training has seen each of them clean, and all read each other."""
        return self.joint.mutual(outputs) and all(self.config.clean.get(name, 0.0) > 0 for name in outputs)
