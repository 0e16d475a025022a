"""Denoiser with a noise level per stream (`bb.denoising`, `ar.equilibrium-head`, `ss.decoupled-times`).

Convention: level 0 is clean, level 1 is pure noise; ``x = (1 - level) * data + level * noise``. A stream at
level 1 holds no information, so no other stream attends to it: leaving it out of the call is then *exactly*
marginalising it (UWM, Zhu et al. 2025, sets the level to its maximum for the same purpose).

What the network predicts is a choice; loss, budgets, masks, memory and guidance are shared:

    velocity     noise - data             (Lipman et al. 2023; L_FM of the survey)
    noise        noise                    (Ho et al. 2020, eq. 21 of the survey), sampled as (x - noise) / (1 - level)
    equilibrium  c(level) (noise - data)  a gradient that is told no level and vanishes at the data
                                          (Equilibrium Matching, Wang & Du 2025), sampled by descent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor, nn

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated, Revises
from wamkit.contract.protocols import Estimator, EstimatorConfig, Family, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_levels, require_trunk
from wamkit.estimators.history import BlockMemory
from wamkit.estimators.joint import StreamReads, run_joint
from wamkit.estimators.samplers import DescentWalk, FlowWalk, Solver, Walk, evaluations_spent, walk_together
from wamkit.estimators.tokens import LevelEmbedding, StreamTokens, with_given

PredictionTarget = Literal["velocity", "noise", "equilibrium"]
TOP_NOISE = (
    0.97  # where noise prediction starts: at level 1 the noise is the input and tells nothing of the data
)
UNTOLD = 0.5  # the level that an equilibrium field is told of any stream that is not known to be clean
PLATEAU = 0.8  # share of the path on which the equilibrium gradient has its full length (their a)


@EstimatorConfig.register_subclass("denoiser")
@dataclass(frozen=True)
class DenoiserConfig(EstimatorConfig):
    """Joint denoiser, a noise level per stream (Lipman et al. 2023; UWM, Zhu et al. 2025; EqM, Wang & Du 2025).

    Attributes:
        prediction: what the network predicts: ``velocity``, ``noise`` or ``equilibrium``.
        solver: ``euler`` (for noise prediction this is DDIM on the straight path) or ``heun``, whose steps spend
            two evaluations each, an odd budget's last step one.
        reads: stream -> the streams generated with it that it may read; without an entry, all of them. What no
            wanted stream reads can be skipped without ``absent``.
        rate: step size of the descent (``equilibrium``).
        tolerance: residual at which the descent of a row stops before its budget is spent (``equilibrium``).
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

    prediction: PredictionTarget = "velocity"
    solver: Solver = "euler"
    reads: dict[str, tuple[str, ...]] = field(default_factory=dict)
    rate: float = 0.15
    tolerance: float = 0.0
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
        require_levels(
            outputs,
            given,
            {"nfe": self.nfe, "absent": self.absent, "clean": self.clean},
            discrete=False,
            shared="levels" if self.levels == "shared" else None,
            reader="estimator 'denoiser'",
        )
        if self.prediction == "equilibrium" and self.solver != "euler":
            raise ConfigError("estimator 'denoiser': an equilibrium descends; set solver to euler")
        if self.prediction == "equilibrium" and not 0 < self.rate < 2 * (1 - PLATEAU):
            raise ConfigError(
                f"estimator 'denoiser': rate {self.rate} must be above 0 and below {2 * (1 - PLATEAU):.2g}, or the "
                f"descent steps over the data and away from it"
            )
        return Denoiser(self, outputs, given, require_trunk(trunk, "estimator 'denoiser'"))


