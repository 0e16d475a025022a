"""A policy acting in a world model in place of the world (`ev.wm-evaluator`; survey eq. 10).

The world is any design whose future follows the action that it is given. Where it keeps a past it is rolled on in its
own state (:func:`wamkit.imagination.unrolling.unroll`); otherwise its decoded future is shown to it as the next
observation. The policy may be another design, which sees what the world imagined, or any function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from wamkit.contract.specs import ACTION
from wamkit.contract.streams import Camera, Reading, Sensor, State, row_seed
from wamkit.contract.types import Budget, Forecast, Observation, to_device
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError, did_you_mean
from wamkit.imagination.unrolling import check_unrollable, unroll


@dataclass(frozen=True)
class Dream:
    """An imagined rollout so far.

    Attributes:
        world: the world model.
        start: B observations of what was really seen, once.
        made: what was imagined, a forecast per step. Its first block is where the step ends.
        fixed: sensors that stay as they were at the start, whatever the world imagines of them: what cannot change
            during an episode, such as where a drawer's case stands.
    """

    world: Design
    start: Observation
    made: tuple[Forecast, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Imagined steps so far."""
        return len(self.made)

    @property
    def ticks(self) -> int:
        """Control ticks from the start to the end of the last step."""
        return self.steps * step_ticks(self.world)

    def observation(self) -> Observation:
        """What is seen at the end of the last step, in the world's imagination; the start before any step."""
        if not self.made:
            return self.start
        return imagined_observation(self.world, self.start, self.made[-1], self.fixed)

    def until(self, step: int) -> Dream:
        """Its first ``step`` steps."""
        return replace(self, made=self.made[:step])

    def values(self, stream: str) -> Tensor:
        """Values (B, 1, ...) of a future stream at the end of the last step."""
        return self.made[-1].future[stream][:, :1]


# A dream -> the actions to take next, (B, H, A) in physical units, H the horizon of the world.
DreamPolicy = Callable[[Dream], Tensor]


def step_ticks(world: Design) -> int:
    """Control ticks of one imagined step: the first offset, which all futures of the world share.

    Raises:
        ConfigError: there is no such offset, or the actions of one call do not reach it.
    """
    first = {future.offsets[:1] for future in world.config.futures.values()}
    if len(first) != 1 or first == {()}:
        raise ConfigError(
            f"design {world.name!r} cannot be a world: its futures begin at the offsets {sorted(first)} and must "
            f"share one"
        )
    ((ticks,),) = first
    if ticks > world.config.horizon:
        raise ConfigError(
            f"design {world.name!r} cannot be a world: it predicts {ticks} ticks ahead, from actions of "
            f"{world.config.horizon} only"
        )
    return ticks


def check_world(world: Design) -> None:
    """Raise :class:`ConfigError` unless the futures follow the action that is given."""
    step_ticks(world)
    for name in world.config.futures:
        together = world.graph.factor_of(name).generates
        if ACTION not in together and ACTION not in world.graph.ancestors([name]):
            raise ConfigError(
                f"design {world.name!r} cannot be a world: {world.factorisation()} predicts {name!r} whatever is "
                f"done. Use a design with p(s|a,c) or p(s,a|c)."
            )


def imagined_observation(
    world: Design, before: Observation, forecast: Forecast, fixed: Sequence[str] = ()
) -> Observation:
    """The observation that the first block of a forecast shows, T = 1, for whoever acts on what is seen.

    The sensors in ``fixed`` are those of ``before``.

    Raises:
        ConfigError: a camera, the state or a sensor that the world reads is in no future of it; or more than one step
            is observed.
    """
    if before.pad.shape[1] != 1:
        raise ConfigError(
            f"design {world.name!r}: {before.pad.shape[1]} observed steps cannot be filled from one imagined step. "
            f"Use designs that observe (0,)."
        )
    images, state = {}, None
    extras = {name: before.extras[name] for name in fixed}
    for name, values in forecast.future.items():
        substrate = world.substrate(name)
        for reading in substrate.readings(values[:, :1]).values():
            match reading.shows:
                case Camera(camera) if camera in before.images:
                    images[camera] = (reading.values * 255).round().to(torch.uint8)
                case State():
                    state = reading.values
                case Sensor(sensor) if sensor in before.extras and sensor not in fixed:
                    extras[sensor] = _as_sensed(reading, before.extras[sensor])
    missing = [f"camera {name!r}" for name in before.images if name not in images]
    missing += ["the state"] if before.state.shape[-1] and state is None else []
    missing += [f"sensor {name!r}" for name in world.sensors if name not in extras]
    if missing:
        raise ConfigError(
            f"design {world.name!r} imagines no {', '.join(missing)}, which the observation shows. Add a future that "
            f"decodes to it ('pixel_latent', 'proprioception', 'sensor_values'), or act on `Dream.values`."
        )
    stride = before.past_action.shape[1] if before.past_action is not None else 0
    acted = forecast.action[:, :stride].to(before.state.device) if stride else None
    return replace(
        before,
        images=images,
        state=before.state if state is None else state,
        extras=extras,
        past_action=acted,
        past_action_pad=None if acted is None else torch.zeros_like(acted[..., 0], dtype=torch.bool),
    )


