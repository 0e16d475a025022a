"""Joint-embedding and deterministic predictors (`bb.jepa-predictor`, eq. 28)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from wamkit.contract.calls import Call, FactorLoss, Generated, LearnsApart
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, cleared, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.tokens import StreamTokens, split_tokens, with_given
from wamkit.nn.named import Named


@EstimatorConfig.register_subclass("regressor")
@dataclass(frozen=True)
class RegressorConfig(EstimatorConfig):
    """Deterministic prediction in one pass, by learned queries (joint embedding, survey eq. 28).

    Attributes:
        loss: training loss, ``mse``, ``smooth_l1`` or ``cosine`` (one minus the cosine similarity per token).
        where: ``all`` tokens count in the loss, or those that are ``hidden`` in the context, which must then be the
            tokens of one encoder (``masked``), as many as the stream has (I-JEPA, Assran et al. 2023).
    """

    loss: Literal["mse", "smooth_l1", "cosine"] = "mse"
    where: Literal["all", "hidden"] = "all"

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Regressor:
        """Build the estimator; raises :class:`ConfigError` on discrete outputs."""
        require_disjoint(outputs, given, "estimator 'regressor'")
        for spec in outputs:
            spec.require(discrete=False, reader="estimator 'regressor'")
        return Regressor(self, outputs, given, require_trunk(trunk, "estimator 'regressor'"))


@final
class Regressor(Estimator, LearnsApart):
    """Learned queries read the context and the given streams and turn into the output values.

    Targets come from substrates whose weights are frozen, so no gradient can reach them (the sg of eq. 28).
    """

    family: ClassVar[Family] = "joint-embedding"

    def __init__(
        self,
        config: RegressorConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = Named({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})

    def _predict(self, outputs: Sequence[str], call: Call) -> dict[str, Tensor]:
        cache = with_given(self.trunk, self.given, call)
        streams = [self.outputs[name] for name in outputs]
        queries = torch.cat([s.position.flatten(0, 1) for s in streams])[None].expand(call.rows, -1, -1)
        layout = [(s.spec.name, s.spec.length) for s in streams]
        hidden, _ = self.trunk(queries, cache=cache, layout=layout)
        parts = split_tokens(hidden, [s.spec.length for s in streams])
        read = {name: s.read(part) for name, s, part in zip(outputs, streams, parts, strict=True)}
        return {name: cleared(value, call.real.get(name)) for name, value in read.items()}

    def _error(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.config.loss == "cosine":
            return 1 - F.cosine_similarity(prediction, target, dim=-1)
        if self.config.loss == "smooth_l1":
            return F.smooth_l1_loss(prediction, target, reduction="none")
        return F.mse_loss(prediction, target, reduction="none")

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        predictions = self._predict(outputs, call)
        terms = {}
        for name in outputs:
            error, pad = self._error(predictions[name], targets[name].values), targets[name].pad
            real = call.real.get(name)
            if self.config.where == "hidden":
                error, pad = self._hidden(error, pad, call, name)
                real = None if real is None else real.flatten(1, 2)
            terms[name] = masked_mean(error, pad, real)
        return FactorLoss(terms, predictions)

    def _hidden(self, error: Tensor, pad: Tensor, call: Call, name: str) -> tuple[Tensor, Tensor]:
        """Errors per token, (B, T * N, ...), and their padding, True for tokens that the context shows."""
        spec, hidden = self.outputs[name].spec, call.context.pad
        if hidden.shape[1] != spec.length:
            raise ConfigError(
                f"estimator 'regressor': `where` is 'hidden', but the context has {hidden.shape[1]} tokens and stream "
                f"{name!r} {spec.length}, so that none is known to be the other's. Let one encoder, 'masked', make "
                f"the context, and the future be features of it."
            )
        return error.flatten(1, 2), pad.repeat_interleave(spec.tokens, dim=1) | ~hidden

    @override
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        """All outputs, since none reads the value of another."""
        return set(outputs)

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Predict the outputs in one function evaluation."""
        return Generated(self._predict(outputs, call), dict.fromkeys(outputs, 1))
