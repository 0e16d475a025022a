"""Guides that a design declares: weight zero is the base, more weight is more of the objective, taps included."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import ChunkConfig
from wamkit.config import decode, encode
from wamkit.contract.calls import Guide
from wamkit.contract.planning import ObjectiveConfig
from wamkit.contract.types import Budget, Forecast, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, GuideConfig
from wamkit.design.checkpoint import from_pretrained, save_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import ConfigError, SpecError
from wamkit.estimators import DenoiserConfig, FeatureTapConfig, ProposerConfig, RegressorConfig
from wamkit.planners import (
    CandidateScoringConfig,
    ConstraintConfig,
    GoalDistanceConfig,
    GoalImageObjectiveConfig,
    HighValueConfig,
)
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

SEEDS = [3, 4]
WEIGHTS = (0.0, 0.5, 1.0, 2.0)


def cascade(guide: GuideConfig | None, **changes: Any) -> DesignConfig:
    """A future, its value, and an action that reads both."""
    shared = DesignConfig(
        name="guided",
        horizon=4,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (2, 4)), "value": FutureConfig("body", (4,))},
        action=ChunkConfig(ticks_per_token=2),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={
            "video": DenoiserConfig(steps=4),
            "critic": RegressorConfig(),
            "policy": DenoiserConfig(steps=2),
        },
        factors=(
            Factor(("future",), (), "video"),
            Factor(("value",), ("future",), "critic"),
            Factor(("action",), ("future",), "policy"),
        ),
        controller=Chunked(execute=4),
        guide=guide,
    )
    return replace(shared, **changes)


def tapped(guide: GuideConfig | None) -> DesignConfig:
    """A policy that reads a hidden state of the video's third evaluation, which two guided steps precede (WAV)."""
    video = FeatureTapConfig(generator=DenoiserConfig(steps=4), evaluation=3)
    return cascade(
        guide,
        taps={"tap": "future"},
        estimators={"video": video, "critic": RegressorConfig(), "policy": DenoiserConfig(steps=2)},
        factors=(
            Factor(("future", "tap"), (), "video"),
            Factor(("value",), ("future",), "critic"),
            Factor(("action",), ("tap",), "policy"),
        ),
    )


def built(config: DesignConfig) -> Design:
    torch.manual_seed(0)
    return Design(config, data_spec()).eval()


def seen(design: Design, goal: int | None = None) -> Observation:
    toy = ToyWindows()
    observation = acting_observation(toy, [5, 90], design.window)
    return (
        observation
        if goal is None
        else replace(observation, goal=acting_observation(toy, [goal] * 2, design.window))
    )


def act(design: Design, budget: Budget | None = None, goal: int | None = None) -> Forecast:
    return design.forecast(seen(design, goal), design.initial_state(2), budget or Budget(), SEEDS)[0]


def same(a: Forecast, b: Forecast) -> bool:
    pairs = [(a.action, b.action), *((a.future[name], b.future[name]) for name in a.future)]
    return a.future.keys() == b.future.keys() and all(torch.equal(x, y) for x, y in pairs)


def height(future: Tensor) -> float:
    return future[:, -1].mean().item()


@pytest.mark.parametrize("build", [cascade, tapped])
@pytest.mark.parametrize(
    "objective",
    [HighValueConfig("future"), HighValueConfig("value")],
    ids=["read", "through a factor"],
)
def test_weight_zero_is_the_base_and_more_weight_raises_the_objective(
    build: Any, objective: HighValueConfig
) -> None:
    base = act(built(build(None)))
    guided = [act(built(build(GuideConfig("future", objective, weight)))) for weight in WEIGHTS]
    assert same(guided[0], base)
    heights = [height(forecast.future[objective.stream]) for forecast in guided]
    assert all(after > before + 1e-4 for before, after in itertools.pairwise(heights)), heights
    assert not torch.equal(guided[-1].action, base.action)  # the action follows the guided future
    assert guided[-1].nfe["future"] == base.nfe["future"]


def test_a_future_behind_a_tap_is_guided_even_where_only_the_action_is_wanted() -> None:
    guide = GuideConfig("future", HighValueConfig("future"), 4.0)
    quick = Budget(future=False)
    plain, guided = act(built(tapped(None)), quick), act(built(tapped(guide)), quick)
    assert guided.future == plain.future == {}
    assert not torch.equal(plain.action, guided.action)
    assert torch.equal(
        guided.action, act(built(tapped(guide))).action
    )  # the future beside it changes nothing
    early = replace(quick, exit={"tap": 1})  # pure noise: nothing has been guided yet
    assert torch.equal(act(built(tapped(None)), early).action, act(built(tapped(guide)), early).action)


def test_the_callers_goal_steers() -> None:
    guide = GuideConfig("future", GoalImageObjectiveConfig(), 1.0)
    plain, design = act(built(cascade(None))), built(cascade(guide))
    assert design.reads_goal
    for goal in (0, 200):
        aim = design.substrate("future").encode(seen(design, goal).goal)  # type: ignore[arg-type]
        near, far = (
            (f.future["future"][:, -1:] - aim).square().mean().item() for f in (act(design, goal=goal), plain)
        )
        assert near < 0.7 * far
    with pytest.raises(SpecError, match=r"observation\.goal is missing"):
        act(design)


