"""Learned summary of the context: the latent that a slow network writes for a fast one (`dp.slow-fast`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.tokens import StreamTokens, with_given
from wamkit.nn.named import Named

PLACE = "estimator 'summary'"


@EstimatorConfig.register_subclass("summary")
@dataclass(frozen=True)
class SummaryConfig(EstimatorConfig):
    """State stream that a trunk writes and another one reads, without a target of its own (as in Helix; GR00T N1).

    The losses of what is generated from it train it (end to end, unless their factor reads a ``prediction``). With the
    controller ``subgoal_refresh`` the state is renewed on a clock of its own, and the trunk that writes it does not
    run in the calls in between.
    """

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Summary:
        """Build the estimator; raises :class:`ConfigError` unless every output is a state stream."""
        for spec in outputs:
            if spec.role != "state":
                raise ConfigError(
                    f"{PLACE}: stream {spec.name!r} is a {spec.role}, which has a target. Declare a stream in `states` "
                    f"for it to generate, or use 'regressor'."
                )
        return Summary(self, outputs, given, require_trunk(trunk, PLACE))


@final
class Summary(Estimator):
    """Learned queries read the context and the given streams, and what they find is the state."""

    family: ClassVar[Family] = "joint-embedding"

    def __init__(
        self, config: SummaryConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config, self.trunk = config, trunk
        self.outputs = Named({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})

    def _write(self, outputs: Sequence[str], call: Call) -> dict[str, Tensor]:
        cache = with_given(self.trunk, self.given, call)
        values = {}
        for name in outputs:
            stream = self.outputs[name]
            query = stream.position.flatten(0, 1).expand(call.rows, -1, -1)
            hidden, _ = self.trunk(query, cache=cache, layout=[(name, stream.spec.length)])
            values[name] = torch.tanh(stream.read(hidden))
        return values

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Nothing to compare with; the states are passed on with their gradients."""
        return FactorLoss({}, self._write(outputs, call))

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        """True: the context and what is given determine the states, whatever else is known."""
        return True

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Write the states in one function evaluation."""
        return Generated(self._write(outputs, call), dict.fromkeys(outputs, 1))
