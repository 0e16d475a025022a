"""Joint samples follow the dynamics (`cp.joint`); rounds of refinement bring both closer (`cp.iterative-refine`)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from support import ToyWindows, acting_observation
from wamkit.contract.calls import Call
from wamkit.contract.data import DataSpec
from wamkit.contract.protocols import Estimator
from wamkit.contract.streams import RowNoise, StreamSpec, Target
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.facts import EstimatorFacts
from wamkit.design.graph import Factor, FactorGraph
from wamkit.design.limits import check_budget
from wamkit.design.sampling import SamplingCall, same_start
from wamkit.design.timing import Stages
from wamkit.errors import BudgetError
from wamkit.estimators import Denoiser, DenoiserConfig, UnmaskerConfig
from wamkit.trunks import TransformerConfig
from wamkit.zoo import recipe

ACTION, FUTURE = StreamSpec("action", "action", 1, 1, 1), StreamSpec("future", "future", 1, 1, 2)
GRAPH = FactorGraph(
    (Factor(("future", "action"), (), "world"),),
    {"future": "future", "action": "action"},
    {"world": EstimatorFacts("diffusion", "main", processes=2)},
)
ROWS = 512


def consequence(action: Tensor) -> Tensor:
    """The toy's dynamics: (B, 1, 1, 1) -> (B, 1, 1, 2), a point on a circle."""
    return torch.cat(((2 * action).sin(), (2 * action).cos()), dim=-1)


def train(model: Any, steps: int, rows: int = 256) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    pad = torch.zeros(rows, 1, dtype=torch.bool)
    for _ in range(steps):
        action = torch.rand(rows, 1, 1, 1) * 2.4 - 1.2
        targets = {"action": Target(action, pad), "future": Target(consequence(action), pad)}
        terms = model.loss(
            ["future", "action"], Call(model.trunk.empty(rows, 1), {}, (), rows), targets, None
        ).terms
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()


@pytest.fixture(scope="module")
def world() -> Denoiser:
    """A joint denoiser of actions and where they lead, that may be given either."""
    torch.manual_seed(0)
    trunk = TransformerConfig(width=32, depth=2, heads=2).build()
    config = DenoiserConfig(steps=3, clean={"action": 0.2, "future": 0.2})
    model = config.build((FUTURE, ACTION), (), trunk)
    train(model, 500)
    return model.eval()


@torch.no_grad()
def sample(model: Estimator, budget: Budget) -> tuple[dict[str, Tensor], dict[str, int]]:
    """One call: future and action of ROWS rows, always under the same noise."""
    check_budget(budget, GRAPH, {"world": model}, None, 1, ["future", "action"])
    session = SamplingCall(
        graph=GRAPH,
        estimators={"world": model},
        planner=None,
        context={"main": model.trunk.empty(ROWS, 1)},  # type: ignore[union-attr, operator]
        carry={"world": ()},
        budget=budget,
        noise=RowNoise([0], copies=ROWS),
        rows=ROWS,
        stages=Stages(torch.device("cpu")),
        values={},
    )
    session.run({"future", "action"})
    return session.values, session.nfe


@pytest.mark.learns
def test_joint_samples_satisfy_the_dynamics_more_often_than_independent_ones(world: Denoiser) -> None:
    values, _ = sample(world, Budget(nfe={"future": 16, "action": 16}))
    error = (values["future"] - consequence(values["action"])).flatten(1).norm(dim=1)
    shuffled = (values["future"].roll(1, dims=0) - consequence(values["action"])).flatten(1).norm(dim=1)
    together, apart = ((e < 0.3).float().mean().item() for e in (error, shuffled))
    print(f"\nsatisfied within 0.3: sampled together {together:.3f}, independently {apart:.3f} (n={ROWS})")
    assert together > 0.8
    assert apart < 0.4