def _as_sensed(reading: Reading, sensor: Tensor) -> Tensor:
    """Values of a reading in the layout and, of pictures and classes, the type of the ``sensor`` that it shows."""
    match reading.kind:
        case "picture":
            channels_last = reading.values.movedim(2, -1)
            return (
                channels_last
                if sensor.is_floating_point()
                else (channels_last * 255).round().to(sensor.dtype)
            )
        case "classes":
            return reading.values.to(sensor.dtype)
        case _:
            return reading.values


def _check_fixed(start: Observation, fixed: Sequence[str]) -> None:
    unknown = [name for name in fixed if name not in start.extras]
    if unknown:
        raise ConfigError(
            f"dream: the start does not show {unknown} to keep fixed. {did_you_mean(unknown[0], start.extras)}"
        )


@torch.no_grad()
def dream(
    world: Design,
    policy: DreamPolicy,
    start: Observation,
    steps: int,
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
    fixed: Sequence[str] = (),
) -> Dream:
    """Let ``policy`` act for ``steps`` steps in ``world``.

    Args:
        world: a design whose futures follow the given action.
        policy: what acts; it sees the dream so far.
        start: B observations as :attr:`Design.window` of the world asks for.
        steps: how many steps of :func:`step_ticks` ticks.
        seeds: one per row, of the world's noise.
        budget: what each step of the world may spend.
        fixed: sensors that stay as they are; see :class:`Dream`.

    Raises:
        ConfigError: the design is no world; the start has no such sensor; or the world keeps no past and does not
            imagine all that it observes.
        BudgetError: ``steps`` is less than one.
    """
    budget = budget or Budget()
    if steps < 1:
        raise BudgetError(f"steps {steps} must be at least 1")
    check_world(world)
    _check_fixed(start, fixed)
    start = to_device(start, next(world.parameters()).device)
    if world.past_blocks:
        check_unrollable(world, budget)
        state = world.initial_state(start.batch_size)
        made = unroll(
            world,
            start,
            state,
            steps,
            seeds=seeds,
            budget=budget,
            choose=lambda _, before: policy(Dream(world, start, tuple(before), tuple(fixed))),
        )
        return Dream(world, start, tuple(made), tuple(fixed))
    found = Dream(world, start, fixed=tuple(fixed))
    futures = sorted(world.config.futures)
    for k in range(steps):
        action = policy(found).to(start.state.device)
        sampled = world.sample(
            found.observation(),
            futures,
            seeds=[row_seed(seed, "step", k) for seed in seeds],
            given={ACTION: world.action.encode(action)},
            budget=budget,
        )
        predicted = {name: sampled.values[name] for name in futures}
        forecast = Forecast(action.cpu(), predicted, sampled.cost, sampled.nfe, sampled.stage_ms)
        found = replace(found, made=(*found.made, forecast))
    return found


@final
class DesignPolicy:
    """A design acting in a dream, on what the world imagined.

    Args:
        policy: a design that keeps no past and acts as far ahead as the world's step.
        seeds: one per row.
        budget: what each call may spend.

    Raises:
        ConfigError: the policy keeps a past.
    """

    def __init__(self, policy: Design, seeds: Sequence[int], budget: Budget | None = None) -> None:
        if policy.past_blocks:
            raise ConfigError(
                f"design {policy.name!r} keeps a past of its own, which a dream does not carry for it. Give a policy "
                f"that acts on what it sees."
            )
        self._policy, self._seeds, self._budget = policy, tuple(seeds), budget or Budget()

    def __call__(self, so_far: Dream) -> Tensor:
        """Actions (B, H, A), H that of the world: what the policy plans, its last action held where that ends."""
        seen = replace(so_far.observation(), past_action=None, past_action_pad=None)
        seeds = [row_seed(seed, "policy", so_far.steps) for seed in self._seeds]
        state = self._policy.initial_state(seen.batch_size)
        forecast, _ = self._policy.forecast(seen, state, self._budget, seeds)
        have, need = forecast.action.shape[1], so_far.world.config.horizon
        if have < step_ticks(so_far.world):
            raise ConfigError(
                f"design {self._policy.name!r} plans {have} ticks, fewer than a step of the world "
                f"({step_ticks(so_far.world)})"
            )
        last = forecast.action[:, -1:].expand(-1, max(need - have, 0), -1)
        return torch.cat((forecast.action[:, :need], last), dim=1)


@final
class OthersActions:
    """A control: every row takes the actions that the policy chose for another row of its dream.

    What is left of a score under it does not come from acting on what is seen.

    Args:
        policy: who chooses.
        rows: B, at least two.
        seed: of the order, which every step draws anew; no row ever keeps its own.

    Raises:
        ConfigError: there is no other row.
    """

    def __init__(self, policy: DreamPolicy, rows: int, seed: int) -> None:
        if rows < 2:
            raise ConfigError(f"actions of other rows: needs at least two rows, got {rows}")
        self._policy, self._rows, self._seed = policy, rows, seed

    def __call__(self, so_far: Dream) -> Tensor:
        """(B, H, A)."""
        generator = torch.Generator().manual_seed(row_seed(self._seed, "order", so_far.steps))
        around = torch.randperm(
            self._rows, generator=generator
        )  # a cycle through all rows has no fixed point
        giver = torch.empty_like(around)
        giver[around] = around.roll(1)
        action = self._policy(so_far)
        return action[giver.to(action.device)]
