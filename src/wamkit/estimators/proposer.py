"""Gaussian proposal: cheap candidates for a planner to refine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Positive
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, cleared, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.tokens import StreamTokens, with_given
from wamkit.nn.named import Named


@EstimatorConfig.register_subclass("proposer")
@dataclass(frozen=True)
class ProposerConfig(EstimatorConfig):
    """Gaussian around a learned mean: one-pass action candidates for a planner, by maximum likelihood.

    Attributes:
        min_std: smallest standard deviation, in normalised units; keeps candidates apart.
        max_std: largest standard deviation, in normalised units.
    """

    min_std: Positive = 0.05
    max_std: Positive = 1.0

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Proposer:
        """Build the estimator; raises :class:`ConfigError` unless there is exactly one continuous output."""
        if len(outputs) != 1:
            names = ", ".join(s.name for s in outputs)
            raise ConfigError(f"estimator 'proposer' proposes one stream, but got: {names}")
        outputs[0].require(discrete=False, reader="estimator 'proposer'")
        return Proposer(self, outputs[0], given, require_trunk(trunk, "estimator 'proposer'"))


@final
class Proposer(Estimator):
    """p(a | c) = N(mean(c), std(c)), trained by maximum likelihood."""

    family: ClassVar[Family] = "proposal"

    def __init__(
        self, config: ProposerConfig, output: StreamSpec, given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.output = StreamTokens(output, trunk.width)
        self.spread = nn.Linear(trunk.width, output.features)
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})

    def _density(self, call: Call) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, each (B, T, N, D)."""
        cache = with_given(self.trunk, self.given, call)
        queries = self.output.position.flatten(0, 1)[None].expand(call.rows, -1, -1)
        layout = [(self.output.spec.name, self.output.spec.length)]
        hidden, _ = self.trunk(queries, cache=cache, layout=layout)
        unit = torch.sigmoid(self.spread(hidden)).unflatten(1, (-1, self.output.spec.tokens))
        std = self.config.min_std + (self.config.max_std - self.config.min_std) * unit
        return self.output.read(hidden), std

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Negative log-likelihood per value, without the constant."""
        (name,) = outputs
        mean, std = self._density(call)
        error = 0.5 * ((targets[name].values - mean) / std).square() + std.log()
        return FactorLoss({name: masked_mean(error, targets[name].pad, call.real.get(name))}, {name: mean})

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Sample the Gaussian in one function evaluation."""
        (name,) = outputs
        mean, std = self._density(call)
        sample = mean + std * noise.normal(*mean.shape[1:])
        return Generated({name: cleared(sample, call.real.get(name))}, {name: 1})
