"""Autoregression over continuous tokens with a flow per token (`bb.autoregressive`, continuous elements)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from wamkit.contract.calls import Call, FactorLoss
from wamkit.contract.protocols import EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.serial import Serial, require_serial
from wamkit.estimators.token_head import HeadedConfig, TokenHead


@EstimatorConfig.register_subclass("continuous_autoregressor")
@dataclass(frozen=True)
class ContinuousAutoregressorConfig(HeadedConfig):
    """Continuous next-token generation, a small flow per token (MAR, Li et al. 2024; PhysGen; eq. 26).

    Attributes:
        segments: how many pieces every stream is cut into before they are interleaved, as in ``autoregressor``.
    """

    segments: int = 1

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> ContinuousAutoregressor:
        """Build; raises :class:`ConfigError` on discrete outputs, numbers below 1 or steps that cannot be cut."""
        place = "estimator 'continuous_autoregressor'"
        require_serial(outputs, given, self.segments, discrete=False, reader=place)
        self.check_head(place)
        return ContinuousAutoregressor(self, outputs, given, require_trunk(trunk, place))


@final
class ContinuousAutoregressor(Serial):
    """A causal stream of vectors; each is drawn by the flow head of its stream from the trunk's hidden token."""

    family: ClassVar[Family] = "autoregressive"

    def __init__(
        self,
        config: ContinuousAutoregressorConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
    ) -> None:
        super().__init__(outputs, given, trunk, config.segments)
        self.config = config
        self.heads = nn.ModuleDict({s.name: config.head(s.features, trunk.width) for s in outputs})

    def _head(self, name: str) -> TokenHead:
        head = self.heads[name]
        assert isinstance(head, TokenHead)
        return head

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Flow matching error per stream, under the hidden tokens of the true values before each."""
        values = {name: targets[name].values for name in outputs}
        hidden = self.hidden(values, outputs, call)
        sums = {name: torch.zeros((), device=hidden.device) for name in outputs}
        counts = {name: torch.zeros((), device=hidden.device) for name in outputs}
        for piece, known in zip(self.order(outputs), hidden.split(self.sizes(outputs), dim=1), strict=True):
            name = piece.stream
            target = values[name][:, piece.start : piece.stop].flatten(1, 2)
            keep = self.kept(targets, piece)
            error = self._head(name).error(known, target, self.config.draws)
            sums[name] = sums[name] + (error * keep).sum()
            counts[name] = counts[name] + keep.sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    def draw(self, name: str, hidden: Tensor, noise: RowNoise) -> Tensor:
        """See :meth:`Serial.draw`."""
        found = self._head(name).draw(hidden[:, None], self.config.steps, self.config.temperature, noise)
        return found[:, 0]
