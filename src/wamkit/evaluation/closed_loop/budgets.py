"""Grids of budgets: the varied settings, and the points that a design can honour, checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wamkit.config.ranges import Size, Whole
from wamkit.config.values import Config
from wamkit.controllers import Controller
from wamkit.errors import BudgetError, ConfigError
from wamkit.evaluation.closed_loop.plan import EvaluationConfig
from wamkit.evaluation.closed_loop.policy import Policy
from wamkit.evaluation.closed_loop.rollout import prepare

AS_CONFIGURED = "as-configured"
PER_STREAM = ("nfe", "exit")
FIELDS = {"predict": "horizon"}  # knob -> budget field, where the names differ


@dataclass(frozen=True)
class BudgetGrid(Config):
    """Grid of budgets: the product of the values of every knob; a knob without values keeps its configured value.

    Attributes:
        nfe: stream name -> numbers of function evaluations to try.
        exit: stream name -> evaluations after which its denoising stops, to try.
        future: values to try of the switch that generates futures.
        predict: numbers of predicted actions to try, of the H that the design predicts.
        execute: numbers of ticks between two calls to try, K.
        candidates: numbers of the planner's action candidates to try.
        iterations: numbers of the planner's refinement rounds to try.
        rounds: numbers of further rounds in which the streams of one factor are generated again in turn, to try.
    """

    nfe: Mapping[str, tuple[Whole, ...]] = field(default_factory=dict)
    exit: Mapping[str, tuple[Whole, ...]] = field(default_factory=dict)
    future: tuple[bool, ...] = ()
    predict: tuple[Size, ...] = ()
    execute: tuple[Size, ...] = ()
    candidates: tuple[Size, ...] = ()
    iterations: tuple[Whole, ...] = ()
    rounds: tuple[Whole, ...] = ()

    def __post_init__(self) -> None:
        for name, values in self.knobs().items():
            if len(set(values)) != len(values):
                raise ConfigError(f"grid: `{name}` must name each value once, got {list(values)}.")

    def knobs(self) -> dict[str, tuple[Any, ...]]:
        """Return knob -> its values, in the order of the fields; each stream is its own, ``nfe.action``."""
        knobs: dict[str, tuple[Any, ...]] = {}
        for entry in dataclasses.fields(self):
            values = getattr(self, entry.name)
            if entry.name in PER_STREAM:
                knobs.update({f"{entry.name}.{stream}": tuple(v) for stream, v in values.items()})
            else:
                knobs[entry.name] = tuple(values)
        return {name: values for name, values in knobs.items() if values}

    def settings(self) -> tuple[Setting, ...]:
        """Return the points of the grid, the last knob varying fastest."""
        knobs = self.knobs()
        return tuple(
            Setting(dict(zip(knobs, values, strict=True))) for values in itertools.product(*knobs.values())
        )


@dataclass(frozen=True)
class Setting:
    """One point of a grid.

    Attributes:
        values: knob -> value.
    """

    values: Mapping[str, int | bool]

    @property
    def id(self) -> str:
        """Name of the point, usable as a file name, such as ``nfe.action=4,future=off``."""
        words = {True: "on", False: "off"}
        parts = [
            f"{name}={words[value] if isinstance(value, bool) else value}"
            for name, value in self.values.items()
        ]
        return ",".join(parts) or AS_CONFIGURED

    def apply(self, base: EvaluationConfig, controller: Controller) -> EvaluationConfig:
        """Return the evaluation at this point: ``base`` with another budget and controller, on the same episodes.

        Raises:
            BudgetError: fewer actions predicted than executed, or the controller has no ``execute``.
            ConfigError: the controller refuses the value.
        """
        changes: dict[str, Any] = {name: dict(getattr(base.budget, name)) for name in PER_STREAM}
        for name, value in self.values.items():
            knob, _, stream = name.partition(".")
            if knob in PER_STREAM:
                changes[knob][stream] = value
            elif knob == "execute":
                controller = with_execute(controller, value)
            else:
                changes[FIELDS.get(knob, knob)] = value
        budget = dataclasses.replace(base.budget, **changes)
        return dataclasses.replace(base, budget=budget, controller=controller)


def with_execute(controller: Controller, execute: int) -> Controller:
    """Return the same controller with another number of executed actions.

    Raises:
        BudgetError: the controller does not have an ``execute`` setting.
        ConfigError: the controller refuses the value.
    """
    if "execute" not in {entry.name for entry in dataclasses.fields(controller)}:
        name = controller.get_choice_name(type(controller))
        raise BudgetError(
            f"execute={execute}: controller {name!r} has no `execute`; evaluate with `chunked`."
        )
    changes: dict[str, Any] = {"execute": execute}
    return dataclasses.replace(controller, **changes)


@dataclass(frozen=True)
class Refused:
    """A point that is not run.

    Attributes:
        id: name of the point.
        reason: error message of the design or the controller.
    """

    id: str
    reason: str


def plan_grid(
    policy: Policy, grid: BudgetGrid, base: EvaluationConfig
) -> tuple[dict[str, EvaluationConfig], dict[str, Setting], tuple[Refused, ...]]:
    """Check every point of a grid against the policy without running anything.

    Returns:
        name -> evaluation, name -> setting, and the points that cannot be honoured, with the reasons.

    Raises:
        BudgetError: the policy can honour none of the points.
        ConfigError, SpecError: ``base`` itself is wrong, and so is every point.
    """
    prepare(policy, base)
    controller = base.controller or policy.controller
    runs: dict[str, EvaluationConfig] = {}
    refused = []
    settings = {setting.id: setting for setting in grid.settings()}
    for name, setting in settings.items():
        try:
            config = setting.apply(base, controller)
            check_point(policy, config)
        except (BudgetError, ConfigError) as error:
            refused.append(Refused(name, str(error)))
        else:
            runs[name] = config
    if not runs:
        reasons = "\n".join(f"  {point.id}: {point.reason}" for point in refused)
        raise BudgetError(f"design {policy.name!r} can honour no point of the grid:\n{reasons}")
    return runs, {name: settings[name] for name in runs}, tuple(refused)


def check_point(policy: Policy, config: EvaluationConfig) -> None:
    """Raise :class:`BudgetError` or :class:`ConfigError` if the policy cannot run this evaluation."""
    prepare(policy, config)
    used = (config.controller or policy.controller).horizon(policy.window.horizon).used
    wanted = config.budget.horizon
    if wanted is not None and used is not None and wanted < used:
        raise BudgetError(f"predict={wanted}: the controller executes {used} actions of each call.")
