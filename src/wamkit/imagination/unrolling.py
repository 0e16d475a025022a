"""Unrolling: a world model steps forward on its own predictions (`cp.rollout`, step mode; eq. 10).

In chunk mode one call predicts the outcome of a whole chunk of actions (`Design.sample` with the action given, or a
planner). In step mode calls alternate with the carried state: the action of step k is chosen in the state predicted
for step k, and the next state is predicted from both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, Carries, Forecast, Observation, to_device
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError

# Step k and the forecasts before it -> (B, H, A) in physical units, or None to let the design choose.
Choose = Callable[[int, Sequence[Forecast]], Tensor | None]


@torch.no_grad()
def world_step(
    world: Design,
    observation: Observation,
    action: Tensor | None,
    *,
    seeds: Sequence[int],
    budget: Budget,
    carry: Carries | None = None,
    context: Mapping[str, Cache] | None = None,
    wanted: Sequence[str] | None = None,
) -> Forecast:
    """Predict the futures of a world model in one call.

    Args:
        world: design in evaluation mode.
        observation: B observations on the device of ``world``.
        action: (B, H, A) in physical units that the futures follow; None for an action of the world's own.
        seeds: one seed per row.
        budget: limits on what the call may spend.
        carry: carried state; None for the start of an episode.
        context: caches from :meth:`Design.encode_context`, if the caller has them.
        wanted: futures to predict; None for all of them.

    Returns:
        Forecast with these futures. Its action is the one that the futures follow, as the world's representation of
        actions reproduces it.

    Raises:
        ConfigError: the design has no action, or none of its own and none is given.
    """
    check_followed(world, given=action is not None)
    executed, futures = world.graph.executed, sorted(world.config.futures if wanted is None else wanted)
    given = {}
    if action is not None:
        world.entries.acted(action, world.entries.observed(observation), "action")
        encoded = world.action_streams.encode(action.to(world.device))
        given = {name: encoded[name] for name in executed}
    sampled = world.sample(
        observation,
        futures if given else [*executed, *futures],
        seeds=seeds,
        given=given,
        budget=budget,
        carry=carry,
        context=context,
    )
    values = {**given, **sampled.values}
    predicted = {name: values[name] for name in futures}
    action = world.action_streams.decode(values).cpu()
    return Forecast(action, predicted, sampled.cost, sampled.nfe, sampled.stage_ms, sampled.costs)


def check_followed(world: Design, given: bool) -> None:
    """Raise :class:`ConfigError` unless there is an action for the futures to follow, given or the design's own."""
    if ACTION not in world.streams:
        raise ConfigError(
            f"design {world.name!r}, {world.factorisation()}, has no action to follow: its futures are those of the "
            f"observation alone. Sample them with `Design.sample`, or use a design with p(s|a,c)."
        )
    if ACTION in world.config.given and not given:
        raise ConfigError(
            f"design {world.name!r}, {world.factorisation()}, follows a given action and has none of its own. Give "
            f"the actions of every step, such as recorded ones."
        )


def check_unrollable(design: Design, budget: Budget) -> None:
    """Raise :class:`ConfigError` or :class:`BudgetError` when a step cannot depend on the one before."""
    stride = design.config.stride
    if not design.past_blocks:
        raise ConfigError(
            f"design {design.name!r} carries no state between calls, so no step can depend on the prediction of the "
            f"last one. Use a denoiser with `history` or a state space, or sample chunks of actions."
        )
    for name, future in design.config.futures.items():
        if future.offsets[0] != stride:
            raise ConfigError(
                f"future {name!r}: its first offset is {future.offsets[0]}, but a step covers the design's stride, "
                f"{stride} ticks. Give it the offset {stride} first."
            )
    check_followed(design, given=True)
    if budget.future is False:
        raise BudgetError("future=False, but every step of an unrolled model reads the predicted future")
    if budget.horizon is not None and budget.horizon < stride:
        raise BudgetError(f"horizon {budget.horizon} is less than a step, which covers {stride} ticks")


@torch.no_grad()
def unroll(
    design: Design,
    observation: Observation,
    state: Carries,
    steps: int,
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
    choose: Choose | None = None,
) -> list[Forecast]:
    """Alternate action and predicted state for ``steps`` steps of ``stride`` ticks each.

    Args:
        design: design that carries its past.
        observation: B real observations at the start, cut by :attr:`Design.window`.
        state: carried state, as :meth:`Design.forecast` takes it; it stays as it is.
        steps: number of steps.
        seeds: one seed per row. Equal rows with equal seeds have equal futures.
        budget: limits on what each step may spend.
        choose: external source of actions; the design's own policy acts where it returns None, or without one.

    Returns:
        One forecast per step. Its action and its futures begin where the first block of the last step ends.

    Raises:
        ConfigError: the design carries no state, or its futures do not start one stride ahead.
        BudgetError: the budget leaves out something that a step needs.
    """
    budget = Budget() if budget is None else budget
    if steps < 1:
        raise BudgetError(f"steps {steps} must be at least 1")
    check_unrollable(design, budget)
    design.entries.called(observation, state, budget, seeds)
    observation = to_device(observation, design.device)
    context = design.encode_context(observation)
    state = design.observe(observation, state, context)
    forecasts: list[Forecast] = []
    for k in range(steps):
        action = choose(k, tuple(forecasts)) if choose is not None else None
        step_seeds = [row_seed(seed, "step", k) for seed in seeds]
        forecast = world_step(
            design, observation, action, seeds=step_seeds, budget=budget, carry=state, context=context
        )
        forecasts.append(forecast)
        state = design.imagine(state, forecast, context)
    return forecasts
