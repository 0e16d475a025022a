"""Protocols of a policy and of simulators: everything that the runner asks of either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from torch import Tensor

from wamkit.contract.requests import Requests
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Budget, Forecast, Observation, Perceived, WindowSpec
from wamkit.controllers import Controller
from wamkit.envs import EnvConfig
from wamkit.envs.facts import Facts
from wamkit.envs.perturbations import Perturbation

# State that a policy carries from call to call: nested dataclasses, mappings and tuples of tensors (B, ...).
CarriedState: TypeAlias = Any
# One rendered observation of a simulator; see :attr:`SimulatorStep.observations`.
RenderedFrame: TypeAlias = Mapping[str, Any]


class Policy(Protocol):
    """A design as the runner sees it."""

    @property
    def name(self) -> str:
        """Name in reports."""

    @property
    def observation_spec(self) -> ObservationSpec:
        """Conventions of the observations that it was trained on."""

    @property
    def action_spec(self) -> ActionSpec:
        """Conventions of its actions."""

    @property
    def window(self) -> WindowSpec:
        """Steps around "now" that it reads and predicts."""

    @property
    def sensors(self) -> Sequence[str]:
        """Extras of an observation that it reads when acting (depth, contact forces); often none."""

    @property
    def droppable(self) -> Mapping[str, tuple[int, ...]]:
        """Those of :attr:`sensors` that may be flagged as missing, with their shape per step."""

    @property
    def requests(self) -> Requests:
        """Variables of its context that may be requested; asked only where an evaluation requests one."""

    @property
    def reads_goal(self) -> bool:
        """True if it reads a goal observation when acting."""

    @property
    def controller(self) -> Controller:
        """Controller it was composed with; an evaluation may choose another one."""

    def initial_state(self, batch_size: int) -> CarriedState:
        """State at the start of an episode: nested dataclasses, mappings and tuples of tensors (B, ...)."""

    def forecast(
        self, observation: Observation, state: CarriedState, budget: Budget, seeds: Sequence[int]
    ) -> tuple[Forecast, CarriedState]:
        """One call for B rows. ``state`` is left as it is; row i draws its noise from ``seeds[i]`` alone.

        A policy whose controller :attr:`~wamkit.controllers.Controller.supplies` a stream is also called with
        ``given``, stream -> values (B, ...), and generates none of it.
        """

    def remember(self, observation: Observation, state: CarriedState) -> CarriedState:
        """Take in, without a call, the block of ``window.past_actions`` ticks that ends now; returns the new state.

        The runner does so at the end of every block at which it makes no call, so that what a policy remembers does
        not depend on its controller. Never asked of a policy that reads no past actions.
        """

    def generate(
        self, observation: Observation, state: CarriedState, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        """Values (B, ...) of one stream and of nothing that it does not need. ``state`` is left as it is."""

    def check_given(self, stream: str, followed: bool = False) -> None:
        """Raise :class:`wamkit.errors.ConfigError` unless ``stream`` can be generated first and then be given.

        A ``followed`` stream is a future, given to calls at later ticks than that of its observation.
        """

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        """Camera -> (B, F, 3, H, W) uint8 at the offsets ``window.future``, or None where nothing decodes."""

    def describe(self) -> dict[str, Any]:
        """Tuple, formula, whether it is a WAM, parameter counts: plain JSON values."""

    def perceived(self, stream: str) -> Perceived:
        """Conversion of observations to values of a future stream, for controllers that compare the two.

        Raises :class:`wamkit.errors.ConfigError` when there is no such stream or it cannot be read when acting.
        """

    def check_budget(self, budget: Budget) -> None:
        """Raise :class:`wamkit.errors.BudgetError` when the budget cannot be honoured."""


class SimulatorStep(Protocol):
    """Answer of one simulator to a reset or to a block of actions.

    ``observations[i]`` was rendered at ``ticks[i]``, counted from the episode's start (0 after a reset).
    """

    @property
    def observations(self) -> tuple[RenderedFrame, ...]:
        """Each with ``images`` camera -> (H, W, 3) uint8, ``state`` (S,) float32 and ``task`` str.

        Where the simulator records ground truth, also with ``extras`` name -> array.
        """

    @property
    def ticks(self) -> tuple[int, ...]:
        """Tick of each observation."""

    @property
    def executed(self) -> int:
        """Actions of the block that were executed."""

    @property
    def success(self) -> bool:
        """True if the task is solved."""

    @property
    def done(self) -> bool:
        """True if the episode is over."""

    @property
    def error(self) -> str | None:
        """Message of a failure of the simulator, or None."""

    @property
    def facts(self) -> tuple[Facts, ...]:
        """One per executed action, for the report only; empty where the simulator states none."""


class Simulators(Protocol):
    """Simulators in slots, spread over worker processes."""

    def reset_async(
        self,
        slot: int,
        seed: int,
        instruction: str | None = None,
        config: EnvConfig | None = None,
        perturbation: Perturbation | None = None,
    ) -> None:
        """Start an episode in ``slot``."""

    def step_async(self, slot: int, actions: np.ndarray, look: tuple[int, ...]) -> None:
        """Execute (K, A) actions; render after those positions (1-based) that ``look`` names."""

    def wait(self, slots: Sequence[int]) -> Mapping[int, SimulatorStep]:
        """Wait for the answers of these slots."""

    def close(self) -> None:
        """End the worker processes."""
