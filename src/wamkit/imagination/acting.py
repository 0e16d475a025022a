"""Imagined rollouts to learn from: a policy acts in a world model, and what follows is rewarded (`pt.wm-rl`).

Unlike a dream, which is looked at, a rollout keeps everything that a policy was given and did, so that it can be
trained on its own acts. The world is the policy's own design or another one; it takes the policy's actions, whatever
made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.calls import Call
from wamkit.contract.planning import Objective, ObjectiveConfig, Worth
from wamkit.contract.protocols import Meanings
from wamkit.contract.rows import take_rows
from wamkit.contract.specs import require_same
from wamkit.contract.streams import RowNoise, row_seed
from wamkit.contract.types import (
    Batch,
    Budget,
    Carries,
    Forecast,
    Observation,
    choose_rows,
    map_tensors,
    to_device,
)
from wamkit.design import Design
from wamkit.design.build import read_meanings
from wamkit.design.observed import encode_aims
from wamkit.design.sampling import context_of
from wamkit.errors import ConfigError, did_you_mean
from wamkit.imagination.dreams import imagined_observation, step_ticks
from wamkit.imagination.unrolling import world_step


@dataclass(frozen=True)
class ImaginedStep:
    """One step of R imagined rollouts.

    Attributes:
        observation: what the policy acted on.
        values: stream of the policy -> values that it sampled; those of its actions are the executed ones, encoded.
        action: (R, H, A), executed chunk in physical units.
        future: stream of the world -> values that followed, (R, F, ...).
        reward: (R,), score of the first block that followed; zeros without a reward.
        value: (R,), value of the state at the end of this block; zeros without a value.
    """

    observation: Observation
    values: Mapping[str, Tensor]
    action: Tensor
    future: Mapping[str, Tensor]
    reward: Tensor
    value: Tensor


@dataclass(frozen=True)
class Start:
    """Recorded moments at which rollouts start, R rows, as two designs see them.

    Attributes:
        policy: observation of the policy, cut by its acting window.
        world: observation of the world model; that of the policy where they are one design.
        carry: carried state of the world; that of the policy too where they are one design.
        known: goal stream of the world -> its recorded values.
        aims: stream of the objective's aims -> encoded goal observation.
    """

    policy: Observation
    world: Observation
    carry: Carries
    known: Mapping[str, Tensor] = field(default_factory=dict)
    aims: Mapping[str, Tensor] = field(default_factory=dict)

    def rows(self, index: Tensor) -> Start:
        """Take rows ``index``; a row that is named twice stands twice."""
        seen = take_rows(self.policy, index)
        world = seen if self.world is self.policy else take_rows(self.world, index)
        known, aims = (
            {n: v[index.to(v.device)] for n, v in part.items()} for part in (self.known, self.aims)
        )
        return Start(seen, world, map_tensors(self.carry, lambda t: t[index.to(t.device)]), known, aims)


def meanings_of(design: Design) -> Meanings:
    """What the values of a design's streams mean, for objectives that are built outside it."""
    parts = dict(design.substrates.items())
    return read_meanings(design.config, design.data, design.streams, design.action, parts)


