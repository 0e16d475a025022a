"""Samplers: several streams walk from noise to data side by side, one network evaluation at a time.

Every stream has its own walk, and all walks share the network's evaluations, so the number of evaluations is the
largest of their budgets (`ss.step-sampler`, `ss.decoupled-times`, `ss.early-exit`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.contract.calls import Guide
from wamkit.contract.streams import RowNoise, cleared
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError

Solver = Literal["euler", "heun"]
# Evaluation of the network: values and levels per stream -> field per stream.
Field = Callable[[Mapping[str, Tensor], Mapping[str, float]], Mapping[str, Tensor]]


class Walk(ABC):
    """State of one stream between noise and data.

    Attributes:
        value: current value, (B, T, N, D).
        level: noise level of the next evaluation.
        left: evaluations left.
        spent: evaluations spent.
        settled: True when another evaluation would not change the value.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int) -> None:
        self.value = value
        self.level = level
        self.left = evaluations
        self.spent = 0
        self.settled = False

    @abstractmethod
    def clean(self, field: Tensor) -> Tensor:
        """Estimate the data at the end of the walk from the network's field."""

    @abstractmethod
    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """Take the step of one evaluation; guidance adds ``pull`` to the clean estimate."""

    def advance(self, field: Tensor, pull: Tensor | None) -> None:
        """Take the step of one evaluation, unless none is left."""
        if self.left > 0:
            self.left -= 1
            self.spent += 1
            self.move(field, pull)


@final
class FlowWalk(Walk):
    """Integrates a velocity from the highest level down to 0.

    Euler takes ``evaluations`` equal steps. Heun averages the slopes at the start and the end of an Euler step (order
    2), with two evaluations per step; when the number is odd, the last step is an Euler step, as in Karras et al.
    (2022, algorithm 1). A walk that exits early keeps the level it has reached.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int, leave: int, solver: Solver) -> None:
        super().__init__(value, level, leave)
        per_step = 1 if solver == "euler" else 2
        self.steps = -(-evaluations // per_step)
        self.heun = [solver == "heun" and 2 * k + 1 < evaluations for k in range(self.steps)]
        self.top = level
        self.step = 0
        # Value, slope and pull at the start of an unfinished Heun step.
        self.start: tuple[Tensor, Tensor, Tensor | None] | None = None

    def _level(self, step: int) -> float:
        return self.top * (1 - step / self.steps)

    @override
    def clean(self, field: Tensor) -> Tensor:
        """Estimate x - level * velocity, the end of a straight line from here."""
        return self.value - self.level * field

    @override
    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """Take one step; every step adds its share of the pull."""
        size = self.top / self.steps
        if self.start is not None:
            value, slope, shift = self.start
            self.value = value - 0.5 * size * (slope + field)
            if shift is not None:
                self.value = self.value + shift
            self.start = None
            return
        shift = None if pull is None else pull * (size / self.level)
        if self.heun[self.step]:
            self.start = (self.value, field, shift)
        self.value = self.value - size * field
        if shift is not None:
            self.value = self.value + shift
        self.step += 1
        self.level = self._level(self.step)


@final
class DescentWalk(Walk):
    """Descends a gradient field to its fixed point, until the budget is spent or the tolerance is reached.

    A row whose residual (root mean square of the field) is at most the tolerance is not moved, so that the result of
    a row does not depend on the other rows of the batch.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int, rate: float, tolerance: float) -> None:
        super().__init__(value, level, evaluations)
        self.rate = rate
        self.tolerance = tolerance
        self.residuals: list[Tensor] = []

    @override
    def clean(self, field: Tensor) -> Tensor:
        """Return the current value, because the fixed point is the data."""
        return self.value

    @override
    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """Take one step; guidance adds its energy to that of the field."""
        field = field if pull is None else field - pull
        residual = field.square().mean(dim=(1, 2, 3)).sqrt()
        self.residuals.append(residual)
        going = residual > self.tolerance
        self.value = self.value - self.rate * field * going[:, None, None, None]
        self.settled = not bool(going.any())


@dataclass(frozen=True)
class Spending:
    """Evaluations of one stream.

    Attributes:
        whole: evaluations of the whole schedule.
        leave: evaluation after which the stream stops.
    """

    whole: int
    leave: int


def evaluations_spent(name: str, budget: Budget, default: int) -> Spending:
    """Evaluations of one stream in a call; raises :class:`BudgetError` when the budget is out of range."""
    whole = budget.nfe.get(name, default)
    if whole < 1:
        raise BudgetError(
            f"nfe for stream {name!r} is {whole}; it needs at least 1. To leave the stream out, use future=False."
        )
    leave = budget.exit.get(name, whole)
    if not 1 <= leave <= whole:
        raise BudgetError(f"exit for stream {name!r} is {leave}; it must be 1 to its nfe, which is {whole}")
    return Spending(whole, leave)


def gumbel(uniform: Tensor) -> Tensor:
    """Turn uniform noise into Gumbel noise."""
    return -(-uniform.clamp(min=1e-10, max=1 - 1e-7).log()).log()


def choose(logits: Tensor, temperature: float, noise: RowNoise) -> Tensor:
    """Sample ids (B, ...) from logits (B, ..., vocabulary); temperature 0 takes the most likely id."""
    if temperature > 0:  # Gumbel trick
        logits = logits / temperature + gumbel(noise.uniform(*logits.shape[1:]))
    return logits.argmax(dim=-1)


def guidance(guide: Guide, estimates: Mapping[str, Tensor]) -> Tensor:
    """Weighted gradient of the objective with respect to the clean estimate of the guided stream."""
    with torch.inference_mode(False), torch.enable_grad():
        leaves = {name: value.detach().clone() for name, value in estimates.items()}
        leaves[guide.stream].requires_grad_()
        score = guide.objective(leaves)
        if not score.requires_grad:
            raise BudgetError(
                f"guide: the objective has no gradient in stream {guide.stream!r}. Let it read the stream through "
                f"continuous values, or choose among samples by the objective."
            )
        (gradient,) = torch.autograd.grad(score.sum(), leaves[guide.stream])
    return guide.weight * gradient


def walk_together(
    field: Field,
    walks: Mapping[str, Walk],
    given: Mapping[str, Tensor],
    guide: Guide | None,
    real: Mapping[str, Tensor] = {},
) -> dict[str, Tensor]:
    """Walk all streams until each has spent its evaluations or settled.

    Args:
        field: evaluation of the network on values and levels per stream.
        walks: stream -> walk.
        given: stream -> clean values that the other streams read.
        guide: guidance, or None. A weight of zero is skipped: it adds no cost and changes nothing.
        real: stream -> features that walk; the others are 0 from beginning to end.
    """
    for name, walk in walks.items():
        walk.value = cleared(walk.value, real.get(name))
    steered = guide is not None and guide.weight != 0 and guide.stream in walks
    while any(w.left > 0 and not w.settled for w in walks.values()):
        values = {**given, **{name: w.value for name, w in walks.items()}}
        levels = {**dict.fromkeys(given, 0.0), **{name: w.level for name, w in walks.items()}}
        fields = {name: cleared(part, real.get(name)) for name, part in field(values, levels).items()}
        pull = None
        if steered and guide is not None:
            estimates = {**given, **{name: w.clean(fields[name]) for name, w in walks.items()}}
            pull = cleared(guidance(guide, estimates), real.get(guide.stream))
        for name, walk in walks.items():
            guided = guide is not None and name == guide.stream
            walk.advance(fields[name], pull if guided else None)
    return {name: walk.value for name, walk in walks.items()}
