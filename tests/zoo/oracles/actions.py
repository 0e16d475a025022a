"""Oracles of action representations and heads: chunks, tokens, primitives, iterated and resting heads."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.registry import oracle
from wamkit.actions.bins import Bins
from wamkit.actions.chunk import Chunk
from wamkit.actions.fast import Fast
from wamkit.actions.movement_primitive import MovementPrimitive
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget, WindowSpec
from wamkit.design import Design
from wamkit.estimators.samplers import DescentWalk


def recorded_chunks(case: Case, frames: Any = (4, 12, 20)) -> Tensor:
    """Recorded chunks (B, H, A) in the units of the action spec."""
    window = WindowSpec(horizon=case.config.horizon)
    return case.data.windows(np.array(frames), window).action


def held(chunk: Tensor, ticks: int) -> Tensor:
    """Chunks (B, H, A) with the mean of every ``ticks`` ticks in place of them."""
    mean = chunk.unflatten(1, (-1, ticks)).mean(dim=2, keepdim=True)
    return mean.expand(-1, -1, ticks, -1).flatten(1, 2)


@oracle("ar.continuous-chunk")
def continuous_chunk(case: Case) -> None:
    """Normalising and back is the identity inside the limits; a chunk of K actions at f Hz lasts K / f seconds."""
    action, spec = case.design.action, case.spec.action
    assert isinstance(action, Chunk), type(action)
    assert case.design.streams[ACTION].vocabulary is None
    ticks = action.config.ticks_per_token
    chunk = held(recorded_chunks(case), ticks)
    torch.testing.assert_close(action.decode(action.encode(chunk)), chunk, atol=1e-4, rtol=1e-4)
    wild = action.decode(action.encode(chunk) + 100.0)
    assert (wild <= torch.tensor(spec.high) + 1e-6).all(), "an action beyond the limits of the robot"
    forecast, _ = case.design.forecast(case.observation(), case.design.initial_state(1), Budget(), [1])
    assert forecast.action.shape == (1, case.config.horizon, spec.width)
    steps = case.design.streams[ACTION].steps
    assert steps * ticks / spec.rate_hz == case.config.horizon / spec.rate_hz
    used = case.config.controller.horizon(case.config.horizon).used
    assert used is None or used <= case.config.horizon


@oracle("ar.discrete-tokens")
def discrete_tokens(case: Case) -> None:
    """Actions are ids that decode within the stated error, and that outliers of the recordings do not move."""
    action, spec = case.design.action, case.design.streams[ACTION]
    assert spec.vocabulary, "the actions are numbers"
    assert isinstance(action, Bins | Fast), type(action)
    chunk = recorded_chunks(case)
    ids = action.encode(chunk)
    assert not ids.is_floating_point()
    assert int(ids.max()) < spec.vocabulary
    if isinstance(action, Bins):
        width = (action.most - action.least) / action.config.bins
        kept = held(chunk, action.config.ticks_per_token).clamp(action.least, action.most)
        assert ((action.decode(ids) - kept).abs() <= width / 2 + 1e-5).all(), "more than half a bin off"
    else:
        low, high = (torch.tensor(case.spec.stats["action"][q]).float() for q in ("q01", "q99"))
        half = ((high - low) / 2).clamp(min=1e-6)
        error = ((action.decode(ids) - chunk.clamp(low, high)) / half).square().mean(dim=1).sqrt()
        inside = ((chunk >= low) & (chunk <= high)).all(dim=1)
        assert (error[inside] <= 0.5 / action.config.scale + 1e-3).all(), "beyond the stated tolerance"
        smooth = torch.linspace(-0.5, 0.5, case.config.horizon)[None, :, None] * half + (low + high) / 2
        assert (action.encode(smooth) != 0).sum() * 2 < smooth.numel(), "a smooth chunk is not compressed"
    stats = {k: dict(v) for k, v in case.spec.stats.items()}
    for name, factor in (("min", 50.0), ("max", 50.0)):
        stats["action"][name] = np.asarray(stats["action"][name]) * factor
    if isinstance(action, Bins):
        again = case.config.action.build(replace(case.spec, stats=stats), case.config.horizon)
        assert torch.equal(again.encode(chunk), ids), "outliers moved the inner bins"


@oracle("ar.dmp-head")
def movement_primitive(case: Case) -> None:
    """The generated parameters compile to a motion that reaches its goal from anywhere; they are printed and edited."""
    part = case.design.action
    assert isinstance(part, MovementPrimitive), type(part)
    with torch.no_grad():
        values = case.act(case.design, case.observation())
    row = json.loads(json.dumps(part.describe(values)))[0]
    torch.testing.assert_close(part.values([row]), values, atol=1e-2, rtol=1e-2)
    names = case.spec.action.names
    goal = np.array([row[name]["goal"] for name in names])
    for start, push in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.5)):
        dmp = part.primitive(row)
        y, yd = np.full(len(names), start), np.zeros(len(names))
        dmp.configure(start_y=y)
        for tick in range(6 * case.config.horizon):
            dmp.current_y += push * (tick == 3)
            y, yd = dmp.step(dmp.current_y, yd)
        np.testing.assert_allclose(y, goal, atol=0.05 * (1 + np.abs(goal).max()))
    short, long = deepcopy(row), deepcopy(row)
    short["duration_s"], long["duration_s"] = (
        ticks / case.spec.action.rate_hz for ticks in (case.config.horizon // 2, case.config.horizon)
    )
    moving = part.moving
    fast, slow = (
        part.chunk_of(part.values([r])[:, 0, 0] * part.scale + part.mean)[:, :, :moving].cumsum(dim=1)
        for r in (short, long)
    )
    torch.testing.assert_close(slow[:, 1::2], fast[:, : case.config.horizon // 2], atol=1e-2, rtol=1e-2)
    edited = deepcopy(row)
    edited[names[0]]["goal"] += 0.3
    assert not torch.equal(part.decode(part.values([edited])), part.decode(part.values([row])))


def budgeted(case: Case, design: Design, budget: Budget, seed: int = 1) -> tuple[Tensor, int]:
    """Sampled action and the evaluations that it took."""
    with torch.no_grad():
        made = design.sample(case.cut(design.window), [ACTION], seeds=[seed], budget=budget)
    return made.values[ACTION], made.nfe[ACTION]


def warm(case: Case, **fields: Any) -> Design:
    """Sharpened untrained design whose action head samples its density, with ``fields`` of the head replaced."""
    name = case.design.graph.factor_of(ACTION).estimator
    head = case.config.estimators[name]
    wanted = {"temperature": 1.0, **fields}
    assert wanted.keys() <= vars(head).keys(), f"the head {type(head).__name__} has no {sorted(wanted)}"
    head = replace(head, **wanted)
    return sharpen(case.untrained(estimators={**case.config.estimators, name: head}))


@oracle("ar.iterative-head")
def iterative_head(case: Case) -> None:
    """A chunk is made from noise in as many evaluations as the budget says; other noise, another chunk."""
    design = warm(case)
    first = budgeted(case, design, Budget())[0]
    assert torch.equal(first, budgeted(case, design, Budget())[0]), "the seed does not fix the chunk"
    assert not torch.equal(first, budgeted(case, design, Budget(), seed=2)[0]), "the chunk is no sample"
    assert evaluations(case, 4) > evaluations(case, 1), "more steps cost nothing, so nothing is iterated"
    design.train()
    losses = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        batch = case.batch(design=design)
        torch.manual_seed(seed)
        losses.append(design.loss(batch).terms[ACTION].item())
    assert losses[0] == losses[1] != losses[2], "training draws no noise"


def evaluations(case: Case, steps: int) -> int:
    """Calls of the network of the action's head, or of its trunk where the head has none, for one chunk."""
    counted: list[int] = []
    name = case.design.graph.factor_of(ACTION).estimator
    plain = {"nfe": {}} if "nfe" in vars(case.config.estimators[name]) else {}
    design = warm(case, steps=steps, **plain)
    estimator = design.estimators[name]

    def count(*_: Any) -> None:
        counted.append(1)

    for label, module in estimator.named_modules():
        if label.rpartition(".")[2] == "level":  # every evaluation embeds the noise level of the action once
            module.register_forward_pre_hook(count)
    budgeted(case, design, Budget())
    return len(counted)


@oracle("ar.equilibrium-head")
def equilibrium_head(case: Case) -> None:
    """The action is where a descent rests: a deeper budget goes on from a shallow one; a settled row stops."""
    design = warm(case)
    short, spent = budgeted(case, design, Budget(nfe={ACTION: 3}))
    assert spent == 3
    left_early, spent = budgeted(case, design, Budget(nfe={ACTION: 6}, exit={ACTION: 3}))
    assert spent == 3
    assert torch.equal(short, left_early), (
        "the steps depend on how many there are, so there is no field to rest in"
    )
    deeper, _ = budgeted(case, design, Budget(nfe={ACTION: 6}))
    assert not torch.equal(short, deeper)
    resting, spent = budgeted(case, warm(case, tolerance=1e9), Budget())
    assert spent == 1, "a row within its tolerance goes on"
    walk = DescentWalk(torch.randn(2, 1, 1, 3), 0.5, 20, 0.3, 0.0)
    while walk.left:
        walk.advance(walk.value - 1.0, None)
    assert all((after < before).all() for before, after in pairwise(walk.residuals)), "the residual rises"
    torch.testing.assert_close(walk.value, torch.ones_like(walk.value), atol=1e-2, rtol=0)
    assert resting.isfinite().all()
