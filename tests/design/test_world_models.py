"""World models without a policy: futures of a given action, ``p(s|a,c)``, and of the observation alone, ``p(s|c)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from support import ToyWindows, acting_observation, data_spec
from wamkit.actions import BinsConfig, ChunkConfig, ColumnsConfig
from wamkit.contract.protocols import EstimatorConfig
from wamkit.contract.types import Batch, Budget
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig, from_pretrained, save_pretrained
from wamkit.encoders import StateConfig
from wamkit.errors import BudgetError, ConfigError, SpecError
from wamkit.estimators import DenoiserConfig, ProposerConfig, RegressorConfig, StateSpaceConfig
from wamkit.imagination.unrolling import unroll, world_step
from wamkit.planners import CEMConfig
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig

STEP, HORIZON = 4, 8
WINDOWS = ToyWindows(80)


def model(*given: str, estimator: EstimatorConfig | None = None) -> DesignConfig:
    """A world model of the robot's state, whose future follows the action if that is given."""
    return DesignConfig(
        name="world",
        horizon=HORIZON,
        stride=STEP,
        width=16,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"future": FutureConfig("body", (STEP, HORIZON))},
        trunks={"main": TransformerConfig(width=16, depth=1, heads=2)},
        estimators={"world": estimator or RegressorConfig()},
        factors=(Factor(("future",), given, "world"),),
        given=given,
    )


def recurrent() -> DesignConfig:
    """A world model that keeps a past: a state space whose action is given."""
    return replace(
        model("action"),
        states={"latent": 24},
        encoders={},
        trunks={},
        estimators={"world": StateSpaceConfig(stochastic=8, hidden=16, past=2)},
        factors=(Factor(("latent",), (), "world"), Factor(("future",), ("latent", "action"), "world")),
    )


def made(config: DesignConfig) -> Design:
    torch.manual_seed(0)
    return Design(config, data_spec())


def cut(design: Design, *index: int) -> Batch:
    return WINDOWS.windows(np.array(index), design.training_window)


def trained(config: DesignConfig, steps: int = 3) -> Design:
    design = made(config)
    optimizer = torch.optim.Adam(design.parameters(), 1e-2)
    for step in range(steps):
        optimizer.zero_grad()
        design.loss(cut(design, 8 + step, 30 + step)).total.backward()
        optimizer.step()
    return design.eval()


def test_what_is_derived() -> None:
    video, world = made(model()), made(model("action"))
    for design, formula in ((video, "p(s|c)"), (world, "p(s|a,c)"), (made(recurrent()), "p(z|c) p(s|z,a,c)")):
        facts = design.describe()
        assert facts["formula"] == formula
        assert (facts["kind"], facts["is_wam"], facts["wam_paths"]) == ("world model", False, [])
        assert (facts["tuple"]["coupling"], facts["tuple"]["deployment"]) == ("None", "None")
    assert set(video.streams) == {"future"}
    assert set(world.streams) == {"future", "action"}
    assert set(world.loss(cut(world, 8)).terms) == {"future"}


def test_a_world_model_follows_the_given_action_and_not_what_stands_under_its_padding() -> None:
    design = trained(model("action"))
    batch = cut(design, 70, 74, 78)  # of 80 frames: the last windows end outside the episode
    assert batch.action_pad.any()
    rng = torch.Generator().manual_seed(1)
    noise = torch.randn(batch.action.shape, generator=rng)
    outside = replace(batch, action=torch.where(batch.action_pad[..., None], noise, batch.action))
    inside = replace(batch, action=torch.where(batch.action_pad[..., None], batch.action, noise))
    loss = design.loss(batch).total
    assert torch.equal(loss, design.loss(outside).total)
    assert not torch.equal(loss, design.loss(inside).total)
    seen = acting_observation(WINDOWS, [20, 21], design.window)
    actions = torch.randn(2, 2, HORIZON, 4, generator=rng)
    first, second = (
        design.sample(seen, ["future"], seeds=[0, 1], given={"action": design.action.encode(a)}).values[
            "future"
        ]
        for a in actions
    )
    assert not torch.allclose(first, second)


