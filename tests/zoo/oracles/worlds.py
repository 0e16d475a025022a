"""Oracles of world models: what follows from an action, searches through it, codes in place of actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.contract.streams import RowNoise
from wamkit.contract.types import Budget, Observation
from wamkit.design import Design
from wamkit.design.build import aims_of
from wamkit.imagination.unrolling import unroll
from wamkit.planners import CEMConfig, MPPIConfig


def moved(design: Design, name: str, draw: int, rows: int = 1) -> Tensor:
    """Random values of a stream, of the size that makes a difference."""
    spec, generator = design.streams[name], torch.Generator().manual_seed(draw)
    shape = (rows, spec.steps, spec.tokens)
    if spec.vocabulary is not None:
        return torch.randint(spec.vocabulary, shape, generator=generator)
    return 2 * torch.randn(*shape, spec.features, generator=generator)


def made(
    case: Case,
    design: Design,
    observation: Observation,
    want: Sequence[str],
    given: Mapping[str, Tensor] | None = None,
    seed: int = 1,
) -> dict[str, Tensor]:
    """Sampled values of streams; actions and goals that the caller has to know are random but fixed."""
    rows = observation.batch_size
    told = {n: moved(design, n, 99, rows) for n in design.config.given} | dict(given or {})
    context, carry = design.encode_context(observation), design.initial_state(rows)
    if design.past_blocks:
        carry = design.observe(observation, carry, context)
    wanted = [name for name in want if name not in told]
    found = design.sample(observation, wanted, seeds=[seed] * rows, given=told, carry=carry, context=context)
    return dict(found.values)


def known(case: Case, design: Design, observation: Observation, names: Iterable[str]) -> dict[str, Tensor]:
    """Sampled values of all that ``names`` are generated from."""
    given = design.config.given
    wanted = sorted(design.graph.ancestors(list(names)) - set(given))
    told = {n: moved(design, n, 99, observation.batch_size) for n in given}
    return {**told, **(made(case, design, observation, wanted, told) if wanted else {})}


def shown_again(case: Case, design: Design, seen: Observation, name: str, rows: list[int]) -> bool:
    """True when the seed decides the state that is drawn."""
    first, second = (design.sample(seen, [name], seeds=rows).values[name] for _ in range(2))
    return torch.equal(first, second)


def led(case: Case, design: Design) -> dict[str, list[str]]:
    """Action stream -> futures that its value leads to."""
    graph, found = design.graph, {}
    for action in sorted(graph.of_role("action")):
        after = [n for n in case.futures() if action in graph.ancestors([n])]
        beside = [n for n in case.futures() if action in graph.factor_of(n).generates and n not in after]
        if after or beside:
            found[action] = after or beside
    assert found, "no future follows from an action"
    return found


@oracle("cp.rollout")
def rollout(case: Case) -> None:
    """One action has one consequence, another has another; candidates go through together; steps build on steps."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    for action, futures in led(case, design).items():
        one, two = moved(design, action, 1), moved(design, action, 2)
        first, again, other = (
            made(case, design, observation, futures, {action: value}) for value in (one, one, two)
        )
        for name in futures:
            assert torch.equal(first[name], again[name]), f"{name}: one action, two consequences"
        assert any(not torch.equal(first[n], other[n]) for n in futures), f"{action} leads to nothing"
        if not design.past_blocks:
            together(case, design, observation, action, futures, (one, two))
    if design.past_blocks and not set(design.config.given) - {ACTION}:
        stepwise(case)


def together(
    case: Case,
    design: Design,
    observation: Observation,
    action: str,
    futures: list[str],
    candidates: tuple[Tensor, Tensor],
) -> None:
    """Two candidates in one call have the consequences that each has alone."""
    both = case.cut(design.window, (12, 12))
    found = made(case, design, both, futures, {action: torch.cat(candidates)})
    for i, value in enumerate(candidates):
        alone = made(case, design, observation, futures, {action: value})
        for name in futures:
            if design.streams[name].vocabulary is None:
                torch.testing.assert_close(found[name][i], alone[name][0], atol=2e-2, rtol=2e-2)


def stepwise(case: Case) -> None:
    """In step mode an action changes its own step and those after it, none before."""
    design = case.design
    seen = case.cut(design.window)
    plans = [torch.zeros(1, case.config.horizon, len(case.spec.action.names)) for _ in range(2)]
    plans[1] += 0.5

    def rolled(change: int) -> list[Tensor]:
        steps = unroll(
            design,
            seen,
            design.initial_state(1),
            3,
            seeds=[1],
            choose=lambda k, _: plans[int(k == change)],
        )
        return [torch.cat([v.flatten().float() for v in step.future.values()]) for step in steps]

    plain, changed = rolled(-1), rolled(1)
    assert torch.equal(plain[0], changed[0]), "an action changes what was before it"
    assert not torch.equal(plain[1], changed[1]), "an action changes nothing"
    assert not torch.equal(plain[2], changed[2]), "a step does not build on the step before"
    assert all(step.isfinite().all() for step in (*plain, *changed))


@oracle("ev.wm-evaluator")
def evaluator(case: Case) -> None:
    """An imagined rollout of several steps stays finite, has one outcome per seed, and tells two policies apart."""
    design = case.design
    (action, futures), *_ = led(case, design).items()
    assert all(design.streams[name].steps > 1 for name in futures) or design.past_blocks, (
        "one step is no rollout"
    )
    observation = case.cut(design.window)
    recorded = design.targets(case.batch([12]))[action].values
    other = torch.roll(recorded, 1, dims=1) if recorded.dtype == torch.long else -recorded
    rolls = [
        made(case, design, observation, futures, {action: value}) for value in (recorded, recorded, other)
    ]
    for name in futures:
        assert rolls[0][name].isfinite().all()
        assert torch.equal(rolls[0][name], rolls[1][name]), "one policy, two outcomes"
    true = design.targets(case.batch([12]))
    scores = [
        [float((roll[n].float() - true[n].values.float()).square().mean()) for n in futures]
        for roll in (rolls[0], rolls[2])
    ]
    if all(design.streams[n].vocabulary is None for n in futures):
        assert scores[0] != scores[1], "two policies have one score"
    responds(case, action, futures)


