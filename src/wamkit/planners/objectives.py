"""Objectives that planners choose by and guidance climbs (`pl.candidate-scoring`, `ss.guided-inference`; eq. 6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from torch import Tensor
from typing_extensions import override

from wamkit.config.ranges import Finite, Word
from wamkit.contract.planning import Objective, ObjectiveConfig
from wamkit.contract.protocols import Meanings
from wamkit.contract.streams import StreamSpec
from wamkit.errors import ConfigError, did_you_mean

Symbol = Callable[[str], str]


def find_stream(name: str, meanings: Meanings, reader: str) -> StreamSpec:
    """Spec of a stream; raises :class:`ConfigError` when there is none of this name."""
    if name not in meanings.streams:
        raise ConfigError(f"{reader}: unknown stream {name!r}. {did_you_mean(name, meanings.streams)}")
    return meanings.streams[name]


def distance(future: Tensor, goal: Tensor) -> Tensor:
    """Return the distance of every row, (R,).

    Args:
        future: (R, F, M, D) values or (R, F, M) ids; the last step counts.
        goal: (R, G, M, D) values or (R, G, M) ids; the last step counts.

    Returns:
        The mean squared distance of values, or the share of ids that differ.
    """
    last, wanted = future[:, -1], goal[:, -1]
    if not future.is_floating_point():
        return (last != wanted).float().mean(dim=-1)
    return (last - wanted).square().mean(dim=(-2, -1))


@ObjectiveConfig.register_subclass("goal_distance")
@dataclass(frozen=True)
class GoalDistanceConfig(ObjectiveConfig):
    """Nearness of a predicted future to a goal stream, generated or supplied (survey, eq. 10).

    Attributes:
        future: stream whose last step is compared.
        goal: stream that it is compared with.
    """

    future: Word = "future"
    goal: Word = "goal"

    @override
    def build(self, meanings: Meanings) -> GoalDistance:
        """Build; raises :class:`ConfigError` when the two streams cannot be compared."""
        reader = "objective 'goal_distance'"
        future, goal = (find_stream(name, meanings, reader) for name in (self.future, self.goal))
        shapes = [(s.tokens, s.features, s.vocabulary) for s in (future, goal)]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"{reader}: a step of {self.future!r} has (tokens, features, vocabulary) {shapes[0]}, a step of "
                f"{self.goal!r} {shapes[1]}, so they cannot be compared. Give both one substrate."
            )
        return GoalDistance(self.future, self.goal)


@final
class GoalDistance(Objective):
    """Negated distance of the last step of a stream to a goal."""

    def __init__(self, future: str, goal: str) -> None:
        self.future, self.goal = future, goal
        self.reads = (future, goal)

    @override
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        return -distance(values[self.future], values[self.goal])

    @override
    def terms(self, symbol: Symbol) -> tuple[tuple[float, str], ...]:
        return ((-1.0, f"|{symbol(self.future)} - {symbol(self.goal)}|"),)


@ObjectiveConfig.register_subclass("goal_image")
@dataclass(frozen=True)
class GoalImageObjectiveConfig(ObjectiveConfig):
    """Nearness of a predicted future to the caller's own goal observation (V-JEPA 2-AC; survey, eq. 10).

    The observation's ``goal`` is encoded by the future's substrate, so nothing has to generate a goal.

    Attributes:
        future: stream whose last step is compared.
    """

    future: Word = "future"

    @override
    def build(self, meanings: Meanings) -> GoalImageObjective:
        """Build; raises :class:`ConfigError` when no goal observation can be encoded for the stream."""
        reader = "objective 'goal_image'"
        find_stream(self.future, meanings, reader)
        substrate = meanings.substrates.get(self.future)
        if substrate is None:
            raise ConfigError(f"{reader}: stream {self.future!r} has no substrate. Name a future.")
        if substrate.extras:
            raise ConfigError(
                f"{reader}: future {self.future!r} is made of {', '.join(substrate.extras)}, which a goal observation "
                f"does not have when acting. Compare a stream made of pictures or of the state."
            )
        return GoalImageObjective(self.future)


@final
class GoalImageObjective(Objective):
    """Negated distance of the last step of a stream to the encoded goal observation."""

    def __init__(self, future: str) -> None:
        self.future = future
        self.reads = self.aims = (future,)

    @override
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        return -distance(values[self.future], aims[self.future])

    @override
    def terms(self, symbol: Symbol) -> tuple[tuple[float, str], ...]:
        return ((-1.0, f"|{symbol(self.future)} - g*|"),)


@ObjectiveConfig.register_subclass("value")
@dataclass(frozen=True)
class HighValueConfig(ObjectiveConfig):
    """Height of a predicted value, progress or reward (AIM, DreamAvoid, CosmosPolicy; survey, eqs. 6, 10).

    Attributes:
        stream: stream whose values are averaged over their tokens and features.
        over: ``last`` takes the last step, ``mean`` all of them.
    """

    stream: Word = "value"
    over: Literal["last", "mean"] = "last"

    @override
    def build(self, meanings: Meanings) -> HighValue:
        """Build; raises :class:`ConfigError` when the stream holds ids."""
        reader = "objective 'value'"
        find_stream(self.stream, meanings, reader).require(discrete=False, reader=reader)
        return HighValue(self.stream, self.over)


@final
class HighValue(Objective):
    """Mean of a stream's values, over the last step or over all."""

    def __init__(self, stream: str, over: Literal["last", "mean"] = "last") -> None:
        self.stream, self.over = stream, over
        self.reads = (stream,)

    @override
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        value = values[self.stream]
        return (value[:, -1:] if self.over == "last" else value).flatten(1).mean(dim=1)

    @override
    def terms(self, symbol: Symbol) -> tuple[tuple[float, str], ...]:
        return ((1.0, f"V({symbol(self.stream)})"),)