@final
class Denoiser(Estimator, Revises):
    """One network over all output streams in one sequence."""

    family: ClassVar[Family] = "diffusion"
    guidable = True
    exits = True

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
        self.reads = dict(config.reads)
        self.joint = StreamReads([s.name for s in outputs], config.reads, "estimator 'denoiser'")

    def _stream(self, name: str) -> StreamTokens:
        stream = self.outputs[name]
        assert isinstance(stream, StreamTokens)
        return stream

    def _embed(self, name: str, values: Tensor, level: Tensor) -> Tensor:
        if self.config.prediction == "equilibrium":
            level = torch.where(level == 0, level, torch.full_like(level, UNTOLD))
        return self._stream(name).embed(values) + self.level(level)

    def _network(
        self, values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        """One evaluation: values and levels (B,) per stream -> what the config says is predicted, per stream."""
        tokens = {name: self._embed(name, values[name], levels[name]) for name in values}
        hidden = {name: level >= 1 for name, level in levels.items()}
        found = run_joint(self.trunk, self.joint, tokens, hidden, cache, times)
        return {name: self._stream(name).read(part) for name, part in found.items()}

    def _velocity(
        self, values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        """One evaluation: what the sampler follows, a velocity or (equilibrium) a gradient, per stream."""
        found = self._network(values, levels, cache, times)
        if self.config.prediction != "noise":
            return found
        left = {
            name: (1 - level).clamp(min=1 - TOP_NOISE)[:, None, None, None] for name, level in levels.items()
        }
        return {name: (found[name] - values[name]) / left[name] for name in found}

    def _target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should say at ``level`` (B,)."""
        if self.config.prediction == "noise":
            return noise
        if self.config.prediction == "equilibrium":
            length = (level / (1 - PLATEAU)).clamp(max=1.0)
            return (noise - clean) * length[:, None, None, None]
        return noise - clean

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
        """Squared error per stream; rows at level 0 have nothing to predict and do not count."""
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
        found = self._network(noisy, levels, cache, times)
        terms = {}
        for name in outputs:
            error = (found[name] - self._target(clean[name], noise[name], levels[name])).square()
            terms[name] = masked_mean(error, pads[name] | (levels[name] == 0)[:, None])
        return FactorLoss(terms)

    def _walk(self, name: str, budget: Budget, noise: RowNoise) -> Walk:
        """Initial noise of one stream and the way it goes from there."""
        spec, c = self._stream(name).spec, self.config
        spend = evaluations_spent(name, budget, c.nfe.get(name, c.steps))
        start = c.temperature * noise.normal(spec.steps, spec.tokens, spec.features)
        if c.prediction == "equilibrium":
            return DescentWalk(start, UNTOLD, spend.leave, c.rate, c.tolerance)
        top = TOP_NOISE if c.prediction == "noise" else 1.0
        return FlowWalk(top * start, top, spend.whole, spend.leave, c.solver)

    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """From noise to data; every stream has its own number of evaluations.

        A stream with fewer evaluations takes larger steps and is clean while the others are still noisy; one that
        exits early stays as noisy as it then is. Streams of this estimator that are given stay at level 0; those
        neither wanted nor given are left out.
        """
        cache = with_given(self.trunk, self.given, call)  # type: ignore[arg-type]
        times = None
        if self.memory is not None:
            cache, times = cache.append(call.carry["cache"]), call.carry["count"]
        known = {n: call.given[n] for n in self.outputs if n in call.given}
        drawn = [name for block in self.joint.blocks(list(self.outputs)) for name in block if name in outputs]
        walks = {name: self._walk(name, budget, noise) for name in drawn}

        def field(values: Mapping[str, Tensor], levels: Mapping[str, float]) -> Mapping[str, Tensor]:
            told = {name: values[name].new_full((call.rows,), level) for name, level in levels.items()}
            return self._velocity(values, told, cache, times)

        made = walk_together(field, walks, known, call.guide)
        return Generated({name: made[name] for name in outputs}, {n: walks[n].spent for n in outputs})

    def check_budget(self, outputs: Sequence[str], budget: Budget) -> None:
        """See :class:`wamkit.contract.Estimator`: at least one evaluation per stream, an exit within them."""
        for name in outputs:
            evaluations_spent(name, budget, self.config.nfe.get(name, self.config.steps))

    def skippable(self, outputs: Sequence[str], stream: str, budget: Budget) -> bool:
        """A stream can be left out when training has seen it absent, or when no other one reads it."""
        return self.joint.unread(outputs, stream) or self.config.absent.get(stream, 0.0) > 0

    def revisable(self, outputs: Sequence[str]) -> bool:
        """See :class:`wamkit.contract.Revises`: training has seen each of them clean, and all read each other."""
        return self.joint.mutual(outputs) and all(self.config.clean.get(name, 0.0) > 0 for name in outputs)

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
