"""A point mass whose dynamics a planner knows exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wamkit.contract.streams import RowNoise
from wamkit.planners.objectives import distance

DYNAMICS = torch.tensor([[1.0, 0.5], [0.0, 1.0]])  # position and velocity


INPUT = torch.tensor([[0.0], [1.0]])


START = torch.tensor([0.0, 1.0])


STEPS = 3


def predict(actions: Tensor) -> Tensor:
    """x' = A x + B u from START: (B, n, STEPS, 1, 1) -> (B, n, STEPS, 1, 2)."""
    x, states = START.expand(*actions.shape[:2], 2), []
    for u in actions[..., 0].unbind(dim=2):
        x = x @ DYNAMICS.T + u @ INPUT.T
        states.append(x)
    return torch.stack(states, dim=2)[:, :, :, None]


def goals(*values: tuple[float, float]) -> Tensor:
    return torch.tensor(values)[:, None, None]  # (B, 1, 1, 2)


def proposer(seed: int, rows: int, spread: float = 1.0) -> Callable[[int], Tensor]:
    noise = RowNoise([seed + i for i in range(rows)])
    return lambda n: spread * noise.normal(n, STEPS, 1, 1).view(rows, n, STEPS, 1, 1)


def cost_to(goal: Tensor, model: Callable[[Tensor], Tensor] = predict) -> Callable[[Tensor], Tensor]:
    """Distance (B, n) of the futures that ``model`` predicts for actions (B, n, ...) to goals (B, 1, ...)."""

    def cost(actions: Tensor) -> Tensor:
        count = actions.shape[1]
        far = distance(model(actions).flatten(0, 1), goal.repeat_interleave(count, dim=0))
        return far.unflatten(0, (-1, count))

    return cost