def responds(case: Case, action: str, futures: list[str]) -> None:
    """With weights that matter, every step of the rollout from the change on depends on the policy."""
    design = sharpen(case.untrained())
    observation = case.cut(design.window)
    one, two = (made(case, design, observation, futures, {action: moved(design, action, k)}) for k in (1, 2))
    assert any(not torch.equal(one[n][:, -1], two[n][:, -1]) for n in futures), (
        "the end does not depend on it"
    )


@oracle("da.latent-action-label")
def latent_action_label(case: Case) -> None:
    """Codes are read off videos without looking at actions; they stand for a transition and carry it to the future."""
    design = case.untrained()
    graph = design.graph
    states = sorted(graph.of_role("state") - set(design.config.taps))
    sources = {
        z: [f for f in case.futures() if graph.factor_of(f).estimator == graph.factor_of(z).estimator]
        for z in states
    }
    (code, seen_as), *_ = [(z, f) for z, f in sources.items() if f] or [("", [])]
    assert code, "no code that is inferred from a future"
    batch = case.batch(range(0, 24, 3), design)
    blind = replace(batch, action=-batch.action, action_pad=torch.ones_like(batch.action_pad))
    terms = []
    design.train()
    for some in (batch, blind):
        torch.manual_seed(0)
        terms.append(design.loss(some).terms[code].item())
    assert terms[0] == terms[1], "the code looks at the action"
    codes_differ(case, code, seen_as[0])


def codes_differ(case: Case, code: str, source: str) -> None:
    """Another transition, another code, whatever the seed; its future follows it; its error trains what infers it."""
    design = sharpen(case.untrained())
    seen = case.cut(design.window)
    shown = [moved(design, source, k) for k in (1, 2)]
    codes = [design.sample(seen, [code], seeds=[1], given={source: some}).values[code] for some in shown]
    assert not torch.equal(*codes), "another transition, the same code"
    again = design.sample(seen, [code], seeds=[7], given={source: shown[0]}).values[code]
    assert torch.equal(codes[0], again), "the code of a transition depends on chance"
    for reader in (f for f in design.graph.factors if code in f.given):
        for name in set(reader.generates) & set(case.futures()):
            beside = known(case, design, seen, [name])
            led_to = [made(case, design, seen, [name], {**beside, code: z})[name] for z in codes]
            assert not torch.equal(*led_to), f"{name} does not follow the code"
    design = case.untrained()
    design.train()
    design.loss(case.batch(design=design)).terms[source].backward()
    part = case.estimator_of(code, design)
    heads = [n for n, p in part.named_parameters() if p.grad is not None and bool(p.grad.any())]
    assert any("posterior" in n for n in heads), (
        "the error of the rebuilt future does not train what infers the code"
    )


@oracle("pl.sampling-mpc")
def sampling_mpc(case: Case) -> None:
    """The search finds a known optimum, costs more than drawing once, and follows what is wished for."""
    config = case.config.planner
    assert isinstance(config, CEMConfig | MPPIConfig), "no search by sampling"
    assert config.iterations > 0, "nothing is resampled"
    quadratic(case)
    design = case.design
    observation = case.cut(replace(design.window, goal=True))
    found = design.forecast(observation, design.initial_state(1), Budget(), [1])[0]
    assert found.costs is not None
    assert found.costs.shape[1] >= config.candidates * (config.iterations + 1)
    first = found.costs[:, : config.candidates]
    assert float(found.costs.min()) <= float(first.min())
    again = design.forecast(observation, design.initial_state(1), Budget(), [1])[0]
    assert torch.equal(found.action, again.action)
    single = design.forecast(observation, design.initial_state(1), Budget(candidates=2, iterations=0), [1])[0]
    assert not torch.equal(found.action, single.action), "the search changes nothing"
    if observation.goal is not None and aims_of(design.graph, design.steering):
        wish = replace(observation, goal=observation.steps([-1]))
        other = design.forecast(wish, design.initial_state(1), Budget(), [1])[0]
        assert not torch.equal(found.costs, other.costs), "another goal, the same costs"


def quadratic(case: Case) -> None:
    """On a quadratic cost the search gets nearer to the optimum than the best proposal."""
    config, spec = case.config.planner, case.design.streams[ACTION]
    assert isinstance(config, CEMConfig | MPPIConfig)
    planner = replace(config, candidates=64, iterations=6, deviation_cost=0.0, objective=None).build()
    target = torch.full((spec.steps, spec.tokens, spec.features), 0.3)
    noise = RowNoise([0], torch.device("cpu"))
    proposals = torch.randn(1, 64, *target.shape, generator=torch.Generator().manual_seed(0))

    def cost(actions: Tensor) -> Tensor:
        return (actions - target).square().mean(dim=(-3, -2, -1))

    carry = planner.initial_carry(spec, 1, torch.device("cpu"))
    found = planner.plan(lambda n: proposals[:, :n], cost, Budget(), noise, carry)
    assert float(cost(found.action[:, None])) < 0.5 * float(cost(proposals).min()), (
        "no better than a proposal"
    )
