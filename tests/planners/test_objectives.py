"""Objectives in closed form, and designs whose planner chooses by them: what is chosen, kept and refused."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import ChunkConfig
from wamkit.config import decode, encode
from wamkit.contract.planning import Objective, ObjectiveConfig, PlannerConfig
from wamkit.contract.protocols import Meanings
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import BudgetError, ConfigError, SpecError
from wamkit.estimators import DenoiserConfig, ProposerConfig, RegressorConfig
from wamkit.planners import (
    CandidateScoringConfig,
    CEMConfig,
    ConstraintConfig,
    GoalDistanceConfig,
    GoalImageObjectiveConfig,
    HighValueConfig,
    MPPIConfig,
    SumConfig,
)
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

ROWS, SEEDS = 2, [3, 4]


def base(**changes: object) -> DesignConfig:
    """Proposals, a body that follows them, and a second stream that stands for a value."""
    shared = DesignConfig(
        name="chooser",
        horizon=4,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (2, 4)), "value": FutureConfig("body", (4,))},
        action=ChunkConfig(ticks_per_token=2),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"policy": ProposerConfig(), "world": RegressorConfig(), "critic": RegressorConfig()},
        factors=(
            Factor(("action",), (), "policy"),
            Factor(("future",), ("action",), "world"),
            Factor(("value",), ("future",), "critic"),
        ),
        controller=Chunked(execute=4),
    )
    return replace(shared, **changes)  # type: ignore[arg-type]


def joint(planner: PlannerConfig | None, **options: object) -> DesignConfig:
    """One denoiser of the action, where it leads and what that is worth."""
    return base(
        estimators={"world": DenoiserConfig(steps=3, **options)},  # type: ignore[arg-type]
        factors=(Factor(("future", "value", "action"), (), "world"),),
        planner=planner,
    )


def built(config: DesignConfig) -> Design:
    torch.manual_seed(0)
    return Design(config, data_spec()).eval()


def seen(design: Design) -> Observation:
    return acting_observation(ToyWindows(), [5, 90], design.window)


def act(design: Design, budget: Budget | None = None, observation: Observation | None = None) -> Forecast:
    observation = seen(design) if observation is None else observation
    return design.forecast(observation, design.initial_state(ROWS), budget or Budget(), SEEDS)[0]


def built_objective(config: ObjectiveConfig) -> Objective:
    design = built(base())
    substrates = {name: design.substrate(name) for name in design.config.futures}
    return config.build(Meanings(design.data, design.streams, design.action, substrates, {}))


# ----------------------------------------------------------------------------------------------- closed forms


def test_a_value_is_the_mean_of_the_last_step_or_of_all() -> None:
    values = {"future": torch.arange(16.0).view(1, 2, 1, 8)[..., :4]}
    last = built_objective(HighValueConfig("future"))
    every = built_objective(HighValueConfig("future", over="mean"))
    assert last.score(values, {}).tolist() == [9.5]
    assert every.score(values, {}).tolist() == [5.5]


@pytest.mark.parametrize(
    ("keep", "x", "y", "penalty"),
    [
        ("in", 0.3, 0.1, 0.0), ("in", 0.9, 0.1, 0.16), ("in", 0.9, -0.3, 0.25), ("out", 0.9, 0.1, 0.0),
        ("out", 0.3, 0.1, 0.01), ("out", 0.05, 0.1, 0.0025), ("out", 0.3, -0.3, 0.0),
    ],
)  # fmt: skip
def test_a_constraint_is_the_squared_way_out_of_the_box_or_into_it(
    keep: str, x: float, y: float, penalty: float
) -> None:
    """The box is 0 to 0.5 times 0 to 0.2, in the units of the action's own spec."""
    config = ConstraintConfig("action", entries=("dx", "dz"), low=(0.0, 0.0), high=(0.5, 0.2), keep=keep)  # type: ignore[arg-type]
    design = built(base())
    action = torch.tensor([x, 0.7, y, -0.4]).expand(1, 4, 4)
    score = built_objective(config).score({"action": design.action.encode(action)}, {})
    assert score.item() == pytest.approx(-penalty, abs=1e-5)


def test_a_constraint_of_a_future_is_in_the_units_of_its_reading() -> None:
    design = built(base())
    state = torch.tensor([[[0.4, 9.0, 9.0, 9.0]]]).expand(1, 2, 4)
    rows = Observation({}, state, ("go",), torch.zeros(1, 2, dtype=torch.bool))
    values = {"future": design.substrate("future").encode(rows)}
    config = ConstraintConfig("future", "state", entries=("x_m",), low=(0.0,), high=(0.1,))
    assert built_objective(config).score(values, {}).item() == pytest.approx(-0.09, abs=1e-5)


