"""The contract of a controller: forecasts and observations in, one action per control tick out.

Letters: H predicted actions, K executed actions between two calls, A action width, T ticks of an episode.
A controller is a frozen configuration with pure functions: what it remembers between ticks is a
:class:`ControllerState` that is passed in and returned, so episodes can be repeated or batched.
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

from wamkit.errors import ConfigError

ActionArray = NDArray[np.float32]
ValueArray = NDArray[np.generic]


@dataclass(frozen=True)
class Plan:
    """One answer of the model.

    Attributes:
        start: the tick of the call; the first action is for this tick.
        ready: the first tick at which the answer is there; later than ``start`` where latency is simulated.
        actions: (H, A).
        future: predicted tick -> (N, D) values or (N,) ids of the stream that the controller compares.
    """

    start: int
    ready: int
    actions: ActionArray
    future: Mapping[int, ValueArray] = field(default_factory=dict)

    def covers(self, tick: int) -> bool:
        """Whether it is there at ``tick`` and has an action for it."""
        return self.ready <= tick < self.start + len(self.actions)


@dataclass(frozen=True)
class Subgoal:
    """One answer of a generator that runs on a clock of its own.

    Attributes:
        asked: the tick whose observation it was made from.
        ready: the first tick at which it is there; later than ``asked`` where latency is simulated.
        values: (T, N, D) values or (T, N) ids of its stream.
    """

    asked: int
    ready: int
    values: ValueArray


@dataclass(frozen=True)
class Seen:
    """What a controller is shown at a tick.

    Attributes:
        state: (S,), the robot's state in the units of the observation spec.
        values: (N, D) or (N,), what is seen, encoded by the substrate of the compared stream; None unless the
            controller :meth:`~Controller.wants_values`.
    """

    state: ActionArray
    values: ValueArray | None = None


@dataclass(frozen=True)
class Spend:
    """What a controller changes in the budget of one call; None leaves a field as the user gave it.

    Attributes:
        future: whether predicted futures are generated.
        candidates: action candidates of the planner.
        iterations: refinement rounds of the planner.
    """

    future: bool | None = None
    candidates: int | None = None
    iterations: int | None = None

    def changes(self) -> dict[str, Any]:
        """Field -> value for the fields that are set."""
        return {k: v for k, v in dataclasses.asdict(self).items() if v is not None}


@dataclass(frozen=True)
class ControllerState:
    """What a controller carries from one tick to the next.

    Attributes:
        chunk: (H, A), the newest predicted actions, or None before the first call.
        cursor: how many actions were handed out since that chunk arrived.
        calls: model calls received so far.
        tick: how many actions were handed out since the start.
        plans: answers that may still be used or are under way, oldest first.
        subgoals: likewise, of the generator that :attr:`Controller.supplies` names.
        due: an early call was asked for.
        words: the instruction from now on; None leaves it as it is.
        seen: name -> array, what the controller remembers of earlier observations.
        counts: name -> how often something happened in this episode; goes into the report.
    """

    chunk: ActionArray | None = None
    cursor: int = 0
    calls: int = 0
    tick: int = 0
    plans: tuple[Plan, ...] = ()
    subgoals: tuple[Subgoal, ...] = ()
    due: bool = False
    words: str | None = None
    seen: Mapping[str, ValueArray] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)

    def count(self, name: str, more: int = 1) -> ControllerState:
        """The same state with ``more`` added to ``counts[name]``."""
        return dataclasses.replace(self, counts={**self.counts, name: self.counts.get(name, 0) + more})


@dataclass(frozen=True)
class HorizonUse:
    """How much of a forecast is used.

    Attributes:
        predict: H, actions predicted per call.
        execute: ticks between two calls; None when there is one call per episode.
        need: leading actions of a chunk that may be executed; None: as many as ``execute``.
    """

    predict: int
    execute: int | None
    need: int | None = None

    @property
    def used(self) -> int | None:
        """Leading actions of a chunk that may be executed; None: all."""
        return self.execute if self.need is None else self.need


@dataclass(frozen=True)
class Controller(draccus.ChoiceRegistry, abc.ABC):
    """Decides when the model is called and which action each tick executes.

    Whoever drives it does, at every tick: :meth:`watch` if it :attr:`watches`; if it :meth:`wants_subgoal`, one
    sample of the stream that it :attr:`supplies` and :meth:`supply`; if it :meth:`wants_call`, one call with
    :meth:`spend` taken into the budget and :meth:`given` as known, and :meth:`receive`; then :meth:`next`.
    """

    @property
    def watches(self) -> bool:
        """Whether it has to be shown every tick's observation. Costs a rendered observation per tick."""
        return False

    @property
    def regular(self) -> bool:
        """Whether it calls at :meth:`calls` and never earlier. A design that carries its past needs that."""
        return True

    @property
    def compares(self) -> str | None:
        """Name of the future stream whose predictions it compares with what is seen, or None."""
        return None

    @property
    def supplies(self) -> str | None:
        """Name of the stream that is generated on a clock of its own and given to the policy's calls, or None."""
        return None

    def check(self, mode: str, offsets: Sequence[int]) -> None:
        """Raise :class:`ConfigError` when it cannot drive a policy, before an episode starts.

        Args:
            mode: ``delta`` or ``absolute``, what the policy's actions are.
            offsets: ticks after a call that the compared stream predicts; empty when nothing is compared.
        """

    def check_past(self, stride: int, predicted: int) -> None:
        """Raise :class:`ConfigError` unless there is one call per ``stride`` ticks, for designs that keep a past."""
        execute = self.horizon(predicted).execute
        if execute != stride or not self.regular:
            name = self.get_choice_name(type(self))
            every = f"every {execute} ticks" if self.regular else f"every {execute} ticks or earlier"
            raise ConfigError(
                f"controller {name!r} calls {every}, but one model step is stride {stride} ticks; a design that "
                f"keeps its past needs exactly one call per stride. Use `chunked` with execute={stride}."
            )

    def start(self) -> ControllerState:
        """The state before the first observation of an episode."""
        return ControllerState()

    def watch(self, state: ControllerState, seen: Seen) -> ControllerState:
        """Look at the observation of this tick, before the action of this tick is chosen."""
        return state

    def wants_values(self, state: ControllerState) -> bool:
        """Whether :meth:`watch` needs ``seen.values`` at this tick."""
        return False

    def wants_subgoal(self, state: ControllerState) -> bool:
        """Whether the generator of :attr:`supplies` is to be started with this tick's observation."""
        return False

    def supply(self, state: ControllerState, values: ValueArray) -> ControllerState:
        """Take in what the generator made of this tick's observation."""
        raise ConfigError(f"Controller {self.get_choice_name(type(self))!r} asked for no subgoal.")

    def given(self, state: ControllerState) -> ValueArray | None:
        """What a call at this tick is given of the stream that it :attr:`supplies`; None: nothing."""
        return None

    def words(self, state: ControllerState) -> str | None:
        """The instruction from this tick on, or None to leave it as it is."""
        return state.words

    def called_early(self, state: ControllerState) -> bool:
        """Whether the call that is due was asked for before the schedule has one."""
        return state.due and not self.wants_call(dataclasses.replace(state, due=False))

    def spend(self, state: ControllerState) -> Spend:
        """What the call that is due may spend. Every value must be one of :meth:`spends`."""
        return Spend()

    def spends(self) -> tuple[Spend, ...]:
        """All values that :meth:`spend` may return, so that a policy can refuse them before the start."""
        return (Spend(),)

    @abc.abstractmethod
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast.

        Args:
            state: the state of this episode.
            chunk: (H, A), predicted actions, the first one for the current tick.
            future: ticks after this one -> predicted (N, D) values or (N,) ids of the compared stream.

        Raises:
            ConfigError: the chunk has too few actions for this controller.
        """

    @abc.abstractmethod
    def wants_call(self, state: ControllerState) -> bool:
        """Whether the model has to be called before the next action can be given."""

    @abc.abstractmethod
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """The action of this tick, (A,), and the state after it.

        Raises:
            ConfigError: the state asks for a model call first.
        """

    def current(self, state: ControllerState) -> ActionArray:
        """The newest chunk, (H, A); raises :class:`ConfigError` when a model call is due first."""
        if state.chunk is None or self.wants_call(state):
            raise ConfigError(
                "Controller.next: a model call is due (`wants_call`): `receive` its chunk first."
            )
        return state.chunk

    @abc.abstractmethod
    def horizon(self, predicted: int) -> HorizonUse:
        """What is predicted and executed when a model predicts ``predicted`` actions.

        Raises:
            ConfigError: the model predicts fewer actions than this controller executes.
        """

    @abc.abstractmethod
    def calls(self, ticks: int) -> tuple[int, ...]:
        """The ticks, ascending from 0, at which an episode of ``ticks`` ticks calls the model.

        A controller that watches may call earlier; these are then its calls when nothing happens.
        """

    def reads(self, ticks: int) -> tuple[int, ...]:
        """The ticks at which anybody reads an observation, as far as they are known before the episode."""
        return self.calls(ticks)

    @abc.abstractmethod
    def cost(self, ticks: int, call: float) -> float:
        """What an episode of ``ticks`` ticks spends on :meth:`calls` that cost ``call`` each (eqs. 33-35)."""

    @abc.abstractmethod
    def deadline_s(self, rate_hz: float) -> float | None:
        """The longest a call may take, in seconds, at ``rate_hz`` ticks per second; None: no bound."""

    def answer_s(self, rate_hz: float) -> float | None:
        """Seconds after a call at which its answer is used, where that is simulated; None where it is not."""
        return None

    def look(self, tick: int, count: int, offsets: Sequence[int], ticks: int) -> tuple[int, ...]:
        """Which of the next ``count`` observations are ever read, so that only those are rendered.

        Args:
            tick: ticks executed so far.
            count: actions about to be executed.
            offsets: observed steps that a call reads, relative to its own tick (0 is "now", -8 is history).
            ticks: length limit T of the episode.

        Returns:
            1-based positions p within the coming actions, ascending: the observation after p actions is read.
        """
        if self.watches:
            return tuple(range(1, count + 1))
        wanted = {call + offset for call in self.reads(ticks) if call > tick for offset in offsets}
        return tuple(p for p in range(1, count + 1) if tick + p in wanted)


def gap(predicted: ValueArray, seen: ValueArray) -> float:
    """How far two values of a stream lie apart: share of different ids, or the root mean square difference."""
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
