"""Oracle of motion recovery: a body that moves as one is followed, one that comes apart is flagged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cases import Case
from scipy.optimize import approx_fprime
from torch import Tensor

from oracles.probes import drawn
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import PointMotion
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.design import Design
from wamkit.estimators import MotionRecovery
from wamkit.geometry.following import cost

STEP_M = torch.tensor([0.004, -0.003, 0.002])  # per tick, within the limits of the recorded actions
TOLERANCE_M = 1e-3


@oracle("ar.motion-recovery")
def motion_recovery(case: Case) -> None:
    """Points of one body on a known path are followed in the limits of the action; a broken body is flagged."""
    design = case.untrained()
    part = case.estimator_of(ACTION, design)
    assert isinstance(part, MotionRecovery), "the action is not recovered but learned"
    assert not list(part.parameters()), "something is learned"
    futures, observation = design.graph.factor_of(ACTION).given, case.cut(design.window)
    for future in futures:
        shows_motion(design, future, part, observation)
    apart = torch.ones(8)
    apart[::2] = -1
    for direction, flagged in ((torch.ones(8), False), (apart, True)):
        forecast = acted(case, design, observation, direction)
        assert bool(forecast.flags[ACTION].any()) == flagged, "a body that comes apart is followed"
        if not flagged:
            follows(forecast, ticks(case, design), part)


def ticks(case: Case, design: Design) -> Tensor:
    """Control ticks of all steps that the action is recovered from."""
    futures = design.graph.factor_of(ACTION).given
    return torch.tensor([offset for name in futures for offset in case.config.futures[name].offsets])


def path(offsets: Tensor, direction: Tensor) -> PointMotion:
    """Eight points that move by ``STEP_M`` per tick, each along its entry of ``direction``."""
    start = 0.05 * torch.randn(1, 8, 3, generator=torch.Generator().manual_seed(3))
    shift = offsets[:, None, None] * STEP_M * direction[:, None]
    return PointMotion(start, start[:, None] + shift, torch.ones(1, len(offsets), 8, dtype=torch.bool), True)


def acted(case: Case, design: Design, observation: Observation, direction: Tensor) -> Forecast:
    """Forecast of a call in which every future shows the motion of :func:`path`."""
    futures = design.graph.factor_of(ACTION).given
    motions = [path(torch.tensor(case.config.futures[name].offsets), direction) for name in futures]
    for name in futures:
        design.substrate(name).moving_points = lambda *_: motions.pop(0)  # type: ignore[method-assign]
    given = {name: drawn(design, name, 2) for name in futures}
    budget = Budget(future=False, attempts=0)
    return design.forecast(observation, design.initial_state(1), budget, [1], given=given)[0]


def follows(
    forecast: Forecast, offsets: Tensor, part: MotionRecovery, tolerance_m: float = TOLERANCE_M
) -> None:
    """The hand has moved as far as the body at every predicted step."""
    moved = forecast.action[0, :, :3].cumsum(dim=0) * part.config.unit_m
    reached = offsets[offsets <= len(moved)]
    expected = reached[:, None] * STEP_M
    assert torch.allclose(moved[reached - 1], expected, atol=tolerance_m), (moved[reached - 1], expected)


def shows_motion(design: Design, future: str, part: MotionRecovery, observation: Observation) -> None:
    """The points that are followed come from the future: those of now stay, those of later steps do not."""
    shown: list[Any] = []
    for draw in (1, 2):
        values = drawn(design, future, draw).clamp(-1, 1)
        shown.append(design.substrate(future).moving_points(values, observation, part.config.body))
    assert shown[0].later.shape[1] == design.streams[future].steps
    assert not torch.equal(shown[0].later, shown[1].later) or not torch.equal(shown[0].known, shown[1].known)
    again = design.substrate(future).moving_points(values, replace(observation), part.config.body)
    assert torch.equal(again.later, shown[1].later)


@oracle("pl.constraint-trajopt")
def constraint_trajopt(case: Case) -> None:
    """The path keeps every constraint or says so, follows a target that it can, and its gradient is right."""
    design = case.untrained()
    part = case.estimator_of(ACTION, design)
    assert isinstance(part, MotionRecovery)
    follow = part.config.follow
    assert follow is not None, "the path is not optimised"
    rng = np.random.default_rng(0)
    places, target = rng.normal(size=(2, 5, 3))
    slope = approx_fprime(places.ravel(), lambda x: cost(x, target[0], target, follow.smooth)[0])
    assert np.allclose(cost(places.ravel(), target[0], target, follow.smooth)[1], slope, rtol=1e-3, atol=1e-3)
    observation = case.cut(design.window)
    hand = observation.state[0, -1, part.hand].double()
    for scale in (1.0, 40.0):
        forecast = acted(case, design, observation, scale * torch.ones(8))
        steps = forecast.action[0, :, :3].double() * part.config.unit_m
        places = (hand + steps.cumsum(dim=0)).numpy()
        assert forecast.action.abs().max() <= 1 + 1e-4, "faster than the hand can move"
        if follow.workspace is not None:
            assert follow.workspace.depth(places).min() > -1e-4, "out of the workspace"
        for box in follow.keep_out:
            assert box.depth(places).max() < 1e-4, "through what it must keep out of"
        assert bool(forecast.flags[ACTION].any()) == (scale > 1), "an infeasible path is not said"
        if scale == 1:
            follows(forecast, ticks(case, design), part, 5e-3)


@oracle("ge.rollout-filter")
def rollout_filter(case: Case) -> None:
    """A planted bad clip is thrown away and another one imagined; a good one is kept; what stays bad is said."""
    design = case.untrained()
    assert isinstance(case.estimator_of(ACTION, design), MotionRecovery)
    attempts = case.config.budget.attempts
    assert attempts, "no clip is thrown away"
    (future,) = design.graph.factor_of(ACTION).given
    offsets, observation = torch.tensor(case.config.futures[future].offsets), case.cut(design.window)
    apart = torch.ones(8)
    apart[::2] = -1
    good, bad = path(offsets, torch.ones(8)), path(offsets, apart)
    for planted, clips, flagged in (
        ([good], 1, False),
        ([bad, good], 2, False),
        ([bad] * (attempts + 1), attempts + 1, True),
    ):
        seen: list[Tensor] = []

        def moving(values: Tensor, *_: Any, shown: Any = planted, kept: list[Tensor] = seen) -> PointMotion:
            kept.append(values)
            return shown[len(kept) - 1]

        design.substrate(future).moving_points = moving  # type: ignore[method-assign]
        forecast, _ = design.forecast(observation, design.initial_state(1), Budget(), [1])
        assert len(seen) == clips, "a good clip is thrown away, or a bad one kept"
        assert bool(forecast.flags[ACTION].any()) == flagged
        assert torch.equal(forecast.future[future], seen[-1]), "not the kept clip is passed on"
