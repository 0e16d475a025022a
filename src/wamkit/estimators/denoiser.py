"""Flow-matching denoiser with a noise level per stream (`bb.denoising`, `ss.decoupled-times`).

Convention: level 0 is clean, level 1 is pure noise; ``x = (1 - level) * data + level * noise`` and the network
predicts the velocity ``noise - data`` (Lipman et al. 2023; straight paths, L_FM of the survey). A stream at
level 1 holds no information, so no other stream attends to it: leaving it out of the call is then *exactly*
marginalising it (UWM, Zhu et al. 2025, sets the level to its maximum for the same purpose).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wamkit.cache import Cache
from wamkit.errors import BudgetError, ConfigError
from wamkit.estimators.checks import require_disjoint, require_trunk
from wamkit.estimators.history import BlockMemory
from wamkit.estimators.tokens import LevelEmbedding, StreamTokens, split_tokens, with_given
from wamkit.protocols import Call, Estimator, EstimatorConfig, FactorLoss, Family, Generated, Trunk
from wamkit.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.types import Budget


@EstimatorConfig.register_subclass("denoiser")
@dataclass(frozen=True)
class DenoiserConfig(EstimatorConfig):
    """Flow-matching denoiser with a noise level per stream (Lipman et al. 2023; UWM, Zhu et al. 2025).

    Attributes:
        steps: default function evaluations per stream.
        nfe: stream name -> function evaluations, where they differ from ``steps``.
        levels: ``independent`` draws a level per stream (two processes on one trunk); ``shared`` draws one.
        absent: stream name -> probability that it is at level 1 in training. Streams named here can be
            skipped at inference.
        clean: stream name -> probability that it is at level 0 in training. Streams named here can be given.
        emphasis: exponent of the training density of levels; 1 is uniform, below 1 favours high noise.
        draws: noise draws per training window; the context is encoded once for all of them.
        temperature: scale of the initial noise when sampling. 1 samples the learned density; 0 starts every
            sample from the centre of the noise, which gives its most typical outcome.
        history: blocks of real past that are kept as clean keys and values (0: none). Chunk-causal
            denoising (`bb.ar-diffusion`): a block reads the blocks before it and itself.
    """

    steps: int = 8
    nfe: dict[str, int] = field(default_factory=dict)
    levels: Literal["independent", "shared"] = "independent"
    absent: dict[str, float] = field(default_factory=dict)
    clean: dict[str, float] = field(default_factory=dict)
    emphasis: float = 1.0
    draws: int = 1
    temperature: float = 1.0
    history: int = 0

    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Denoiser:
        """Build; raises :class:`ConfigError` on discrete outputs or unknown stream names."""
        require_disjoint(outputs, given, "estimator 'denoiser'")
        names = {s.name for s in outputs}
        for spec in outputs:
            spec.require(discrete=False, reader="estimator 'denoiser'")
        for key, mapping in (("nfe", self.nfe), ("absent", self.absent), ("clean", self.clean)):
            for name in mapping:
                if name not in names:
                    raise ConfigError(
                        f"estimator 'denoiser': `{key}` names stream {name!r}, but it generates {sorted(names)}"
                    )
        if self.levels == "shared" and (self.absent or self.clean):
            raise ConfigError("estimator 'denoiser': `absent` and `clean` need levels: independent")
        return Denoiser(self, outputs, given, require_trunk(trunk, "estimator 'denoiser'"))


@final
class Denoiser(Estimator):
    """Velocity network over all output streams in one sequence."""

    family: ClassVar[Family] = "diffusion"

    def __init__(
        self, config: DenoiserConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.outputs = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in outputs})
        self.given = nn.ModuleDict({s.name: StreamTokens(s, trunk.width) for s in given})
        self.level = LevelEmbedding(trunk.width)
        self.past = config.history
        self.processes = len(outputs) if config.levels == "independent" else 1
        self.memory = BlockMemory(outputs, config.history) if config.history else None

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def _embed(self, name: str, values: Tensor, level: Tensor) -> Tensor:
        return self._stream(name).embed(values) + self.level(level)

    def _velocity(
        self, values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        """One evaluation of the network: values and levels (B,) per stream -> velocity per stream."""
        names = list(values)
        tokens = [self._embed(name, values[name], levels[name]) for name in names]
        lengths = [t.shape[1] for t in tokens]
        attend = self._visible([levels[name] for name in names], lengths)
        clock = None if times is None else times[:, None].expand(-1, sum(lengths))
        hidden, _ = self.trunk(
            torch.cat(tokens, dim=1),
            cache=cache,
            attend=attend,
            times=clock,
            layout=list(zip(names, lengths, strict=True)),
        )
        parts = split_tokens(hidden, lengths)
        return {name: self._stream(name).read(part) for name, part in zip(names, parts, strict=True)}

    @staticmethod
    def _visible(levels: list[Tensor], lengths: list[int]) -> Tensor | None:
        """(B, N, N) mask: a stream at pure noise is read by itself alone."""
        if len(levels) == 1:
            return None
        level = torch.stack(levels, dim=1)  # (B, S)
        same = torch.eye(len(levels), dtype=torch.bool, device=level.device)
        visible = (level < 1)[:, None, :] | same  # (B, S, S)
        owner = torch.repeat_interleave(
            torch.arange(len(levels), device=level.device), torch.tensor(lengths, device=level.device)
        )
        return visible[:, owner][:, :, owner]

    def _draw_levels(self, outputs: Sequence[str], rows: int, device: torch.device) -> dict[str, Tensor]:
        """Training levels: a density on (0, 1) with atoms at 0 (clean) and 1 (absent)."""
        shared = torch.rand(rows, device=device) ** self.config.emphasis
        levels = {}
        for name in outputs:
            if self.config.levels == "shared":
                levels[name] = shared
                continue
            level = torch.rand(rows, device=device) ** self.config.emphasis
            atom = torch.rand(rows, device=device)
            absent, clean = self.config.absent.get(name, 0.0), self.config.clean.get(name, 0.0)
            level = torch.where(atom < absent, torch.ones_like(level), level)
            levels[name] = torch.where(atom > 1 - clean, torch.zeros_like(level), level)
        return levels

    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Squared velocity error per stream; rows at level 0 have nothing to predict and do not count."""
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        times = None
        if self.memory is not None:
            assert past is not None
            tokens, pad, clock = self.memory.tokens(past, self._embed)
            attend, layout = self.memory.block_causal(clock[0]), self.memory.layout(past.pad.shape[1])
            _, history = self.trunk(tokens, cache=cache, pad=pad, times=clock, attend=attend, layout=layout)
            cache, times = cache.append(history), clock[:, -1] + 1
        draws = self.config.draws
        clean = {name: targets[name].values.repeat_interleave(draws, dim=0) for name in outputs}
        pads = {name: targets[name].pad.repeat_interleave(draws, dim=0) for name in outputs}
        if draws > 1:
            cache = cache.repeat(draws)
            times = None if times is None else times.repeat_interleave(draws, dim=0)
        levels = self._draw_levels(outputs, call.rows * draws, cache.pad.device)
        noise = {name: torch.randn_like(clean[name]) for name in outputs}
        noisy = {n: torch.lerp(clean[n], noise[n], levels[n][:, None, None, None]) for n in outputs}
        velocity = self._velocity(noisy, levels, cache, times)
        terms = {}
        for name in outputs:
            error = (velocity[name] - (noise[name] - clean[name])).square()
            terms[name] = masked_mean(error, pads[name] | (levels[name] == 0)[:, None])
        return FactorLoss(terms)

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Euler integration from level 1 to 0; every stream has its own number of steps.

        A stream with fewer steps takes larger ones and is clean while the others are still noisy. Streams of
        this estimator that are given stay at level 0; those neither wanted nor given are left out.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        times = None
        if self.memory is not None:
            cache, times = cache.append(call.carry["cache"]), call.carry["count"]
        steps = {name: budget.nfe.get(name, self.config.nfe.get(name, self.config.steps)) for name in outputs}
        values = {n: call.given[n] for n in self.outputs if n in call.given}
        for name in outputs:
            spec = self._stream(name).spec
            values[name] = self.config.temperature * noise.normal(spec.steps, spec.tokens, spec.features)
        for k in range(max(steps.values())):
            now = {name: max(0.0, 1 - k / steps[name]) if name in steps else 0.0 for name in values}
            levels = {name: values[name].new_full((call.rows,), level) for name, level in now.items()}
            velocity = self._velocity(values, levels, cache, times)
            for name in outputs:
                if now[name] > 0:
                    values[name] = values[name] - velocity[name] / steps[name]
        return Generated({name: values[name] for name in outputs}, steps)

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.protocols.Estimator`: every wanted stream needs at least one evaluation."""
        for name in outputs:
            if budget.nfe.get(name, 1) < 1:
                raise BudgetError(
                    f"nfe for stream {name!r} is {budget.nfe[name]}; a denoiser needs at least 1. To leave the "
                    f"stream out, use future=False."
                )

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """A stream can be left out when training has seen it absent."""
        return self.config.absent.get(stream, 0.0) > 0

    def initial_carry(self, batch_size: int) -> Any:
        """Empty block memory: a cache of padded tokens and the number of blocks seen so far."""
        if self.memory is None:
            return ()
        cache = self.trunk.empty(batch_size, self.memory.blocks * self.memory.tokens_per_block)
        return {"cache": cache, "count": torch.zeros(batch_size, dtype=torch.long, device=cache.pad.device)}

    def observe(self, carry: Any, context: Cache, past: Past) -> Any:
        """Append the keys and values of one real block and drop the oldest."""
        if self.memory is None:
            return carry
        tokens, pad, _ = self.memory.tokens(past, self._embed)
        clock = carry["count"][:, None].expand(-1, tokens.shape[1])
        layout = self.memory.layout(1)
        _, block = self.trunk(
            tokens, cache=context.append(carry["cache"]), pad=pad, times=clock, layout=layout
        )
        kept = carry["cache"].append(block).last(carry["cache"].length)
        return {"cache": kept, "count": carry["count"] + 1}
