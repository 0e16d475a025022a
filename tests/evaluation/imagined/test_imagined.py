"""Policies of known quality are ranked by a world model as by the world (`ev.wm-evaluator`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.actions import ChunkConfig
from wamkit.contract.data import DataSpec
from wamkit.contract.specs import ActionSpec, ObservationSpec
from wamkit.contract.types import Batch, Observation
from wamkit.controllers import Chunked
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.encoders import StateConfig
from wamkit.errors import BudgetError, ConfigError, DataError
from wamkit.estimators import RegressorConfig
from wamkit.evaluation.imagined.proxy import ProxyReport, trust
from wamkit.evaluation.imagined.scorers import SuccessProbe
from wamkit.evaluation.imagined.stage import DreamPlan, DreamSetup
from wamkit.imagination.dreams import DesignPolicy, Dream, dream
from wamkit.substrates import ProprioceptionConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

STEP, SPEED, REACH, STEPS = 4, 0.05, 0.15, 6
NOISES = (0.0, 0.3, 0.6, 1.0, 1.5, 2.5, 4.0)


def spec() -> DataSpec:
    """A point in the plane that is pushed by its action; the origin is the goal."""
    rows = {"mean": 0.0, "std": 0.6, "min": -1.0, "max": 1.0, "q01": -1.0, "q99": 1.0}
    stats = {name: np.full(2, value) for name, value in rows.items()}
    return DataSpec(
        ObservationSpec({}, ("x_m", "y_m"), 20.0),
        ActionSpec(("dx", "dy"), (-1.0, -1.0), (1.0, 1.0), 20.0),
        {"action": stats, "observation.state": stats},
    )


def config() -> DesignConfig:
    return DesignConfig(
        name="plane",
        horizon=STEP,
        stride=STEP,
        width=32,
        encoders={"state": StateConfig()},
        substrates={"body": ProprioceptionConfig()},
        futures={"body": FutureConfig("body", (STEP,))},
        action=ChunkConfig(ticks_per_token=STEP),
        trunks={"main": TransformerConfig(width=32, depth=1, heads=2)},
        estimators={"policy": RegressorConfig(), "world": RegressorConfig()},
        factors=(Factor(("action",), (), "policy"), Factor(("body",), ("action",), "world")),
        controller=Chunked(STEP),
    )


def move(state: Tensor, action: Tensor) -> Tensor:
    """The world itself: (B, 2) and (B, H, 2) -> (B, 2)."""
    return state + SPEED * action.sum(dim=1)


def at(state: Tensor) -> Observation:
    rows = len(state)
    return Observation({}, state[:, None], ("go home",) * rows, torch.zeros(rows, 1, dtype=torch.bool))


def expert(state: Tensor) -> Tensor:
    """The constant action that reaches the origin in a step, as far as the limits allow, (B, H, 2)."""
    return (-state / (SPEED * STEP)).clamp(-1, 1)[:, None].expand(-1, STEP, -1)


def starts(count: int, seed: int) -> Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def world() -> Design:
    """Trained for a few seconds on random pushes, as a policy on the expert's."""
    torch.manual_seed(0)
    design = Design(config(), spec())
    optimiser = torch.optim.Adam(design.parameters(), 3e-3)
    rng = torch.Generator().manual_seed(1)
    for i in range(400):
        state = torch.rand(64, 2, generator=rng) * 2.4 - 1.2
        action = torch.rand(64, 1, 2, generator=rng).expand(-1, STEP, -1) * 2 - 1
        action = expert(state) if i % 2 else action
        none = torch.zeros(64, STEP, dtype=torch.bool)
        batch = Batch(at(state), action, none, future=at(move(state, action)))
        terms = design.loss(batch).terms
        loss = terms["body"] + (terms["action"] if i % 2 else 0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return design.eval()


def noisy(noise: float, seed: int) -> Callable[[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(seed)

    def act(state: Tensor) -> Tensor:
        shake = torch.randn(len(state), 1, 2, generator=rng) * noise
        return (expert(state) + shake).clamp(-1, 1)

    return act


def simulated(noise: float, count: int = 200) -> float:
    """Success of the noisy expert in the world itself."""
    state, act = starts(count, 5), noisy(noise, 6)
    for _ in range(STEPS):
        state = move(state, act(state))
    return (state.norm(dim=1) < REACH).float().mean().item()


def minus_distance(finished: Dream) -> Tensor:
    """Score of a dream: minus the distance of its end to the origin."""
    return -finished.observation().state[:, 0].norm(dim=1)


def ranked(world: Design, scorer: Callable[[Dream], Tensor]) -> ProxyReport:
    setup, scores = DreamSetup(world, at(starts(64, 7)), scorer, DreamPlan((STEPS,), 0)), []
    for noise in NOISES:
        act = noisy(noise, 8)

        def policy(so_far: Dream, act: Callable[[Tensor], Tensor] = act) -> Tensor:
            return act(so_far.observation().state[:, 0])

        scores += setup.scores(f"noise {noise}", policy)
    return trust(world, scores, {f"noise {noise}": simulated(noise) for noise in NOISES})


def test_imagined_scores_rank_policies_as_the_world_does(world: Design) -> None:
    report = ranked(world, minus_distance)
    found = report.correlation
    assert len({round(rate, 2) for rate in report.success.values()}) >= 5  # the policies differ
    assert found.n == len(NOISES)
    assert found.spearman.value is not None
    assert found.pearson.value is not None
    assert found.spearman.value > 0.9
    assert found.spearman.low > 0.3
    assert found.pearson.value > 0.7
    for score in report.scores:
        assert (score.steps, score.horizon_ticks, score.control_hz) == (STEPS, STEPS * STEP, 20.0)
        assert score.steps_per_s > 0
        assert score.score.n == 64
    assert "n = 7 policies; 64 starts each, 24 ticks (1.20 s) imagined at" in report.headline()


def test_a_success_probe_ranks_them_too(world: Design) -> None:
    # Linear in the state, so the goal is made a half plane: everything right of the line x = 0.
    shown = starts(200, 3)
    probe = SuccessProbe(world, "body", at(shown), shown[:, 0] > 0)
    end = dream(
        world, lambda so_far: torch.ones(2, STEP, 2), at(torch.tensor([[-0.9, 0], [0.7, 0]])), 1, seeds=(0, 1)
    )
    low, high = probe(end)
    assert low < 0.2
    assert high > 0.8
    with pytest.raises(DataError, match="0 solved"):
        SuccessProbe(world, "body", at(shown), torch.zeros(200, dtype=torch.bool))


def test_a_probe_is_not_swayed_by_what_never_varied(world: Design) -> None:
    # The goal is the half plane x > 0, and every frame lies on one line; a dream leaves it by a hair.
    shown = starts(200, 3)
    line = torch.stack((shown[:, 0], 0.3 + 1e-6 * shown[:, 1]), dim=1)
    probe = SuccessProbe(world, "body", at(line), line[:, 0] > 0)
    aside = probe.of(at(line + torch.tensor([0.0, 0.02])))
    clear = line[:, 0].abs() > 0.3
    assert torch.equal((aside > 0.5)[clear], (line[:, 0] > 0)[clear])
    assert (aside - probe.of(at(line))).abs().max() < 0.3


def test_a_dream_follows_the_world_and_a_design_may_act_in_it(world: Design) -> None:
    start = starts(16, 4)
    policy = DesignPolicy(world, range(16))
    end = dream(world, policy, at(start), 3, seeds=range(16))
    state = start
    for forecast in end.made:
        state = move(state, forecast.action)
    assert (end.observation().state[:, 0] - state).norm(dim=1).max() < 0.15
    assert state.norm(dim=1).mean() < 0.5 * start.norm(dim=1).mean()  # it has learned to go home
    assert (end.steps, end.ticks) == (3, 12)
    again = dream(world, policy, at(start), 3, seeds=range(16))
    assert torch.equal(end.values("body"), again.values("body"))


def test_a_world_that_keeps_its_past_is_dreamt_in_its_own_state(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("chunk_causal"), data).eval()
    design.fit(toy, 0)
    start = acting_observation(toy, [40, 80], design.window)
    seen: list[int] = []

    def policy(so_far: Dream) -> Tensor:
        look = so_far.observation()
        assert look.images["scene"].shape == (2, 1, 3, 32, 32)
        assert look.images["scene"].dtype == torch.uint8
        seen.append(so_far.ticks)
        return torch.zeros(2, 8, 4)

    end = dream(design, policy, start, 3, seeds=(1, 2))
    assert seen == [0, 8, 16]
    assert end.values("body").shape == (2, 1, 1, 4)


def test_refusals(world: Design, data: DataSpec, toy: ToyWindows) -> None:
    start = at(starts(2, 0))

    def idle(so_far: Dream) -> Tensor:
        return torch.zeros(2, so_far.world.config.horizon, so_far.world.action_spec.width)

    with pytest.raises(BudgetError, match="steps 0"):
        dream(world, idle, start, 0, seeds=(0, 1))
    post_head = Design(recipe("post_head"), data)
    with pytest.raises(ConfigError, match="whatever the action"):
        dream(post_head, idle, acting_observation(toy, [1, 2], post_head.window), 1, seeds=(0, 1))
    rollout = Design(recipe("rollout"), data).eval()
    rollout.fit(toy, 0)
    shown = acting_observation(toy, [40, 80], rollout.window)
    one = dream(rollout, idle, shown, 1, seeds=(0, 1))  # one step asks for no observation
    assert one.steps == 1
    with pytest.raises(ConfigError, match="imagines no the state, which the observation shows"):
        dream(rollout, idle, shown, 2, seeds=(0, 1))
    late = replace(config(), futures={"body": FutureConfig("body", (2 * STEP,))})
    with pytest.raises(ConfigError, match="8 ticks ahead, from actions of 4 only"):
        dream(Design(late, spec()), idle, start, 1, seeds=(0, 1))
    with pytest.raises(ConfigError, match="keeps a past of its own"):
        DesignPolicy(Design(recipe("chunk_causal"), data), (0,))
    with pytest.raises(ConfigError, match="Did you mean 'body'"):
        SuccessProbe(world, "bod", start, torch.tensor([True, False]))
    with pytest.raises(DataError, match="success rates of"):
        trust(world, [], {"a": 1.0})
