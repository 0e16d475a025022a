"""Oracles of samplers, guidance, pasts and open loops: what a call spends and what it remembers."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import torch
from cases import NOW, Case
from torch import Tensor

from oracles.probes import drawn, stages
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, Observation, map_tensors
from wamkit.design import Design
from wamkit.design.observed import encode_aims
from wamkit.errors import BudgetError
from wamkit.estimators import Denoiser, Unmasker
from wamkit.estimators.levels import LevelEstimator
from wamkit.estimators.samplers import FlowWalk, walk_together
from wamkit.estimators.unmasker import masked_after


@oracle("ss.step-sampler")
def step_sampler(case: Case) -> None:
    """The network runs as often as the budget says, and the sample depends on the seed alone."""
    design, graph = case.untrained(), case.design.graph
    found = {n: e for n in graph.roles for e in [case.estimator_of(n, design)] if graph.roles[n] != "state"}
    stepping = {
        n: part
        for n, e in found.items()
        for part in stages(e)
        if isinstance(part, LevelEstimator) and n in part.outputs
    }
    assert stepping, "nothing is generated in steps"
    observation, carry = case.cut(design.window), design.initial_state(1)
    for name, part in stepping.items():
        counts = [k for k in (1, 3, 5) if allowed(design, part, k)]
        assert len(counts) > 1, "the number of evaluations is fixed"
        for count in counts:
            budget = Budget(nfe=dict.fromkeys(part.outputs, count))
            seen = calls(part.trunk, "forward")
            made = design.sample(observation, [name], seeds=[1], budget=budget, carry=carry)
            del part.trunk.forward
            assert made.nfe[name] == count, (name, made.nfe)
            blocks = len(part.joint.blocks([n for n in part.outputs if n in made.nfe]))
            assert len(seen) >= count * blocks
        again = design.sample(observation, [name], seeds=[1], budget=budget, carry=carry).values[name]
        assert torch.equal(again, made.values[name])
        schedule(part)


def allowed(design: Design, part: LevelEstimator, count: int) -> bool:
    """True when a call may spend ``count`` evaluations on every stream of an estimator (a tap needs its own)."""
    try:
        design.check_budget(Budget(nfe=dict.fromkeys(part.outputs, count)))
    except BudgetError:
        return False
    return True


def schedule(part: LevelEstimator) -> None:
    """A flow's error falls by the order of its solver; an unmasker reveals a token per call at least, and all."""
    if isinstance(part, Unmasker):
        for length, count in ((16, 4), (7, 7), (5, 9)):
            left = masked_after(length, count)
            assert len(left) == count
            assert left[-1] == 0
            assert left == sorted(left, reverse=True)
        return
    if not isinstance(part, Denoiser) or part.config.prediction == "equilibrium":
        return
    errors = [abs(integrated(count, part.config.solver) - math.exp(-1)) for count in (8, 16, 32)]
    order = {"euler": 1, "heun": 2}[part.config.solver]
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.2, errors


def integrated(evaluations: int, solver: str) -> float:
    """Solution at level 0 of dx/dlevel = x, from 1 at level 1; exactly 1/e."""
    steps = evaluations if solver == "euler" else 2 * evaluations
    walk = FlowWalk(torch.ones(1, 1, 1, 1, dtype=torch.float64), 1.0, steps, steps, solver)  # type: ignore[arg-type]
    return float(walk_together(lambda values, levels: dict(values), {"x": walk}, {}, None)["x"])


@oracle("dp.open-loop")
def open_loop(case: Case) -> None:
    """One call before anything is executed; what is seen later changes nothing; the cost is that of one call."""
    controller, design = case.config.controller, case.design
    horizon = case.config.horizon
    assert controller.calls(horizon) == (0,)
    assert controller.cost(horizon, 3.0) == 3.0
    assert not controller.watches
    assert controller.compares is None
    forecast, _ = design.forecast(case.observation(), design.initial_state(1), Budget(), [1])
    chunk = forecast.action[0].numpy()
    held, asked, executed = controller.start(), 0, []
    for tick in range(horizon):
        if controller.wants_call(held):
            asked += 1
            held = controller.receive(held, chunk)
        assert not controller.wants_subgoal(held)
        if 0 < tick < horizon:
            assert controller.look(tick, 1, (0,), horizon) == (), "an observation is read on the way"
        action, held = controller.next(held)
        executed.append(action)
    assert asked == 1
    assert np.array_equal(np.stack(executed), chunk), "not the plan is executed"
    assert len(chunk) == horizon


