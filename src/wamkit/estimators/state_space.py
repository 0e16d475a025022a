"""Recurrent state-space model with prior and posterior (`ps.latent-state`; Hafner et al. 2019, eq. 4).

    h' = GRU(h, z, a)            deterministic path
    prior      p(z' | h')        belief before the observation
    posterior  q(z' | h', o')    belief after the observation
    decoder    p(o' | h', z')

One step covers one model step (the design's stride in control ticks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Probability, Size
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, feature_mean, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError


@EstimatorConfig.register_subclass("state_space")
@dataclass(frozen=True)
class StateSpaceConfig(EstimatorConfig):
    """Recurrent latent state with prior and posterior (RSSM, Hafner et al. 2019, eq. 4).

    Attributes:
        stochastic: width of z; the other features of the state stream are deterministic.
        hidden: width of the hidden layers.
        past: blocks of real past in training.
        balance: share of the KL gradient that trains the prior (Hafner et al. 2021, KL balancing).
        free_nats: KL divergence below which the loss does not decrease.
        kl_weight: weight of the KL term.
    """

    trunk: str | None = None
    stochastic: Size = 32
    hidden: Size = 256
    past: Size = 4
    balance: Probability = 0.8
    free_nats: NonNegative = 1.0
    kl_weight: NonNegative = 0.1

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> StateSpace:
        """Build the estimator.

        Raises:
            ConfigError: the factors are not p(state | c) and p(future | state, action) with continuous values, or
                widths and steps do not fit.
        """
        roles = {s.role: s for s in outputs}
        actions = [s for s in given if s.role == "action"]
        filtered = "state" in {s.role for s in given}  # two factors, not one that generates both
        if set(roles) != {"state", "future"} or len(outputs) != 2 or len(actions) != 1 or not filtered:
            raise ConfigError(
                "estimator 'state_space' needs factors p(state | c) and p(future | state, action); it "
                f"outputs {[s.name for s in outputs]} and is given {[s.name for s in given]}"
            )
        for spec in (roles["future"], actions[0]):
            spec.require(discrete=False, reader="estimator 'state_space'")
        if roles["state"].features <= self.stochastic:
            raise ConfigError(
                f"estimator 'state_space': stream {roles['state'].name!r} has {roles['state'].features} "
                f"features, which must exceed stochastic {self.stochastic}"
            )
        if actions[0].steps % roles["future"].steps:
            raise ConfigError(
                f"estimator 'state_space': {actions[0].steps} action steps cannot be cut evenly into the "
                f"{roles['future'].steps} steps of stream {roles['future'].name!r}"
            )
        return StateSpace(self, roles["state"], roles["future"], actions[0])


@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussian: mean and standard deviation, (B, Z)."""

    mean: Tensor
    std: Tensor

    def sample(self) -> Tensor:
        """Draw a reparameterised sample (B, Z) from the global generator."""
        return self.mean + self.std * torch.randn_like(self.std)

    def detach(self) -> Gaussian:
        """Return a copy without gradient."""
        return Gaussian(self.mean.detach(), self.std.detach())


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """Compute KL(p || q) summed over dimensions, (B,)."""
    ratio = (p.std / q.std).square()
    shift = ((p.mean - q.mean) / q.std).square()
    return 0.5 * (ratio + shift - 1 - ratio.log()).sum(dim=-1)


def network(inward: int, hidden: int, outward: int) -> nn.Sequential:
    """Two-layer perceptron with normalisation."""
    return nn.Sequential(
        nn.Linear(inward, hidden), nn.LayerNorm(hidden), nn.SiLU(), nn.Linear(hidden, outward)
    )


