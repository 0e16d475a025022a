"""Oracles of training in imagination: a hidden return of actions is the world, and the world model is taught it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from cases import Case
from torch import Tensor

from oracles.registry import oracle
from wamkit.contract.types import Budget
from wamkit.design import Design, Factor
from wamkit.estimators import RegressorConfig
from wamkit.imagination.acting import Imagination, Start
from wamkit.imagination.exploitation import Returns, exploitation
from wamkit.imagination.returns import lambda_returns
from wamkit.planners import HighValueConfig
from wamkit.training.imagined import PREFIX, Imagined, ImaginedConfig, factor_terms, improved_factors
from wamkit.training.optim import OptimConfig
from wamkit.training.selection import Selection
from wamkit.zoo.systems import parts as p

LESSONS, KNOWN, STEPS, ROWS, TAUGHT = 150, 0.05, 20, 24, 16
OPTIM = OptimConfig(lr=3e-3)
Hidden = Callable[[Tensor], Tensor]


def hidden(action: Tensor) -> Tensor:
    """Return (R,) in [-1, 1] of actions (R, H, A): how far they push the first entry in the first ticks."""
    return action[:, : p.EXECUTE, 0].mean(dim=1)


def opposite(action: Tensor) -> Tensor:
    """A planted error: what is worst counts as best."""
    return -hidden(action)


@dataclass
class Lab:
    """A policy of a recipe, a world model that was taught a return, and the settings of training in it."""

    case: Case
    policy: Design
    world: Design
    config: ImaginedConfig

    @property
    def own(self) -> bool:
        return self.world is self.policy

    def imagination(self) -> Imagination:
        return Imagination(
            self.policy, self.world, self.config.objective, self.config.value, self.config.fixed
        )

    def start(self, rows: int = ROWS) -> Start:
        """Recorded moments, again and again."""
        frames = [i % 30 for i in range(rows)]
        batches = (self.case.batch(frames, side) for side in (self.policy, self.world))
        return self.imagination().start(*batches)

    def objective(self) -> Imagined:
        other = None if self.own else self.world
        selection = Selection(self.policy, self.learning())
        return Imagined(self.config, self.policy, other, self.case.data, selection)

    def learning(self) -> list[str]:
        """Parts of the policy, and of the critic: their estimators and trunks. The world model stays as it is."""
        graph = self.policy.graph
        names = [n for factor in improved_factors(self.policy) for n in factor.generates]
        names += [self.config.value] if self.config.critic else []
        estimators = sorted({graph.factor_of(name).estimator for name in names})
        runs_on = (graph.estimators[name].trunk for name in estimators)
        trunks = sorted({trunk for trunk in runs_on if trunk is not None})
        return [*(f"estimators.{name}" for name in estimators), *(f"trunks.{name}" for name in trunks)]

    def returns(self) -> Returns:
        """Imagined and real returns of the policy's first action at the same moments, with the same seeds."""
        self.policy.eval()
        start, found = self.start(), self.imagination()
        (step,) = found.roll(start, 1, seeds=range(ROWS))
        return Returns(tuple(step.reward.tolist()), tuple(hidden(step.action).tolist()))


def lab(case: Case, taught: Hidden = hidden, **settings: object) -> Lab:
    """The recipe in its own world, or in one of the same futures whose outcome is given the action."""
    policy = case.untrained()
    scores = [n for n in case.futures() if policy.substrate(n).standing == "score"]
    score = "reward" if "reward" in scores else scores[0]
    own = policy.graph.follows(score) and score not in policy.graph.ancestors(policy.graph.acting())
    world = policy if own else outcome(case)
    config = ImaginedConfig(
        objective=HighValueConfig(score),
        starts=4,
        group=8,
        temperature=0.2,
        share=0.0,
        hindsight=() if own else tuple(n for n in case.futures() if n in case.config.futures),
        fixed=("episode_clock",),
    )
    made = Lab(case, policy, world, replace(config, **settings))  # type: ignore[arg-type]
    teach(made, score, taught)
    return made


def outcome(case: Case) -> Design:
    """World model of the recipe's futures, given the action."""
    names = tuple(case.config.futures)
    config = replace(
        case.config,
        trunks={"outcome": p.transformer()},
        estimators={"outcome": RegressorConfig(trunk="outcome")},
        factors=(Factor(names, ("action",), "outcome"),),
        given=("action",),
        planner=None,
        guide=None,
        budget=Budget(),
        loss_weights={},
    )
    torch.manual_seed(0)
    world = Design(config, case.spec)
    world.fit(case.data, seed=0)
    return world.eval()


