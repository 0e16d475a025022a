"""Latent actions: z inferred from (s, s'), read by a world model and by one decoder per robot (`ar.latent-action`).

    posterior    q(z | s, s')     summary of the transition; used in training, and when the future is given
    prior        p(z | c)         proposal of the next transition
    world model  p(s' | z, c)     reconstruction of the future from the present and z (survey eq. 10, with z for a)

z is a stream of role ``state``: it does not appear in the data. A robot's decoder is any estimator of p(a | z, c), so
a new robot needs only a new decoder.

Where the factor of z is given a future of its own, such as a generated video, z is read off that one alone: an inverse
dynamics model of latent actions that labels what another model has imagined (DreamGen). It then has no prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import Magnitude, NonNegative
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.tokens import StreamTokens


@EstimatorConfig.register_subclass("latent_action")
@dataclass(frozen=True)
class LatentActionConfig(EstimatorConfig):
    """Latent action inferred from consecutive observations, with its world model (LAPA; AdaWorld, Gao et al. 2025).

    Attributes:
        bottleneck: weight of the posterior's divergence from a standard normal, which limits the information in z.
        temperature: standard deviation of a sampled z, in units of the prior's; 0 takes the prior's mean.
    """

    bottleneck: NonNegative = 1e-3
    temperature: Magnitude = 0.0

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> LatentAction:
        """Build the estimator.

        Raises:
            ConfigError: the factors are not p(state | c) and p(future | state, c), or p(state | seen, c) and
                p(future | state, c) with one more future that is seen.
        """
        reader = "estimator 'latent_action'"
        roles = {s.role: s for s in outputs}
        told = {s.role: s for s in given}
        if set(roles) != {"state", "future"} or len(outputs) != 2 or len(told) != len(given):
            told = {}
        if set(told) not in ({"state"}, {"state", "future"}):
            raise ConfigError(
                f"{reader} needs factors p(state | c) and p(future | state), and reads at most one more future for "
                f"the state; it outputs {[s.name for s in outputs]} and is given {[s.name for s in given]}"
            )
        seen = told.get("future")
        for spec in (roles["future"], *([seen] if seen else [])):
            spec.require(discrete=False, reader=reader)
        return LatentAction(self, roles["state"], roles["future"], seen, require_trunk(trunk, reader))


@final
class LatentAction(Estimator):
    """Posterior, prior and world model on one trunk; the world model's error trains the posterior through z."""

    family: ClassVar[Family] = "joint-embedding"

    def __init__(
        self,
        config: LatentActionConfig,
        state: StreamSpec,
        future: StreamSpec,
        seen: StreamSpec | None,
        trunk: Trunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.state, self.future = state, future
        self.told = seen  # the future that the state is read off in every call, or None
        self.seen = StreamTokens(seen or future, trunk.width)  # what the posterior reads
        self.rebuilt = StreamTokens(future, trunk.width)
        self.latent = nn.Linear(state.features, trunk.width)
        self.ask = nn.Parameter(torch.randn(2, trunk.width) * 0.02)  # queries of posterior and prior
        self.posterior = nn.Linear(trunk.width, 2 * state.features)
        self.prior = None if seen else nn.Linear(trunk.width, 2 * state.features)

    def _density(self, head: nn.Module, query: Tensor, cache: Cache, rows: int) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of z, each (B, 1, 1, Z)."""
        hidden, _ = self.trunk(query.expand(rows, 1, -1), cache=cache, layout=[(self.state.name, 1)])
        mean, raw = head(hidden)[:, None].chunk(2, dim=-1)
        return mean, F.softplus(raw) + 1e-3

    def infer(self, call: Call, future: Tensor) -> tuple[Tensor, Tensor]:
        """Infer q(z | s, s') from a future (B, F, N, D): mean and standard deviation, each (B, 1, 1, Z)."""
        tokens = self.seen.embed(future)
        layout = [(self.seen.spec.name, tokens.shape[1])]
        _, cache = self.trunk(tokens, cache=call.context, layout=layout)
        return self._density(self.posterior, self.ask[0], call.context.append(cache), call.rows)

    def _propose(self, call: Call) -> tuple[Tensor, Tensor]:
        assert self.prior is not None
        return self._density(self.prior, self.ask[1], call.context, call.rows)

    def _rebuild(self, call: Call) -> Tensor:
        """Mean of p(s' | z, c), (B, F, N, D)."""
        z = self.latent(call.given[self.state.name].flatten(1, 2))
        _, cache = self.trunk(z, cache=call.context, layout=[(self.state.name, 1)])
        queries = self.rebuilt.position.flatten(0, 1)[None].expand(call.rows, -1, -1)
        layout = [(self.future.name, self.future.length)]
        hidden, _ = self.trunk(queries, cache=call.context.append(cache), layout=layout)
        return self.rebuilt.read(hidden)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Bottleneck and the prior's divergence for z; reconstruction error for the future."""
        target = targets[self.future.name]
        if self.future.name in outputs:
            error = F.mse_loss(self._rebuild(call), target.values, reduction="none")
            return FactorLoss(
                {self.future.name: masked_mean(error, target.pad, call.real.get(self.future.name))}
            )
        mean, std = self.infer(call, target.values if self.told is None else call.given[self.told.name])
        standard = 0.5 * (mean.square() + std.square() - 1) - std.log()
        z = mean + std * torch.randn_like(std)
        outside = target.pad.any(dim=1, keepdim=True)
        if self.told is not None:
            term = self.config.bottleneck * masked_mean(standard, outside)
            return FactorLoss({self.state.name: term}, {self.state.name: z})
        expected, spread = self._propose(call)
        ratio = std.detach() / spread
        gap = 0.5 * (ratio.square() + ((mean.detach() - expected) / spread).square() - 1) - ratio.log()
        term = masked_mean(self.config.bottleneck * standard + gap, outside)
        return FactorLoss({self.state.name: term}, {self.state.name: z})

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True for the future, from which the posterior infers z where it is told no other."""
        return stream == self.future.name and self.told is None

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Generate z from the prior, or from the posterior when a future is given; generate the future from z."""
        name = self.state.name
        if name not in outputs:
            return Generated({self.future.name: self._rebuild(call)}, {self.future.name: 1})
        source = (self.told or self.future).name
        if source in call.given:
            return Generated({name: self.infer(call, call.given[source])[0]}, {name: 1})
        mean, std = self._propose(call)
        z = mean + self.config.temperature * std * noise.normal(*mean.shape[1:])
        return Generated({name: z}, {name: 1})
