"""From noise to data, one network evaluation at a time, for several streams side by side.

Every stream walks by itself and all of them share the network's evaluations, so that the number of evaluations
is the largest of their budgets (`ss.step-sampler`, `ss.decoupled-times`, `ss.early-exit`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from wamkit.contract.calls import Guide
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget
from wamkit.errors import BudgetError

Solver = Literal["euler", "heun"]
# Values and levels per stream -> what the network says of each stream.
Field = Callable[[Mapping[str, Tensor], Mapping[str, float]], Mapping[str, Tensor]]


class Walk(ABC):
    """One stream on its way from noise to data.

    Attributes:
        value: (B, T, N, D), where it is.
        level: the noise level at which the next evaluation happens.
        left: evaluations that it may still spend.
        spent: evaluations spent.
        settled: whether another evaluation would not move it.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int) -> None:
        self.value = value
        self.level = level
        self.left = evaluations
        self.spent = 0
        self.settled = False

    @abstractmethod
    def clean(self, field: Tensor) -> Tensor:
        """Estimate of the data that this walk leads to, given the network's answer."""

    @abstractmethod
    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """Use one evaluation; ``pull`` is added to the clean estimate (guidance)."""

    def advance(self, field: Tensor, pull: Tensor | None) -> None:
        """Use one evaluation, if there are any left."""
        if self.left > 0:
            self.left -= 1
            self.spent += 1
            self.move(field, pull)


@final
class FlowWalk(Walk):
    """Integrates a velocity from the highest level down to 0.

    Euler takes ``evaluations`` equal steps. Heun takes a step of half the slope at its start and half that at the
    end of an Euler step (order 2), two evaluations each; when the number is odd, the last step is an Euler step,
    as in Karras et al. (2022, algorithm 1). A walk that exits early keeps the level that it has reached.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int, leave: int, solver: Solver) -> None:
        super().__init__(value, level, leave)
        per_step = 1 if solver == "euler" else 2
        self.steps = -(-evaluations // per_step)
        self.heun = [solver == "heun" and 2 * k + 1 < evaluations for k in range(self.steps)]
        self.top = level
        self.step = 0
        self.start: tuple[Tensor, Tensor, Tensor | None] | None = None  # of a Heun step: value, slope, pull

    def _level(self, step: int) -> float:
        return self.top * (1 - step / self.steps)

    def clean(self, field: Tensor) -> Tensor:
        """x - level * velocity: where a straight line from here would end."""
        return self.value - self.level * field

    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """See :meth:`Walk.move`. On the way down, every step takes over its share of the pull."""
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
    """Descends a gradient field to its fixed point, as far as the budget or the tolerance says.

    A row whose residual (root mean square of the field) is at most the tolerance stays where it is, so that what
    a row becomes does not depend on its neighbours.
    """

    def __init__(self, value: Tensor, level: float, evaluations: int, rate: float, tolerance: float) -> None:
        super().__init__(value, level, evaluations)
        self.rate = rate
        self.tolerance = tolerance
        self.residuals: list[Tensor] = []

    def clean(self, field: Tensor) -> Tensor:
        """Where it is: the fixed point is the data."""
        return self.value

    def move(self, field: Tensor, pull: Tensor | None) -> None:
        """See :meth:`Walk.move`. Guidance adds its energy to the field's."""
        field = field if pull is None else field - pull
        residual = field.square().mean(dim=(1, 2, 3)).sqrt()
        self.residuals.append(residual)
        going = residual > self.tolerance
        self.value = self.value - self.rate * field * going[:, None, None, None]
        self.settled = not bool(going.any())


@dataclass(frozen=True)
class Spending:
    """Evaluations of one stream: of the whole schedule, and after how many of them it stops."""

    whole: int
    leave: int


def evaluations_spent(name: str, budget: Budget, default: int) -> Spending:
    """What a call spends on one stream; raises :class:`BudgetError` when it makes no sense."""
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
    """Gumbel noise from uniform noise."""
    return -(-uniform.clamp(min=1e-10, max=1 - 1e-7).log()).log()


def choose(logits: Tensor, temperature: float, noise: RowNoise) -> Tensor:
    """Sample ids from logits, (B, ..., vocabulary) -> (B, ...); at temperature 0 the most likely one."""
    if temperature > 0:  # Gumbel trick
        logits = logits / temperature + gumbel(noise.uniform(*logits.shape[1:]))
    return logits.argmax(dim=-1)


def guidance(guide: Guide, estimates: Mapping[str, Tensor]) -> Tensor:
    """weight * gradient of the objective with respect to the clean estimate of the guided stream."""
    with torch.inference_mode(False), torch.enable_grad():
        known = {name: value.detach().clone() for name, value in estimates.items()}
        known[guide.stream].requires_grad_()
        score = guide.objective(known)
        (gradient,) = torch.autograd.grad(score.sum(), known[guide.stream])
    return guide.weight * gradient


def walk_together(
    field: Field,
    walks: Mapping[str, Walk],
    known: Mapping[str, Tensor],
    guide: Guide | None,
) -> dict[str, Tensor]:
    """Walk all streams until every one of them has spent its evaluations or settled.

    Args:
        field: one evaluation of the network on values and levels per stream.
        walks: stream -> its walk.
        known: stream -> clean values that the others read.
        guide: what to steer by, or None. A weight of zero costs and changes nothing.
    """
    steered = guide is not None and guide.weight != 0 and guide.stream in walks
    while any(w.left > 0 and not w.settled for w in walks.values()):
        values = {**known, **{name: w.value for name, w in walks.items()}}
        levels = {**dict.fromkeys(known, 0.0), **{name: w.level for name, w in walks.items()}}
        found = field(values, levels)
        pull = None
        if steered and guide is not None:
            estimates = {**known, **{name: w.clean(found[name]) for name, w in walks.items()}}
            pull = guidance(guide, estimates)
        for name, walk in walks.items():
            mine = pull if guide is not None and name == guide.stream else None
            walk.advance(found[name], mine)
    return {name: walk.value for name, walk in walks.items()}