@final
class StateSpace(Estimator):
    """Filters the real past into a state and rolls the state forward under actions."""

    family: ClassVar[Family] = "state-space"

    def __init__(
        self, config: StateSpaceConfig, state: StreamSpec, future: StreamSpec, action: StreamSpec
    ) -> None:
        super().__init__()
        self.config = config
        self.state, self.future, self.action = state, future, action
        self.past = config.past
        self.deterministic = state.features - config.stochastic
        self.block = action.steps // future.steps  # action steps per model step
        values = future.tokens * future.features
        inputs = self.block * action.tokens * action.features
        h, z, hidden = self.deterministic, config.stochastic, config.hidden
        self.look = network(values, hidden, hidden)
        self.act = network(z + inputs, hidden, hidden)
        self.step = nn.GRUCell(hidden, h)
        self.prior = network(h, hidden, 2 * z)
        self.posterior = network(h + hidden, hidden, 2 * z)
        self.decoder = network(h + z, hidden, values)

    @staticmethod
    def _gaussian(parameters: Tensor) -> Gaussian:
        mean, raw = parameters.chunk(2, dim=-1)
        return Gaussian(mean, F.softplus(raw) + 0.1)

    def _advance(self, state: Tensor, action: Tensor) -> Tensor:
        """Advance a state (B, h + z) under a block of actions (B, block, N, D) to the next h, (B, h)."""
        h, z = state.split((self.deterministic, self.config.stochastic), dim=-1)
        return self.step(self.act(torch.cat((z, action.flatten(1)), dim=-1)), h)

    def _believe(self, h: Tensor, observed: Tensor) -> Gaussian:
        return self._gaussian(self.posterior(torch.cat((h, self.look(observed.flatten(1))), dim=-1)))

    def _decode(self, state: Tensor) -> Tensor:
        """Decode states (..., h + z) to (..., N, D)."""
        return self.decoder(state).unflatten(-1, (self.future.tokens, self.future.features))

    def _filter_step(
        self, state: Tensor, past: Past, k: int, sample: bool
    ) -> tuple[Tensor, Gaussian, Gaussian]:
        """Filter block ``k`` of the past. In rows where no action led to it, the state starts from zero.

        A block that is not over yet has no step of its own: the state before it meets the newest observation.
        """
        h = self._advance(state, past.action[:, k])
        start = torch.zeros_like(h)
        if past.partial is not None:
            start = torch.where(past.partial[:, None], state[:, : self.deterministic], start)
        h = torch.where(past.action_pad[:, k, None], start, h)
        prior = self._gaussian(self.prior(h))
        posterior = self._believe(h, past.values[self.future.name][:, k])
        z = posterior.sample() if sample else posterior.mean
        return torch.cat((h, z), dim=-1), prior, posterior

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Evidence bound for the state factor; open-loop prediction error for the future factor."""
        real = call.real.get(self.future.name)
        if self.future.name in outputs:
            prediction = self._roll(call.given[self.state.name], call.given[self.action.name])
            target = targets[self.future.name]
            error = (prediction - target.values).square()
            return FactorLoss({self.future.name: masked_mean(error, target.pad, real)})
        assert past is not None
        b, k = past.pad.shape
        state = past.action.new_zeros(b, self.state.features)
        kls, errors = [], []
        for i in range(k):
            state, prior, posterior = self._filter_step(state, past, i, sample=True)
            balance = self.config.balance
            gap = balance * kl(posterior.detach(), prior) + (1 - balance) * kl(posterior, prior.detach())
            kls.append(gap.clamp(min=self.config.free_nats))
            error = (self._decode(state) - past.values[self.future.name][:, i]).square()
            errors.append(feature_mean(error[:, None], None if real is None else real[:, :1])[:, 0])
        bound = torch.stack(errors, dim=1) + self.config.kl_weight * torch.stack(kls, dim=1)
        return FactorLoss(
            {self.state.name: masked_mean(bound, past.pad)}, {self.state.name: state[:, None, None]}
        )

    def _roll(self, state: Tensor, action: Tensor) -> Tensor:
        """Roll out the prior open loop: state (B, 1, 1, h + z), action (B, T, N, D) -> future (B, F, N, D)."""
        now = state[:, 0, 0]
        futures = []
        for block in action.split(self.block, dim=1):
            h = self._advance(now, block)
            now = torch.cat((h, self._gaussian(self.prior(h)).mean), dim=-1)
            futures.append(self._decode(now))
        return torch.stack(futures, dim=1)

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True for the state: the real past determines it, whatever is known of the future."""
        return self.state.name in outputs

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Return the carried state, or the future that actions lead to from it (prior means)."""
        if self.state.name in outputs:
            return Generated({self.state.name: call.carry["state"][:, None, None]}, {self.state.name: 1})
        rolled = self._roll(call.given[self.state.name], call.given[self.action.name])
        return Generated({self.future.name: rolled}, {self.future.name: self.future.steps})

    @override
    def initial_carry(self, batch_size: int) -> Any:
        """Return a zero state."""
        return {"state": self.step.weight_hh.new_zeros(batch_size, self.state.features)}

    @override
    def observe(self, carry: Any, context: Cache, past: Past) -> Any:
        """Filter with the posterior mean, so that acting is deterministic."""
        state = carry["state"]
        for k in range(past.pad.shape[1]):
            state, _, _ = self._filter_step(state, past, k, sample=False)
        return {"state": state}
