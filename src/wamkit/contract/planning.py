"""Contract of planners and of the objectives that they search by and that guidance climbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import draccus
import torch
from torch import Tensor

from wamkit.config.values import Config
from wamkit.contract.calls import PlanResult
from wamkit.contract.protocols import Meanings
from wamkit.contract.streams import RowNoise, StreamSpec
from wamkit.contract.types import Budget, Carry


class Objective(ABC):
    """What is wanted of the values of streams: planners search for a high score, and guidance climbs it.

    Attributes:
        reads: streams that it scores.
        aims: streams whose substrate encodes the caller's goal observation for it.
    """

    reads: tuple[str, ...]
    aims: tuple[str, ...] = ()

    @abstractmethod
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        """Score rows: higher is better; differentiable where the values are continuous.

        Args:
            values: stream -> (R, T, N, D) values or (R, T, N) ids, at least those of ``reads``.
            aims: stream of ``aims`` -> (R, 1, N, D) values or (R, 1, N) ids of the goal observation.

        Returns:
            (R,).
        """

    @abstractmethod
    def terms(self, symbol: Callable[[str], str]) -> tuple[tuple[float, str], ...]:
        """Write the score as a sum of (weight, text), ``symbol`` being how a formula writes a stream."""


def selection(objective: Objective, symbol: Callable[[str], str]) -> str:
    """Write the choice that an objective makes, e.g. ``argmin |s - g|`` or ``argmax V(s2) - 2 out(a)``."""
    terms = objective.terms(symbol)
    word, sign = ("argmax", 1.0) if any(weight > 0 for weight, _ in terms) else ("argmin", -1.0)
    text = ""
    for weight, term in terms:
        size = f"{abs(weight):g} " if abs(weight) != 1 else ""
        minus = sign * weight < 0
        text += (" - " if minus else " + ") if text else ("-" if minus else "")
        text += size + term
    return f"{word} {text}"


class Worth(ABC):
    """Addition to the contract of substrates whose values say what a state is worth: the return that follows it."""

    @abstractmethod
    def worth(self, values: Tensor) -> Tensor:
        """Return that values (B, T, 1, 1) tell of, (B, T)."""

    @abstractmethod
    def valued(self, worth: Tensor) -> Tensor:
        """Values (B, T, 1, 1) that tell of the return ``worth`` (B, T): the inverse of :meth:`worth`."""


class Planner(ABC):
    """Search for an action of low cost."""

    def check(self, action: StreamSpec) -> None:  # noqa: B027 (a planner may search anything)
        """Raise :class:`ConfigError` when actions of this representation cannot be searched."""

    def initial_carry(self, action: StreamSpec, rows: int, device: torch.device) -> Carry:
        """Make the state carried between calls, at the start of an episode; an empty tuple when nothing is carried."""
        return ()

    @abstractmethod
    def plan(
        self,
        propose: Callable[[int], Tensor],
        cost: Callable[[Tensor], Tensor],
        budget: Budget,
        noise: RowNoise,
        carry: Carry = (),
    ) -> PlanResult:
        """Search for an action of low cost.

        Args:
            propose: n -> (B, n, T, N, D) action candidates, n at most ``candidates``.
            cost: (B, n, T, N, D) actions -> (B, n), the negated score of what the world model predicts of them.
            budget: ``candidates`` and ``iterations`` override the configuration.
            noise: per-row noise.
            carry: state from :meth:`initial_carry` or from the last call of the episode.
        """


@dataclass(frozen=True)
class ObjectiveConfig(Config, draccus.ChoiceRegistry):
    """Base of all objective configs."""

    def build(self, meanings: Meanings) -> Objective:
        """Build the objective; raises :class:`ConfigError` when it does not fit the streams."""
        raise NotImplementedError


@dataclass(frozen=True)
class PlannerConfig(Config, draccus.ChoiceRegistry):
    """Base of all planner configs."""

    @property
    def scores(self) -> ObjectiveConfig:
        """Objective that candidates are scored by."""
        raise NotImplementedError

    @property
    def sampled_together(self) -> bool:
        """True when candidates are scored by the streams that were sampled together with them."""
        return False

    def build(self) -> Planner:
        """Build the planner."""
        raise NotImplementedError