@ObjectiveConfig.register_subclass("sum")
@dataclass(frozen=True)
class SumConfig(ObjectiveConfig):
    """Weighted sum of objectives.

    Attributes:
        parts: name -> objective.
        weights: name -> factor on its score, 1 for parts without an entry; negative to seek the opposite.
    """

    parts: dict[str, ObjectiveConfig] = field(default_factory=dict)
    weights: dict[str, Finite] = field(default_factory=dict)

    @override
    def build(self, meanings: Meanings) -> WeightedSum:
        """Build all parts; raises :class:`ConfigError` for an empty sum or the weight of no part."""
        if not self.parts:
            raise ConfigError("objective 'sum': parts is empty; name an objective, such as goal_distance.")
        for name in self.weights:
            if name not in self.parts:
                raise ConfigError(
                    f"objective 'sum': weights: no part {name!r}. {did_you_mean(name, self.parts)}"
                )
        built = [(self.weights.get(name, 1.0), part.build(meanings)) for name, part in self.parts.items()]
        return WeightedSum(tuple(built))


@final
class WeightedSum(Objective):
    """Sum of weight times score."""

    def __init__(self, parts: tuple[tuple[float, Objective], ...]) -> None:
        self.parts = parts
        self.reads = tuple(dict.fromkeys(name for _, part in parts for name in part.reads))
        self.aims = tuple(dict.fromkeys(name for _, part in parts for name in part.aims))

    @override
    def score(self, values: Mapping[str, Tensor], aims: Mapping[str, Tensor]) -> Tensor:
        scores = [weight * part.score(values, aims) for weight, part in self.parts]
        total = scores[0]
        for score in scores[1:]:
            total = total + score
        return total

    @override
    def terms(self, symbol: Symbol) -> tuple[tuple[float, str], ...]:
        return tuple(
            (weight * inner, text) for weight, part in self.parts for inner, text in part.terms(symbol)
        )