@pytest.mark.parametrize("estimator", [RegressorConfig(), DenoiserConfig(steps=2)])
def test_no_action_changes_a_video_model(estimator: EstimatorConfig) -> None:
    """Other actions, and whether there are any, leave its loss and its gradient bit-identical."""
    design = made(model(estimator=estimator))
    batch = cut(design, 10, 20)
    found = []
    none = torch.ones_like(batch.action_pad)
    for changed in (batch, replace(batch, action=-3 * batch.action), replace(batch, action_pad=none)):
        torch.manual_seed(5)
        design.zero_grad()
        loss = design.loss(changed).total
        loss.backward()
        found.append((loss.detach(), [p.grad for p in design.parameters() if p.grad is not None]))
    assert found[0][0] > 0
    for loss, gradients in found[1:]:
        assert torch.equal(loss, found[0][0])
        assert all(torch.equal(a, b) for a, b in zip(gradients, found[0][1], strict=True))


@pytest.mark.parametrize(
    "config", [model(), model("action"), recurrent()], ids=["video", "world", "recurrent"]
)
def test_what_acts_refuses_before_any_work(config: DesignConfig) -> None:
    design = made(config).eval()
    calls: tuple[Callable[[], object], ...] = (
        lambda: design.forecast(acting_observation(WINDOWS, [8], design.window), {}, Budget(), [0]),
        lambda: design.check_budget(Budget()),
        design.check_acts,
    )
    for call in calls:
        with pytest.raises(
            ConfigError, match=r"design 'world' is a world model.*does not act.*`wamkit predict`"
        ):
            call()


def test_an_action_that_is_not_given_is_asked_for() -> None:
    design = made(model("action")).eval()
    seen = acting_observation(WINDOWS, [8], design.window)
    with pytest.raises(
        BudgetError, match=r"stream 'action' is not generated by p\(s\|a,c\): the caller gives it"
    ):
        design.sample(seen, ["future"], seeds=[0])
    with pytest.raises(SpecError, match="given stream 'action'"):
        design.sample(seen, ["future"], seeds=[0], given={"action": torch.zeros(1, 2, 1, 4)})
    with pytest.raises(BudgetError, match="stream 'action' is given, so nothing is spent on it"):
        design.sample(seen, ["future"], seeds=[0], budget=Budget(nfe={"action": 2}))
    with pytest.raises(ConfigError, match="follows a given action and has none of its own"):
        world_step(design, seen, None, seeds=[0], budget=Budget())
    video = made(model()).eval()
    with pytest.raises(ConfigError, match="has no action to follow"):
        world_step(video, seen, torch.zeros(1, HORIZON, 4), seeds=[0], budget=Budget())


def test_a_given_action_unrolls() -> None:
    """Step k starts from the state that was predicted under the actions of the steps before."""
    design = trained(recurrent())
    seen = acting_observation(WINDOWS, [8, 20], design.window)
    rng = torch.Generator().manual_seed(2)
    actions = torch.randn(3, 2, HORIZON, 4, generator=rng)

    def roll(chosen: torch.Tensor) -> list[torch.Tensor]:
        state = design.initial_state(2)
        steps = unroll(design, seen, state, 3, seeds=[0, 1], choose=lambda k, _: chosen[k])
        return [step.future["future"] for step in steps]

    changed = actions.clone()
    changed[1] += 1.0
    kept, other = roll(actions), roll(changed)
    assert torch.equal(kept[0], other[0])
    assert not torch.allclose(kept[1], other[1])
    assert not torch.allclose(kept[2], other[2])
    with pytest.raises(ConfigError, match="follows a given action and has none of its own"):
        unroll(design, seen, design.initial_state(2), 3, seeds=[0, 1])


@pytest.mark.parametrize(
    "config", [model(), model("action"), recurrent()], ids=["video", "world", "recurrent"]
)
def test_saved_and_loaded_it_predicts_the_same(config: DesignConfig, tmp_path: Path) -> None:
    design = trained(config)
    save_pretrained(design, tmp_path)
    again = from_pretrained(tmp_path)
    assert again.config == config
    batch = cut(design, 10, 20)
    seen = batch.observation.steps(slice(-1, None))
    given = {name: design.targets(batch)[name].values for name in config.given}
    first, second = (
        d.sample(seen, ["future"], seeds=[1, 2], given=given).values["future"] for d in (design, again)
    )
    assert torch.equal(first, second)


