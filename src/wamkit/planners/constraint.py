"""Constraint: a penalty for leaving a box, or for entering one (`pl.candidate-scoring`; EmboAlign)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, final

import torch
from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Finite, Length, SomeWords, Word
from wamkit.contract.planning import Objective, ObjectiveConfig
from wamkit.contract.protocols import Meanings
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import State
from wamkit.errors import ConfigError, did_you_mean
from wamkit.planners.objectives import find_stream

PLACE = "objective 'constraint'"


@ObjectiveConfig.register_subclass("constraint")
@dataclass(frozen=True)
class ConstraintConfig(ObjectiveConfig):
    """Penalty for leaving a box in named entries of the action or of a future, or for entering it.

    The penalty is the squared distance out of the box (or, for a region to keep out of, the squared depth inside it),
    averaged over steps and points, in the units of the entries.

    Attributes:
        stream: constrained stream. The action is constrained in the units of its spec, a future in those of a reading.
        reading: name of the reading of a future's substrate, such as ``place``; empty for its only one.
        entries: constrained entries: names of the action's or the state's entries, else their numbers from 0.
        low: lower bound of every entry.
        high: upper bound of every entry.
        keep: ``in`` or ``out`` of the box.
    """

    stream: Word = ACTION
    reading: str = ""
    entries: SomeWords = ("0",)
    low: Annotated[tuple[Finite, ...], Length(1)] = (-1.0,)
    high: Annotated[tuple[Finite, ...], Length(1)] = (1.0,)
    keep: Literal["in", "out"] = "in"

    def __post_init__(self) -> None:
        if not len(self.entries) == len(self.low) == len(self.high):
            raise ConfigError(
                f"{PLACE}: entries, low and high need one value per entry, got {len(self.entries)}, {len(self.low)} "
                f"and {len(self.high)}."
            )
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"{PLACE}: low {self.low} must not be above high {self.high}.")

    @override
    def build(self, meanings: Meanings) -> Constraint:
        """Build; raises :class:`ConfigError` when the stream has no such entries."""
        find_stream(self.stream, meanings, PLACE)
        if self.stream == ACTION:
            return Constraint(self, meanings.action.decode, self._columns(meanings.data.action.names))
        substrate = meanings.substrates.get(self.stream)
        if substrate is None or substrate.decodable:
            raise ConfigError(
                f"{PLACE}: stream {self.stream!r} has no entries that are measured. Name the action, or a future that "
                f"is no picture."
            )
        spec = meanings.streams[self.stream]
        spec.require(discrete=False, reader=PLACE)
        readings = substrate.readings(torch.zeros(1, spec.steps, spec.tokens, spec.features))
        name = self.reading or (next(iter(readings)) if len(readings) == 1 else "")
        if name not in readings:
            raise ConfigError(
                f"{PLACE}: {self.stream!r} has no reading {name!r}. {did_you_mean(name, readings)}"
            )
        known = tuple(str(i) for i in range(readings[name].values.shape[-1]))
        if isinstance(readings[name].shows, State):
            known = meanings.data.observation.state

        def measure(values: Tensor) -> Tensor:
            return substrate.readings(values)[name].values

        return Constraint(self, measure, self._columns(known))

    def _columns(self, names: Sequence[str]) -> list[int]:
        """Column of every entry; a number names its column."""
        known = {**{str(i): i for i in range(len(names))}, **{name: i for i, name in enumerate(names)}}
        for entry in self.entries:
            if entry not in known:
                raise ConfigError(
                    f"{PLACE}: stream {self.stream!r} has no entry {entry!r}. {did_you_mean(entry, known)}"
                )
        return [known[entry] for entry in self.entries]


@final
class Constraint(Objective):
    """Negated penalty of one stream's measured values."""

    def __init__(
        self, config: ConstraintConfig, measure: Callable[[Tensor], Tensor], columns: Sequence[int]
    ) -> None:
        self.config, self.measure, self.columns = config, measure, list(columns)
        self.reads = (config.stream,)

    @override
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        measured = self.measure(values[self.config.stream])[..., self.columns]
        low, high = (measured.new_tensor(bound) for bound in (self.config.low, self.config.high))
        if self.config.keep == "in":
            excess = (low - measured).clamp(min=0) + (measured - high).clamp(min=0)
            penalty = excess.square().sum(dim=-1)
        else:
            penalty = torch.minimum(measured - low, high - measured).clamp(min=0).amin(dim=-1).square()
        return -penalty.flatten(1).mean(dim=1)

    @override
    def terms(self, symbol: Callable[[str], str]) -> tuple[tuple[float, str], ...]:
        word = "out" if self.config.keep == "in" else "in"
        return ((-1.0, f"{word}({symbol(self.config.stream)})"),)
