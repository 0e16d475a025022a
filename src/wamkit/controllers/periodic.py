"""Controllers that call the model at a fixed period: open-loop, chunked, single-step (survey section 4.5)."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

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
    """Executes the newest chunk from its start and calls again after :attr:`period` ticks."""

    @property
    @abc.abstractmethod
    def period(self) -> int | None:
        """K, ticks between two calls, or None for one call per episode."""

    def receive(
        self, state: ControllerState, chunk: ActionArray, future: Mapping[int, ValueArray] | None = None
    ) -> ControllerState:
        """See :meth:`Controller.receive`. The rest of the old chunk is dropped."""
        check_chunk(chunk, self.period or 1, self.get_choice_name(type(self)))
        plan = Plan(state.tick, state.tick, chunk, {state.tick + o: v for o, v in (future or {}).items()})
        return dataclasses.replace(
            state, chunk=chunk, cursor=0, calls=state.calls + 1, plans=(plan,), due=False
        )

    def wants_call(self, state: ControllerState) -> bool:
        """See :meth:`Controller.wants_call`."""
        return state.chunk is None or state.due or (self.period is not None and state.cursor >= self.period)

    def next(self, state: ControllerState) -> tuple[ActionArray, ControllerState]:
        """See :meth:`Controller.next`. Past the end of the chunk its last action is held."""
        chunk = self.current(state)
        action = chunk[min(state.cursor, len(chunk) - 1)]
        return action, dataclasses.replace(state, cursor=state.cursor + 1, tick=state.tick + 1)

    def horizon(self, predicted: int) -> HorizonUse:
        """See :meth:`Controller.horizon`."""
        if predicted < (self.period or 1):
            raise ConfigError(
                f"Controller {self.get_choice_name(type(self))!r} executes {self.period} actions per call, "
                f"the model predicts {predicted}. Set `execute` to at most {predicted}."
            )
        return HorizonUse(predict=predicted, execute=self.period)

    def calls(self, ticks: int) -> tuple[int, ...]:
        """See :meth:`Controller.calls`."""
        return tuple(range(0, ticks, self.period or max(ticks, 1)))

    def deadline_s(self, rate_hz: float) -> float | None:
        """See :meth:`Controller.deadline_s`: N_fwd(K) < K / f."""
        return None if self.period is None else self.period / rate_hz


@dataclass(frozen=True)
class Every(Periodic):
    """Calls every K ticks (survey eq. 34).

    Attributes:
        execute: K, at least 1.
    """

    execute: int = 8

    def __post_init__(self) -> None:
        if self.execute < 1:
            raise ConfigError(f"{type(self).__name__}: `execute` must be at least 1, got {self.execute}.")

    @property
    def period(self) -> int:
        """K."""
        return self.execute

    def cost(self, ticks: int, call: float) -> float:
        """Equation (34), without early calls."""
        return chunk_cost(ticks, self.period, call)


@dataclass(frozen=True)
class Early(Every):
    """A chunked controller that watches every tick and may ask for the next call before K ticks are over.

    Attributes:
        execute: K, at least 1, the ticks between two calls when nothing happens.
    """

    @property
    def watches(self) -> bool:
        """True."""
        return True

    def early(self, state: ControllerState, reason: str) -> ControllerState:
        """Ask for a call at this tick, counted under ``reason``; nothing where one is due anyway."""
        return state if self.wants_call(state) else dataclasses.replace(state, due=True).count(reason)


@Controller.register_subclass("chunked")
@dataclass(frozen=True)
class Chunked(Every):
    """Call every K ticks and execute the first K of the H predicted actions (survey eq. 34).

    ``C_chunk(T, K) = ceil(T / K) * N_fwd(K)``, feasible when ``N_fwd(K) / K < 1 / f``.

    Attributes:
        execute: K, at least 1.
    """


@Controller.register_subclass("single_step")
@dataclass(frozen=True)
class SingleStep(Periodic):
    """Call every tick and execute one action of each forecast (survey eq. 35).

    ``C_single(T) = T * N_fwd(1)`` with the hard limit ``N_fwd(1) < 1 / f``.
    """

    @property
    def period(self) -> int:
        """1."""
        return 1

    def cost(self, ticks: int, call: float) -> float:
        """Equation (35)."""
        return single_step_cost(ticks, call)


@Controller.register_subclass("open_loop")
@dataclass(frozen=True)
class OpenLoop(Periodic):
    """Call once per episode, execute all H actions, then hold the last one (survey eq. 33).

    ``C_open(T) = N_fwd(T)``; no observation after the first one can change an action. Holding repeats the
    last action as it is: a delta action keeps moving, so the horizon should be close to the episode's length.
    """

    @property
    def period(self) -> None:
        """None: there is no second call."""
        return None

    def cost(self, ticks: int, call: float) -> float:
        """Equation (33)."""
        return open_loop_cost(call)
