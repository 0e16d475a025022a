"""Masked discrete denoiser: all token ids start hidden and are revealed by confidence (`bb.denoising`, discrete).

Noise is a mask. Every stream has a mask rate of its own; a stream without a revealed token holds no information, so
no other stream reads it, and leaving it out of the call marginalises it exactly. Tokens that are revealed in one call
are chosen independently of each other: few calls are cheap, and as many calls as tokens sample the joint density. A
stream with more calls than tokens spends its first calls waiting, and then reads what other streams have revealed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Magnitude
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import EstimatorConfig, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.joint import run_joint
from wamkit.estimators.levels import LevelConfig, LevelEstimator
from wamkit.estimators.samplers import choose, gumbel
from wamkit.estimators.tokens import with_given
from wamkit.nn.named import NamedParameters

PLACE = "estimator 'unmasker'"


@EstimatorConfig.register_subclass("unmasker")
@dataclass(frozen=True)
class UnmaskerConfig(LevelConfig):
    """Masked discrete denoiser, unmasking by confidence (MaskGIT, Chang et al. 2022; UD-VLA, survey eq. 23).

    Attributes:
        nfe: stream name -> function evaluations, for streams that differ from ``steps``. A stream with fewer
            evaluations is revealed before the others, which then read all of it.
        rates: ``independent`` draws a mask rate per stream (a process per stream on one trunk); ``shared`` draws one
            for all.
        temperature: sampling temperature of the tokens; 1 samples the learned density, 0 takes the most likely token.
        shuffle: randomness of the order in which tokens are revealed, decreasing to zero over the calls. Zero orders
            tokens by confidence alone, which favours the larger mode.
    """

    rates: Literal["independent", "shared"] = "independent"
    temperature: Magnitude = 1.0
    shuffle: Magnitude = 4.5

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Unmasker:
        """Build the estimator; raises :class:`ConfigError` on continuous outputs or unknown stream names."""
        shared = "rates" if self.rates == "shared" else None
        self.check_streams(outputs, given, discrete=True, shared=shared, reader=PLACE)
        return Unmasker(self, outputs, given, require_trunk(trunk, PLACE))


def masked_after(length: int, calls: int) -> list[int]:
    """Return the number of tokens out of ``length`` that are still masked after each call (cosine schedule, MaskGIT).

    With more calls than tokens, the first calls wait for other streams; every later call reveals a token.
    """
    waiting = max(0, calls - length)
    left = [length] * (waiting + 1)
    calls -= waiting
    for call in range(1, calls):
        planned = int(length * math.cos(0.5 * math.pi * call / calls))
        left.append(max(1, min(planned, left[-1] - 1)))
    return [*left[1:], 0]


@final
class Unmasker(LevelEstimator):
    """Bidirectional token predictor over all output streams in one sequence."""

    config: UnmaskerConfig
    exits = True

    def __init__(
        self, config: UnmaskerConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        independent = config.rates == "independent"
        super().__init__(config, outputs, given, trunk, independent=independent, reader=PLACE)
        self.mask = NamedParameters({s.name: torch.randn(trunk.width) * 0.02 for s in outputs})

    def logits(
        self, ids: Mapping[str, Tensor], masked: Mapping[str, Tensor], cache: Cache
    ) -> dict[str, Tensor]:
        """Evaluate the network: ids and masks (B, L) per stream -> logits (B, L, vocabulary) per stream."""
        tokens, hidden = {}, {}
        for name, values in ids.items():
            stream = self.outputs[name]
            shown = torch.where(masked[name][..., None], self.mask[name], stream.inward(values))
            tokens[name] = shown + stream.position.flatten(0, 1)
            hidden[name] = masked[name].all(dim=1)
        outputs = run_joint(self.trunk, self.joint, tokens, hidden, cache, None)
        return {name: self.outputs[name].outward(part) for name, part in outputs.items()}

    def _draw_masks(self, outputs: Sequence[str], rows: int, device: torch.device) -> dict[str, Tensor]:
        """Draw training masks (B, L): a rate in (0, 1] by the cosine density; by chance all or none of a stream."""
        shared = torch.rand(rows, device=device)
        masks = {}
        for name in outputs:
            length = self.outputs[name].spec.length
            drawn = shared if self.config.rates == "shared" else torch.rand(rows, device=device)
            count = self.with_extremes(name, ((0.5 * math.pi * drawn).cos() * length).ceil(), length)
            rank = torch.rand(rows, length, device=device).argsort(dim=1).argsort(dim=1)
            masks[name] = rank < count[:, None]
        return masks

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Cross-entropy of the masked tokens, per stream."""
        cache = with_given(self.trunk, self.given, call)
        ids = {name: targets[name].values.flatten(1) for name in outputs}
        masked = self._draw_masks(outputs, call.rows, cache.pad.device)
        for name in outputs:
            absent = targets[name].absent
            if absent is not None:
                masked[name] = masked[name] | absent[:, None]
            masked[name] = masked[name] | self._unreal(name, call)
        logits = self.logits(ids, masked, cache)
        terms = {}
        for name in outputs:
            pad = targets[name].pad.repeat_interleave(self.outputs[name].spec.tokens, dim=1)
            error = F.cross_entropy(logits[name].transpose(1, 2), ids[name], reduction="none")
            counts = masked[name] & ~(pad | self._unreal(name, call))
            terms[name] = (error * counts).sum() / counts.sum().clamp(min=1)
        return FactorLoss(terms)

    def _choose(self, logits: Tensor, noise: RowNoise) -> tuple[Tensor, Tensor]:
        """Sample ids (B, L) from logits (B, L, vocabulary), and return the log-probability of each."""
        ids = choose(logits, self.config.temperature, noise)
        return ids, logits.log_softmax(dim=-1).gather(2, ids[..., None])[..., 0]

    def _unreal(self, name: str, call: Call) -> Tensor:
        """Tokens (B, L) bool, or (1, 1) for none, that are not real; they are never revealed."""
        real = call.real.get(name)
        return (
            torch.zeros(1, 1, dtype=torch.bool, device=call.context.pad.device)
            if real is None
            else ~real.flatten(1)
        )

    def _reveal(
        self,
        logits: Tensor,
        ids: Tensor,
        masked: Tensor,
        unreal: Tensor,
        left: int,
        shuffle: float,
        noise: RowNoise,
    ) -> tuple[Tensor, Tensor]:
        """Reveal the most confident masked tokens, so that ``left`` remain masked, or their share of the real ones."""
        chosen, confidence = self._choose(logits, noise)
        confidence = confidence + shuffle * gumbel(noise.uniform(ids.shape[1]))
        order = confidence.masked_fill(~masked | unreal, float("inf")).argsort(dim=1)  # least confident first
        length = ids.shape[1]
        real = length - unreal.expand_as(ids).sum(dim=1, keepdim=True)
        first = torch.arange(length, device=ids.device) < (left * real + length - 1) // length
        still = torch.zeros_like(masked).scatter(1, order, first) | unreal
        return torch.where(masked & ~still, chosen, ids), still

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Reveal tokens call by call, with a number of calls per stream.

        Given streams of this estimator are never masked; streams neither wanted nor given are left out. A stream that
        exits early is revealed whole in the call of its exit.
        """
        cache = with_given(self.trunk, self.given, call)
        spends = {name: self.spending(name, budget) for name in outputs}
        calls = {name: spend.leave for name, spend in spends.items()}
        ids = {n: call.given[n].flatten(1) for n in self.outputs if n in call.given}
        masked = {n: torch.zeros_like(v, dtype=torch.bool) | self._unreal(n, call) for n, v in ids.items()}
        for name in outputs:
            shape, device = (call.rows, self.outputs[name].spec.length), cache.pad.device
            ids[name] = torch.zeros(shape, dtype=torch.long, device=device)
            masked[name] = torch.ones(shape, dtype=torch.bool, device=device)
        left = {
            name: [*masked_after(self.outputs[name].spec.length, spend.whole)[: spend.leave - 1], 0]
            for name, spend in spends.items()
        }
        drawn = self.sources_first(outputs)
        sources = {name: noise.fork() for name in drawn}
        for k in range(max(calls.values())):
            logits = self.logits(ids, masked, cache)
            for name in drawn:
                if k < calls[name]:
                    shuffle = self.config.shuffle * (1 - k / spends[name].whole)
                    ids[name], masked[name] = self._reveal(
                        logits[name],
                        ids[name],
                        masked[name],
                        self._unreal(name, call),
                        left[name][k],
                        shuffle,
                        sources[name],
                    )
        shaped = {name: ids[name].unflatten(1, (-1, self.outputs[name].spec.tokens)) for name in outputs}
        grammars = {name: self.outputs[name].spec.grammar for name in outputs}
        settled = {name: g.settled(shaped[name]) for name, g in grammars.items() if g is not None}
        return Generated({**shaped, **settled}, calls)