def test_an_action_is_kept_in_a_box_in_its_own_units() -> None:
    box = ConstraintConfig("action", entries=("dx",), low=(-0.1,), high=(0.1,))
    outside = []
    for weight in (0.0, 1.0, 10.0):
        action = act(built(cascade(GuideConfig("action", box, weight)))).action[..., 0]
        outside.append((action.abs() - 0.1).clamp(min=0).mean().item())
    assert outside[0] > outside[1] > outside[2]


def test_a_goal_stream_is_known_to_the_guide_and_generated_for_it() -> None:
    config = cascade(GuideConfig("future", GoalDistanceConfig("future", "goal"), 1.0), goals={"goal": "body"})
    goal = Factor(("goal",), (), "dreamer")
    config = replace(
        config,
        estimators={**config.estimators, "dreamer": RegressorConfig()},
        factors=(goal, *config.factors),
    )
    plain, guided = built(replace(config, guide=None)), built(config)
    assert set(act(guided).nfe) == {"future", "value", "action", "goal"}
    assert "goal" not in act(plain).nfe
    wanted = torch.full((2, 1, 1, 4), 1.5)
    gaps = []
    for design in (plain, guided):
        sampled = design.sample(seen(design), ["future"], seeds=SEEDS, given={"goal": wanted})
        gaps.append((sampled.values["future"][:, -1:] - wanted).square().mean().item())
    assert gaps[1] < 0.7 * gaps[0]
    late = replace(config, factors=(*config.factors[1:], goal))
    with pytest.raises(ConfigError, match="goal is read by the objective, but generated after 'future'"):
        built(late)


def test_a_callers_guide_replaces_the_designs_and_sees_what_is_known() -> None:
    design = built(cascade(GuideConfig("future", HighValueConfig("future"), 2.0)))
    names: set[str] = set()

    def flat(values: Mapping[str, Tensor]) -> Tensor:
        names.update(values)
        return 0.0 * values["action"].sum(dim=(1, 2, 3))

    sampled = design.sample(seen(design), ["action"], seeds=SEEDS, guide=Guide("action", flat))
    assert {"future", "action"} <= names
    plain = built(cascade(None)).sample(seen(design), ["action"], seeds=SEEDS)
    assert torch.equal(sampled.values["action"], plain.values["action"])


def test_a_planner_chooses_among_guided_proposals() -> None:
    """The guide acts on every candidate, whose rows are n per robot."""
    guide = GuideConfig("action", HighValueConfig("future"), 3.0)
    planner = CandidateScoringConfig(candidates=3, objective=HighValueConfig("future"))
    config = cascade(
        guide,
        estimators={
            "policy": DenoiserConfig(steps=3),
            "video": RegressorConfig(),
            "critic": RegressorConfig(),
        },
        factors=(
            Factor(("action",), (), "policy"),
            Factor(("future",), ("action",), "video"),
            Factor(("value",), ("future",), "critic"),
        ),
        planner=planner,
    )
    plain, guided = act(built(replace(config, guide=None))), act(built(config))
    assert (guided.costs < plain.costs).all()  # type: ignore[operator]


def test_a_guide_is_saved_shown_and_loaded(tmp_path: Path) -> None:
    config = cascade(GuideConfig("future", HighValueConfig("value"), 1.5))
    assert decode(DesignConfig, encode(config), "here") == config
    design = built(config)
    assert design.describe()["guide"] == {"stream": "future", "objective": "value", "weight": 1.5}
    assert built(cascade(None)).describe()["guide"] is None
    save_pretrained(design, tmp_path / "model")
    assert same(act(from_pretrained(tmp_path / "model")), act(design))


WRONG: Mapping[str, tuple[str, ObjectiveConfig, str]] = {
    "unknown": ("futur", HighValueConfig("value"), "guide: unknown stream 'futur'. Did you mean 'future'"),
    "regressor": (
        "value",
        HighValueConfig("value"),
        "'critic' of stream 'value' cannot be steered.*candidate_scoring",
    ),
    "unrelated": ("action", HighValueConfig("value"), "none of which is 'action' or generated from it"),
    "objective": ("future", HighValueConfig("valu"), "unknown stream 'valu'"),
}


@pytest.mark.parametrize("name", sorted(WRONG))
def test_guides_that_steer_nothing_are_refused(name: str) -> None:
    stream, objective, message = WRONG[name]
    with pytest.raises(ConfigError, match=message):
        built(cascade(GuideConfig(stream, objective)))


def test_a_stream_beside_the_steered_one_is_no_consequence_of_it() -> None:
    config = cascade(
        GuideConfig("action", HighValueConfig("future")),
        estimators={"video": DenoiserConfig(steps=2), "critic": ProposerConfig()},
        factors=(Factor(("future", "action"), (), "video"), Factor(("value",), ("future",), "critic")),
    )
    with pytest.raises(ConfigError, match="Steer what it reads"):
        built(config)
