"""Variables of the context that recordings are labelled with, and values of them that a caller requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from wamkit.config.ranges import Finite, Probability, Whole, Words
from wamkit.config.values import Config
from wamkit.contract.types import Observation
from wamkit.errors import ConfigError, SpecError, did_you_mean

UNSAID = -1  # label of a frame on which a variable of words says nothing


@dataclass(frozen=True)
class VariableConfig(Config):
    """One variable, such as the quality of an episode, and the values that it may have.

    Attributes:
        extra: extra of the dataset that holds its label in every frame; empty for one with the variable's own name.
        entry: entry of that extra, counted through its dimensions.
        values: words for the labels 0, 1, ...; empty for a number. The label -1 says nothing.
        low: smallest number, without ``values``.
        high: largest number, without ``values``.
        request: value that is requested when acting, a word or a number; empty to leave it open.
        dropout: probability that it is left open in a training row, so that it may be left open when acting.
    """

    extra: str = ""
    entry: Whole = 0
    values: Words = ()
    low: Finite = 0.0
    high: Finite = 1.0
    request: str = ""
    dropout: Probability = 0.1

    def __post_init__(self) -> None:
        if not self.values and self.low >= self.high:
            raise ConfigError(
                f"low {self.low:g} and high {self.high:g}: a number needs a range, the lower one first"
            )
        if self.request:
            self.number("request", self.request)

    @property
    def allowed(self) -> str:
        """The declared set, for messages."""
        if self.values:
            return ", ".join(map(repr, self.values))
        return f"a number from {self.low:g} to {self.high:g}"

    def number(self, name: str, said: str) -> float:
        """Label of a word, or the number itself; raises :class:`ConfigError` for what is not in the declared set."""
        if said in self.values:
            return float(self.values.index(said))
        try:
            number = float(said) if not self.values else None
        except ValueError:
            number = None
        if number is None or not self.low <= number <= self.high:
            raise ConfigError(f"{name}: {said!r} is not in the declared set: {self.allowed}.")
        return number

    def check(self, name: str, labels: Tensor) -> None:
        """Raise :class:`SpecError` unless all labels, of any shape, are in the declared set, or open."""
        if self.values:
            good = (labels == labels.round()) & (labels >= UNSAID) & (labels < len(self.values))
        else:
            good = (labels >= self.low) & (labels <= self.high)
        if not bool(good.all()):
            wrong = float(labels[~good].flatten()[0])
            also = f" (labels 0 to {len(self.values) - 1}, {UNSAID} for none)" if self.values else ""
            raise SpecError(
                f"variable {name!r} is {wrong:g}, which is not in the declared set: {self.allowed}{also}."
            )


@dataclass(frozen=True)
class Requests:
    """What may be requested of a design when it acts.

    Attributes:
        variables: name -> variable.
        shapes: name -> shape per step of the extra of that name, for variables that are recorded under their own name.
    """

    variables: Mapping[str, VariableConfig] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def values(self, said: Mapping[str, str]) -> dict[str, Tensor]:
        """Requested values by word or number: name of the extra -> its value per step.

        Raises:
            ConfigError: an unknown variable, or a value that is not in its declared set, which the message names.
        """
        for name in said:
            if name not in self.variables:
                raise ConfigError(f"request: no variable {name!r}. {did_you_mean(name, self.variables)}")
        return {
            name: torch.full(
                self.shapes.get(name, ()), self.variables[name].number(f"request {name!r}", value)
            )
            for name, value in said.items()
        }

    def put(self, observation: Observation, said: Mapping[str, str]) -> Observation:
        """The observation with these requests in all rows, over the configured ones; raises as :meth:`values`."""
        shape = observation.pad.shape
        extras = {
            name: value.to(observation.pad.device).expand(*shape, *value.shape).clone()
            for name, value in self.values(said).items()
        }
        return replace(observation, extras={**observation.extras, **extras})
