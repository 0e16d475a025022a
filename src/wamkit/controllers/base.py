"""Contract of a controller: forecasts and observations in, one action per control tick out.

Letters: H predicted actions, K executed actions between two calls, A action width, T ticks of an episode.
A controller is a frozen configuration with pure functions. Its memory between ticks is a :class:`ControllerState`
that is passed in and returned, so that episodes can be repeated or batched.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import draccus
import numpy as np
from numpy.typing import NDArray

from wamkit.config.values import Config
from wamkit.errors import ConfigError

ActionArray = NDArray[np.float32]
ValueArray = NDArray[np.generic]


@dataclass(frozen=True)
class Plan:
    """One answer of the model.

    Attributes:
        start: tick of the call; the first action is for this tick.
        ready: first tick at which the answer is available; later than ``start`` where latency is simulated.
        actions: predicted actions (H, A).
        future: predicted tick -> (N, D) values or (N,) ids of the stream that the controller compares.
    """

    start: int
    ready: int
    actions: ActionArray
    future: Mapping[int, ValueArray] = field(default_factory=dict)

    def covers(self, tick: int) -> bool:
        """Return true if the plan is available at ``tick`` and has an action for it."""
        return self.ready <= tick < self.start + len(self.actions)


@dataclass(frozen=True)
class Subgoal:
    """One answer of a generator that runs on a clock of its own.

    Attributes:
        asked: tick of the observation that it was generated from.
        ready: first tick at which it is available; later than ``asked`` where latency is simulated.
        values: (T, N, D) values or (T, N) ids of the generated stream.
    """

    asked: int
    ready: int
    values: ValueArray


@dataclass(frozen=True)
class Seen:
    """Observation of one tick, as a controller receives it.

    Attributes:
        state: the robot's state (S,), in the units of the observation spec.
        values: the observation, encoded by the substrate of the compared stream, (N, D) values or (N,) ids. None
            unless the controller :meth:`~Controller.wants_values`.
    """

    state: ActionArray
    values: ValueArray | None = None


@dataclass(frozen=True)
class Spend:
    """Changes of a controller to the budget of one call; None keeps the user's value of a field.

    Attributes:
        future: true to generate predicted futures, false to skip them.
        candidates: number of the planner's action candidates.
        iterations: number of the planner's refinement rounds.
    """

    future: bool | None = None
    candidates: int | None = None
    iterations: int | None = None

    def changes(self) -> dict[str, Any]:
        """Return field -> value for the fields that are set."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclass(frozen=True)
class ControllerState:
    """Memory of a controller from one tick to the next.

    Attributes:
        chunk: newest predicted actions (H, A); None before the first call.
        cursor: number of actions executed since that chunk was received.
        calls: number of forecasts received so far.
        tick: number of actions executed since the start of the episode.
        plans: answers that may still be used or have not arrived yet, oldest first.
        subgoals: answers of the generator of :attr:`Controller.supplies`, in use or not arrived yet, oldest first.
        pointer: step of the newest of them that is being pursued, where a controller :attr:`Controller.follows` steps.
        due: true when an early call was requested.
        words: instruction from now on; None keeps the episode's instruction.
        seen: name -> array, the controller's memory of earlier observations.
        counts: name -> number of events in this episode, for the report.
    """

    chunk: ActionArray | None = None
    cursor: int = 0
    calls: int = 0
    tick: int = 0
    plans: tuple[Plan, ...] = ()
    subgoals: tuple[Subgoal, ...] = ()
    pointer: int = 0
    due: bool = False
    words: str | None = None
    seen: Mapping[str, ValueArray] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def count(self, name: str, more: int = 1) -> ControllerState:
        """Return the state with ``more`` added to ``counts[name]``."""
        return dataclasses.replace(self, counts={**self.counts, name: self.counts.get(name, 0) + more})


@dataclass(frozen=True)
class HorizonUse:
    """Used part of a forecast.

    Attributes:
        predict: H, actions predicted per call.
        execute: ticks between two calls; None for one call per episode.
        need: number of leading actions of a chunk that may be executed; None for as many as ``execute``.
    """

    predict: int
    execute: int | None
    need: int | None = None

    @property
    def used(self) -> int | None:
        """Number of leading actions of a chunk that may be executed; None for all."""
        return self.execute if self.need is None else self.need


