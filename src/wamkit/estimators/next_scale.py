"""Next-scale autoregression: coarse to fine residuals, a whole scale per pass (`bb.autoregressive`, next scale).

The values of a stream (B, T, N, D) are a pyramid of residuals over time and tokens: the coarsest scale is their
mean over large cells, every finer scale is what all coarser ones together leave, and the finest makes the sum
exact. One pass of the trunk generates one scale of all streams; its tokens read the scales before it and each
other, and a flow head per stream draws them, independently of each other given what is coarser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wamkit.calls import Call, FactorLoss, Generated
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.samplers import spending
from wamkit.estimators.token_head import TokenHead
from wamkit.estimators.tokens import StreamTokens, split_tokens, with_given
from wamkit.protocols import Estimator, EstimatorConfig, Family, Layout, Trunk
from wamkit.streams import Past, RowNoise, StreamSpec, Target
from wamkit.types import Budget

Size = tuple[int, int]


@EstimatorConfig.register_subclass("next_scale")
@dataclass(frozen=True)
class NextScaleConfig(EstimatorConfig):
    """Next-scale generation, coarse to fine, a pass per scale (VAR, Tian et al. 2024; flow head of MAR).

    Attributes:
        scales: largest number of scales; every finer one doubles the steps and the tokens per step of the last,
            and the finest is the stream itself. A stream too small for so many has fewer.
        steps: flow steps of the head per token; the trunk runs once per scale.
        temperature: scale of the head's initial noise; 1 samples the learned density.
        draws: noise draws per token in training.
        hidden: width of the head.
        depth: residual layers of the head.
    """

    scales: int = 3
    steps: int = 8
    temperature: float = 1.0
    draws: int = 4
    hidden: int = 64
    depth: int = 2

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> NextScale:
        """Build; raises :class:`ConfigError` on discrete outputs."""
        place = "estimator 'next_scale'"
        require_disjoint(outputs, given, place)
        for spec in outputs:
            spec.require(discrete=False, reader=place)
        for key in ("scales", "steps", "draws", "hidden", "depth"):
            if getattr(self, key) < 1:
                raise ConfigError(f"{place}: {key} {getattr(self, key)} must be at least 1")
        return NextScale(self, outputs, given, require_trunk(trunk, place))


def pyramid_sizes(steps: int, tokens: int, scales: int) -> list[Size]:
    """(steps, tokens) of every scale, coarsest first; halved, rounding up, until ``scales`` or a single token."""
    sizes = [(steps, tokens)]
    while len(sizes) < scales and sizes[0] != (1, 1):
        sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
    return sizes


def resize(values: Tensor, size: Size) -> Tensor:
    """(B, T, N, D) -> (B, *size, D): means over cells on the way down, copies on the way up."""
    grid = values.permute(0, 3, 1, 2)
    down = size[0] <= values.shape[1] and size[1] <= values.shape[2]
    made = F.adaptive_avg_pool2d(grid, size) if down else F.interpolate(grid, size, mode="nearest-exact")
    return made.permute(0, 2, 3, 1)


def decompose(values: Tensor, sizes: Sequence[Size]) -> tuple[list[Tensor], list[Tensor]]:
    """Residual of every scale (B, *size, D), and what is known before it: the sum of the coarser ones."""
    residuals: list[Tensor] = []
    known = [torch.zeros_like(values)]
    for size in sizes:
        residuals.append(resize(values - known[-1], size))
        known.append(known[-1] + resize(residuals[-1], sizes[-1]))
    return residuals, known[:-1]


@final
class NextScale(Estimator):
    """Predicts the residuals of a scale from the sum of the coarser ones, as they are when it begins."""

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
        self.scale = nn.Parameter(torch.randn(config.scales, trunk.width) * 0.02)
        self.heads = nn.ModuleDict(
            {s.name: TokenHead(s.features, trunk.width, config.hidden, config.depth) for s in outputs}
        )
        self.sizes = {s.name: pyramid_sizes(s.steps, s.tokens, config.scales) for s in outputs}

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def _head(self, name: str) -> TokenHead:
        head = self.heads[name]
        assert isinstance(head, TokenHead)
        return head

    def _present(self, names: Sequence[str], k: int) -> list[str]:
        """The streams that have a scale ``k``."""
        return [name for name in names if k < len(self.sizes[name])]

    def _tokens(self, name: str, k: int, known: Tensor) -> Tensor:
        """(B, tokens of the scale, width): what is known before scale ``k``, where it is and which scale."""
        stream, size = self._stream(name), self.sizes[name][k]
        position = resize(stream.position[None], size)
        return (stream.inward(resize(known, size)) + position + self.scale[k]).flatten(1, 2)

    def _pass(self, names: Sequence[str], k: int, known: Mapping[str, Tensor]) -> tuple[Tensor, Layout]:
        """All tokens of scale ``k``, (B, n, width), and whose they are."""
        parts = {name: self._tokens(name, k, known[name]) for name in self._present(names, k)}
        return torch.cat(list(parts.values()), dim=1), [(n, part.shape[1]) for n, part in parts.items()]

    def hidden(
        self, known: Sequence[Mapping[str, Tensor]], names: Sequence[str], call: Call
    ) -> list[dict[str, Tensor]]:
        """All scales in one block-causal pass of the trunk: per scale, stream -> (B, tokens, width).

        Args:
            known: per scale, stream -> (B, T, N, D), the sum of the coarser scales.
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
        """Flow matching error of the residuals, the mean over the tokens of all scales.

        Padded steps hold the nearest real one; a cell of a coarse scale counts by its share of real steps.
        """
        pyramids = {name: decompose(targets[name].values, self.sizes[name]) for name in outputs}
        known = [
            {name: pyramids[name][1][k] for name in self._present(outputs, k)}
            for k in range(self._passes(outputs))
        ]
        sums = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        counts = {name: torch.zeros((), device=self.scale.device) for name in outputs}
        for k, found in enumerate(self.hidden(known, outputs, call)):
            for name, hidden in found.items():
                residual = pyramids[name][0][k].flatten(1, 2)
                error = self._head(name).error(hidden, residual, self.config.draws)
                real = (~targets[name].pad).to(error.dtype)[:, :, None, None]
                weight = resize(real.expand(-1, -1, self._stream(name).spec.tokens, -1), self.sizes[name][k])
                sums[name] = sums[name] + (error * weight.flatten(1)).sum()
                counts[name] = counts[name] + weight.sum()
        return FactorLoss({name: sums[name] / counts[name].clamp(min=1) for name in outputs})

    def _passes(self, names: Sequence[str]) -> int:
        return max(len(self.sizes[name]) for name in names)

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Scale by scale from the cache; streams of this estimator that are given keep their own residuals.

        With an exit, a stream stays as coarse as it then is.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        names = [name for name in self.outputs if name in outputs or name in call.given]
        forced = {n: decompose(call.given[n], self.sizes[n])[0] for n in names if n in call.given}
        sums, spent = {}, dict.fromkeys(outputs, 0)
        for name in names:
            spec = self._stream(name).spec
            sums[name] = self.scale.new_zeros(call.rows, spec.steps, spec.tokens, spec.features)
        leave = {name: self._spending(name, budget) for name in outputs}
        for k in range(max(leave.values())):
            tokens, layout = self._pass(names, k, sums)
            hidden, fresh = self.trunk(tokens, cache=cache, layout=layout)
            cache = cache.append(fresh)
            for name, part in self._split(hidden, layout).items():
                sizes = self.sizes[name]
                if name in forced:
                    residual = forced[name][k]
                elif k < leave[name]:
                    drawn = self._head(name).draw(part, self.config.steps, self.config.temperature, noise)
                    residual = drawn.unflatten(1, sizes[k])
                    spent[name] += 1
                else:
                    continue
                sums[name] = sums[name] + resize(residual, sizes[-1])
        return Generated({name: sums[name] for name in outputs}, spent)

    def _spending(self, name: str, budget: Budget) -> int:
        """Passes after which a stream stops; :class:`BudgetError` on anything but its scales."""
        scales = len(self.sizes[name])
        if budget.nfe.get(name, scales) != scales:
            raise BudgetError(
                f"nfe for stream {name!r} is {budget.nfe[name]}: next_scale spends one evaluation per scale, and "
                f"{name!r} has {scales}. Use `exit` to stop at a coarser scale."
            )
        return spending(name, budget, scales).leave

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.protocols.Estimator`: the number of scales is fixed; an exit stops at a coarser one."""
        for name in outputs:
            self._spending(name, budget)
