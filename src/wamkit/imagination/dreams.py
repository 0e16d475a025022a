"""Dreams: a policy acts in a world model in place of the world (`ev.wm-evaluator`; survey eq. 10).

The world is any design whose future follows the given action. A world that keeps a past is rolled on in its own state
(:func:`wamkit.imagination.unrolling.unroll`); any other one is shown its own decoded future as the next observation.
The policy is another design, which sees the imagined observations, or any function.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from wamkit.contract.streams import Camera, Reading, Sensor, State, row_seed
from wamkit.contract.types import Budget, Forecast, Observation, to_device
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError, did_you_mean
from wamkit.imagination.unrolling import check_unrollable, unroll, world_step


@dataclass(frozen=True)
class Dream:
    """An imagined rollout so far.

    Attributes:
        world: world model.
        start: B real observations at the start.
        made: imagined steps, one forecast each. A step ends with the first block of its forecast.
        fixed: sensors that keep their values from the start, whatever the world imagines: those that cannot change
            during an episode, such as the position of a drawer's case.
    """

    world: Design
    start: Observation
    made: tuple[Forecast, ...] = ()
    fixed: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Number of imagined steps so far."""
        return len(self.made)

    @property
    def ticks(self) -> int:
        """Control ticks from the start to the end of the last step."""
        return self.steps * step_ticks(self.world)

    def observation(self) -> Observation:
        """Imagined observation at the end of the last step; the real one before the first step."""
        if not self.made:
            return self.start
        return imagined_observation(self.world, self.start, self.made[-1], self.fixed)

    def until(self, step: int) -> Dream:
        """Cut the dream to its first ``step`` steps."""
        return replace(self, made=self.made[:step])

    def values(self, stream: str) -> Tensor:
        """Values (B, 1, ...) of a future stream at the end of the last step."""
        return self.made[-1].future[stream][:, :1]


# A dream -> the next actions, (B, H, A) in physical units, H the horizon of the world.
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
    """Raise :class:`ConfigError` unless every future follows the given action."""
    step_ticks(world)
    for name in world.config.futures:
        if not world.graph.follows(name):
            raise ConfigError(
                f"design {world.name!r} cannot be a world: {world.factorisation()} predicts {name!r} whatever the "
                f"action. Use a design with p(s|a,c) or p(s,a|c)."
            )


def imagined_observation(
    world: Design,
    before: Observation,
    forecast: Forecast,
    fixed: Sequence[str] = (),
    offsets: Sequence[int] | None = None,
) -> Observation:
    """Observation (B, T) at the end of a forecast's first block, for policies that act on observations.

    Of several observed steps the oldest is left out and the imagined one is put at the end.

    Args:
        world: design that made the forecast.
        before: observation at the start of the forecast.
        forecast: imagined step.
        fixed: sensors that keep their values from ``before``.
        offsets: ticks of the T observed steps, the last one 0; None for those of the world.

    Raises:
        ConfigError: no future of the world shows a camera, the state or a sensor that the observation needs; or the
            observed steps do not lie one step of the world apart.
    """
    places = tuple(world.window.observation if offsets is None else offsets)
    check_moves_on(world, places)
    images, state = {}, None
    extras = {name: before.extras[name] for name in fixed}
    for name, values in forecast.future.items():
        for reading in world.substrate(name).readings(values[:, :1]).values():
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
    images = {name: _moved_on(before.images[name], value) for name, value in images.items()}
    if state is not None:
        state = _moved_on(before.state, state)
    extras = {n: v if n in fixed else _moved_on(before.extras[n], v) for n, v in extras.items()}
    stride = before.past_action.shape[1] if before.past_action is not None else 0
    executed = forecast.action[:, :stride].to(before.state.device) if stride else None
    return replace(
        before,
        images=images,
        state=before.state if state is None else state,
        extras=extras,
        pad=_moved_on(before.pad, torch.zeros_like(before.pad[:, :1])),
        missing={name: _moved_on(flag, flag[:, -1:]) for name, flag in before.missing.items()},
        past_action=executed,
        past_action_pad=None if executed is None else torch.zeros_like(executed[..., 0], dtype=torch.bool),
    )


def check_moves_on(world: Design, offsets: Sequence[int]) -> None:
    """Raise :class:`ConfigError` unless observed steps are one step of the world apart, or one alone."""
    ticks = step_ticks(world)
    apart = {later - earlier for earlier, later in itertools.pairwise(offsets)}
    if apart - {ticks}:
        raise ConfigError(
            f"design {world.name!r}: observed steps at {list(offsets)} cannot be filled from imagined steps of {ticks} "
            f"ticks. Observe (0,), or steps that are {ticks} ticks apart."
        )