@pytest.mark.learns
def test_disagreement_falls_with_rounds(world: Denoiser) -> None:
    """How far the world of one round is from the world that the next one predicts again."""
    few = {"future": 2, "action": 2}
    samples = [sample(world, Budget(rounds=r, nfe=few))[0] for r in range(5)]
    worlds = [values["future"] for values in samples]
    gaps = [(a - b).flatten(1).norm(dim=1).mean().item() for a, b in itertools.pairwise(worlds)]
    wrong = [(v["future"] - consequence(v["action"])).flatten(1).norm(dim=1).mean().item() for v in samples]
    print(
        f"\ndisagreement by round {[round(g, 3) for g in gaps]}, off the dynamics {[round(w, 3) for w in wrong]}"
    )
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3]
    assert gaps[1] < 0.5 * gaps[0]
    assert wrong[1] < 0.5 * wrong[0]


@pytest.mark.learns
def test_rounds_are_counted(world: Denoiser) -> None:
    assert sample(world, Budget())[1] == {"future": 3, "action": 3}
    assert sample(world, Budget(rounds=2, nfe={"future": 2}))[1] == {"future": 6, "action": 9}


def test_zero_rounds_are_the_base_model(data: DataSpec, toy: ToyWindows) -> None:
    design = Design(recipe("joint"), data).eval()
    design.fit(toy, 0)
    observation = acting_observation(toy, [30, 60], design.window)
    made = [
        design.forecast(observation, design.initial_state(2), budget, [1, 2])[0]
        for budget in (Budget(), Budget(rounds=0), Budget(rounds=1))
    ]
    assert torch.equal(made[0].action, made[1].action)
    assert torch.equal(made[0].future["future"], made[1].future["future"])
    assert not torch.allclose(made[0].action, made[2].action)
    assert made[2].nfe == {"future": 8, "action": 8}


@pytest.mark.learns
def test_a_round_depends_on_the_latest_estimate_of_the_other(world: Denoiser) -> None:
    """Two rounds by hand, each stream from its own noise again and again, are the same bit for bit."""
    values, _ = sample(world, Budget(rounds=2))
    noise = RowNoise([0], copies=ROWS)

    def generate(names: list[str], known: dict[str, Tensor], noise: RowNoise) -> dict[str, Tensor]:
        given = {name: value for name, value in known.items() if name not in names}
        call = Call(world.trunk.empty(ROWS, 1), given, (), ROWS)
        with torch.no_grad():
            return {**known, **world.generate(names, call, Budget(), noise).values}

    known = generate(["future", "action"], {}, noise)
    future, action = noise.fork(), noise.fork()
    for _ in range(2):
        known = generate(["future"], known, same_start(future))
        known = generate(["action"], known, same_start(action))
    assert torch.equal(values["future"], known["future"])
    assert torch.equal(values["action"], known["action"])


def test_token_streams_are_refined_too() -> None:
    ids = [
        StreamSpec("future", "future", 1, 2, 1, vocabulary=4),
        StreamSpec("action", "action", 1, 1, 1, vocabulary=4),
    ]
    trunk = TransformerConfig(width=16, depth=1, heads=2).build()
    model = UnmaskerConfig(steps=2, clean={"action": 0.2, "future": 0.2}).build(ids, (), trunk)
    assert sample(model, Budget(rounds=1))[1] == {"future": 4, "action": 4}


@pytest.mark.parametrize(
    ("name", "budget", "message"),
    [
        ("joint", Budget(rounds=1, future=False), "no factor of p.s,a.c. generates two streams in this call"),
        ("joint", Budget(rounds=1, exit={"future": 2}), "exit for stream 'future' with rounds=1"),
        ("post_head", Budget(rounds=1), "names both in `clean`"),
        ("autoregressive", Budget(rounds=1), "names both in `clean`"),
    ],
)
def test_rounds_that_cannot_be_honoured(data: DataSpec, name: str, budget: Budget, message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        Design(recipe(name), data).check_budget(budget)


def test_streams_that_do_not_read_each_other_are_not_refined() -> None:
    config = DenoiserConfig(clean={"action": 0.2, "future": 0.2}, reads={"future": ()})
    model = config.build((FUTURE, ACTION), (), TransformerConfig(width=16, depth=1, heads=2).build())
    with pytest.raises(BudgetError, match="no factor"):
        sample(model, Budget(rounds=1))
