"""Pieces of training in imagination: targets of the critic, plans replaced by what followed, pasts, any head."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from reaching import CHUNK, MOVES, SEEN, design, moved, reward
from wamkit.actions import BinsConfig
from wamkit.data import Dataset, DatasetWriter, Episode
from wamkit.data.spec import data_spec
from wamkit.design import Design, DesignConfig, Factor, FutureConfig
from wamkit.errors import ConfigError
from wamkit.estimators import AutoregressorConfig, DenoiserConfig, RegressorConfig, StateSpaceConfig
from wamkit.planners import HighValueConfig
from wamkit.substrates import ValueConfig
from wamkit.training import ImaginedConfig, OptimConfig
from wamkit.training.imagined import PREFIX, Imagined
from wamkit.training.selection import Selection

BASE = ImaginedConfig(
    objective=HighValueConfig("reward"), starts=4, group=4, steps=2, fixed=("episode_clock",)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Episodes that end in success or not, with rewards."""
    root, rng = tmp_path_factory.mktemp("parts") / "data", np.random.default_rng(0)
    with DatasetWriter(root, SEEN, MOVES, extras={"reward": ((), "float32")}) as writer:
        for i in range(6):
            place, states = rng.uniform(-0.8, 0.8, 2).astype(np.float32), []
            actions = rng.uniform(-1, 1, (14, 2)).astype(np.float32)
            for action in actions:
                states.append(place)
                place = moved(place, action)
            state = np.stack(states)
            writer.add(Episode({}, state, actions, "reach", i % 2 == 0, extras={"reward": reward(state)}))
    return Dataset(root, extras=("reward", "episode_clock"))


def valued(**changes: Any) -> DesignConfig:
    """The reaching design with a critic that reads the place that was reached."""
    base = design()
    return replace(
        base,
        substrates={**base.substrates, "value": ValueConfig()},
        futures={**base.futures, "value": FutureConfig("value", (CHUNK,))},
        estimators={**base.estimators, "critic": RegressorConfig(trunk="world")},
        factors=(*base.factors, Factor(("value",), ("place",), "critic")),
        **changes,
    )


def built(config: DesignConfig, data: Dataset, seed: int = 0) -> Design:
    torch.manual_seed(seed)
    made = Design(config, data_spec(data))
    made.fit(data, seed=0)
    return made.eval()


def objective(made: Design, data: Dataset, world: Design | None = None, **changes: Any) -> Imagined:
    return Imagined(replace(BASE, **changes), made, world, data, Selection(made), None)