def _moved_on(before: Tensor, newest: Tensor) -> Tensor:
    """Observed steps (B, T, ...) after one more: without the oldest, with the ``newest`` (B, 1, ...) at the end."""
    return torch.cat((before[:, 1:], newest.to(before.device)), dim=1)


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
            return reading.values.reshape(*reading.values.shape[:2], *sensor.shape[2:])


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
        world: design whose futures follow the given action.
        policy: source of actions; it sees the dream so far.
        start: B real observations at the start, cut by :attr:`Design.window` of the world.
        steps: number of steps of :func:`step_ticks` ticks.
        seeds: one seed per row for the world's noise.
        budget: limits on what each step of the world may spend.
        fixed: sensors that keep their values from the start; see :class:`Dream`.

    Raises:
        ConfigError: the design is not a world model; the start does not have a sensor of ``fixed``; or the world keeps
            no past and does not imagine everything that it observes.
        BudgetError: ``steps`` is less than one.
    """
    budget = Budget() if budget is None else budget
    if steps < 1:
        raise BudgetError(f"steps {steps} must be at least 1")
    check_world(world)
    world.entries.sampled(world.entries.observed(start), budget, seeds)
    _check_fixed(start, fixed)
    start = to_device(start, world.device)
    if world.past_blocks:
        check_unrollable(world, budget)
        forecasts = unroll(
            world,
            start,
            world.initial_state(start.batch_size),
            steps,
            seeds=seeds,
            budget=budget,
            choose=lambda _, before: policy(Dream(world, start, tuple(before), tuple(fixed))),
        )
        return Dream(world, start, tuple(forecasts), tuple(fixed))
    so_far = Dream(world, start, fixed=tuple(fixed))
    for k in range(steps):
        step_seeds = [row_seed(seed, "step", k) for seed in seeds]
        forecast = world_step(world, so_far.observation(), policy(so_far), seeds=step_seeds, budget=budget)
        so_far = replace(so_far, made=(*so_far.made, forecast))
    return so_far


@final
class DesignPolicy:
    """A design that acts in a dream, on the imagined observations.

    Args:
        policy: design that keeps no past and plans at least one step of the world ahead.
        seeds: one seed per row.
        budget: limits on what each call may spend.

    Raises:
        ConfigError: the policy keeps a past, or does not act.
    """

    def __init__(self, policy: Design, seeds: Sequence[int], budget: Budget | None = None) -> None:
        policy.check_acts()
        if policy.past_blocks:
            raise ConfigError(
                f"design {policy.name!r} keeps a past of its own, which a dream does not carry for it. Give a policy "
                f"that acts on single observations."
            )
        self._policy, self._seeds, self._budget = policy, tuple(seeds), budget or Budget()

    def __call__(self, so_far: Dream) -> Tensor:
        """Plan actions (B, H, A), H the horizon of the world. A shorter plan is continued with its last action."""
        observation = replace(so_far.observation(), past_action=None, past_action_pad=None)
        seeds = [row_seed(seed, "policy", so_far.steps) for seed in self._seeds]
        state = self._policy.initial_state(observation.batch_size)
        forecast, _ = self._policy.forecast(observation, state, self._budget, seeds)
        planned, needed = forecast.action.shape[1], so_far.world.config.horizon
        if planned < step_ticks(so_far.world):
            raise ConfigError(
                f"design {self._policy.name!r} plans {planned} ticks, fewer than a step of the world "
                f"({step_ticks(so_far.world)})"
            )
        last = forecast.action[:, -1:].expand(-1, max(needed - planned, 0), -1)
        return torch.cat((forecast.action[:, :needed], last), dim=1)


@final
class OthersActions:
    """Control: every row takes the actions that the policy chose for another row of its dream.

    The part of a score that remains does not come from acting on the row's own observations.

    Args:
        policy: policy whose actions are exchanged.
        rows: B, at least two.
        seed: seed of the exchange, which is drawn anew in every step; no row ever keeps its own actions.

    Raises:
        ConfigError: there is no other row.
    """

    def __init__(self, policy: DreamPolicy, rows: int, seed: int) -> None:
        if rows < 2:
            raise ConfigError(f"actions of other rows: needs at least two rows, got {rows}")
        self._policy, self._rows, self._seed = policy, rows, seed

    def __call__(self, so_far: Dream) -> Tensor:
        """Actions (B, H, A), each row's chosen for another row."""
        generator = torch.Generator().manual_seed(row_seed(self._seed, "order", so_far.steps))
        # A cycle through all rows has no fixed point.
        cycle = torch.randperm(self._rows, generator=generator)
        giver = torch.empty_like(cycle)
        giver[cycle] = cycle.roll(1)
        action = self._policy(so_far)
        return action[giver.to(action.device)]
