"""What travels between a design and its estimators and planner in one call: values, never parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.types import Carry


@dataclass(frozen=True)
class FactorLoss:
    """Losses of one factor.

    Attributes:
        terms: stream name -> scalar loss.
        inferred: stream name -> the estimator's own value of it, for factors that read a prediction.
    """

    terms: dict[str, Tensor]
    inferred: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Generated:
    """A sample of one factor: values per stream, and function evaluations spent per stream."""

    values: dict[str, Tensor]
    nfe: dict[str, int]


@dataclass(frozen=True)
class Guide:
    """Steers the generation of one stream towards a higher objective (guided inference).

    Attributes:
        stream: the stream that is steered.
        objective: estimates of the clean values, stream -> (B, T, N, D), of everything that is generated together
            or known -> (B,), higher is better. Differentiable in ``stream``; it may run any model of its own.
        weight: the clean estimate is moved by ``weight`` times the gradient. Zero is the base sampler.
    """

    stream: str
    objective: Callable[[Mapping[str, Tensor]], Tensor]
    weight: float = 1.0


@dataclass(frozen=True)
class Call:
    """What a factor is conditioned on in one call.

    Attributes:
        context: cache of the context tokens c in the estimator's trunk, encoded once per call.
        given: stream name -> values that this factor (or the caller) conditions on.
        carry: the estimator's carried state, a pytree of tensors with leading dimension B.
        rows: B.
        guide: what to steer by; only for estimators that are ``guidable``.
    """

    context: Cache
    given: Mapping[str, Tensor]
    carry: Carry
    rows: int
    guide: Guide | None = None


class Revises(ABC):
    """What an estimator adds to its contract when its streams can be refined in turns (`Budget.rounds`)."""

    @abstractmethod
    def revisable(self, outputs: Sequence[str]) -> bool:
        """Whether each of ``outputs`` can be generated again with the others given, and reads them then."""


@dataclass(frozen=True)
class PlanResult:
    """What a planner found.

    Attributes:
        action: chosen action values, (B, T, N, D).
        cost: theirs, (B,).
        evaluations: candidates evaluated per row.
        carry: what the planner wants to see again in the next call, a pytree of tensors with leading dimension B.
    """

    action: Tensor
    cost: Tensor
    evaluations: int
    carry: Carry = ()