def test_the_critic_learns_the_returns_of_imagined_rollouts(data: Dataset) -> None:
    """Regressed on fixed rollouts, the value of the state after the first step is the return from there."""
    made = built(valued(), data)
    training = objective(made, data, value="value", critic=True)
    batch = data.windows(np.arange(0, 64, 4), made.training_window)
    rollouts, _ = training.imagine(batch)
    told = replace(rollouts, returns=torch.stack((rollouts.returns[0], torch.full((16,), 0.25))))
    optimizer = OptimConfig(lr=1e-2).build(made)
    for _ in range(40):
        loss = training.critic_terms(made, told, 16)["value"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made.eval()
    again = training.imagination.roll(
        training.imagination.start(batch, batch), 1, seeds=range(16), act=lambda _: batch.action
    )
    assert loss.item() < 0.01
    torch.testing.assert_close(again[0].value, torch.full((16,), 0.25), atol=0.1, rtol=0)


def test_values_at_the_end_are_those_of_the_moving_average(data: Dataset) -> None:
    made, average = built(valued(), data, 0), built(valued(), data, 1)
    batch = data.windows(np.arange(4), made.training_window)
    plain = objective(made, data, value="value").imagination
    start = plain.start(batch, batch)
    ends = [plain.roll(start, 1, seeds=range(4), valued_by=by)[0] for by in (None, made, average)]
    torch.testing.assert_close(ends[0].value, ends[1].value)
    assert not torch.allclose(ends[0].value, ends[2].value)
    assert torch.equal(ends[0].action, ends[2].action)


def planning() -> DesignConfig:
    """``p(s|c) p(a|s,c)``: a plan of places, and the action read off it."""
    base = design()
    return replace(
        base,
        substrates={"place": base.substrates["place"]},
        futures={"place": base.futures["place"]},
        estimators={"plan": DenoiserConfig(trunk="world"), "policy": DenoiserConfig(trunk="policy")},
        factors=(Factor(("place",), (), "plan"), Factor(("action",), ("place",), "policy")),
    )


def test_hindsight_puts_what_followed_in_the_place_of_the_plan(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, world = built(planning(), data), built(design(), data)
    batch = data.windows(np.arange(16), policy.training_window)
    learned: dict[bool, torch.Tensor] = {}
    for hindsight in (False, True):
        training = objective(policy, data, world, hindsight=("place",) if hindsight else (), steps=1)
        rollouts, _ = training.imagine(batch)
        taken: list[torch.Tensor] = []
        inner = policy.estimators["plan"].loss
        monkeypatch.setattr(
            policy.estimators["plan"],
            "loss",
            lambda o, c, t, p, inner=inner, taken=taken: taken.append(t["place"].values) or inner(o, c, t, p),
        )
        torch.manual_seed(0)
        terms = training.policy_terms(policy, rollouts, 16)
        assert set(terms) == {"place", "action"}, "plan and action are trained together"
        followed, planned = rollouts.made[0].future["place"], rollouts.made[0].values["place"]
        source = followed if hindsight else planned
        assert all(bool((source == row).flatten(1).all(dim=1).any()) for row in taken[0])
        learned[hindsight] = taken[0]
        monkeypatch.undo()
    assert not torch.equal(learned[False], learned[True])


def test_hindsight_needs_the_same_values_in_both(data: Dataset) -> None:
    world = built(design(), data)
    with torch.no_grad():
        next(world.substrates["place"].buffers()).add_(1.0)
    with pytest.raises(ConfigError, match="has other values in the world model than in the design"):
        objective(built(planning(), data), data, world, hindsight=("place",))


HEADS = {
    "bins, autoregressive": (BinsConfig(bins=8), AutoregressorConfig(trunk="policy", temperature=1.0)),
    "equilibrium": (None, DenoiserConfig(trunk="policy", prediction="equilibrium")),
}


@pytest.mark.parametrize("head", HEADS)
def test_any_head_is_trained_on_its_own_actions(data: Dataset, head: str) -> None:
    action, policy = HEADS[head]
    base = design()
    config = replace(base, estimators={**base.estimators, "policy": policy}, action=action or base.action)
    made = built(config, data)
    losses = objective(made, data).loss(made, data.windows(np.arange(16), made.training_window), {})
    assert losses.terms[PREFIX + "action"].isfinite()
    losses.total.backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in made.estimators["policy"].parameters())


def recurrent() -> DesignConfig:
    """``p(z|c) p(a|z,c) p(s|z,a,c) p(r|z,a,c)``: a policy in a carried state."""
    base = design()
    return replace(
        base,
        states={"state": 12},
        estimators={
            "dynamics": StateSpaceConfig(stochastic=4, hidden=16, past=2),
            "policy": DenoiserConfig(trunk="policy"),
            "reward": RegressorConfig(trunk="world"),
        },
        factors=(
            Factor(("state",), (), "dynamics"),
            Factor(("action",), ("state",), "policy"),
            Factor(("place",), ("state", "action"), "dynamics"),
            Factor(("reward",), ("state", "action"), "reward"),
        ),
    )


def test_a_carried_state_goes_on_in_the_rollout_and_starts_from_the_recorded_past(data: Dataset) -> None:
    made = built(recurrent(), data)
    training = objective(made, data, fixed=("reward",))
    rows = np.array([5, 6])
    batch = data.windows(rows, made.training_window)
    start = training.imagination.start(batch, batch)
    steps = training.imagination.roll(start, 3, seeds=[1, 2])
    states = torch.stack([step.values["state"].flatten(1) for step in steps])
    assert not torch.equal(states[0], states[1])
    assert not torch.equal(states[1], states[2])
    other = replace(
        batch, action=torch.cat((-batch.action[:, : batch.past], batch.action[:, batch.past :]), 1)
    )
    moved_start = training.imagination.start(other, other)
    begun = training.imagination.roll(moved_start, 1, seeds=[1, 2])[0].values["state"].flatten(1)
    assert not torch.equal(begun, states[0]), "the recorded past is not read"


def test_a_policy_that_learns_from_a_real_past_is_refused(data: Dataset) -> None:
    base = design()
    config = replace(
        base, estimators={**base.estimators, "policy": DenoiserConfig(trunk="policy", history=2)}
    )
    trunks = {name: replace(trunk, time_range=4) for name, trunk in base.trunks.items()}  # type: ignore[call-arg]
    made = built(replace(config, trunks=trunks), data)
    with pytest.raises(ConfigError, match="an imagined step has none"):
        objective(made, data)
