"""Design: streams, factors, estimators, trunks and a controller, composed from a config.

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
from wamkit.contract.calls import Guide
from wamkit.contract.checks import Reads
from wamkit.contract.data import DataSpec, Windows
from wamkit.contract.protocols import Substrate
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Past, RowNoise, Target, cleared
from wamkit.contract.types import Batch, Budget, Carries, Forecast, Losses, Observation, Perceived, to_device
from wamkit.contract.values import whole
from wamkit.controllers import Controller
from wamkit.design.agreement import check_pixels
from wamkit.design.build import aims_of, build_parts, extras_read, read_windows, requests_of
from wamkit.design.config import DesignConfig
from wamkit.design.description import describe, survey_tuple
from wamkit.design.encoding import encode, running
from wamkit.design.entries import Entries
from wamkit.design.learning import action_label, factor_losses, fit_parts
from wamkit.design.limits import Limits
from wamkit.design.observed import check_given, decoded, encode_aims, perceived, read_targets, real_features
from wamkit.design.past import imagined_past, kept, read_past, unfinished
from wamkit.design.sampling import PLANNER_CARRY, Sampled, SamplingCall, context_of
from wamkit.design.timing import Stages
from wamkit.nn.named import Named, key_of


@final
class Design(nn.Module):
    """One conditional distribution over futures and actions, ``p(s, a | c)``.

    Attributes:
        observation_spec: spec of the observations that the design reads.
        action_spec: spec of the actions that the design returns, or that its futures follow.
        extras: names of the extras that a dataset must provide for training.
        sensors: names of the extras that are read when acting.
        droppable: sensors that may be flagged as missing when acting, name -> shape per step.
        requests: variables of the context that may be requested when acting, such as the quality of an episode.
        commands: levels of commands, any of which may be told as the instruction when acting.
        reads_goal: True when an encoder, a planner or a guide reads the goal observation.
    """

    def __init__(self, config: DesignConfig, data: DataSpec) -> None:
        super().__init__()
        parts = build_parts(config, data)
        check_pixels(config, data, parts.encoders, parts.commands)
        self.config, self.data = config, data
        self.graph, self.streams = parts.graph, parts.streams
        self.training_window, self.window = read_windows(config, parts)
        self.past_blocks = parts.past_blocks
        self.encoders, self.substrates = Named(parts.encoders), Named(parts.substrates)
        self.action_streams = parts.actions
        self.action = parts.actions.parts[ACTION]
        self.actions = Named({name: part for name, part in parts.actions.parts.items() if name != ACTION})
        self.trunks, self.context = Named(parts.trunks), Named(parts.context)
        self.estimators = Named(parts.estimators)
        self.planner, self.steering = parts.planner, parts.steering
        self.texts, self.commands = parts.texts, parts.commands
        self.requests = requests_of(parts.encoders, data)
        self.observation_spec, self.action_spec = data.observation, data.action
        self.extras, self.sensors, self.droppable = extras_read(parts, data)
        self.reads_goal = bool(aims_of(parts.graph, parts.steering)) or any(
            e.goal for e in parts.encoders.values()
        )
        carries = [*parts.estimators, *([PLANNER_CARRY] if parts.planner is not None else [])]
        windows, extras = (self.window, self.training_window), (self.sensors, self.extras)
        self.entries = Entries(Reads(data, config.name), *windows, parts.streams, *extras, carries)
        self.limits = Limits(parts.graph, parts.estimators, parts.planner, config.horizon, config.budget)
        if self.graph.acting():
            self.limits.check_default(self.limits.wanted(Budget()), config.controller)

    @property
    def name(self) -> str:
        """Name of the design, for people; nothing branches on it."""
        return self.config.name

    @property
    def controller(self) -> Controller:
        """Controller that the design was composed with."""
        return self.config.controller

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def parts(self) -> dict[str, nn.Module]:
        """Label -> part. A label, such as ``encoders.images`` or ``action``, is the part's prefix in state dicts.

        ``optim.only`` and ``fresh`` use these labels. Estimators hold their trunk too, under names of their own.
        """
        return {
            **{action_label(name): part for name, part in self.action_streams.parts.items()},
            **{f"encoders.{key_of(name)}": part for name, part in self.encoders.items()},
            **{f"substrates.{key_of(name)}": part for name, part in self.substrates.items()},
            **{f"trunks.{key_of(name)}": part for name, part in self.trunks.items()},
            **{f"context.{key_of(name)}": part for name, part in self.context.items()},
            **{f"estimators.{key_of(name)}": part for name, part in self.estimators.items()},
        }

    def cells(self) -> dict[str, str]:
        """Cells of the survey's tuple (eq. 37), derived from the parts."""
        return survey_tuple(self.config, self.graph, self._substrates())

    def factorisation(self) -> str:
        """Chain rule of the design, e.g. ``p(s|c) p(a|s,c)``."""
        return self.graph.formula()

    def describe(self) -> dict[str, Any]:
        """Everything that `wamkit inspect` prints, as plain values."""
        return describe(self.config, self.graph, self._substrates(), self.streams, self.parts())

    def substrate(self, stream: str) -> Substrate:
        """Substrate of a future or goal stream."""
        return self.substrates[self.config.substrate_of(stream)]

    def _substrates(self) -> dict[str, Substrate]:
        """Future or goal stream -> its substrate."""
        return {name: self.substrate(name) for name in (*self.config.futures, *self.config.goals)}

    def encode_context(self, observation: Observation) -> dict[str, Cache]:
        """Encode the context c once and run it through every trunk: trunk name -> cache."""
        self.entries.observed(observation, self.device)
        return self._encode(observation)

    def _encode(
        self, observation: Observation, only: Container[str | None] | None = None
    ) -> dict[str, Cache]:
        return encode(observation, self.encoders, self.context, self.trunks, only)

    def _past(self, observation: Observation, action: Tensor, action_pad: Tensor) -> Past:
        futures = {n: self.substrate(n) for n in sorted(self.graph.of_role("future"))}
        return read_past(observation, action, action_pad, self.config.stride, futures, self.action_streams)

    def fit(self, windows: Windows, seed: int, labels: Container[str] | None = None) -> None:
        """Fit encoders, tokenizers, codecs and teachers on the dataset. They stay frozen during training.

        Encoders come first, and each substrate is bound to them again: a substrate that tracks an encoder tracks the
        fitted one.

        Args:
            windows: dataset.
            seed: seed of all random draws.
            labels: labels of :meth:`parts` to fit; None for all parts.

        Raises:
            SpecError: the dataset was opened without :attr:`extras`.
        """
        self.entries.fitted(windows)
        labels = self.parts() if labels is None else labels
        parts = self.encoders, self.action_streams, self.substrates
        fit_parts(*parts, self.data, windows, seed, labels, self.streams)

    def after_step(self, labels: Container[str] | None = None) -> None:
        """Update what tracks the encoders (moving averages); call it after every step of the optimiser.

        ``labels`` of :meth:`parts` limit it to these substrates; None updates all.
        """
        for name, substrate in self.substrates.items():
            if labels is None or f"substrates.{key_of(name)}" in labels:
                substrate.after_step(dict(self.encoders.items()))

    def targets(self, batch: Batch) -> dict[str, Target]:
        """Ground truth of every observed stream: stream name -> :class:`Target`."""
        self.entries.batch(batch, self.device)
        parts = self.streams, self._substrates(), self.action_streams
        return read_targets(batch, self.config, *parts, self.training_window, self.texts)

    def real(self, observation: Observation) -> dict[str, Tensor]:
        """Features of streams that the robots of an observation have: :attr:`wamkit.contract.calls.Call.real`."""
        return real_features(observation, self.streams, self._substrates(), self.action_streams)

    def loss(self, batch: Batch, weights: Mapping[str, float] | None = None) -> Losses:
        """Losses of all factors on one batch.

        Args:
            batch: windows cut by :attr:`training_window`.
            weights: stream name -> weight of its loss, 1 without an entry; None for those of the config.
        """
        self.entries.reads.weights(weights or {}, self.streams)
        targets = self.targets(batch)
        past = None
        if self.past_blocks:
            executed, padded = batch.action[:, : batch.past], batch.action_pad[:, : batch.past]
            past = self._past(batch.observation, executed, padded)
        observation = batch.observation.steps(slice(-len(self.window.observation), None))
        told = self.commands.drawn(batch, self.training_window) if self.training else observation.task
        context = self._encode(replace(observation, goal=batch.goal, task=told))
        estimators, real = dict(self.estimators.items()), self.real(observation)
        terms = factor_losses(self.graph, estimators, context, targets, past, observation, real)
        return Losses.weighted(terms, self.config.loss_weights if weights is None else weights)

    def initial_state(self, batch_size: int) -> Carries:
        """State carried between calls, at the start of an episode: a pytree with leading dimension B."""
        whole(batch_size, "initial_state: batch_size", 1)
        state = {name: estimator.initial_carry(batch_size) for name, estimator in self.estimators.items()}
        if self.planner is not None:
            state[PLANNER_CARRY] = self.planner.initial_carry(self.streams[ACTION], batch_size, self.device)
        return state

    def check_budget(self, budget: Budget) -> None:
        """Raise :class:`BudgetError` when a call cannot honour ``budget``, :class:`ConfigError` when it cannot act."""
        self.check_acts()
        self.limits.resolve(budget, self.limits.wanted(budget), (), None, None)

    def check_acts(self) -> None:
        """Raise :class:`ConfigError` when no factor generates the executed action (a world model)."""
        self.graph.check_acts(self.name)

    @torch.no_grad()
    def sample(
        self,
        observation: Observation,
        want: Sequence[str],
        *,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
        budget: Budget | None = None,
        carry: Carries | None = None,
        context: Mapping[str, Cache] | None = None,
        guide: Guide | None = None,
    ) -> Sampled:
        """Sample ``p(want | given, c)``: policy, forward and inverse dynamics and video are special cases.

        Args:
            observation: B observations.
            want: streams to sample.
            seeds: one seed per row; a row's sample depends on its own seed only.
            given: stream name -> known values.
            budget: limits on what the call may spend.
            carry: carried state; None for the start of an episode.
            context: caches from :meth:`encode_context`, if the caller has them.
            guide: objective that steers one stream.

        Raises:
            BudgetError: unknown stream, a budget that cannot be honoured, or a stream that cannot be steered.
            SpecError: an argument that does not fit the design's specs.
        """
        budget = budget or Budget()
        rows = self.entries.observed(observation, self.device)
        self.entries.sampled(rows, budget, seeds, given, context, carry)
        real = self.real(observation)
        values = {name: cleared(value, real.get(name)) for name, value in (given or {}).items()}
        self.entries.known([*want, *values])
        needed, steering, budget = self.limits.resolve(budget, want, values, guide, self.steering)
        stages = Stages(self.device)
        if context is None:
            with stages.measure("encode"):
                context = self._encode(observation, running(self.graph, needed) if steering is None else None)
        aims = aims_of(self.graph if ACTION in needed else None, steering)
        call = SamplingCall(
            graph=self.graph,
            estimators=dict(self.estimators.items()),
            planner=self.planner,
            context=context,
            carry=self.initial_state(rows) if carry is None else carry,
            budget=budget,
            noise=RowNoise(seeds, self.device),
            rows=rows,
            stages=stages,
            values=values,
            guide=guide,
            steering=steering,
            together=self.config.planner is not None and self.config.planner.sampled_together,
            aims=encode_aims(observation, {name: self.substrate(name) for name in aims}, self.name),
            observation=observation,
            real=real,
        )
        return call.attempted(needed, given or {})

    @torch.inference_mode()
    def forecast(
        self,
        observation: Observation,
        state: Carries,
        budget: Budget,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
    ) -> tuple[Forecast, Carries]:
        """One call of the policy.

        Args:
            observation: B observations cut by :attr:`window`, in raw units.
            state: carried state, from :meth:`initial_state` or the previous call.
            budget: limits on what the call may spend.
            seeds: one seed per row.
            given: stream -> values from another generator, e.g. a subgoal; nothing is spent on them.

        Returns:
            Forecast (actions in physical units) and the state to pass to the next call.

        Raises:
            ConfigError: the design does not act, because no factor generates the action.
        """
        self.check_acts()
        stages = Stages(self.device)
        with stages.measure("preprocess"):
            self.entries.called(observation, state, budget, seeds, given)
            observation = to_device(observation, self.device)
            known, context, carry = to_device(dict(given or {}), self.device), None, state
        if self.past_blocks:
            with stages.measure("encode"):
                context = self._encode(observation)
                carry = self._observe(observation, state, context)
        wanted = self.limits.wanted(budget)
        sampled = self.sample(
            observation, wanted, seeds=seeds, given=known, budget=budget, carry=carry, context=context
        )
        with stages.measure("decode"):
            action = self.action_streams.decode({**known, **sampled.values}).cpu()
        futures = {n: sampled.values[n] for n in sorted(self.graph.of_role("future")) if n in sampled.values}
        stage_ms = {**stages.milliseconds, **sampled.stage_ms}
        flags = {name: flag.cpu() for name, flag in sampled.flags.items()}
        text = {n: t.decode(sampled.values[n]) for n, t in self.texts.items() if n in sampled.values}
        forecast = Forecast(action, futures, sampled.cost, sampled.nfe, stage_ms, sampled.costs, flags, text)
        return forecast, {**kept(observation, state, carry), **sampled.planned}

    @torch.inference_mode()
    def remember(self, observation: Observation, state: Carries) -> Carries:
        """Take in the block that ends now without a call, where no call falls on its end; returns the new state."""
        rows = self.entries.observed(observation, self.device, past=True)
        self.entries.reads.carried(state, self.entries.carries, rows)
        observation = to_device(observation, self.device)
        return kept(observation, state, self._observe(observation, state, self._encode(observation)))

    @torch.inference_mode()
    def generate(
        self, observation: Observation, state: Carries, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        """Sample one stream, (B, T, N, D) or ids (B, T, N), and only the streams that it needs.

        The carried ``state`` stays as it is: this is a generator beside the policy, not a call of the policy.
        """
        self.entries.called(observation, state, budget, seeds)
        observation, context = to_device(observation, self.device), None
        if self.past_blocks:
            context = self._encode(observation)
            state = self._observe(observation, state, context)
        sampled = self.sample(observation, [stream], seeds=seeds, budget=budget, carry=state, context=context)
        return sampled.values[stream]

    def check_given(self, stream: str, followed: bool = False) -> None:
        """Raise :class:`ConfigError` unless actions read ``stream``, a goal, a state or a ``followed`` future."""
        check_given(self.graph, stream, self._substrates() if followed else None)

    @torch.no_grad()
    def observe(self, observation: Observation, state: Carries, context: Mapping[str, Cache]) -> Carries:
        """Put the real events since the last call into the carried state, in place of the imagined ones."""
        rows = self.entries.observed(observation, self.device, past=True)
        self.entries.reads.carried(state, self.entries.carries, rows)
        return self._observe(observation, state, context)

    def _observe(self, observation: Observation, state: Carries, context: Mapping[str, Cache]) -> Carries:
        if not self.past_blocks:
            return state
        executed, pad = observation.past_action, observation.past_action_pad
        assert executed is not None
        assert pad is not None
        past = self._past(observation, executed, pad)
        return self._absorb(state, replace(past, partial=unfinished(pad)), context)

    def _absorb(self, state: Carries, past: Past, context: Mapping[str, Cache]) -> Carries:
        carried = dict(state)
        for name, estimator in self.estimators.items():
            carried[name] = estimator.observe(state[name], context_of(name, self.graph, context), past)
        return carried

    @torch.no_grad()
    def imagine(self, state: Carries, forecast: Forecast, context: Mapping[str, Cache]) -> Carries:
        """Carry a forecast's own first block as if it had been observed, for futures beyond one call.

        The given ``state`` stays as it is. To overwrite an imagined block with the real one, go back to the state
        before it and call :meth:`observe`.
        """
        executed = self.action.encode(forecast.action[:, : self.config.stride].to(self.device))
        return self._absorb(state, imagined_past(forecast, executed), context)

    def perceived(self, stream: str) -> Perceived:
        """Encoder of observations into a future stream; raises :class:`ConfigError` for a stream without one."""
        return perceived(self.config, self._substrates(), stream, self.device, self.entries.reads)

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        """Imagined frames at ``window.future``, camera -> (B, F, 3, h, w) uint8; None when none can be decoded."""
        return decoded(self.config, self._substrates(), forecast)
