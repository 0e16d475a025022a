"""Discrete next-token estimator over one interleaved causal stream (`bb.autoregressive`, `cp.interleave`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Magnitude, Size
from wamkit.contract.calls import Call, FactorLoss
from wamkit.contract.protocols import EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.samplers import choose
from wamkit.estimators.serial import Serial, require_serial


@EstimatorConfig.register_subclass("autoregressor")
@dataclass(frozen=True)
class AutoregressorConfig(EstimatorConfig):
    """Next-token prediction over one interleaved causal stream (survey eq. 26).

    Attributes:
        segments: number of pieces that every stream is cut into along time; the pieces are interleaved in the
            factor's order of streams: 1 gives a...a s...s, 2 gives a.. s.. a.. s..
        temperature: sampling temperature; 0 takes the most likely token.
        lookahead: number of heads in training; the k-th predicts the k-th next token (multi-token prediction,
            Gloeckle et al. 2024). Decoding runs the first head alone.
    """

    segments: Size = 1
    temperature: Magnitude = 0.0
    lookahead: Size = 1

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Autoregressor:
        """Build the estimator.

        Raises:
            ConfigError: an output is continuous, ``segments`` does not divide its steps, or ``lookahead`` is out of
                range.
        """
        place = "estimator 'autoregressor'"
        require_serial(outputs, given, self.segments, discrete=True, reader=place)
        length = sum(spec.length for spec in outputs)
        if self.lookahead > length:
            raise ConfigError(
                f"{place}: lookahead {self.lookahead} must be at most {length}, the tokens of a window"
            )
        return Autoregressor(self, outputs, given, require_trunk(trunk, place))


@final
class Autoregressor(Serial):
    """Trained by cross-entropy on the next token (eq. 26); decoding reads cached keys and values."""

    family: ClassVar[Family] = "autoregressive"

    def __init__(
        self,
        config: AutoregressorConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
    ) -> None:
        super().__init__(outputs, given, trunk, config.segments)
        self.config = config
        d = trunk.width
        self.ahead = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))
            for _ in range(config.lookahead - 1)
        )

    def logits(self, values: Mapping[str, Tensor], names: Sequence[str], call: Call) -> list[Tensor]:
        """Compute teacher-forced logits per piece, (B, tokens of the piece, vocabulary), in one pass."""
        return self._read(self.hidden(values, names, call), names)

    def _read(self, hidden: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Logits per piece from hidden tokens, one per element of the sequence."""
        parts = hidden.split(self.sizes(names), dim=1)
        return [self.outputs[p.stream].outward(h) for p, h in zip(self.order(names), parts, strict=True)]

    def foresee(self, hidden: Tensor, names: Sequence[str], distance: int) -> list[Tensor]:
        """Compute logits per piece of the head that predicts ``distance`` elements beyond the next.

        This head does not predict the first ``distance`` elements of the sequence; their logits come from zeros.
        """
        if distance == 0:
            return self._read(hidden, names)
        shifted = hidden[:, : hidden.shape[1] - distance]
        shifted = shifted + self.ahead[distance - 1](shifted)  # one unembedding per stream for all heads
        return self._read(F.pad(shifted, (0, 0, distance, 0)), names)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Cross-entropy per stream; with lookahead, the mean over all heads."""
        values = {name: targets[name].values for name in outputs}
        sums = {name: torch.zeros((), device=self.begin.device) for name in outputs}
        counts = {name: torch.zeros((), device=self.begin.device) for name in outputs}
        hidden = self.hidden(values, outputs, call)
        for distance in range(self.config.lookahead):
            start = 0
            for piece, logits in zip(
                self.order(outputs), self.foresee(hidden, outputs, distance), strict=True
            ):
                ids = values[piece.stream][:, piece.start : piece.stop]
                keep = self.kept(targets, piece, call)
                foreseen = torch.arange(start, start + keep.shape[1], device=keep.device) >= distance
                start += keep.shape[1]
                error = F.cross_entropy(logits.transpose(1, 2), ids.flatten(1), reduction="none")
                sums[piece.stream] = sums[piece.stream] + (error * (keep & foreseen)).sum()
                counts[piece.stream] = counts[piece.stream] + (keep & foreseen).sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    @override
    def draw(
        self,
        name: str,
        hidden: Tensor,
        noise: RowNoise,
        written: Sequence[Tensor] = (),
        real: Tensor | None = None,
    ) -> Tensor:
        """Draw an id; of a text, only one that its grammar allows after what is written."""
        logits, grammar = self.outputs[name].outward(hidden), self.outputs[name].spec.grammar
        if grammar is not None:
            before = torch.stack(tuple(written), dim=1) if written else hidden.new_zeros(len(hidden), 0)
            logits = logits.masked_fill(~grammar.allowed(before), -torch.inf)
        ids = choose(logits, self.config.temperature, noise)
        return ids if real is None else ids.masked_fill(~real, 0)
