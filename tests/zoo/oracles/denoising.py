"""Oracles of denoising: its evaluations, learned numbers of them, few-step students, refinement in turns."""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import pairwise

import torch
from cases import Case
from torch import Tensor

from gates import sharpen
from oracles.drawing import graded, sampled, terms
from oracles.registry import calls, oracle
from wamkit.contract.calls import Call
from wamkit.contract.specs import ACTION
from wamkit.contract.types import Budget
from wamkit.design import Design
from wamkit.design.sampling import context_of
from wamkit.estimators import DenoiserConfig, FeatureTapConfig
from wamkit.estimators.paced import Paced
from wamkit.training import DistillConfig
from wamkit.training.distill import Distillation


def denoised(design: Design) -> list[str]:
    """Streams that a process of several evaluations generates."""
    facts = design.graph.estimators
    names = [
        n for f in design.config.factors if facts[f.estimator].family == "diffusion" for n in f.generates
    ]
    found = [name for name in names if design.streams[name].role != "state"]
    assert found, "nothing of the recipe is denoised"
    return found


def together(design: Design, name: str) -> list[str]:
    """Streams that one process generates with ``name``."""
    return [n for n in design.graph.factor_of(name).generates if n in denoised(design)]


@oracle("bb.denoising")
def denoising(case: Case) -> None:
    """Evaluations cost what the budget says, the seed decides the sample, and a first step goes a share of the way."""
    design = case.design
    for name in denoised(design):
        peers = together(design, name)
        spent, made = [], {}
        for count in (1, 2, 3):
            counters = [calls(trunk, "forward") for trunk in design.trunks.values()]
            found = sampled(case, design, peers, budget=Budget(nfe=dict.fromkeys(peers, count)))
            assert [found.nfe[n] for n in peers] == [count] * len(peers), found.nfe
            spent.append(sum(map(len, counters)))
            made[count] = found.values
        assert spent[2] - spent[1] == spent[1] - spent[0] > 0, spent
        again = sampled(case, design, peers, budget=Budget(nfe=dict.fromkeys(peers, 3))).values[name]
        assert torch.equal(made[3][name], again), "one seed, two samples"
        # Ids of which one is nearly certain may stay as they are; their process does not.
        watched = [name] if made[1][name].is_floating_point() else peers
        same = [torch.equal(made[1][peer], made[3][peer]) for peer in watched]
        assert not all(same), "further evaluations change nothing"
        if straight(case, name):
            first = [stopped(case, design, peers, name, count) for count in (2, 4)]
            torch.testing.assert_close(
                made[1][name] - first[0], 2 * (first[0] - first[1]), atol=1e-5, rtol=1e-4
            )


def straight(case: Case, name: str) -> bool:
    """True when the stream walks in equal Euler steps, so that its first step is a known share of the whole way."""
    part = case.config.estimators[case.design.graph.factor_of(name).estimator]
    part = part.generator if isinstance(part, FeatureTapConfig) else part
    euler = isinstance(part, DenoiserConfig) and part.solver == "euler" and part.prediction != "equilibrium"
    return euler and not case.design.config.taps


def stopped(case: Case, design: Design, peers: list[str], name: str, count: int) -> Tensor:
    """The stream after the first of ``count`` evaluations."""
    budget = Budget(nfe=dict.fromkeys(peers, count), exit={name: 1})
    return sampled(case, design, peers, budget=budget).values[name]


@oracle("ss.learned-schedule")
def learned_schedule(case: Case) -> None:
    """A constant gate is the uniform schedule, states get numbers of their own, and only the gate learns from cost."""
    design = case.untrained()
    paced = {name: part for name, part in design.estimators.items() if isinstance(part, Paced)}
    assert paced, "no estimator chooses its number of evaluations"
    for label, part in paced.items():
        names = [n for f in design.config.factors if f.estimator == label for n in f.generates]
        cost = next(t for n, t in terms(case, design.train()).items() if n.endswith(".steps"))
        reached = graded(design, cost)
        assert {".gate." in n for n in reached} == {True}, reached
        design.eval()
        last = part.gate[-1]
        for i, count in enumerate(part.config.counts):
            with torch.no_grad():
                last.weight.zero_()
                last.bias.copy_(torch.eye(len(part.config.counts))[i])
            gated = sampled(case, design, names)
            uniform = sampled(case, design, names, budget=Budget(nfe=dict.fromkeys(names, count)))
            assert [gated.nfe[n] for n in names] == [count] * len(names)
            assert all(torch.equal(gated.values[n], uniform.values[n]) for n in names)
        assert chosen_counts(case, design, label, part) > 1, "every state gets the same number of evaluations"


