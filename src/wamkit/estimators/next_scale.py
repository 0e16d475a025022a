"""Next-scale autoregression: coarse to fine, a whole scale per pass (`bb.autoregressive`, next scale).

One pass of the trunk generates one scale of all streams. The input of its tokens is the sum of the coarser scales;
they read the earlier scales and each other, and are drawn independently of each other given the coarser scales.
:mod:`wamkit.estimators.pyramids` defines the scales and how their tokens are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Layout, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.pyramids import Ids, Pyramid, Residuals
from wamkit.estimators.samplers import evaluations_spent
from wamkit.estimators.token_head import HeadedConfig
from wamkit.estimators.tokens import StreamTokens, split_tokens, with_given
from wamkit.nn.named import Named


@EstimatorConfig.register_subclass("next_scale")
@dataclass(frozen=True)
class NextScaleConfig(HeadedConfig):
    """Next-scale generation, coarse to fine, a pass per scale (VAR, Tian et al. 2024; flow head of MAR).

    Streams of ids have the scales of their substrate (``quantized``), or a single one, and are drawn from a
    categorical per token. Vectors are cut into scales here and drawn by a flow head per token.

    Attributes:
        scales: largest number of scales of vectors; each scale doubles the steps and the tokens per step of the
            scale before, and the finest is the stream itself. Small streams have fewer scales.
        temperature: scale of the head's initial noise, and sampling temperature of ids; 0 takes the most likely id.
    """

    scales: Size = 3

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> NextScale:
        """Build the estimator; raises :class:`ConfigError` on a stream both generated and read."""
        place = "estimator 'next_scale'"
        require_disjoint(outputs, given, place)
        for spec in outputs:
            if spec.role == "text":
                raise ConfigError(
                    f"{place}: stream {spec.name!r} is a text, which has no scales. Write it with an autoregressor."
                )
        return NextScale(self, outputs, given, require_trunk(trunk, place))


@final
class NextScale(Estimator):
    """Predicts each scale from the sum of the coarser ones."""

    family: ClassVar[Family] = "autoregressive"
    exits = True

    def __init__(
        self,
        config: NextScaleConfig,
        outputs: Sequence[StreamSpec],
        given: Sequence[StreamSpec],
        trunk: Trunk,
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = Named({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = Named({s.name: StreamTokens(s, trunk.width) for s in given})
        scales = max(config.scales, *(len(s.scales) for s in outputs))
        self.scale = nn.Parameter(torch.randn(scales, trunk.width) * 0.02)
        self.heads = Named(
            {s.name: config.head(s.features, trunk.width) for s in outputs if s.vocabulary is None}
        )
        self.pyramids = {s.name: self._pyramid(s) for s in outputs}

    def _pyramid(self, spec: StreamSpec) -> Pyramid:
        stream, config = self.outputs[spec.name], self.config
        if spec.vocabulary is not None:
            return Ids(stream, temperature=config.temperature)
        return Residuals(
            stream,
            self.heads[spec.name],
            scales=config.scales,
            steps=config.steps,
            temperature=config.temperature,
            draws=config.draws,
        )

    def _present(self, names: Sequence[str], k: int) -> list[str]:
        """Streams that have a scale ``k``."""
        return [name for name in names if k < self.pyramids[name].count]

    def _pass(self, names: Sequence[str], k: int, coarser: Mapping[str, Tensor]) -> tuple[Tensor, Layout]:
        """Tokens (B, n, width) of scale ``k`` of all streams, and their layout."""
        parts = {
            name: self.pyramids[name].tokens(coarser[name], k) + self.scale[k]
            for name in self._present(names, k)
        }
        return torch.cat(list(parts.values()), dim=1), [(n, part.shape[1]) for n, part in parts.items()]

    def known(self, parts: Mapping[str, Sequence[Tensor]]) -> list[dict[str, Tensor]]:
        """Sum up the coarser scales, from the true parts: per scale, stream -> values known before it."""
        sums: list[dict[str, Tensor]] = [{} for _ in range(self._passes(list(parts)))]
        for name, cut in parts.items():
            pyramid = self.pyramids[name]
            coarser = pyramid.blank(len(cut[0]))
            for k, part in enumerate(cut):
                sums[k][name] = coarser
                coarser = pyramid.add(coarser, part, k)
        return sums

    def hidden(
        self, known: Sequence[Mapping[str, Tensor]], names: Sequence[str], call: Call
    ) -> list[dict[str, Tensor]]:
        """Run all scales in one block-causal pass of the trunk: per scale, stream -> (B, tokens, width).

        Args:
            known: per scale, stream -> sum of the coarser scales; see :meth:`known`.
            names: streams to run.
            call: conditions of the call.
        """
        cache = with_given(self.trunk, self.given, call)
        passes = [self._pass(names, k, known[k]) for k in range(len(known))]
        lengths = [tokens.shape[1] for tokens, _ in passes]
        clock = torch.arange(len(passes)).repeat_interleave(torch.tensor(lengths)).to(cache.pad.device)
        hidden, _ = self.trunk(
            torch.cat([tokens for tokens, _ in passes], dim=1),
            cache=cache,
            attend=clock[:, None] >= clock[None, :],
            layout=[run for _, layout in passes for run in layout],
        )
        return [
            self._split(part, layout)
            for part, (_, layout) in zip(split_tokens(hidden, lengths), passes, strict=True)
        ]

    @staticmethod
    def _split(hidden: Tensor, layout: Layout) -> dict[str, Tensor]:
        parts = split_tokens(hidden, [length for _, length in layout])
        return {name: part for (name, _), part in zip(layout, parts, strict=True)}

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Flow matching error of residuals and cross-entropy of ids, the mean over the tokens of all scales.

        Padded steps repeat the nearest real one; a cell of a coarse scale is weighted by its share of real steps.
        """
        parts = {n: self.pyramids[n].cut(targets[n].values, call.real.get(n)) for n in outputs}
        sums = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        counts = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        for k, scale in enumerate(self.hidden(self.known(parts), outputs, call)):
            for name, hidden in scale.items():
                pyramid = self.pyramids[name]
                weight, real = pyramid.weight(targets[name].pad, k), pyramid.real(call.real.get(name), k)
                if real is not None:
                    weight = weight * real.reshape(*weight.shape, -1).any(dim=2)
                sums[name] = sums[name] + (pyramid.error(hidden, parts[name][k], real) * weight).sum()
                counts[name] = counts[name] + weight.sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    def _passes(self, names: Sequence[str]) -> int:
        return max(self.pyramids[name].count for name in names)

    @override
    def takes(self, outputs: Sequence[str], stream: str) -> bool:
        return stream in self.outputs

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Generate scale by scale from the cache; given streams of this estimator keep their own parts.

        A stream that exits early keeps the resolution of its exit.
        """
        cache = with_given(self.trunk, self.given, call)
        names = [name for name in self.outputs if name in outputs or name in call.given]
        cuts = {n: self.pyramids[n].cut(call.given[n], call.real.get(n)) for n in names if n in call.given}
        coarser = {name: self.pyramids[name].blank(call.rows) for name in names}
        drawn: dict[str, list[Tensor]] = {name: [] for name in outputs}
        leave = {name: self._spending(name, budget) for name in outputs}
        for k in range(max(leave.values())):
            tokens, layout = self._pass(names, k, coarser)
            hidden, fresh = self.trunk(tokens, cache=cache, layout=layout)
            cache = cache.append(fresh)
            for name, tokens in self._split(hidden, layout).items():
                if name in cuts:
                    part = cuts[name][k]
                elif k < leave[name]:
                    pyramid = self.pyramids[name]
                    part = pyramid.draw(tokens, noise, pyramid.real(call.real.get(name), k))
                    drawn[name].append(part)
                else:
                    continue
                coarser[name] = self.pyramids[name].add(coarser[name], part, k)
        values = {name: self.pyramids[name].whole(drawn[name]) for name in outputs}
        return Generated(values, {name: len(parts) for name, parts in drawn.items()})

    def _spending(self, name: str, budget: Budget) -> int:
        """Passes of a stream; raises :class:`BudgetError` when ``nfe`` differs from its number of scales."""
        scales = self.pyramids[name].count
        if budget.nfe.get(name, scales) != scales:
            raise BudgetError(
                f"nfe for stream {name!r} is {budget.nfe[name]}: next_scale spends one evaluation per scale, and "
                f"{name!r} has {scales}. Use `exit` to stop at a coarser scale."
            )
        return evaluations_spent(name, budget, scales).leave

    @override
    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """Require as many evaluations as scales; an exit stops at a coarser scale."""
        for name in outputs:
            self._spending(name, budget)