@final
class Imagination:
    """A policy that acts in a world model, and the return of what it does.

    Args:
        policy: design that acts.
        world: world model, the same design or another one of the same specs.
        objective: reward of a step, a score of what the world predicts; None for no reward.
        value: future stream of the world that says what the state at the end of a step is worth; None for none.
        fixed: sensors that keep their values from the start, whatever the world imagines.

    Raises:
        ConfigError: the policy does not act, the world's futures do not follow the action, or the reward or the value
            reads a stream that does not.
        SpecError: the two designs do not see or move the same robot.
    """

    def __init__(
        self,
        policy: Design,
        world: Design,
        objective: ObjectiveConfig | None,
        value: str | None,
        fixed: Sequence[str] = (),
    ) -> None:
        policy.check_acts()
        if objective is None and value is None:
            raise ConfigError(
                "imagined: neither `objective` nor `value` is set, so no action is better than another"
            )
        sides = f"design {policy.name!r}", f"world model {world.name!r}"
        require_same(policy.observation_spec, world.observation_spec, *sides)
        require_same(policy.action_spec, world.action_spec, *sides)
        self.own = world is policy
        if policy.past_blocks and not self.own:
            raise ConfigError(
                f"design {policy.name!r} keeps a past of its own, which another world model does not carry for it. "
                f"Train it in its own world, or give a policy that acts on single observations."
            )
        self.policy, self.world, self.value, self.fixed = policy, world, value, tuple(fixed)
        self.ticks = step_ticks(world)
        self.futures = sorted(
            n for n in world.config.futures if world.graph.follows(n) and not self._planned(n)
        )
        if not self.futures:
            raise ConfigError(
                f"imagined: {world.factorisation()} predicts nothing that follows the action. Name a world model with "
                f"p(s|a,c) in `world`."
            )
        self.objective: Objective | None = None if objective is None else objective.build(meanings_of(world))
        self._check_read()

    def _planned(self, name: str) -> bool:
        """True for a future that the world's own action is generated from, which so cannot follow it."""
        return name in self.world.graph.ancestors(self.world.graph.acting())

    def _check_read(self) -> None:
        roles = self.world.graph.roles
        read = () if self.objective is None else self.objective.reads
        for name in (*read, *(() if self.value is None else (self.value,))):
            if name not in roles:
                raise ConfigError(f"imagined: unknown stream {name!r}. {did_you_mean(name, roles)}")
            if roles[name] == "future" and name not in self.futures:
                raise ConfigError(
                    f"imagined: {self.world.factorisation()} predicts {name!r} whatever the action, so it cannot tell "
                    f"good actions from bad ones. Give it the action, or name another stream."
                )
        if self.value is not None:
            self.worth_of(self.world)

    def worth_of(self, design: Design) -> Worth:
        """Substrate of the value, which turns its values into returns; raises :class:`ConfigError` for another one."""
        assert self.value is not None
        part = design.substrate(self.value) if self.value in design.config.futures else None
        if not isinstance(part, Worth):
            raise ConfigError(
                f"imagined: stream {self.value!r} does not say what a state is worth. Name a future of the substrate "
                f"'value'."
            )
        return part

    def start(self, policy: Batch, world: Batch) -> Start:
        """Starts at recorded windows, cut by the training window of each design."""
        device = self.world.device
        seen = _sensed(to_device(policy.acting(self.policy.window), device), self.policy)
        other = seen if self.own else _sensed(to_device(world.acting(self.world.window), device), self.world)
        carry = observed_past(self.world, to_device(policy if self.own else world, device))
        goals = [
            n for n in self.world.config.goals if self.objective is not None and n in self.objective.reads
        ]
        targets = self.world.targets(to_device(world, device)) if goals else {}
        aims = () if self.objective is None else self.objective.aims
        parts = {name: self.world.substrate(name) for name in aims}
        return Start(
            seen,
            other,
            carry,
            {name: targets[name].values for name in goals},
            encode_aims(other, parts, self.world.name),
        )

    @torch.no_grad()
    def roll(
        self,
        start: Start,
        steps: int,
        *,
        seeds: Sequence[int],
        valued_by: Design | None = None,
        act: Callable[[int], Tensor | None] | None = None,
    ) -> list[ImaginedStep]:
        """Let the policy act for ``steps`` steps.

        Args:
            start: R starts.
            steps: number of steps; further ones need a world that imagines everything that is observed.
            seeds: one seed per row.
            valued_by: design whose value stream is read in place of the world's, such as a moving average of it.
            act: step -> actions (R, H, A) in place of the policy's, or None.

        Raises:
            ConfigError: a second step is asked for and the world does not imagine what the designs observe.
        """
        seen, other, carry, made = start.policy, start.world, start.carry, []
        for k in range(steps):
            drawn = [row_seed(seed, "act", k) for seed in seeds]
            context = self.policy.encode_context(seen)
            beside = context if self.own else self.world.encode_context(other)
            told = None if act is None else act(k)
            values, action = self._acted(seen, carry if self.own else None, context, drawn, told)
            forecast = world_step(
                self.world,
                other,
                self._fitted(action),
                seeds=[row_seed(seed, "step", k) for seed in seeds],
                budget=Budget(),
                carry=carry,
                context=beside,
                wanted=self.futures,
            )
            reward = self._rewarded(forecast, start)
            worth = self._valued(forecast, values, valued_by, seen)
            made.append(ImaginedStep(seen, values, action, forecast.future, reward, worth))
            if k + 1 < steps:
                if self.world.past_blocks:
                    carry = self.world.imagine(carry, forecast, beside)
                seen = self._then(self.policy, seen, forecast)
                other = seen if self.own else self._then(self.world, other, forecast)
        return made

    def _then(self, design: Design, before: Observation, forecast: Forecast) -> Observation:
        """What a design observes at the end of the first block."""
        fixed = [name for name in self.fixed if name in before.extras]
        offsets = design.window.observation
        return to_device(
            imagined_observation(self.world, before, forecast, fixed, offsets), self.world.device
        )

    def _acted(
        self,
        seen: Observation,
        carry: Carries | None,
        context: Mapping[str, Cache],
        seeds: Sequence[int],
        told: Tensor | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Sampled streams of the policy and the action (R, H, A) that they mean, or that is told."""
        graph = self.policy.graph
        needed = graph.acting() | graph.ancestors(graph.acting())
        factors = [factor for factor in graph.factors if needed & set(factor.generates)]
        want = [name for factor in factors for name in factor.generates]
        found = self.policy.sample(seen, want, seeds=seeds, carry=carry, context=context).values
        action = self.policy.action_streams.decode(found) if told is None else told
        encoded = self.policy.action_streams.encode(action, seen.action_columns)
        return {**found, **{name: encoded[name] for name in sorted(graph.acting())}}, action

    def _fitted(self, action: Tensor) -> Tensor:
        """The action over the world's horizon; a shorter one is continued with its last tick."""
        planned, needed = action.shape[1], self.world.config.horizon
        if planned < self.ticks:
            raise ConfigError(
                f"design {self.policy.name!r} plans {planned} ticks, fewer than a step of the world ({self.ticks})"
            )
        last = action[:, -1:].expand(-1, max(needed - planned, 0), -1)
        return torch.cat((action[:, :needed], last), dim=1)

    def _rewarded(self, forecast: Forecast, start: Start) -> Tensor:
        rows = forecast.action.shape[0]
        if self.objective is None:
            return torch.zeros(rows, device=self.world.device)
        return self.score(forecast.future, forecast.action.to(self.world.device), start)

    def score(self, future: Mapping[str, Tensor], action: Tensor, start: Start) -> Tensor:
        """Reward (R,) of the first block of futures, predicted or recorded, under the action (R, H, A) of the world."""
        assert self.objective is not None
        first = {name: values[:, :1] for name, values in future.items()}
        acted = self.world.action_streams.encode(action, start.world.action_columns)
        return self.objective.score({**first, **acted, **start.known}, start.aims)

    def _valued(
        self,
        forecast: Forecast,
        values: Mapping[str, Tensor],
        by: Design | None,
        seen: Observation,
    ) -> Tensor:
        """Value (R,) of the state at the end of the first block."""
        if self.value is None:
            return torch.zeros(forecast.action.shape[0], device=self.world.device)
        found = forecast.future[self.value]
        if by is not None:
            factor = by.graph.factor_of(self.value)
            known = {**forecast.future, **values}
            other = by.encode_context(seen)
            given, cache = {n: known[n] for n in factor.given}, context_of(factor.estimator, by.graph, other)
            call = Call(cache, given, (), seen.batch_size, real=by.real(seen))
            noise = RowNoise([0] * seen.batch_size, by.device)
            found = (
                by.estimators[factor.estimator]
                .generate([self.value], call, Budget(), noise)
                .values[self.value]
            )
        return self.worth_of(self.world).worth(found)[:, 0]


def _sensed(observation: Observation, design: Design) -> Observation:
    """Leave out the extras that the design does not read when acting: no world model imagines them."""
    kept = {name: value for name, value in observation.extras.items() if name in design.sensors}
    return replace(observation, extras=kept)


def observed_past(design: Design, batch: Batch) -> Carries:
    """Carried state of a design after the real blocks before "now" in training windows."""
    rows, stride = batch.action.shape[0], design.config.stride
    state = design.initial_state(rows)
    if not design.past_blocks:
        return state
    blocks, seen = batch.past // stride, batch.observation
    for k in range(blocks):
        step = seen.pad.shape[1] - blocks + k
        part = seen.steps(slice(step + 1 - len(design.window.observation), step + 1))
        span = slice(k * stride, (k + 1) * stride)
        executed, pad = batch.action[:, span], batch.action_pad[:, span]
        # A block that lies before the episode is none: its rows keep the state of the beginning.
        before, clear = part.pad[:, -1], part.pad.clone()
        clear[:, -1] = False
        now = replace(part, pad=clear, past_action=executed, past_action_pad=pad, goal=batch.goal)
        state = choose_rows(before, state, design.observe(now, state, design.encode_context(now)))
    return state
