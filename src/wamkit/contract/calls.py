"""Values that travel between a design and its estimators and planner in one call."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from wamkit.contract.cache import Cache
from wamkit.contract.types import Carry, Observation
from wamkit.contract.values import number
from wamkit.errors import BudgetError


@dataclass(frozen=True)
class FactorLoss:
    """Losses of one factor.

    Attributes:
        terms: stream name -> scalar loss.
        inferred: stream name -> value that the estimator predicts, for factors that read predictions.
    """

    terms: dict[str, Tensor]
    inferred: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Generated:
    """A sample of one factor.

    Attributes:
        values: stream name -> sampled values.
        nfe: stream name -> function evaluations spent on it.
        flags: stream name -> (B,) bool, True in rows whose values of this stream must not be trusted.
    """

    values: dict[str, Tensor]
    nfe: dict[str, int]
    flags: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Guide:
    """Guidance that steers the generation of one stream towards a higher objective.

    Attributes:
        stream: name of the steered stream.
        objective: function of the estimated clean values, stream -> (B, T, N, D), of all streams that are known or
            generated together. It returns (B,), higher is better, and is differentiable in ``stream``; it may run any
            model of its own.
        weight: factor on the gradient that moves the clean estimate; 0 is the base sampler.
    """

    stream: str
    objective: Callable[[Mapping[str, Tensor]], Tensor]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not number(self.weight):
            raise BudgetError(f"guide: weight {self.weight!r} must be a finite number; 0 is the base sampler")


@dataclass(frozen=True)
class Call:
    """Conditions of a factor in one call.

    Attributes:
        context: cache of the context tokens c in the estimator's trunk, encoded once per call.
        given: stream name -> values that this factor (or the caller) conditions on.
        carry: state that the estimator carries between calls.
        rows: B.
        guide: guidance, only for estimators that are ``guidable``; None for none.
        now: present observation, (B, 1), only for estimators that declare what they ``observe``; else None.
        real: stream name -> (B, T, N, D) bool, of ids (B, T, N), False for features that only pad the columns of the
            row's robot. They are 0 in every value that an estimator is given, count in no loss and must be 0 in what it
            generates; their noise must reach no other feature. All features of a stream without an entry are real.
    """

    context: Cache
    given: Mapping[str, Tensor]
    carry: Carry
    rows: int
    guide: Guide | None = None
    now: Observation | None = None
    real: Mapping[str, Tensor] = field(default_factory=dict)


class Revises(ABC):
    """Addition to the contract of estimators whose streams can be refined in turns (`Budget.rounds`)."""

    @abstractmethod
    def revisable(self, outputs: Sequence[str]) -> bool:
        """Return True when each of ``outputs`` can be generated again with the others given, and then reads them."""

    @abstractmethod
    def conditional(self, outputs: Sequence[str], known: Sequence[str]) -> bool:
        """Return True when ``outputs`` can be generated with ``known`` streams of their factor given, and read them."""


class Distrusts(ABC):  # noqa: B024 (what it adds is in its results)
    """Addition to the contract of estimators that flag rows of their results (`Generated.flags`, `Budget.attempts`)."""


class LearnsApart(ABC):
    """Addition to the contract of estimators that learn a stream where another one of the factor was not recorded."""

    @abstractmethod
    def learns_without(self, outputs: Sequence[str], missing: Sequence[str]) -> set[str]:
        """Return those of ``outputs`` to learn from rows in which ``missing`` are absent (:attr:`Target.absent`).

        Their loss must not read the missing streams in these rows. Rows teach the other outputs nothing.
        """


class ByColumn(ABC):
    """Addition to the contract of representations each of whose values tells of some columns of action or state.

    In a stream of any other representation every value mixes the columns, so all of them are real.
    """

    @abstractmethod
    def real(self, columns: Tensor) -> Tensor:
        """Values that tell of a column which the row's robot has, by ``columns`` (B, A) or (B, S) bool.

        Returns:
            (B, 1, N, D) bool, of ids (B, 1, N); the same in every step.
        """


class ByLimits(ABC):  # noqa: B024 (what it adds is in its values)
    """Addition to the contract of action representations whose values mean other actions where limits are others."""


@dataclass(frozen=True)
class PlanResult:
    """Result of a planner.

    Attributes:
        action: values of the chosen action, (B, T, N, D).
        cost: cost of the chosen action, (B,).
        evaluations: number of candidates evaluated per row.
        carry: state that the planner receives back in the next call.
        costs: costs of all candidates in the order in which they were evaluated, (B, evaluations).
        chosen: column of ``costs`` that belongs to the action, (B,); None where the action is no candidate.
        weak: (B,) bool, True in rows whose choices score too much alike to be told apart; None for none.
    """

    action: Tensor
    cost: Tensor
    evaluations: int
    carry: Carry = ()
    costs: Tensor | None = None
    chosen: Tensor | None = None
    weak: Tensor | None = None
