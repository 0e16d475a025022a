"""Oracles of goals: policies that follow one, encoders that read one, key frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.probes import disturb, drawn, own_parameters, told
from oracles.registry import calls, oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Observation, WindowSpec
from wamkit.design import Design
from wamkit.encoders import DepthEncoder, GestureEncoder, RegionEncoder

FRAMES = (5, 12, 20)


@oracle("ar.goal-policy")
def goal_policy(case: Case) -> None:
    """The executor is a part of its own: it follows what it is given, and another planner needs no new executor."""
    design = sharpen(case.untrained())
    graph = design.graph
    factor = graph.factor_of(ACTION)
    goals = [name for name in factor.given if name in graph.futures()]
    assert goals, "the action is given no goal"
    planners = {graph.factor_of(name).estimator for name in goals}
    assert factor.estimator not in planners, "one estimator plans and executes"
    observation = case.cut(design.window)
    beside = told(case, design, observation, set(factor.given) - set(goals))
    first, other = (
        {**beside, **{n: drawn(design, n, k + 10 * i) for i, n in enumerate(goals)}} for k in (1, 2)
    )
    followed = case.act(design, observation, given=first)
    assert not torch.equal(followed, case.act(design, observation, given=other)), "it follows no goal"
    assert own_parameters(design, factor.estimator, planners), "the executor has learned nothing"
    counters = [calls(design.estimators[name], "generate") for name in planners]
    assert torch.equal(followed, case.act(design, observation, given=first))
    assert not any(counters), "the planner runs although the goal is supplied"
    planned = case.act(design, observation)
    for name in planners:
        assert disturb(own_parameters(design, name, [factor.estimator])), (
            "the planner has no weight of its own"
        )
    assert torch.equal(followed, case.act(design, observation, given=first)), (
        "another planner, another executor"
    )
    assert not torch.equal(planned, case.act(design, observation)), "the planner does not matter"


@oracle("oe.goal-conditioner")
def goal_conditioner(case: Case) -> None:
    """Another goal changes what is generated; a dropped goal leaves what the other inputs say, whatever it was."""
    design = sharpen(case.untrained())
    regions = [e for e in design.encoders.values() if isinstance(e, RegionEncoder)]
    streams = [n for n in design.graph.futures() if design.graph.roles[n] == "goal"]
    assert design.reads_goal or regions or streams, "nothing reads a goal or a region"
    observation = case.cut(replace(design.window, goal=True))
    if design.reads_goal:
        goals = [observation.goal, replace(observation.steps([-1]), goal=None)]
        shown = [generated(case, design, replace(observation, goal=goal)) for goal in goals]
        assert not torch.equal(*shown), "another goal image changes nothing"
        without = generated(case, design, replace(observation, goal=None))
        hidden = [generated(case, design, replace(observation, goal=padded(goal))) for goal in goals]
        assert torch.equal(hidden[0], without)
        assert torch.equal(hidden[1], without)
    for region in regions:
        region_shown(case, design, region)
    if streams and not design.reads_goal:
        given = [{name: drawn(design, name, k) for name in streams} for k in (1, 2)]
        shown = [generated(case, design, observation, given=some) for some in given]
        assert not torch.equal(*shown), "another goal changes nothing"


def region_shown(case: Case, design: Design, region: RegionEncoder) -> None:
    """The crop contains the active pixels, another crop changes what is generated, none is like any other none."""
    seen = case.cut(design.window, FRAMES)
    boxes, present = region.boxes(seen)
    active = region.active(seen)
    assert present.any(), "no region in the recordings"
    for box, found, mask in zip(boxes, present, active, strict=True):
        if found:
            rows, columns = torch.nonzero(mask, as_tuple=True)
            for places, centre in ((rows, box[0]), (columns, box[1])):
                inside = (places + 0.5 - centre).abs() <= box[2] / 2
                assert inside.all(), "the crop cuts the region off"
    frame = FRAMES[int(present.int().argmax())]
    one = case.cut(design.window, (frame,))
    shape = one.pad.shape
    without = replace(one, missing={**one.missing, "region": torch.ones(shape, dtype=torch.bool)})
    assert not torch.equal(generated(case, design, one), generated(case, design, without))
    moved = replace(without, extras={**one.extras, **{n: one.extras[n].flip(-1) for n in region.extras}})
    assert torch.equal(generated(case, design, without), generated(case, design, moved)), "dropped, yet read"


def padded(goal: Observation | None) -> Observation | None:
    """The goal, flagged as not there."""
    return None if goal is None else replace(goal, pad=torch.ones_like(goal.pad))


def generated(case: Case, design: Design, observation: Observation, **more: object) -> Tensor:
    """The action, or the future of a design that does not act."""
    if case.acts:
        return case.act(design, observation, **more)
    given = {n: drawn(design, n, 3) for n in design.graph.of_role("action")}
    wanted = case.futures()[:1]
    return design.sample(observation, wanted, seeds=[1], given={**given, **more.get("given", {})}).values[
        wanted[0]
    ]


@oracle("st.spatial-control")
def spatial_control(case: Case) -> None:
    """The channel reaches the generator: a moved click moves what is generated, a dropped one leaves no trace."""
    design = sharpen(case.untrained())
    clicks = [e for e in design.encoders.values() if isinstance(e, GestureEncoder)]
    maps = [e for e in design.encoders.values() if isinstance(e, DepthEncoder)]
    assert clicks or maps, "nothing of the recipe is a spatial control"
    observation = case.cut(replace(design.window, goal=True))
    future = design.graph.of_role("future")
    wanted = next(f.generates[0] for f in design.graph.factors if set(f.generates) & future)

    def shown(seen: Observation) -> Tensor:
        return design.sample(seen, [wanted], seeds=[1]).values[wanted]

    plain = shown(observation)
    for encoder in (*clicks, *maps):
        for name in encoder.extras:
            if not name.startswith("camera."):
                value = observation.extras[name].float()
                moved = {**observation.extras, name: (value + 0.05).to(observation.extras[name].dtype)}
                assert not torch.equal(plain, shown(replace(observation, extras=moved))), name
    for encoder in clicks:
        places, known = encoder.points.places(observation)
        assert known.all(), "the recordings show no place that could be clicked"
        dropped = replace(
            observation, missing={**observation.missing, "gestures": torch.ones_like(observation.pad)}
        )
        if encoder.goal:
            other = replace(dropped, goal=replace(observation.steps([-1]), goal=None))
            assert torch.equal(shown(dropped), shown(other)), "dropped, yet read"
            assert torch.allclose(places[:, 0], encoder.points.places(other)[0][:, 1]), (
                "this is not where the object is"
            )
        assert not torch.equal(plain, shown(dropped)), "the clicks do not matter"


def milestoned(case: Case) -> dict[str, int]:
    """Streams that hold the next milestones, and how many of them."""
    config = case.config
    found = {name: future.milestones for name, future in config.futures.items() if future.milestones}
    if config.aim == "next":
        found |= dict.fromkeys(config.goals, 1)
    return found


@oracle("ps.keyframes")
def key_frames(case: Case) -> None:
    """One picture per milestone: the target stays the same until a milestone is passed, unlike a frame ahead."""
    found = milestoned(case)
    assert found, "nothing of the recipe is a key frame"
    design = case.design
    frames = list(range(0, 40, 2))
    batch = case.data.windows(np.array(frames), replace(design.training_window, milestones=4, goal=True))
    assert batch.milestones is not None
    for name, count in found.items():
        spec, substrate = design.streams[name], design.substrate(name)
        assert spec.steps == count, "as many pictures as milestones"
        values = design.targets(case.batch(frames, design))[name].values
        if not substrate.relative:
            wanted = substrate.encode(batch.milestones)[:, :count]
            assert torch.equal(values, wanted), "the target is not the milestone"
        assert len(values.flatten(1).unique(dim=0)) < len(frames) / 2, "the target moves on with every frame"
        ahead = case.data.windows(np.array(frames), WindowSpec(future=(8,))).future
        assert ahead is not None
        if not substrate.relative:
            dense = substrate.encode(ahead)
            assert len(dense.flatten(1).unique(dim=0)) > len(values.flatten(1).unique(dim=0))
        if (
            case.acts
            and name in design.graph.facing()
            and ACTION not in design.graph.factor_of(name).generates
        ):
            moves_action(case, name)


def moves_action(case: Case, name: str) -> None:
    """Another value of a stream that the action is generated from is another action."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    beside = told(case, design, observation, design.graph.ancestors([name]))
    shown = [case.act(design, observation, given={**beside, name: drawn(design, name, k)}) for k in (1, 2)]
    assert not torch.equal(*shown), f"{name} does not move the action"
