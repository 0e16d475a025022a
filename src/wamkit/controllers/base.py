"""The contract of a controller: forecasts in, one action per control tick out.

Letters: H predicted actions, K executed actions between two calls, A action width, T ticks of an episode.
A controller is a frozen configuration with pure functions: what it remembers between ticks is a
:class:`ControllerState` that is passed in and returned, so episodes can be repeated or batched.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

import draccus
import numpy as np
from numpy.typing import NDArray

from wamkit.errors import ConfigError

ActionArray = NDArray[np.float32]


@dataclass(frozen=True)
class ControllerState:
    """What a controller carries from one tick to the next.

    Attributes:
        chunk: (H, A), the newest predicted actions, or None before the first call.
        cursor: how many actions were handed out since that chunk arrived.
        calls: model calls received so far.
    """

    chunk: ActionArray | None = None
    cursor: int = 0
    calls: int = 0


@dataclass(frozen=True)
class HorizonUse:
    """How much of a forecast is used.

    Attributes:
        predict: H, actions predicted per call.
        execute: ticks between two calls; None when there is one call per episode.
    """

    predict: int
    execute: int | None


@dataclass(frozen=True)
class Controller(draccus.ChoiceRegistry, abc.ABC):
    """Decides when the model is called and which action each tick executes."""

    def start(self) -> ControllerState:
        """The state before the first observation of an episode."""
        return ControllerState()

    @abc.abstractmethod
    def receive(self, state: ControllerState, chunk: ActionArray) -> ControllerState:
        """Take in a new forecast.

        Args:
            state: the state of this episode.
            chunk: (H, A), predicted actions, the first one for the current tick.

        Raises:
            ConfigError: the chunk has too few actions for this controller.
        """

    @abc.abstractmethod
    def wants_call(self, state: ControllerState) -> bool:
        """Whether the model has to be called before the next action can be given."""

    @abc.abstractmethod
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """The action of this tick, (A,), and the state after it."""

    @abc.abstractmethod
    def horizon(self, predicted: int) -> HorizonUse:
        """What is predicted and executed when a model predicts ``predicted`` actions.

        Raises:
            ConfigError: the model predicts fewer actions than this controller executes.
        """

    @abc.abstractmethod
    def calls(self, ticks: int) -> tuple[int, ...]:
        """The ticks, ascending from 0, at which an episode of ``ticks`` ticks calls the model."""

    @abc.abstractmethod
    def cost(self, ticks: int, call: float) -> float:
        """What an episode of ``ticks`` ticks spends on calls that cost ``call`` each (eqs. 33-35)."""

    @abc.abstractmethod
    def deadline_s(self, rate_hz: float) -> float | None:
        """The longest a call may take, in seconds, at ``rate_hz`` ticks per second; None: no bound."""

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
        wanted = {call + offset for call in self.calls(ticks) if call > tick for offset in offsets}
        return tuple(p for p in range(1, count + 1) if tick + p in wanted)


def check_chunk(chunk: ActionArray, least: int, controller: str) -> None:
    """Raise :class:`ConfigError` unless ``chunk`` is (H, A) with H >= ``least``."""
    if chunk.ndim != 2 or chunk.shape[0] < least:
        raise ConfigError(
            f"Controller {controller!r} executes {least} actions per call and needs a chunk of shape "
            f"(at least {least}, A), got {chunk.shape}. Lower `execute` or use a longer horizon."
        )
