"""A design: streams, factors, estimators, trunks and a controller, composed from a config.

``Design`` is the only place where parts meet. It runs the path

    observation -> context tokens -> streams generated factor by factor -> forecast

for training (losses) and for acting (samples), and never asks which part it holds.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import Tensor, nn

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call, Guide
from wamkit.contract.protocols import DataSpec, Estimator, Substrate, Windows
from wamkit.contract.specs import ACTION, ActionSpec, ObservationSpec
from wamkit.contract.streams import Past, RowNoise, Target
from wamkit.contract.types import Batch, Budget, Forecast, Losses, Observation, Perceived, to_device
from wamkit.controllers import Controller
from wamkit.design.build import Parts, build_parts, extras_of, read_windows
from wamkit.design.config import DesignConfig
from wamkit.design.description import describe, survey_tuple
from wamkit.design.fitting import fit_parts
from wamkit.design.graph import Factor
from wamkit.design.observed import check_given, perceived, read_targets
from wamkit.design.sampling import NO_CONTEXT, PLANNER, Sampled, SamplingCall, check_budget, check_guide
from wamkit.design.timing import Stages
from wamkit.errors import BudgetError, SpecError, did_you_mean
from wamkit.nn.named import Named


@final
class Design(nn.Module):
    """One conditional distribution over futures and actions, ``p(s, a | c)``."""

    def __init__(self, config: DesignConfig, data: DataSpec) -> None:
        super().__init__()
        parts: Parts = build_parts(config, data)
        self.config = config
        self.data = data
        self.graph = parts.graph
        self.streams = parts.streams
        self.training_window, self.window = read_windows(config, parts)
        self.past_blocks = parts.past_blocks
        self.encoders = Named(parts.encoders)
        self.substrates = Named(parts.substrates)
        self.action = parts.action
        self.trunks = Named(parts.trunks)
        self.context = Named(parts.context)
        self.estimators = Named(parts.estimators)
        self.planner = parts.planner
        self.weights = dict(config.loss_weights)

    @property
    def name(self) -> str:
        """The design's name, for people; nothing branches on it."""
        return self.config.name

    @property
    def controller(self) -> Controller:
        """The controller it was composed with."""
        return self.config.controller

    @property
    def extras(self) -> tuple[str, ...]:
        """Extras that a dataset has to deliver to train it."""
        return extras_of([*self.encoders.values(), *self.substrates.values()])

    @property
    def sensors(self) -> tuple[str, ...]:
        """Extras that have to be there when acting: a design that keeps its past reads futures off what it sees."""
        return extras_of([*self.encoders.values(), *(self.substrates.values() if self.past_blocks else ())])

    @property
    def droppable(self) -> Mapping[str, tuple[int, ...]]:
        """Sensors that may be flagged as missing when acting, and their shape per step: those of encoders alone."""
        fixed = extras_of(self.substrates.values()) if self.past_blocks else ()
        return {name: self.data.extras[name] for name in self.sensors if name not in fixed}

    @property
    def reads_goal(self) -> bool:
        """Whether an encoder reads the goal observation."""
        return any(encoder.goal for encoder in self.encoders.values())

    @property
    def observation_spec(self) -> ObservationSpec:
        """What this design must be shown."""
        return self.data.observation

    @property
    def action_spec(self) -> ActionSpec:
        """What this design returns."""
        return self.data.action

    def cells(self) -> dict[str, str]:
        """The survey's tuple (eq. 37), derived from the parts."""
        return survey_tuple(self.config, self.graph, self._substrates())

    def factorisation(self) -> str:
        """The chain rule this design uses, e.g. ``p(s|c) p(a|s,c)``."""
        return self.graph.formula()

    def describe(self) -> dict[str, Any]:
        """Everything `wamkit inspect` prints, as plain values."""
        kinds = ("encoders", "substrates", "trunks", "context", "estimators")
        parts = {f"{kind}.{name}": part for kind in kinds for name, part in getattr(self, kind).items()}
        return describe(self.config, self.graph, self._substrates(), self.streams, parts)

    def substrate(self, stream: str) -> Substrate:
        """The substrate that a future or goal stream lives in."""
        return self.substrates[self.config.substrate_of(stream)]

    def _substrates(self) -> dict[str, Substrate]:
        """Future or goal stream -> its substrate."""
        return {name: self.substrate(name) for name in (*self.config.futures, *self.config.goals)}

    def encode_context(self, observation: Observation) -> dict[str, Cache]:
        """Context tokens c, run once through every trunk: trunk name -> cache."""
        if not self.trunks:
            return {}
        encoded = [encoder(observation) for encoder in self.encoders.values()]
        tokens = torch.cat([t for t, _ in encoded], dim=1)
        pads = torch.cat([p for _, p in encoded], dim=1)
        pad = pads if bool(pads.any()) else None
        return {name: trunk(self.context[name](tokens), pad=pad)[1] for name, trunk in self.trunks.items()}

    def _call(
        self, factor: Factor, context: Mapping[str, Cache], given: Mapping[str, Tensor], rows: int
    ) -> Call:
        trunk = self.graph.estimators[factor.estimator].trunk
        return Call(context[trunk] if trunk is not None else NO_CONTEXT, given, (), rows)

    def _past(self, observation: Observation, action: Tensor, action_pad: Tensor) -> Past:
        """Real blocks: observed values at the K observed steps and the stride of actions before each."""
        k = observation.pad.shape[1]
        stride = self.config.stride
        rows = action.shape[0]
        blocks = self.action.encode(action.unflatten(1, (k, stride)).flatten(0, 1)).unflatten(0, (rows, k))
        return Past(
            values={n: self.substrate(n).encode(observation) for n in sorted(self.graph.of_role("future"))},
            action=blocks,
            pad=observation.pad,
            action_pad=action_pad.unflatten(1, (k, stride)).any(dim=2),
        )

    def fit(self, windows: Windows, seed: int, parts: Container[str] | None = None) -> None:
        """Fit encoders, tokenizers, codecs and teachers on the dataset, before training. They are frozen afterwards.

        ``parts`` are those that are fitted, such as ``encoders.images`` or ``action``; None for all.
        """
        fit_parts(self.encoders, self.action, self.substrates, self.data, windows, seed, parts)

    def after_step(self) -> None:
        """To be called after every step of the optimiser: moving averages follow their encoders."""
        for substrate in self.substrates.values():
            substrate.after_step(dict(self.encoders.items()))

    def targets(self, batch: Batch) -> dict[str, Target]:
        """What every observed stream should be: stream name -> :class:`Target`."""
        window = self.training_window
        return read_targets(batch, self.config, self.streams, self._substrates(), self.action, window)

    def loss(self, batch: Batch) -> Losses:
        """Losses of all factors on one batch."""
        targets = self.targets(batch)
        past = None
        if self.past_blocks:
            past = self._past(
                batch.observation, batch.action[:, : batch.past], batch.action_pad[:, : batch.past]
            )
        seen = batch.observation.steps(slice(-len(self.window.observation), None))
        context = self.encode_context(replace(seen, goal=batch.goal))
        rows = batch.action.shape[0]
        terms: dict[str, Tensor] = {}
        inferred: dict[str, Tensor] = {}
        for factor in self.graph.factors:
            given = {}
            for name in factor.given:
                if factor.read == "prediction" and name in inferred:
                    given[name] = inferred[name].detach()
                else:
                    given[name] = targets[name].values if name in targets else inferred[name]
            call = self._call(factor, context, given, rows)
            result = self.estimators[factor.estimator].loss(factor.generates, call, targets, past)
            terms.update(result.terms)
            inferred.update(result.inferred)
        zero = torch.zeros((), device=batch.action.device)
        total = sum((self.weights.get(name, 1.0) * term for name, term in terms.items()), zero)
        return Losses(total, terms)

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        """Everything that is carried between calls, at the start of an episode: a pytree with leading B."""
        state = {name: self.estimators[name].initial_carry(batch_size) for name in self.estimators}
        if self.planner is not None:
            spec = self.streams[ACTION]
            state[PLANNER] = self.planner.initial_carry(spec, batch_size, self._device())
        return state

    def check_budget(self, budget: Budget) -> None:
        """Raise :class:`BudgetError` when this design cannot honour ``budget``."""
        check_budget(
            budget,
            self.graph,
            self._all_estimators(),
            self.planner,
            self.config.horizon,
            self._wanted(budget),
        )

    def _wanted(self, budget: Budget) -> list[str]:
        wanted = sorted(self.graph.of_role("action"))
        if budget.future is not False:
            wanted += sorted(self.graph.of_role("future"))
        return wanted

    def _all_estimators(self) -> dict[str, Estimator]:
        return {name: self.estimators[name] for name in self.estimators}

    def _device(self) -> torch.device:
        return next(self.parameters()).device

    @torch.no_grad()
    def sample(
        self,
        observation: Observation,
        want: Sequence[str],
        *,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
        budget: Budget | None = None,
        carry: Mapping[str, Any] | None = None,
        context: Mapping[str, Cache] | None = None,
        guide: Guide | None = None,
    ) -> Sampled:
        """Sample ``p(want | given, c)``: policy, forward and inverse dynamics and video are special cases.

        Args:
            observation: B observations.
            want: streams to sample.
            seeds: one per row; a row's sample depends on its seed, not on its neighbours.
            given: stream name -> values that are known.
            budget: what may be spent.
            carry: estimator name -> carried state; None means the start of an episode.
            context: caches of :meth:`encode_context`, if the caller has them.
            guide: what to steer by; :class:`BudgetError` where the estimator of its stream cannot be steered.
        """
        budget = budget or Budget()
        known = dict(given or {})
        for name in (*want, *known):
            if name not in self.streams:
                raise BudgetError(f"sample: unknown stream {name!r}. {did_you_mean(name, self.streams)}")
        estimators = self._all_estimators()
        horizon = self.config.horizon
        needed = check_budget(budget, self.graph, estimators, self.planner, horizon, want, tuple(known))
        check_guide(guide, self.graph, estimators, needed)
        stages = Stages(self._device())
        if context is None:
            with stages.measure("encode"):
                context = self.encode_context(observation)
        rows = observation.batch_size
        session = SamplingCall(
            graph=self.graph,
            estimators=estimators,
            planner=self.planner,
            context=context,
            carry=self.initial_state(rows) if carry is None else carry,
            budget=budget,
            noise=RowNoise(seeds, self._device()),
            rows=rows,
            stages=stages,
            values=known,
            guide=guide,
        )
        session.run(needed)
        values = {name: session.values[name] for name in session.values if name not in (given or {})}
        return Sampled(values, session.nfe, session.cost, stages.milliseconds, session.planned)

    @torch.inference_mode()
    def forecast(
        self,
        observation: Observation,
        state: Any,
        budget: Budget,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
    ) -> tuple[Forecast, Any]:
        """One call of the policy.

        Args:
            observation: B observations as :attr:`window` asks for, raw units.
            state: carried state, from :meth:`initial_state` or the last call.
            budget: what may be spent.
            seeds: one per row.
            given: stream -> values that somebody else generated, e.g. a subgoal; nothing is spent on them.

        Returns:
            the forecast (actions in physical units) and the state to pass in next time.
        """
        stages = Stages(self._device())
        with stages.measure("preprocess"):
            observation = to_device(observation, self._device())
        with stages.measure("encode"):
            context = self.encode_context(observation)
            state = self.observe(observation, state, context)
            known = to_device(dict(given or {}), self._device())
        want, told = self._wanted(budget), {"given": known, "carry": state, "context": context}
        sampled = self.sample(observation, want, seeds=seeds, budget=budget, **told)
        with stages.measure("decode"):
            action = self.action.decode(sampled.values[ACTION]).cpu()
        futures = {n: sampled.values[n] for n in sorted(self.graph.of_role("future")) if n in sampled.values}
        forecast = Forecast(
            action=action,
            future=futures,
            cost=sampled.cost,
            nfe=sampled.nfe,
            stage_ms={**stages.milliseconds, **sampled.stage_ms},
        )
        return forecast, {**state, **sampled.planned}

    @torch.inference_mode()
    def generate(
        self, observation: Observation, state: Any, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        """Values of one stream, (B, T, N, D) or ids (B, T, N), and of nothing that it does not need.

        The carried ``state`` is left as it is: this is the generator beside the policy, not a call of the policy.
        """
        observation = to_device(observation, self._device())
        context = self.encode_context(observation)
        carry = self.observe(observation, state, context)
        sampled = self.sample(observation, [stream], seeds=seeds, budget=budget, carry=carry, context=context)
        return sampled.values[stream]

    def check_given(self, stream: str) -> None:
        """Raise :class:`ConfigError` unless ``stream`` is a goal that actions are made from."""
        check_given(self.graph, stream)

    @torch.no_grad()
    def observe(self, observation: Observation, state: Any, context: Mapping[str, Cache]) -> Any:
        """Take what really happened since the last call into the carried state, in place of what was imagined."""
        if not self.past_blocks:
            return state
        if observation.past_action is None or observation.past_action_pad is None:
            raise SpecError(
                f"design {self.name!r} carries its past and needs the {self.window.past_actions} actions executed "
                f"since the last call: fill `past_action` and `past_action_pad` of the observation"
            )
        past = self._past(observation, observation.past_action, observation.past_action_pad)
        return self._absorb(state, past, context)

    def _absorb(self, state: Any, past: Past, context: Mapping[str, Cache]) -> Any:
        carried = dict(state)
        for name, estimator in self._all_estimators().items():
            trunk = self.graph.estimators[name].trunk
            cache = context[trunk] if trunk is not None else NO_CONTEXT
            carried[name] = estimator.observe(state[name], cache, past)
        return carried

    @torch.no_grad()
    def imagine(self, state: Any, forecast: Forecast, context: Mapping[str, Cache]) -> Any:
        """Carry a forecast's own first block as if it had been observed, for futures beyond one call.

        The given ``state`` is left as it is. Going back to it and calling :meth:`observe` is how an imagined block
        is overwritten with what really happened.
        """
        blocks = self.action.encode(forecast.action[:, : self.config.stride].to(self._device()))[:, None]
        unpadded = torch.zeros(blocks.shape[0], 1, dtype=torch.bool, device=blocks.device)
        first = {name: values[:, :1] for name, values in forecast.future.items()}
        return self._absorb(state, Past(first, blocks, unpadded, unpadded), context)

    def perceived(self, stream: str) -> Perceived:
        """How what is seen becomes values of a future stream; ConfigError where that cannot be."""
        return perceived(self.config, self._substrates(), stream, self._device())

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        """Imagined frames at ``window.future``, camera -> (B, F, 3, h, w) uint8, or None when none can be decoded."""
        for name, future in self.config.futures.items():
            if name in forecast.future and future.offsets and self.substrate(name).decodable:
                return self.substrate(name).decode(forecast.future[name])
        return None