def test_a_sum_is_the_weighted_sum_and_names_what_all_parts_read() -> None:
    near, high = GoalDistanceConfig("future", "value"), HighValueConfig("value")
    total = built_objective(SumConfig({"near": near, "high": high}, {"high": -2.0}))
    g = torch.Generator().manual_seed(0)
    values = {"future": torch.randn(3, 2, 1, 4, generator=g), "value": torch.randn(3, 1, 1, 4, generator=g)}
    expected = built_objective(near).score(values, {}) - 2 * built_objective(high).score(values, {})
    torch.testing.assert_close(total.score(values, {}), expected)
    assert total.reads == ("future", "value")


# -------------------------------------------------------------------------------------------------- in a design


def scored(design: Design, observation: Observation) -> tuple[Tensor, Tensor]:
    """Cost (B,) of a planned action, and the score (B,) of what the design predicts of it when it is given."""
    sampled = design.sample(observation, ["action"], seeds=SEEDS)
    given = {"action": sampled.values["action"]}
    values = design.sample(observation, ["future", "value"], seeds=SEEDS, given=given).values
    assert sampled.cost is not None
    assert design.graph.objective is not None
    aims = {}
    if observation.goal is not None:
        aims = {"future": design.substrate("future").encode(observation.goal)}
    return sampled.cost, design.graph.objective.score({**values, **given}, aims)


OBJECTIVES: Mapping[str, ObjectiveConfig] = {
    "value": HighValueConfig("value"),
    "far": SumConfig({"near": GoalDistanceConfig("future", "value")}, {"near": -1.0}),
    "box": ConstraintConfig("future", "state", entries=("x_m",), low=(-0.2,), high=(0.2,)),
}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_the_cheapest_candidate_is_executed_and_all_costs_are_kept(name: str) -> None:
    design = built(base(planner=CandidateScoringConfig(candidates=6, objective=OBJECTIVES[name])))
    forecast = act(design)
    assert forecast.costs is not None
    assert forecast.cost is not None
    assert forecast.costs.shape == (ROWS, 6)
    assert torch.equal(forecast.cost, forecast.costs.min(dim=1).values)
    assert len(forecast.costs[0].unique()) > 1
    cost, score = scored(design, seen(design))
    assert torch.equal(cost, forecast.cost)
    torch.testing.assert_close(-cost, score, atol=1e-5, rtol=1e-4)
    more = [act(design, Budget(candidates=n)).cost for n in (1, 2, 4, 6)]
    assert all(bool((b <= a).all()) for a, b in itertools.pairwise(more))  # type: ignore[operator]


def test_one_candidate_is_the_base_policy() -> None:
    planner = CandidateScoringConfig(candidates=1, objective=HighValueConfig("value"))
    planned, plain = act(built(base(planner=planner))), act(built(base()))
    assert torch.equal(planned.action, plain.action)
    assert torch.equal(planned.future["value"], plain.future["value"])
    assert plain.costs is None


def test_a_call_without_futures_takes_the_first_proposal_and_predicts_nothing() -> None:
    """What a routine phase costs: the base policy, not the world model."""
    design = built(base(planner=CandidateScoringConfig(candidates=4, objective=HighValueConfig("value"))))
    routine, plain = act(design, Budget(future=False)), act(built(base()), Budget(future=False))
    assert torch.equal(routine.action, plain.action)
    assert routine.nfe == plain.nfe
    assert routine.future == {}
    assert routine.costs is None


@pytest.mark.parametrize("kind", [CEMConfig, MPPIConfig])
def test_searching_planners_take_any_objective(kind: type[CEMConfig] | type[MPPIConfig]) -> None:
    planner = kind(candidates=16, iterations=2, objective=HighValueConfig("value"))
    design = built(base(planner=planner))
    found, first = act(design), act(design, Budget(candidates=1, iterations=0))
    assert design.factorisation() == "p(a|c) p(s1|a,c) p(s2|s1,c) then select argmax V(s2)"
    assert (found.cost < first.cost).all()  # type: ignore[operator]


def test_an_objective_of_the_action_alone_is_no_foresight() -> None:
    box = ConstraintConfig("action", entries=("dx",), low=(-0.1,), high=(0.1,))
    design = built(base(planner=CandidateScoringConfig(objective=box)))
    assert "selects" not in design.graph.wam().paths
    assert act(design, Budget(future=False)).future == {}


def test_the_callers_goal_image_is_reached_for() -> None:
    """Two goals, two choices: each is the candidate whose future is nearest to the encoded goal."""
    design = built(base(planner=CandidateScoringConfig(candidates=8, objective=GoalImageObjectiveConfig())))
    assert design.reads_goal
    assert not design.training_window.goal
    chosen = []
    for frame in (0, 200):
        toy = ToyWindows()
        goal = acting_observation(toy, [frame, frame], design.window)
        observation = replace(seen(design), goal=goal)
        cost, score = scored(design, observation)
        torch.testing.assert_close(-cost, score)
        chosen.append(act(design, observation=observation).action)
    assert not torch.equal(*chosen)
    with pytest.raises(SpecError, match=r"observation\.goal is missing.*Set `goal`"):
        act(design)


# ------------------------------------------------------------------------------- an action beside its future


