"""Controllers that call the model at a fixed period: open-loop, chunked, single-step (survey section 4.5)."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from typing_extensions import override

from wamkit.config.ranges import Size
from wamkit.controllers.base import (
    ActionArray,
    Controller,
    ControllerState,
    HorizonUse,
    Plan,
    ValueArray,
    check_chunk,
)
from wamkit.controllers.cost import chunk_cost, open_loop_cost, single_step_cost
from wamkit.errors import ConfigError


@dataclass(frozen=True)
class Periodic(Controller):
    """Base of controllers that execute the newest chunk and call again after :attr:`period` ticks."""

    @property
    @abc.abstractmethod
    def period(self) -> int | None:
        """Ticks between two calls, K; None for one call per episode."""

    @override
    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """Take in a new forecast and drop the rest of the old chunk."""
        check_chunk(chunk, self.period or 1, self.get_choice_name(type(self)))
        plan = Plan(state.tick, state.tick, chunk, {state.tick + o: v for o, v in (future or {}).items()})
        return dataclasses.replace(
            state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=(plan,), due=False
        )

    @override
    def wants_call(self, state: ControllerState) -> bool:
        return state.chunk is None or state.due or (self.period is not None and state.cursor >= self.period)

    @override
    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """Return the action of this tick; past the end of the chunk its last action is held."""
        chunk = self.current(state)
        action = chunk[min(state.cursor, len(chunk) - 1)]
        return action, dataclasses.replace(state, cursor=state.cursor + 1, tick=state.tick + 1)

    @override
    def horizon(self, predicted: int) -> HorizonUse:
        if predicted < (self.period or 1):
            raise ConfigError(
                f"Controller {self.get_choice_name(type(self))!r} executes {self.period} actions per call, "
                f"but the model predicts {predicted}. Set `execute` to at most {predicted}."
            )
        return HorizonUse(predict=predicted, execute=self.period)

    @override
    def calls(self, ticks: int) -> tuple[int, ...]:
        return tuple(range(0, ticks, self.period or max(ticks, 1)))

    @override
    def deadline_s(self, rate_hz: float) -> float | None:
        """Return K / f, the bound on N_fwd(K); None for one call per episode."""
        return None if self.period is None else self.period / rate_hz


@dataclass(frozen=True)
class Every(Periodic):
    """Base of controllers that call every K ticks (survey eq. 34).

    Attributes:
        execute: K, ticks between two calls, at least 1.
    """

    execute: Size = 8

    def __post_init__(self) -> None:
        if self.execute < 1:
            raise ConfigError(f"{type(self).__name__}: `execute` must be at least 1, got {self.execute}.")

    @property
    @override
    def period(self) -> int:
        return self.execute

    @override
    def cost(self, ticks: int, call: float) -> float:
        """Return the cost of an episode by equation (34), without early calls."""
        return chunk_cost(ticks, self.period, call)


@dataclass(frozen=True)
class Early(Every):
    """Base of chunked controllers that watch every tick and may call before K ticks are over.

    Attributes:
        execute: K, ticks between two calls when no early call is made, at least 1.
    """

    @property
    @override
    def watches(self) -> bool:
        return True

    def early(self, state: ControllerState, reason: str) -> ControllerState:
        """Request a call at this tick, counted under ``reason``; does nothing when a call is already due."""
        return state if self.wants_call(state) else dataclasses.replace(state, due=True).count(reason)


@Controller.register_subclass("chunked")
@dataclass(frozen=True)
class Chunked(Every):
    """Call every K ticks and execute the first K of the H predicted actions (survey eq. 34).

    ``C_chunk(T, K) = ceil(T / K) * N_fwd(K)``, feasible when ``N_fwd(K) / K < 1 / f``.

    Attributes:
        execute: K, ticks between two calls, at least 1.
    """


@Controller.register_subclass("open_chunked")
@dataclass(frozen=True)
class OpenChunked(Every):
    """Execute all H predicted actions without an observation in between, then call again (survey eqs. 33 and 34).

    Open-loop over the planned horizon, and chunked where the episode is longer: the survey's ``Open / Chunked``.

    Attributes:
        execute: H, the design's horizon.
    """

    @override
    def horizon(self, predicted: int) -> HorizonUse:
        if predicted != self.execute:
            raise ConfigError(
                f"Controller 'open_chunked' executes all predicted actions, but `execute` is {self.execute} and the "
                f"model predicts {predicted}. Set `execute` to {predicted}, or use 'chunked'."
            )
        return super().horizon(predicted)

    @override
    def regime(self, predicted: int) -> str:
        return "Open / Chunked"


@Controller.register_subclass("single_step")
@dataclass(frozen=True)
class SingleStep(Periodic):
    """Call every tick and execute one action of each forecast (survey eq. 35).

    ``C_single(T) = T * N_fwd(1)`` with the hard limit ``N_fwd(1) < 1 / f``.
    """

    @property
    @override
    def period(self) -> int:
        return 1

    @override
    def cost(self, ticks: int, call: float) -> float:
        """Return the cost of an episode by equation (35)."""
        return single_step_cost(ticks, call)


@Controller.register_subclass("open_loop")
@dataclass(frozen=True)
class OpenLoop(Periodic):
    """Call once per episode, execute all H actions, then hold the last one (survey eq. 33).

    ``C_open(T) = N_fwd(T)``; no observation after the first one affects an action. The last action is repeated
    unchanged: a delta action keeps moving, so the horizon should be close to the episode's length.
    """

    @property
    @override
    def period(self) -> None:
        """None: there is no second call."""
        return None

    @override
    def cost(self, ticks: int, call: float) -> float:
        """Return the cost of an episode by equation (33)."""
        return open_loop_cost(call)
