"""Next-scale autoregression: coarse to fine, a whole scale per pass (`bb.autoregressive`, next scale).

One pass of the trunk generates one scale of all streams; its tokens are told the sum of the coarser scales, read
the scales before them and each other, and are drawn independently of each other given what is coarser. What a
scale is, and how its tokens are drawn, is the matter of :mod:`wamkit.estimators.pyramids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Layout, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.pyramids import Ids, Pyramid, Residuals
from wamkit.estimators.samplers import evaluations_spent
from wamkit.estimators.token_head import HeadedConfig, TokenHead
from wamkit.estimators.tokens import StreamTokens, split_tokens, with_given


@EstimatorConfig.register_subclass("next_scale")
@dataclass(frozen=True)
class NextScaleConfig(HeadedConfig):
    """Next-scale generation, coarse to fine, a pass per scale (VAR, Tian et al. 2024; flow head of MAR).

    Streams of ids have the scales that their substrate gives them (``quantized``), one if it gives none, and are
    drawn from a categorical per token. Vectors are cut into scales here and drawn by a flow head per token.

    Attributes:
        scales: largest number of scales of vectors; every finer one doubles the steps and the tokens per step of
            the last, and the finest is the stream itself. A stream too small for so many has fewer.
        temperature: of the ids' categorical too; 0 takes the most likely.
    """

    scales: int = 3

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> NextScale:
        """Build; raises :class:`ConfigError` on a number below 1."""
        place = "estimator 'next_scale'"
        require_disjoint(outputs, given, place)
        if self.scales < 1:
            raise ConfigError(f"{place}: scales {self.scales} must be at least 1")
        self.check_head(place)
        return NextScale(self, outputs, given, require_trunk(trunk, place))


@final
class NextScale(Estimator):
    """Predicts the parts of a scale from the sum of the coarser ones, as they are when it begins."""

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
        self.outputs = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        scales = max(config.scales, *(len(s.scales) for s in outputs))
        self.scale = nn.Parameter(torch.randn(scales, trunk.width) * 0.02)
        self.heads = nn.ModuleDict(
            {s.name: config.head(s.features, trunk.width) for s in outputs if s.vocabulary is None}
        )
        self.pyramids = {s.name: self._pyramid(s) for s in outputs}

    def _pyramid(self, spec: StreamSpec) -> Pyramid:
        stream = self.outputs[spec.name]
        assert isinstance(stream, StreamTokens)
        config = self.config
        if spec.vocabulary is not None:
            return Ids(stream, temperature=config.temperature)
        head = self.heads[spec.name]
        assert isinstance(head, TokenHead)
        return Residuals(
            stream,
            head,
            scales=config.scales,
            steps=config.steps,
            temperature=config.temperature,
            draws=config.draws,
        )

    def _present(self, names: Sequence[str], k: int) -> list[str]:
        """The streams that have a scale ``k``."""
        return [name for name in names if k < self.pyramids[name].count]

    def _pass(self, names: Sequence[str], k: int, known: Mapping[str, Tensor]) -> tuple[Tensor, Layout]:
        """All tokens of scale ``k``, (B, n, width), and whose they are."""
        parts = {
            name: self.pyramids[name].tokens(known[name], k) + self.scale[k]
            for name in self._present(names, k)
        }
        return torch.cat(list(parts.values()), dim=1), [(n, part.shape[1]) for n, part in parts.items()]

    def known(self, parts: Mapping[str, Sequence[Tensor]]) -> list[dict[str, Tensor]]:
        """Per scale, stream -> what is known of it before, from the true parts of all its scales."""
        found: list[dict[str, Tensor]] = [{} for _ in range(self._passes(list(parts)))]
        for name, cut in parts.items():
            pyramid = self.pyramids[name]
            sofar = pyramid.blank(len(cut[0]))
            for k, part in enumerate(cut):
                found[k][name] = sofar
                sofar = pyramid.add(sofar, part, k)
        return found

    def hidden(
        self, known: Sequence[Mapping[str, Tensor]], names: Sequence[str], call: Call
    ) -> list[dict[str, Tensor]]:
        """All scales in one block-causal pass of the trunk: per scale, stream -> (B, tokens, width).

        Args:
            known: per scale, what is known of every stream; see :meth:`known`.
            names: the streams.
            call: what they are conditioned on.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        made = [self._pass(names, k, known[k]) for k in range(len(known))]
        lengths = [tokens.shape[1] for tokens, _ in made]
        clock = torch.arange(len(made)).repeat_interleave(torch.tensor(lengths)).to(cache.pad.device)
        found, _ = self.trunk(
            torch.cat([tokens for tokens, _ in made], dim=1),
            cache=cache,
            attend=clock[:, None] >= clock[None, :],
            layout=[run for _, layout in made for run in layout],
        )
        return [
            self._split(part, layout)
            for part, (_, layout) in zip(split_tokens(found, lengths), made, strict=True)
        ]

    @staticmethod
    def _split(hidden: Tensor, layout: Layout) -> dict[str, Tensor]:
        parts = split_tokens(hidden, [length for _, length in layout])
        return {name: part for (name, _), part in zip(layout, parts, strict=True)}

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Flow matching error of residuals and cross-entropy of ids, the mean over the tokens of all scales.

        Padded steps hold the nearest real one; a cell of a coarse scale counts by its share of real steps.
        """
        parts = {name: self.pyramids[name].cut(targets[name].values) for name in outputs}
        sums = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        counts = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        for k, found in enumerate(self.hidden(self.known(parts), outputs, call)):
            for name, hidden in found.items():
                pyramid = self.pyramids[name]
                weight = pyramid.weight(targets[name].pad, k)
                sums[name] = sums[name] + (pyramid.error(hidden, parts[name][k]) * weight).sum()
                counts[name] = counts[name] + weight.sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    def _passes(self, names: Sequence[str]) -> int:
        return max(self.pyramids[name].count for name in names)

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Scale by scale from the cache; streams of this estimator that are given keep their own parts.

        With an exit, a stream stays as coarse as it then is.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        names = [name for name in self.outputs if name in outputs or name in call.given]
        forced = {n: self.pyramids[n].cut(call.given[n]) for n in names if n in call.given}
        known = {name: self.pyramids[name].blank(call.rows) for name in names}
        made: dict[str, list[Tensor]] = {name: [] for name in outputs}
        leave = {name: self._spending(name, budget) for name in outputs}
        for k in range(max(leave.values())):
            tokens, layout = self._pass(names, k, known)
            hidden, fresh = self.trunk(tokens, cache=cache, layout=layout)
            cache = cache.append(fresh)
            for name, found in self._split(hidden, layout).items():
                if name in forced:
                    part = forced[name][k]
                elif k < leave[name]:
                    part = self.pyramids[name].draw(found, noise)
                    made[name].append(part)
                else:
                    continue
                known[name] = self.pyramids[name].add(known[name], part, k)
        values = {name: self.pyramids[name].whole(made[name]) for name in outputs}
        return Generated(values, {name: len(parts) for name, parts in made.items()})

    def _spending(self, name: str, budget: Budget) -> int:
        """Passes after which a stream stops; :class:`BudgetError` on anything but its scales."""
        scales = self.pyramids[name].count
        if budget.nfe.get(name, scales) != scales:
            raise BudgetError(
                f"nfe for stream {name!r} is {budget.nfe[name]}: next_scale spends one evaluation per scale, and "
                f"{name!r} has {scales}. Use `exit` to stop at a coarser scale."
            )
        return evaluations_spent(name, budget, scales).leave

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: the number of scales is fixed; an exit stops at a coarser one."""
        for name in outputs:
            self._spending(name, budget)
