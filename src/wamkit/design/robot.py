"""A design in the coordinates of its robot: what the robot observes goes in, what it executes comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from wamkit.contract.data import Recorded
from wamkit.contract.requests import Requests
from wamkit.contract.specs import ActionSpec, ObservationSpec, require_same_robot
from wamkit.contract.types import Budget, Carries, Forecast, Observation, Perceived, WindowSpec
from wamkit.controllers import Controller
from wamkit.design.agreement import view_of
from wamkit.design.checkpoint import from_pretrained
from wamkit.design.model import Design
from wamkit.errors import ConfigError, did_you_mean
from wamkit.views import View, ViewConfig


@final
class RobotPolicy(nn.Module):
    """A design behind its view, as a policy of the robot that the view was made for.

    Observations are those of the robot (its cameras, sizes, columns), and so are the actions of a forecast; the view
    that training used lies between. Futures and everything else stay as the design gives them.

    Args:
        inner: a design, or a policy of another robot.
        view: view that shows the robot as ``inner`` expects one.

    Attributes:
        inner: policy behind the view.
        design: the design.
        view: view between robot and ``inner``.
        sensed: extras of the robot that it reads when acting -> their shape per step.
        observation_spec: spec of the robot's observations.
        action_spec: spec of the robot's actions.

    Raises:
        ConfigError: the view leaves out columns that the robot needs, or an extra that the design reads when acting
            cannot follow its camera.
    """

    def __init__(self, inner: Design | RobotPolicy, view: View) -> None:
        super().__init__()
        self.inner = inner
        self.design: Design = inner if isinstance(inner, Design) else inner.design
        self.view = view
        self.observation_spec: ObservationSpec = view.recorded[0]
        self.action_spec: ActionSpec = view.recorded[1]
        if self.design.graph.acting():
            self.view.action.require_whole()
        read = (
            inner.sensed
            if isinstance(inner, RobotPolicy)
            else {n: inner.data.extras[n] for n in inner.sensors}
        )
        self.sensed: Mapping[str, tuple[int, ...]] = {
            view.extras.recorded_name(name): view.extras.recorded_shape(name, shape)
            for name, shape in read.items()
        }
        for name, shape in self.sensed.items():
            view.extras.require(name, shape)

    @property
    def name(self) -> str:
        """Name in reports."""
        return self.design.name

    @property
    def window(self) -> WindowSpec:
        """Steps around "now" that it reads and predicts, in ticks of the view."""
        window = self.inner.window
        return dataclasses.replace(window, every=window.every * self.view.every)

    @property
    def sensors(self) -> Sequence[str]:
        """Extras of an observation that it reads when acting."""
        return tuple(self.sensed)

    @property
    def droppable(self) -> Mapping[str, tuple[int, ...]]:
        """Those of :attr:`sensors` that may be flagged as missing, with their shape per step."""
        names = [self.view.extras.recorded_name(name) for name in self.inner.droppable]
        return {name: self.sensed[name] for name in names}

    @property
    def requests(self) -> Requests:
        """Variables of its context that may be requested."""
        return self.design.requests

    @property
    def reads_goal(self) -> bool:
        """True if it reads a goal observation when acting."""
        return self.design.reads_goal

    @property
    def controller(self) -> Controller:
        """Controller it was composed with."""
        return self.design.controller

    def check_acts(self) -> None:
        """Raise :class:`ConfigError` when no factor generates the executed action (a world model)."""
        self.design.check_acts()

    def check_budget(self, budget: Budget) -> None:
        """Raise :class:`wamkit.errors.BudgetError` when the budget cannot be honoured."""
        self.design.check_budget(budget)

    def check_given(self, stream: str, followed: bool = False) -> None:
        """Raise :class:`ConfigError` unless ``stream`` can be generated first and then be given."""
        self.design.check_given(stream, followed)

    def describe(self) -> dict[str, Any]:
        """Tuple, formula, whether it is a WAM, parameter counts: plain JSON values."""
        return self.design.describe()

    def initial_state(self, batch_size: int) -> Carries:
        """State carried between calls, at the start of an episode."""
        return self.design.initial_state(batch_size)

    def forecast(
        self,
        observation: Observation,
        state: Carries,
        budget: Budget,
        seeds: Sequence[int],
        given: Mapping[str, Tensor] | None = None,
    ) -> tuple[Forecast, Carries]:
        """One call; the arguments are those of :meth:`Design.forecast`, in the robot's coordinates."""
        forecast, state = self.inner.forecast(self.view.observe(observation), state, budget, seeds, given)
        action = self.view.commands(forecast.action, observation.state[:, -1])
        return dataclasses.replace(forecast, action=action), state

    def remember(self, observation: Observation, state: Carries) -> Carries:
        """Take in, without a call, the block of past actions that ends now; returns the new state."""
        return self.inner.remember(self.view.observe(observation), state)

    def generate(
        self, observation: Observation, state: Carries, stream: str, budget: Budget, seeds: Sequence[int]
    ) -> Tensor:
        """Values (B, ...) of one stream and of nothing that it does not need."""
        return self.inner.generate(self.view.observe(observation), state, stream, budget, seeds)

    def decode_future(self, forecast: Forecast) -> dict[str, Tensor] | None:
        """Camera -> (B, F, 3, H, W) uint8, in the sizes of the view; None where nothing decodes."""
        return self.design.decode_future(forecast)

    def perceived(self, stream: str) -> Perceived:
        """Conversion of the robot's observations to values of a future stream."""
        inner = self.inner.perceived(stream)

        def encode(observation: Observation, now: Observation) -> Tensor:
            return inner.encode(self.view.observe(observation), self.view.observe(now))

        extras = tuple(self.view.extras.recorded_name(name) for name in inner.extras)
        again = inner.rebase

        def rebase(values: Tensor, observation: Observation, now: Observation) -> Tensor:
            assert again is not None
            return again(values, self.view.observe(observation), self.view.observe(now))

        return dataclasses.replace(
            inner, encode=encode, extras=extras, rebase=None if again is None else rebase
        )