def teach(made: Lab, score: str, taught: Hidden) -> None:
    """Train the world model's score on random actions, until it knows what they return."""
    world, start = made.world, made.start(TAUGHT)
    factor, imagination = world.graph.factor_of(score), made.imagination()
    optimizer = replace(OPTIM, lr=6e-3).build(world)
    generator = torch.Generator().manual_seed(0)
    width, horizon = len(made.case.spec.action.names), made.case.config.horizon
    for _ in range(LESSONS):
        drift, noise = (2 * torch.rand(TAUGHT, n, width, generator=generator) - 1 for n in (1, horizon))
        action = (drift + 0.5 * noise).clamp(-1, 1)
        (step,) = imagination.roll(start, 1, seeds=range(TAUGHT), act=lambda _, action=action: action)
        values = {**step.values, **step.future, **world.action_streams.encode(action)}
        values[score] = torch.cat((taught(action)[:, None, None, None], values[score][:, 1:]), dim=1)
        pads = {n: torch.ones(values[n].shape[:2], dtype=torch.bool) for n in factor.generates}
        pads[score][:, 0] = False
        loss = factor_terms(world, [factor], start.world, values, pads)[score]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < KNOWN:
            return
    raise AssertionError(f"the world model has not learned the return: {loss.item()}")


def improve(made: Lab, steps: int = STEPS) -> list[dict[str, float]]:
    """Train the policy in imagination alone; what was logged."""
    objective, optimizer, log = made.objective(), OPTIM.build(made.policy), []
    for step in range(steps):
        torch.manual_seed(step)
        frames = range(step % 12, step % 12 + 16)
        losses = objective.loss(made.policy, made.case.batch(frames, made.policy), {})
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        log.append({name: value.item() for name, value in {**losses.terms, **losses.facts}.items()})
    made.policy.eval()
    return log


@oracle("pt.wm-rl")
def wm_rl(case: Case) -> None:
    """The real return rises by training in imagination, beside the imagined one; a planted error is flagged."""
    verdicts = []
    for taught in (hidden, opposite):
        made = lab(case, taught)
        before = made.returns()
        log = improve(made)
        verdicts.append(exploitation(before, made.returns()))
        assert {"return", "gap.reward"} <= log[-1].keys(), "the gap to the recordings is not logged"
    honest, fooled = verdicts
    assert honest.imagined.low > 0, honest
    assert honest.real.low > 0.05, honest
    assert not honest.flagged, honest
    assert fooled.flagged, fooled
    assert fooled.real.high < 0, fooled


@oracle("pl.imagination-ac")
def imagination_ac(case: Case) -> None:
    """Returns are as computed by hand; actor and critic learn from imagined rollouts alone, and nothing else does."""
    by_hand = [[1 + 0.5 * (0.5 * 4 + 0.5 * (2 + 0.5 * 6))], [2 + 0.5 * 6]]  # discount and trace 1/2
    found = lambda_returns(torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [6.0]]), 0.5, 0.5)
    assert found.tolist() == by_hand
    made = lab(case, value="value", critic=True, steps=2, starts=4, discount=0.9)
    assert made.own, "actor and critic learn in their own world"
    objective, design = made.objective(), made.policy
    design.zero_grad()
    losses = objective.loss(design, case.batch(range(12), design), {})
    assert {PREFIX + "action", PREFIX + "value"} == set(losses.terms)
    losses.total.backward()
    learning = {design.graph.factor_of(name).estimator for name in ("action", "value")}
    for name, estimator in design.estimators.items():
        pulled = any(p.grad is not None and bool(p.grad.any()) for p in estimator.parameters())
        assert pulled == (name in learning), f"{name} {'learns' if pulled else 'does not learn'}"
    before, log = made.returns(), improve(made)
    after = made.returns()
    assert log[-1][PREFIX + "value"] < 0.5 * log[0][PREFIX + "value"], (log[0], log[-1])
    verdict = exploitation(before, after)
    assert verdict.imagined.low > 0, verdict
    assert verdict.real.low > 0.05, verdict
    both = torch.tensor([before.imagined + after.imagined, before.real + after.real])
    assert float(torch.corrcoef(both)[0, 1]) > 0.5, "imagined and real returns do not agree"
