"""Denoiser with a noise level per stream (`bb.denoising`, `ar.equilibrium-head`, `ss.decoupled-times`).

Convention: level 0 is clean, level 1 is pure noise; ``x = (1 - level) * data + level * noise``. A stream at
level 1 holds no information, so no other stream attends to it: leaving it out of the call then marginalises it
*exactly* (UWM, Zhu et al. 2025, sets the level to its maximum for the same purpose).

The prediction target is configurable; loss, budgets, masks, memory and guidance are shared:

    velocity     noise - data             (Lipman et al. 2023; L_FM of the survey)
    noise        noise                    (Ho et al. 2020, eq. 21 of the survey), sampled as (x - noise) / (1 - level)
    data         data                     (Li & He 2025; ABot-M0), sampled as (x - data) / level
    equilibrium  c(level) (noise - data)  gradient that does not depend on the level and vanishes at the data
                                          (Equilibrium Matching, Wang & Du 2025), sampled by descent
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Magnitude, NonNegative, Positive, Room, Size, Words
from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, FactorLoss, Generated
from wamkit.contract.protocols import EstimatorConfig, Trunk
from wamkit.contract.streams import Past, RowNoise, StreamSpec, Target, cleared, masked_mean
from wamkit.contract.types import Budget
from wamkit.errors import ConfigError
from wamkit.estimators.checks import require_trunk
from wamkit.estimators.history import BlockMemory
from wamkit.estimators.joint import run_joint
from wamkit.estimators.levels import LevelConfig, LevelEstimator
from wamkit.estimators.samplers import DescentWalk, FlowWalk, Solver, Walk, walk_together
from wamkit.estimators.tokens import LevelEmbedding, StreamTokens, with_given
from wamkit.nn.named import Named

PredictionTarget = Literal["velocity", "noise", "data", "equilibrium"]
PLACE = "estimator 'denoiser'"
# Start level of sampling with noise prediction: at level 1 the input is the noise and says nothing about the data.
TOP_NOISE = 0.97
# Least level by which a prediction of the data is divided; a stream that has reached level 0 does not move any more.
LEAST_LEVEL = 1e-3
# Level fed to an equilibrium network for streams not known to be clean.
UNTOLD = 0.5
# Share of the path on which the equilibrium gradient has its full length (a in Wang & Du 2025).
PLATEAU = 0.8


@EstimatorConfig.register_subclass("denoiser")
@dataclass(frozen=True)
class DenoiserConfig(LevelConfig):
    """Joint denoiser, a noise level per stream (Lipman et al. 2023; UWM, Zhu et al. 2025; EqM, Wang & Du 2025).

    Attributes:
        prediction: prediction target of the network: ``velocity``, ``noise``, ``data`` or ``equilibrium``.
        solver: ``euler`` (DDIM on the straight path for noise prediction) or ``heun``, which spends two evaluations
            per step, but one on the last step of an odd budget.
        rate: step size of the descent, for ``equilibrium``.
        tolerance: residual at which the descent of a row stops before its budget is spent, for ``equilibrium``.
        levels: ``independent`` draws a noise level per stream (a process per stream on one trunk); ``shared`` draws
            one for all, so that they are one process, also where a stream is ``absent`` some of the time (PAD).
        emphasis: exponent of the training density of levels; 1 is uniform, below 1 favours high noise.
        draws: noise draws per training window; the context is encoded once for all of them.
        temperature: scale of the initial noise when sampling. 1 samples the learned density; 0 starts every
            sample at the centre of the noise, which leads to its most typical outcome.
        history: blocks of real past that are kept as clean keys and values; 0 keeps none. This is chunk-causal
            denoising (`bb.ar-diffusion`): a block reads itself and earlier blocks. A block holds the futures and the
            action that the estimator generates or is given.
        remembers: further futures, or the action, whose past it keeps although it neither generates nor is given
            them, such as the executed actions in a video model (LingBot-VA).
    """

    prediction: PredictionTarget = "velocity"
    solver: Solver = "euler"
    rate: Positive = 0.15
    tolerance: NonNegative = 0.0
    levels: Literal["independent", "shared"] = "independent"
    emphasis: Positive = 1.0
    draws: Size = 1
    temperature: Magnitude = 1.0
    history: Room = 0
    remembers: Words = ()

    @override
    def build(
        self, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk | None
    ) -> Denoiser:
        """Build the estimator.

        Raises:
            ConfigError: an output is discrete, a stream name is unknown, ``solver`` or ``rate`` does not fit an
                equilibrium, or ``remembers`` has no ``history`` to be kept in.
        """
        if self.remembers and not self.history:
            raise ConfigError(
                f"{PLACE}: `remembers` {list(self.remembers)} without `history`; set `history` to a number of blocks"
            )
        shared = "levels" if self.levels == "shared" else None
        self.check_streams(outputs, given, discrete=False, shared=shared, reader=PLACE)
        if self.prediction == "equilibrium" and self.solver != "euler":
            raise ConfigError(f"{PLACE}: an equilibrium descends; set solver to euler")
        if self.prediction == "equilibrium" and not 0 < self.rate < 2 * (1 - PLATEAU):
            raise ConfigError(
                f"{PLACE}: rate {self.rate} must be above 0 and below {2 * (1 - PLATEAU):.2g}, or the descent steps "
                f"over the data and away from it"
            )
        return Denoiser(self, outputs, given, require_trunk(trunk, PLACE))


@final
class Denoiser(LevelEstimator):
    """One network over all output streams in one sequence."""

    config: DenoiserConfig
    guidable = True
    exits = True

    def __init__(
        self, config: DenoiserConfig, outputs: Sequence[StreamSpec], given: Sequence[StreamSpec], trunk: Trunk
    ) -> None:
        independent = config.levels == "independent"
        super().__init__(config, outputs, given, trunk, independent=independent, reader=PLACE)
        self.level = LevelEmbedding(trunk.width)
        self.past = config.history
        self.memory: BlockMemory | None = None
        if config.history and not config.remembers:  # otherwise what it remembers is known to the design only
            self.memory = BlockMemory([*outputs, *given], config.history)
        self.remembered: Named[StreamTokens] = Named({})

    def remember(self, streams: Sequence[StreamSpec], ticks: int) -> None:
        """Keep the past of ``streams`` too, in blocks of ``ticks`` control ticks.

        A design says this once, when it is built, of an estimator with ``history``.

        Raises:
            ConfigError: a stream has no past, or is generated or given anyway, or a block cuts an action step.
        """
        for spec in streams:
            if spec.role not in ("future", "action") or spec.name in (*self.outputs, *self.given):
                raise ConfigError(
                    f"{PLACE}: `remembers` names stream {spec.name!r}, which is a {spec.role} that it "
                    f"{'generates or is given' if spec.name in (*self.outputs, *self.given) else 'cannot observe'}. "
                    f"Name futures or the action of other factors."
                )
        self.remembered = Named({s.name: StreamTokens(s, self.trunk.width) for s in streams})
        known = [*(t.spec for t in self.outputs.values()), *(t.spec for t in self.given.values()), *streams]
        self.memory = BlockMemory(known, self.config.history, ticks)

    def _embed(self, name: str, values: Tensor, level: Tensor) -> Tensor:
        if name not in self.outputs:
            return (self.given if name in self.given else self.remembered)[name].embed(values)
        if self.config.prediction == "equilibrium":
            level = torch.where(level == 0, level, torch.full_like(level, UNTOLD))
        return self.outputs[name].embed(values) + self.level(level)

    def _network(
        self, values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        """Evaluate the network: values and levels (B,) per stream -> the prediction target, per stream."""
        tokens = {name: self._embed(name, values[name], levels[name]) for name in values}
        hidden = {name: level >= 1 for name, level in levels.items()}
        outputs = run_joint(self.trunk, self.joint, tokens, hidden, cache, times)
        return {name: self.outputs[name].read(part) for name, part in outputs.items()}

    def _velocity(
        self, values: Mapping[str, Tensor], levels: Mapping[str, Tensor], cache: Cache, times: Tensor | None
    ) -> dict[str, Tensor]:
        """Evaluate the field that the sampler follows, a velocity or (equilibrium) a gradient, per stream."""
        predicted = self._network(values, levels, cache, times)
        if self.config.prediction == "data":
            length = {n: level.clamp(min=LEAST_LEVEL)[:, None, None, None] for n, level in levels.items()}
            return {name: (values[name] - predicted[name]) / length[name] for name in predicted}
        if self.config.prediction != "noise":
            return predicted
        left = {
            name: (1 - level).clamp(min=1 - TOP_NOISE)[:, None, None, None] for name, level in levels.items()
        }
        return {name: (predicted[name] - values[name]) / left[name] for name in predicted}

    def _target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """Prediction target at ``level`` (B,)."""
        if self.config.prediction in ("noise", "data"):
            return noise if self.config.prediction == "noise" else clean
        if self.config.prediction == "equilibrium":
            length = (level / (1 - PLATEAU)).clamp(max=1.0)
            return (noise - clean) * length[:, None, None, None]
        return noise - clean

    def _draw_levels(self, outputs: Sequence[str], rows: int, device: torch.device) -> dict[str, Tensor]:
        """Draw training levels: a density on (0, 1) with atoms at 0 (clean) and 1 (absent)."""
        shared = torch.rand(rows, device=device) ** self.config.emphasis
        levels = {}
        for name in outputs:
            if self.config.levels == "shared":
                levels[name] = self._dropped(name, shared)
                continue
            level = torch.rand(rows, device=device) ** self.config.emphasis
            levels[name] = self.with_extremes(name, level, 1.0)
        return levels

    def _dropped(self, name: str, shared: Tensor) -> Tensor:
        """Shared levels (B,), with the stream at level 1 in the share of rows in which it is absent."""
        chance = self.config.absent.get(name, 0.0)
        if not chance:  # no draw, so that the random numbers of designs without `absent` stay what they were
            return shared
        return torch.where(torch.rand_like(shared) < chance, 1.0, shared)

    @override
    def loss(
        self, outputs: Sequence[str], call: Call, targets: Mapping[str, Target], past: Past | None
    ) -> FactorLoss:
        """Squared error per stream; rows at level 0 have nothing to predict and are left out.

        With one level for all, so are rows in which the stream is absent: no call evaluates it beside others that are
        less noisy.
        """
        cache = with_given(self.trunk, self.given, call)
        times = None
        if self.memory is not None:
            assert past is not None
            tokens, pad, clock = self.memory.tokens(past, self._embed)
            attend, layout = self.memory.block_causal(clock[0]), self.memory.layout(past.pad.shape[1])
            # Blocks read the context alone, as they do when they are observed: what is given now is not known then.
            _, history = self.trunk(
                tokens, cache=call.context, pad=pad, times=clock, attend=attend, layout=layout
            )
            cache, times = cache.append(history), clock[:, -1] + 1
        draws = self.config.draws
        clean = {name: targets[name].values.repeat_interleave(draws, dim=0) for name in outputs}
        pads = {name: targets[name].pad.repeat_interleave(draws, dim=0) for name in outputs}
        if draws > 1:
            cache = cache.repeat(draws)
            times = None if times is None else times.repeat_interleave(draws, dim=0)
        levels = self._draw_levels(outputs, call.rows * draws, cache.pad.device)
        for name in outputs:
            absent = targets[name].absent
            if absent is not None:
                levels[name] = levels[name].masked_fill(absent.repeat_interleave(draws, dim=0), 1.0)
        real = {name: part.repeat_interleave(draws, dim=0) for name, part in call.real.items()}
        noise = {name: cleared(torch.randn_like(clean[name]), real.get(name)) for name in outputs}
        noisy = {n: torch.lerp(clean[n], noise[n], levels[n][:, None, None, None]) for n in outputs}
        predicted = self._network(noisy, levels, cache, times)
        terms = {}
        for name in outputs:
            error = (predicted[name] - self._target(clean[name], noise[name], levels[name])).square()
            unlearned = levels[name] == 0
            if self.config.levels == "shared" and name in self.config.absent:
                unlearned = unlearned | (levels[name] >= 1)
            terms[name] = masked_mean(error, pads[name] | unlearned[:, None], real.get(name))
        return FactorLoss(terms)

    def _walk(self, name: str, budget: Budget, noise: RowNoise) -> Walk:
        """Walk of one stream, at its initial noise."""
        spec, c = self.outputs[name].spec, self.config
        spend = self.spending(name, budget)
        start = c.temperature * noise.normal(spec.steps, spec.tokens, spec.features)
        if c.prediction == "equilibrium":
            return DescentWalk(start, UNTOLD, spend.leave, c.rate, c.tolerance)
        top = TOP_NOISE if c.prediction == "noise" else 1.0
        return FlowWalk(top * start, top, spend.whole, spend.leave, c.solver)

    @override
    def generate(self, outputs: Sequence[str], call: Call, budget: Budget, noise: RowNoise) -> Generated:
        """Walk from noise to data, with a number of evaluations per stream.

        A stream with fewer evaluations takes larger steps and is clean while the others are still noisy; a stream
        that exits early keeps the noise level of its exit. Given streams of this estimator stay at level 0; streams
        neither wanted nor given are left out.
        """
        cache = with_given(self.trunk, self.given, call)
        times = None
        if self.memory is not None:
            cache, times = cache.append(call.carry["cache"]), call.carry["count"]
        given = {n: call.given[n] for n in self.outputs if n in call.given}
        walks = {name: self._walk(name, budget, noise) for name in self.sources_first(outputs)}

        def field(values: Mapping[str, Tensor], levels: Mapping[str, float]) -> Mapping[str, Tensor]:
            rows = {name: values[name].new_full((call.rows,), level) for name, level in levels.items()}
            return self._velocity(values, rows, cache, times)

        values = walk_together(field, walks, given, call.guide, call.real)
        return Generated({name: values[name] for name in outputs}, {n: walks[n].spent for n in outputs})

    @override
    def initial_carry(self, batch_size: int) -> Any:
        """Return an empty block memory: a cache of padded tokens and the number of blocks observed so far."""
        if self.memory is None:
            return ()
        cache = self.trunk.empty(batch_size, self.memory.blocks * self.memory.tokens_per_block)
        return {"cache": cache, "count": torch.zeros(batch_size, dtype=torch.long, device=cache.pad.device)}

    @override
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