def policy_of(
    design: Design, robot: str | None = None, specs: tuple[ObservationSpec, ActionSpec] | None = None
) -> Design | RobotPolicy:
    """Policy of a robot that a design was trained for: the design itself where its view changes nothing.

    Args:
        design: the design.
        robot: name of the robot; None to find it by ``specs``.
        specs: specs of what is to be driven; only asked where the design knows several robots.

    Raises:
        ConfigError: there is no such robot, or the design knows several and none or more than one has these specs.
    """
    name = robot_of(design, robot, specs)
    if name is None:
        return design
    return RobotPolicy(design, view_of(design.config, name, design.data.robots[name]))


def robot_of(
    design: Design, robot: str | None = None, specs: tuple[ObservationSpec, ActionSpec] | None = None
) -> str | None:
    """Name of the robot that is meant; None where the design knows one only, and its view changes nothing.

    The arguments and errors are those of :func:`policy_of`.
    """
    return named_robot(f"design {design.name!r}", design.data.robots, robot, specs)


def named_robot(
    place: str,
    robots: Mapping[str, Recorded],
    robot: str | None,
    specs: tuple[ObservationSpec, ActionSpec] | None,
) -> str | None:
    """Name of one of the ``robots`` that ``place`` knows; see :func:`robot_of`."""
    if robot is not None and robot not in robots:
        raise ConfigError(f"robot: {place} knows no {robot!r}. {did_you_mean(robot, robots)}")
    if robot is not None or len(robots) < 2:
        return robot or next(iter(robots), None)
    fits = [name for name, known in robots.items() if specs == (known.observation, known.action)]
    if len(fits) == 1:
        return fits[0]
    why = "none has the specs that are given" if specs else "nothing says which one is meant"
    if len(fits) > 1:
        why = f"{' and '.join(fits)} have the specs that are given"
    raise ConfigError(
        f"{place} was trained on the robots {', '.join(robots)}, and {why}. Name one in `robot`."
    )


def seen_through(
    policy: Design | RobotPolicy,
    config: ViewConfig,
    observation: ObservationSpec,
    action: ActionSpec,
    name: str,
) -> Design | RobotPolicy:
    """Policy of another robot than the one that it was trained for.

    Args:
        policy: the policy.
        config: view that shows the other robot as the policy's own one: its cameras, sizes, columns and rate.
        observation: observation spec of the other robot.
        action: its action spec.
        name: the other robot in messages, such as ``environment 'drawer-open-v3'``.

    Returns:
        A policy in the coordinates of the other robot; ``policy`` itself where the view changes nothing.

    Raises:
        ConfigError: the view names what the other robot does not have, or leaves out what it needs.
        SpecError: seen through the view, the other robot is not the policy's own one.
    """
    view = View(config, observation, action)
    if view.same:
        return policy
    place = f"{name} through the view"
    ours, theirs = (policy.observation_spec, policy.action_spec), (view.observation_spec, view.action_spec)
    require_same_robot(ours, theirs, f"design {policy.name!r}", place, "--view of wamkit evaluate")
    return RobotPolicy(policy, view)


def load_policy(
    name: str | Path,
    device: torch.device | str = "cpu",
    robot: str | None = None,
    specs: tuple[ObservationSpec, ActionSpec] | None = None,
) -> Design | RobotPolicy:
    """Load a checkpoint from a folder or a hub id, as a policy in the coordinates of its robot.

    ``robot`` and ``specs`` are those of :func:`policy_of`.

    Raises:
        ConfigError: there is no such checkpoint, its config does not fit this version, or it cannot act.
        DataError: a file is broken or was changed.
    """
    return policy_of(from_pretrained(name, device), robot, specs)