def test_joint_samples_are_chosen_by_what_was_sampled_with_them() -> None:
    """Best of n: one candidate is the joint sample itself, and the winner brings its own future and value."""
    planner = CandidateScoringConfig(candidates=5, together=True, objective=HighValueConfig("value"))
    design = built(joint(planner))
    assert design.factorisation() == "p(s1,s2,a|c) then select argmax V(s2)"
    assert design.graph.wam().paths == ("joint", "selects")
    one, plain = act(design, Budget(candidates=1)), act(built(joint(None)))
    assert torch.equal(one.action, plain.action)
    assert torch.equal(one.future["value"], plain.future["value"])
    best = act(design)
    value = best.future["value"][:, -1:].flatten(1).mean(dim=1)
    torch.testing.assert_close(value, -best.costs.min(dim=1).values)  # type: ignore[union-attr]
    assert best.nfe == {"action": 3, "future": 3, "value": 3}  # nothing is predicted a second time


def test_the_same_denoiser_predicts_the_future_of_a_given_action() -> None:
    """Candidates from p(a|c) where the future may be left out, scored by p(s|a,c): UWM's two roles in one planner."""
    planner = CandidateScoringConfig(candidates=4, objective=HighValueConfig("value"))
    hidden = {"future": 0.2, "value": 0.2}
    design = built(joint(planner, clean={"action": 0.2}, absent=hidden))
    forecast = act(design)
    assert torch.equal(forecast.cost, forecast.costs.min(dim=1).values)  # type: ignore[arg-type, union-attr]
    alone = built(joint(None, clean={"action": 0.2}, absent=hidden))
    proposal = act(alone, Budget(future=False)).action  # the marginal policy
    assert torch.equal(act(design, Budget(candidates=1)).action, proposal)
    moved = act(design, Budget(candidates=1)).future["future"]
    assert not torch.equal(moved, act(alone).future["future"])
    searched = built(
        joint(CEMConfig(candidates=8, elites=3, objective=HighValueConfig("value")), clean={"action": 0.2})
    )
    assert act(searched).costs.shape == (ROWS, 24)  # type: ignore[union-attr]


def test_an_action_centred_denoiser_predicts_too_but_one_that_never_saw_actions_does_not() -> None:
    planner = CandidateScoringConfig(candidates=2, objective=HighValueConfig("value"))
    centred = joint(planner, clean={"action": 0.2}, reads={"action": ()})
    assert act(built(centred)).costs is not None
    blind = {"future": ("value",), "value": ("future",), "action": ("future",)}
    for options in ({}, {"clean": {"action": 0.2}, "reads": blind}):
        with pytest.raises(
            ConfigError, match=r"together: true.*'action' in its `clean`.*a factor of its own"
        ):
            built(joint(planner, **options))
    with pytest.raises(ConfigError, match="samples nothing with it that the objective reads"):
        built(base(planner=replace(planner, together=True)))


def test_a_planned_action_is_not_changed_by_rounds_afterwards() -> None:
    planner = CandidateScoringConfig(candidates=2, together=True, objective=HighValueConfig("value"))
    design = built(joint(planner, clean={"action": 0.2, "future": 0.2, "value": 0.2}))
    with pytest.raises(BudgetError, match="rounds=1"):
        act(design, Budget(rounds=1))


# ------------------------------------------------------------------------------------------------------ refusals


WRONG: Mapping[str, tuple[ObjectiveConfig, str]] = {
    "stream": (HighValueConfig("valu"), "unknown stream 'valu'. Did you mean 'value'"),
    "shape": (GoalDistanceConfig("future", "action"), "cannot be compared. Give both one substrate"),
    "entry": (ConstraintConfig("action", entries=("dw",)), "no entry 'dw'. Known: 0, 1, 2, 3, dx"),
    "reading": (ConstraintConfig("future", reading="plac"), "no reading 'plac'"),
    "weight": (SumConfig({"a": HighValueConfig("value")}, {"b": 1.0}), "weights: no part 'b'"),
    "nothing": (SumConfig(), "parts is empty"),
    "goal": (GoalImageObjectiveConfig("action"), "has no substrate. Name a future"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_objectives_that_do_not_fit_are_refused(name: str) -> None:
    objective, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        built(base(planner=CandidateScoringConfig(objective=objective)))


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match="one value per entry"):
        ConstraintConfig(entries=("dx",), low=(0.0, 1.0), high=(1.0,))
    with pytest.raises(ConfigError, match="must not be above"):
        ConstraintConfig(entries=("dx",), low=(2.0,), high=(1.0,))
    with pytest.raises(ConfigError, match="not read beside an objective"):
        CEMConfig(future="video", objective=HighValueConfig("value"))


def test_a_planner_survives_its_file() -> None:
    parts: dict[str, ObjectiveConfig] = {"high": HighValueConfig("value"), "box": OBJECTIVES["box"]}
    config = base(planner=CEMConfig(objective=SumConfig(parts, {"box": 10.0})))
    assert decode(DesignConfig, encode(config), "here") == config
    assert np.isfinite(act(built(config)).action.numpy()).all()