@oracle("mm.kv-reground")
def kv_reground(case: Case) -> None:
    """What is remembered is what happened, never what was imagined, and it does not grow."""
    design = case.design
    assert design.past_blocks, "no past is kept"
    stride = case.config.stride
    frames = [NOW + i * stride for i in range(3)]
    seen = [case.cut(design.window, (frame,)) for frame in frames if frame + case.config.horizon <= 40]
    kept = [remembered(design, seen, seed) for seed in (1, 2)]
    assert equal(*kept), "what was imagined is remembered"
    nothing = remembered(design, seen, None)
    assert equal(kept[0], nothing), "a call leaves a trace"
    changed = replace(seen[-1], past_action=seen[-1].past_action + 0.5)  # type: ignore[operator]
    assert not equal(kept[0], remembered(design, [*seen[:-1], changed], 1)), "another past, the same memory"
    assert sizes(remembered(design, seen[:1], 1)) == sizes(kept[0]), "the memory grows"


def remembered(design: Design, seen: list[Observation], seed: int | None) -> list[Tensor]:
    """Carried tensors after the observations ``seen``, with calls of the given seed between them, or none."""
    state = design.initial_state(1)
    for observation in seen:
        if seed is not None and design.graph.acting():
            design.forecast(observation, state, Budget(), [seed])
        elif seed is not None:  # a world model imagines under an action that it is given
            given = {name: drawn(design, name, seed) for name in design.config.given}
            futures = sorted(design.graph.of_role("future"))
            design.sample(observation, futures, seeds=[seed], given=given, carry=state)
        state = design.observe(observation, state, design.encode_context(observation))
    tensors: list[Tensor] = []
    map_tensors(state, lambda t: tensors.append(t) or t)
    return tensors


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def sizes(tensors: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in tensors]


@oracle("ss.guided-inference")
def guided_inference(case: Case) -> None:
    """The objective improves under guidance, more with more of it; without weight it is the base sampler."""
    guide = case.config.guide
    assert guide is not None, "nothing is steered"
    design = case.untrained()
    assert design.steering is not None
    scores, values = [], []
    for weight in (0.0, 0.5 * guide.weight, guide.weight):
        steered = case.untrained(guide=replace(guide, weight=weight))
        made = sampled(case, steered)
        values.append(made)
        scores.append(scored(case, steered, made))
    assert scores[0] < scores[1], scores
    assert scores[0] < scores[2], scores
    base = sampled(case, case.untrained(guide=None))
    assert all(torch.equal(base[name], values[0][name]) for name in base), "no weight, yet no base sampler"
    assert not torch.equal(values[2][guide.stream], values[0][guide.stream])


def sampled(case: Case, design: Design) -> dict[str, Tensor]:
    """Everything that the objective of the recipe reads and the action, for four seeds."""
    observation = case.cut(replace(design.window, goal=True), [NOW] * 4)
    found = case.untrained().steering
    assert found is not None
    want = sorted({*found.objective.reads, found.stream, *([ACTION] if case.acts else [])})
    want = [name for name in want if name not in case.config.taps]
    return dict(design.sample(observation, want, seeds=[1, 2, 3, 4]).values)


def scored(case: Case, design: Design, made: dict[str, Tensor]) -> float:
    """Mean score of samples by the recipe's objective."""
    assert design.steering is not None
    objective = design.steering.objective
    observation = case.cut(replace(design.window, goal=True), [NOW] * 4)
    substrates = {name: design.substrate(name) for name in objective.aims}
    aims = encode_aims(observation, substrates, design.name)
    with torch.no_grad():
        return float(objective.score(made, aims).mean())