def test_a_goal_can_be_given_too() -> None:
    """A policy towards a goal that the caller knows: it acts when the goal is given, and says so when it is not."""
    config = replace(
        model(),
        futures={},
        goals={"goal": "body"},
        factors=(Factor(("action",), ("goal",), "world"),),
        given=("goal",),
        action=ChunkConfig(ticks_per_token=HORIZON),
    )
    design = trained(config)
    assert design.factorisation() == "p(a|g,c)"
    assert design.describe()["kind"] == "VLA"
    seen = acting_observation(WINDOWS, [8], design.window)
    state = design.initial_state(1)
    first, second = (
        design.forecast(seen, state, Budget(), [0], given={"goal": torch.full((1, 1, 1, 4), x)})[0].action
        for x in (-1.0, 1.0)
    )
    assert not torch.allclose(first, second)
    for call in (lambda: design.forecast(seen, state, Budget(), [0]), lambda: design.check_budget(Budget())):
        with pytest.raises(
            BudgetError, match="stream 'goal' is not generated"
        ):  # in a closed loop nobody knows it
            call()
    with pytest.raises(ConfigError, match="goal stream 'goal' is given"):
        design.check_given("goal")


def test_what_makes_no_sense_is_refused() -> None:
    world = model("action")
    with pytest.raises(ConfigError, match=r"given: unknown stream 'acton'. Did you mean 'action'"):
        made(replace(world, given=("acton", "action")))
    acted = (Factor(("action",), (), "policy"), Factor(("future",), ("action",), "world"))
    estimators: dict[str, EstimatorConfig] = {**world.estimators, "policy": RegressorConfig()}
    with pytest.raises(ConfigError, match="stream 'action' is also generated by a factor"):
        made(replace(world, factors=acted, estimators=estimators))
    with pytest.raises(ConfigError, match="stream 'action' is read by no factor"):
        made(replace(model(), given=("action",)))
    with pytest.raises(ConfigError, match="stream 'future' is a future, which no caller knows"):
        made(replace(model(), factors=(Factor(("action",), ("future",), "world"),), given=("future",)))
    with pytest.raises(ConfigError, match="loss_weights: stream 'action' is given, so it has no loss"):
        made(replace(world, loss_weights={"action": 1.0}))
    with pytest.raises(
        ConfigError, match=r"actions: .'tokens'. stand beside the executed action, but no factor"
    ):
        made(replace(world, actions={"tokens": BinsConfig()}))
    whole = replace(recurrent(), given=(), controller=Chunked(STEP))
    whole = replace(
        whole,
        estimators={**whole.estimators, "policy": RegressorConfig(), "arm": RegressorConfig()},
        encoders=world.encoders,
        trunks=world.trunks,
        factors=(
            whole.factors[0],
            Factor(("action",), ("latent",), "policy"),
            Factor(("arm",), ("latent",), "arm"),
            whole.factors[1],
        ),
    )
    with pytest.raises(
        ConfigError, match=r"remembers the stream 'action', which owns only a part .*\['arm'\]"
    ):
        made(
            replace(
                whole, action=ColumnsConfig(("grip",)), actions={"arm": ColumnsConfig(("dx", "dy", "dz"))}
            )
        )
    other = (*whole.factors[:3], Factor(("future",), ("latent", "arm"), "world"))
    with pytest.raises(ConfigError, match=r"keeps a past of the stream 'action', but reads \['arm'\]"):
        made(replace(whole, actions={"arm": ChunkConfig()}, factors=other))
    planner = CEMConfig(candidates=4, iterations=1, elites=2)
    goal: dict[str, EstimatorConfig] = {**world.estimators, "goal": ProposerConfig()}
    factors = (Factor(("goal",), (), "goal"), *world.factors)
    with pytest.raises(ConfigError, match="planner: no factor generates an action to choose"):
        made(replace(world, goals={"goal": "body"}, estimators=goal, factors=factors, planner=planner))
