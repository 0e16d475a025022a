"""Inverse dynamics by a learned Jacobian (`ar.inverse-dynamics`, survey eqs. 5, 12; VERA 2026).

Observed motion is locally linear in the action: m = J(c) a + b(c). J and b are learned per robot from the context
alone, and the action is the damped pseudo-inverse of J applied to a predicted motion, with the drift b subtracted.
The predictor of the motion therefore needs no actions, and serves every robot that has such a translator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from wamkit.config.ranges import NonNegative, Positive
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.nn.named import Named, NamedParameters


@EstimatorConfig.register_subclass("jacobian_dynamics")
@dataclass(frozen=True)
class JacobianDynamicsConfig(EstimatorConfig):
    """Action from a predicted motion by the damped inverse of a learned Jacobian (VERA, 2026; survey eq. 12).

    Attributes:
        damping: weight of the mean squared action against the mean squared motion left unexplained. It keeps the
            action at zero in directions that cause no motion.
        inverse: weight of the action's error in the loss, relative to the error of the motion that the action causes.
            Zero trains the forward direction alone.
    """

    damping: Positive = 1e-3
    inverse: NonNegative = 1.0

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> JacobianDynamics:
        """Build the estimator.

        Raises:
            ConfigError: the output is not one continuous action, or the given streams are not all continuous futures
                or goals.
        """
        reader = "estimator 'jacobian_dynamics'"
        if len(outputs) != 1 or outputs[0].role != "action":
            raise ConfigError(f"{reader} generates the action alone, not {[s.name for s in outputs]}")
        if not given or any(s.role not in ("future", "goal") for s in given):
            raise ConfigError(
                f"{reader} inverts the motion of futures or goals, but is given {[s.name for s in given]}. Name "
                f"them, and nothing else, in its factor's `given`."
            )
        for spec in (*outputs, *given):
            spec.require(discrete=False, reader=reader)
        return JacobianDynamics(self, outputs[0], given, require_trunk(trunk, reader))


@final
class JacobianDynamics(Estimator):
    """A query per motion token reads the context and predicts how its values respond to every entry of the action."""

    family: ClassVar[Family] = "joint-embedding"

    def __init__(
        self, config: JacobianDynamicsConfig, output: StreamSpec, given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config, self.trunk, self.output = config, trunk, output
        self.given = list(given)
        self.size = output.length * output.features
        self.queries = NamedParameters({s.name: torch.randn(s.length, trunk.width) * 0.02 for s in given})
        self.rows = Named({s.name: nn.Linear(trunk.width, s.features * (self.size + 1)) for s in given})

    def linear(self, call: Call) -> tuple[Tensor, Tensor]:
        """Predict the Jacobian (B, M, A) and the drift (B, M) of M values of all given streams and A action entries."""
        layout = [(s.name, s.length) for s in self.given]
        queries = torch.cat([self.queries[s.name] for s in self.given])[None].expand(call.rows, -1, -1)
        hidden, _ = self.trunk(queries, cache=call.context, layout=layout)
        rows = []
        for spec, part in zip(self.given, hidden.split([n for _, n in layout], dim=1), strict=True):
            rows.append(self.rows[spec.name](part).view(call.rows, -1, self.size + 1))
        affine, real = torch.cat(rows, dim=1), call.real.get(self.output.name)
        jacobian = affine[..., :-1]
        if real is not None:  # an entry that the robot does not have moves nothing
            jacobian = jacobian * real.flatten(1)[:, None]
        return jacobian, affine[..., -1]

    def motion(self, given: Mapping[str, Tensor]) -> Tensor:
        """Join the values of the given streams: (B, M)."""
        return torch.cat([given[s.name].flatten(1) for s in self.given], dim=1)

    def invert(self, jacobian: Tensor, motion: Tensor, real: Tensor | None = None) -> Tensor:
        """Solve for the action (B, A) that minimises |J a - m|^2 / M + damping |a|^2 / A.

        Of a robot that does not have all entries, ``real`` (B, T, N, D) of A, the others are 0 and A counts its own.
        """
        damping = self.config.damping * jacobian.shape[1] / self.size
        scale = 1.0 if real is None else self.size / real.flatten(1).sum(dim=1).clamp(min=1)[:, None, None]
        normal = jacobian.mT @ jacobian + damping * scale * torch.eye(self.size, device=jacobian.device)
        action: Tensor = torch.linalg.solve(normal, (jacobian.mT @ motion[..., None]))[..., 0]
        return action

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Error of the motion that the true action causes, plus that of the action; rows with padding are left out."""
        name = self.output.name
        target = targets[name]
        jacobian, drift = self.linear(call)
        motion = self.motion(call.given)
        real = call.real.get(name)
        action = self.invert(jacobian, motion - drift, real)
        caused = (jacobian @ target.values.flatten(1)[..., None])[..., 0] + drift
        pad = target.pad.any(dim=1, keepdim=True)
        forward = masked_mean(F.mse_loss(caused, motion, reduction="none")[:, None], pad)
        error = F.mse_loss(action, target.values.flatten(1), reduction="none")
        own = None if real is None else real.flatten(1)[:, None]
        term = forward + self.config.inverse * masked_mean(error[:, None], pad, own)
        return FactorLoss({name: term}, {name: action.view_as(target.values)})

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Invert the Jacobian in one function evaluation."""
        jacobian, drift = self.linear(call)
        action = self.invert(jacobian, self.motion(call.given) - drift, call.real.get(self.output.name))
        spec = self.output
        return Generated({spec.name: action.view(-1, spec.steps, spec.tokens, spec.features)}, {spec.name: 1})