def chosen_counts(case: Case, design: Design, label: str, part: Paced) -> int:
    """Number of different step counts that some gate gives to recorded states."""
    observation = case.cut(design.window, range(2, 38, 3))
    context = context_of(label, design.graph, design.encode_context(observation))
    call, most = Call(context, {}, (), observation.batch_size), 0
    for seed in range(20):
        torch.manual_seed(seed)
        with torch.no_grad():
            for layer in part.gate:
                if isinstance(layer, torch.nn.Linear):
                    layer.weight.normal_(0, 2)
            scores = part.scores(call)
            part.gate[-1].bias.sub_(scores.mean(dim=0))
        most = max(most, len(part.choose(call).unique()))
    return most


@oracle("ss.distill")
def distill(case: Case) -> None:
    """A student of few evaluations nears its teacher's many more than the teacher cut short; the rest stays."""
    design = case.untrained()
    few = {name: count for name in denoised(design) if (count := evaluations(case, design, name)) <= 2}
    assert few, "no stream is generated in one or two evaluations"
    name, count = next(iter(few.items()))
    torch.manual_seed(0)
    objective = Distillation(DistillConfig(steps={name: count}, teacher_steps=8), design)
    student = copy.deepcopy(design)
    label = design.graph.factor_of(name).estimator
    declared = {n for n, _ in student.named_parameters() if n.startswith(f"estimators.{label}")}
    parameters = [p for n, p in student.named_parameters() if n in declared]
    student.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer, gaps = torch.optim.Adam(parameters, lr=1e-3), []
    batch = case.batch(design=design)
    for _ in range(12):
        torch.manual_seed(1)
        loss = objective.loss(student, batch, {}).total
        gaps.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gaps[-1] < 0.7 * gaps[0], f"gap to the teacher {gaps[0]:.4f} -> {gaps[-1]:.4f}"
    after = dict(student.named_parameters())
    moved = {n for n, p in design.named_parameters() if not torch.equal(p, after[n])}
    shared = {id(p) for p in parameters}
    assert {id(after[n]) in shared for n in moved} == {True}, moved


def evaluations(case: Case, design: Design, name: str) -> int:
    """Evaluations that a call spends on a stream as it is configured."""
    return sampled(case, design, [name]).nfe[name]


@oracle("cp.iterative-refine")
def iterative_refine(case: Case) -> None:
    """A round generates each side given the latest of the other; no rounds are the base; a call may choose them."""
    assert case.config.budget.rounds, "nothing is refined unless a call asks for it"
    part = case.config.estimators[case.design.graph.factor_of(ACTION).estimator]
    assert isinstance(part, DenoiserConfig), "the action is not denoised"
    label = case.design.graph.factor_of(ACTION).estimator
    still = {**case.config.estimators, label: replace(part, temperature=0.0)}
    design = sharpen(case.untrained(estimators=still))
    beside = [n for n in design.graph.factor_of(ACTION).generates if n != ACTION]
    assert len(beside) == 1, f"the action is refined against one future, not against {beside}"
    future = beside[0]
    both = [future, ACTION]
    runs = [sampled(case, design, both, budget=Budget(rounds=r)) for r in (0, 1, 2)]
    action = runs[0].values[ACTION]
    for r in (1, 2):
        world = sampled(case, design, [future], given={ACTION: action}, budget=Budget(rounds=0)).values[
            future
        ]
        action = sampled(case, design, [ACTION], given={future: world}, budget=Budget(rounds=0)).values[
            ACTION
        ]
        assert torch.equal(runs[r].values[future], world), (
            f"round {r}: the world does not read the latest action"
        )
        assert torch.equal(runs[r].values[ACTION], action), (
            f"round {r}: the action does not read the latest world"
        )
        assert not torch.equal(runs[r].values[ACTION], runs[r - 1].values[ACTION])
        assert runs[r].nfe[ACTION] == (r + 1) * runs[0].nfe[ACTION]
    plain = case.design
    gaps = [sampled(case, plain, both, budget=Budget(rounds=r)).values[future] for r in range(4)]
    steps = [(b - a).square().mean().sqrt().item() for a, b in pairwise(gaps)]
    assert steps[-1] < steps[0], f"the two sides do not settle: {steps}"
