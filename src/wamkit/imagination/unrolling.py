"""Rolling a world model forward step by step, on what it imagined itself (`cp.rollout`, step mode; eq. 10).

In chunk mode one call predicts what a whole chunk of actions leads to (`Design.sample` with the action given, or a
planner). In step mode calls alternate with the carried state: the action of step k is chosen in the state that was
predicted for step k, and the next state is predicted from both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from wamkit.contract.specs import ACTION
from wamkit.contract.streams import row_seed
from wamkit.contract.types import Budget, Forecast, Observation, to_device
from wamkit.design import Design
from wamkit.errors import BudgetError, ConfigError

# Step k and the forecasts before it -> (B, H, A) in physical units, or None where the design shall choose.
Choose = Callable[[int, Sequence[Forecast]], Tensor | None]


def check_unrollable(design: Design, budget: Budget) -> None:
    """Raise :class:`ConfigError` or :class:`BudgetError` when a step could not depend on the one before."""
    stride = design.config.stride
    if not design.past_blocks:
        raise ConfigError(
            f"design {design.name!r} carries no state between calls, so that no step could depend on what the last one "
            f"predicted. Use a denoiser with `history` or a state space, or sample chunks of actions."
        )
    for name, future in design.config.futures.items():
        if future.offsets[0] != stride:
            raise ConfigError(
                f"future {name!r}: its first offset is {future.offsets[0]}, but a step covers the design's stride, "
                f"{stride} ticks. Give it the offset {stride} first."
            )
    if budget.future is False:
        raise BudgetError(
            "future=False, but every step of an unrolled model reads the future that was predicted"
        )
    if budget.horizon is not None and budget.horizon < stride:
        raise BudgetError(f"horizon {budget.horizon} is less than a step, which covers {stride} ticks")


@torch.no_grad()
def unroll(
    design: Design,
    observation: Observation,
    state: Any,
    steps: int,
    *,
    seeds: Sequence[int],
    budget: Budget | None = None,
    choose: Choose | None = None,
) -> list[Forecast]:
    """Alternate action and predicted state for ``steps`` steps of ``stride`` ticks each.

    Args:
        design: a design that carries its past.
        observation: B observations as :attr:`Design.window` asks for: what is really seen, once.
        state: carried state, as :meth:`Design.forecast` takes it; left as it is.
        steps: how many steps.
        seeds: one per row. Equal rows with equal seeds have equal futures.
        budget: what each step may spend.
        choose: an outer source of actions; the design's own policy acts where it returns None, or without one.

    Returns:
        One forecast per step. Its action and its futures begin where the last step's first block ends.

    Raises:
        ConfigError: the design carries no state, or its futures do not start one stride ahead.
        BudgetError: the budget leaves out what a step needs.
    """
    budget = budget or Budget()
    if steps < 1:
        raise BudgetError(f"steps {steps} must be at least 1")
    check_unrollable(design, budget)
    device = next(design.parameters()).device
    observation = to_device(observation, device)
    context = design.encode_context(observation)
    state = design.observe(observation, state, context)
    futures = sorted(design.config.futures)
    made: list[Forecast] = []
    for k in range(steps):
        chosen = choose(k, tuple(made)) if choose is not None else None
        given = {} if chosen is None else {ACTION: design.action.encode(chosen.to(device))}
        sampled = design.sample(
            observation,
            futures if given else [ACTION, *futures],
            seeds=[row_seed(seed, "step", k) for seed in seeds],
            given=given,
            budget=budget,
            carry=state,
            context=context,
        )
        action = design.action.decode(given[ACTION] if given else sampled.values[ACTION]).cpu()
        predicted = {name: sampled.values[name] for name in futures}
        made.append(Forecast(action, predicted, sampled.cost, sampled.nfe, sampled.stage_ms))
        state = design.imagine(state, made[-1], context)
    return made