@dataclass(frozen=True)
class Controller(Config, draccus.ChoiceRegistry, abc.ABC):
    """Decides when the model is called and which action each tick executes.

    The caller does at every tick: :meth:`watch` if the controller :attr:`watches`; if it :meth:`wants_subgoal`, sample
    the stream that it :attr:`supplies` and pass it to :meth:`supply`; if it :meth:`wants_call`, call the model with
    :meth:`spend` applied to the budget and :meth:`given` as a given, and pass the forecast to :meth:`receive`; then
    :meth:`next`.
    """

    @property
    def watches(self) -> bool:
        """True if it needs the observation of every tick, which costs rendering one per tick."""
        return False

    @property
    def compares(self) -> str | None:
        """Name of the future stream whose predictions it compares with observations, or None."""
        return None

    @property
    def supplies(self) -> str | None:
        """Name of the stream generated on a clock of its own and given to the policy's calls, or None."""
        return None

    @property
    def follows(self) -> bool:
        """True if it compares what is seen with the stream that it supplies, and not with what calls predict."""
        return self.compares is not None and self.compares == self.supplies

    def compared_from(self, state: ControllerState) -> int:
        """Return the tick of the prediction that is compared with what is seen."""
        return state.plans[-1].start

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """Raise :class:`ConfigError`, before an episode starts, when the controller cannot drive the policy.

        Args:
            mode: mode of the policy's actions, ``delta`` or ``absolute``.
            offsets: ticks after a call that the compared stream predicts; empty when nothing is compared.
        """

    def start(self) -> ControllerState:
        """Return the state before the first observation of an episode."""
        return ControllerState()

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """Take in the observation of this tick, before the action of this tick is chosen."""
        return state

    def wants_values(self, state: ControllerState) -> bool:
        """Return true if :meth:`watch` needs ``seen.values`` at this tick."""
        return False

    def wants_subgoal(self, state: ControllerState) -> bool:
        """Return true if the generator of :attr:`supplies` must be started from this tick's observation."""
        return False

    def supply(self, state: ControllerState, values: ValueArray) -> ControllerState:
        """Take in the values generated from this tick's observation."""
        raise ConfigError(f"Controller {self.get_choice_name(type(self))!r} asked for no subgoal.")

    def given(self, state: ControllerState) -> ValueArray | None:
        """Return the values of the stream it :attr:`supplies` that a call at this tick is given, or None."""
        return None

    def words(self, state: ControllerState) -> str | None:
        """Return the instruction from this tick on, or None to keep the episode's instruction."""
        return state.words

    def called_early(self, state: ControllerState) -> bool:
        """Return true if the call that is due was requested earlier than the schedule calls."""
        return state.due and not self.wants_call(dataclasses.replace(state, due=False))

    def spend(self, state: ControllerState) -> Spend:
        """Return the budget changes of the call that is due, one of :meth:`spends`."""
        return Spend()

    def spends(self) -> tuple[Spend, ...]:
        """Return all values that :meth:`spend` may return, so that a policy can refuse them before the start."""
        return (Spend(),)

    @abc.abstractmethod
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast.

        Args:
            state: state of this episode.
            chunk: predicted actions (H, A), the first one for the current tick.
            future: ticks after this one -> predicted (N, D) values or (N,) ids of the compared stream.

        Raises:
            ConfigError: the chunk has too few actions for this controller.
        """

    @abc.abstractmethod
    def wants_call(self, state: ControllerState) -> bool:
        """Return true if the model must be called before the next action can be given."""

    @abc.abstractmethod
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """Return the action of this tick (A,) and the state after it.

        Raises:
            ConfigError: a model call is due first.
        """

    def current(self, state: ControllerState) -> ActionArray:
        """Return the newest chunk (H, A); raises :class:`ConfigError` when a model call is due first."""
        if state.chunk is None or self.wants_call(state):
            raise ConfigError(
                "Controller.next: a model call is due (`wants_call`): `receive` its chunk first."
            )
        return state.chunk

    @abc.abstractmethod
    def horizon(self, predicted: int) -> HorizonUse:
        """Return the used part of a forecast of ``predicted`` actions.

        Raises:
            ConfigError: the model predicts fewer actions than this controller executes.
        """

    def regime(self, predicted: int) -> str:
        """Deployment cell of the survey's tuple (eqs. 33 to 36); the mechanism is the controller's own name."""
        execute = self.horizon(predicted).execute
        if execute is None:
            return "Open-loop"
        return "Single-step" if execute == 1 else "Chunked"

    @abc.abstractmethod
    def calls(self, ticks: int) -> tuple[int, ...]:
        """Return the ticks, ascending from 0, at which an episode of ``ticks`` ticks calls the model.

        A controller that watches may call earlier; these are its calls when nothing triggers an early one.
        """

    def reads(self, ticks: int) -> tuple[int, ...]:
        """Return the ticks at which an observation is read, early calls excluded."""
        return self.calls(ticks)

    @abc.abstractmethod
    def cost(self, ticks: int, call: float) -> float:
        """Return the total cost of an episode's :meth:`calls` that cost ``call`` each (eqs. 33-35)."""

    @abc.abstractmethod
    def deadline_s(self, rate_hz: float) -> float | None:
        """Return the longest time a call may take, in seconds, at ``rate_hz`` ticks per second; None for no bound."""

    def answer_s(self, rate_hz: float) -> float | None:
        """Return the simulated delay from a call to its answer, seconds; None where it is not simulated."""
        return None

    def look(self, tick: int, count: int, offsets: Sequence[int], ticks: int) -> tuple[int, ...]:
        """Select the observations that are read among the next ``count``, so that only those are rendered.

        Args:
            tick: ticks executed so far.
            count: actions about to be executed.
            offsets: observed steps that a call reads, relative to its own tick (0 is "now", -8 is history).
            ticks: maximum length T of the episode.

        Returns:
            1-based positions p within the coming actions, ascending: the observation after p actions is read.
        """
        if self.watches:
            return tuple(range(1, count + 1))
        read = {call + offset for call in self.reads(ticks) if call > tick for offset in offsets}
        return tuple(p for p in range(1, count + 1) if tick + p in read)


def gap(predicted: ValueArray, seen: ValueArray) -> float:
    """Return the distance between two values of a stream: share of differing ids, or root mean square difference."""
    if np.issubdtype(predicted.dtype, np.integer):
        return float(np.mean(predicted != seen))
    return float(np.sqrt(np.mean(np.square(np.subtract(predicted, seen, dtype=np.float64)))))


def check_chunk(chunk: ActionArray, least: int, controller: str) -> None:
    """Raise :class:`ConfigError` unless ``chunk`` is (H, A) with H >= ``least``."""
    if chunk.ndim != 2 or chunk.shape[0] < least:
        raise ConfigError(
            f"Controller {controller!r} executes {least} actions per call and needs a chunk of shape "
            f"(at least {least}, A), got {chunk.shape}. Lower `execute` or use a longer horizon."
        )
