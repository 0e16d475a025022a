"""Autoregression over continuous tokens with a flow head per token (`bb.autoregressive`, continuous elements)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.calls import Call, FactorLoss
from wamkit.contract.protocols import EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.serial import Serial, require_serial
from wamkit.estimators.token_head import HeadedConfig
from wamkit.nn.named import Named


@EstimatorConfig.register_subclass("continuous_autoregressor")
@dataclass(frozen=True)
class ContinuousAutoregressorConfig(HeadedConfig):
    """Continuous next-token generation, a small flow per token (MAR, Li et al. 2024; PhysGen; eq. 26).

    Attributes:
        segments: number of pieces that every stream is cut into before interleaving, as in ``autoregressor``.
    """

    segments: Size = 1

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> ContinuousAutoregressor:
        """Build the estimator.

        Raises:
            ConfigError: an output is discrete, ``segments`` does not divide its steps, or a number is below 1.
        """
        place = "estimator 'continuous_autoregressor'"
        require_serial(outputs, given, self.segments, discrete=False, reader=place)
        return ContinuousAutoregressor(self, outputs, given, require_trunk(trunk, place))


@final
class ContinuousAutoregressor(Serial):
    """Causal stream of vectors, each drawn by the flow head of its stream from the trunk's hidden token."""

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
        self.heads = Named({s.name: config.head(s.features, trunk.width) for s in outputs})

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Flow matching error per stream, conditioned on hidden tokens of the true values before each element."""
        values = {name: targets[name].values for name in outputs}
        hidden = self.hidden(values, outputs, call)
        sums = {name: torch.zeros((), device=hidden.device) for name in outputs}
        counts = {name: torch.zeros((), device=hidden.device) for name in outputs}
        for piece, condition in zip(
            self.order(outputs), hidden.split(self.sizes(outputs), dim=1), strict=True
        ):
            name = piece.stream
            target = values[name][:, piece.start : piece.stop].flatten(1, 2)
            keep = self.kept(targets, piece, call)
            error = self.heads[name].error(condition, target, self.config.draws, self.real(piece, call))
            sums[name] = sums[name] + (error * keep).sum()
            counts[name] = counts[name] + keep.sum()
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
        config, own = self.config, None if real is None else real[:, None]
        return self.heads[name].draw(hidden[:, None], config.steps, config.temperature, noise, own)[:, 0]
