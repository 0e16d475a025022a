"""Oracles of couplings: what one process of future and action is, and what a cascade is."""

from __future__ import annotations

import torch
from cases import Case

from gates import sharpen
from oracles.drawing import another, sampled
from oracles.registry import oracle
from wamkit.contract.specs import ACTION
from wamkit.errors import BudgetError


def gradient_norms(case: Case, stream: str) -> dict[str, float]:
    """Norm of the gradient that the loss of one stream sends into each part of the network."""
    design = case.untrained()
    design.train()
    design.loss(case.batch(design=design)).terms[stream].backward()
    norms = {}
    for label, part in design.parts().items():
        grads = [p.grad.norm().item() for p in part.parameters() if p.grad is not None]
        norms[label] = sum(grads)
    return norms


@oracle("cp.joint")
def joint(case: Case) -> None:
    """One process yields future and action, and both losses train its network; their weights scale the sum."""
    graph = case.design.graph
    factor = graph.factor_of(ACTION)
    beside = [name for name in factor.generates if name in graph.of_role("future")]
    assert beside, "the action is generated alone"
    part = f"estimators.{factor.estimator}"
    for stream in (ACTION, beside[0]):
        assert gradient_norms(case, stream)[part] > 0, stream
    batch = case.batch()
    torch.manual_seed(0)
    plain = case.design.loss(batch, {})
    torch.manual_seed(0)
    doubled = case.design.loss(batch, {ACTION: 2.0})
    assert torch.allclose(doubled.total, plain.total + plain.terms[ACTION])
    told = [answers(case, ACTION, beside[0]), answers(case, beside[0], ACTION)]
    assert True in told or told == [None, None], "future and action are sampled as if independent"


def answers(case: Case, stream: str, known: str) -> bool | None:
    """Whether a stream changes with a known one of its factor; None where it cannot be sampled given that one."""
    design = sharpen(case.untrained())
    value = sampled(case, design, [known]).values[known]
    words = design.streams[known].vocabulary
    try:
        for draw in range(8):
            given = [value, another(value, seed=draw, vocabulary=words)]
            if not torch.equal(
                *(sampled(case, design, [stream], given={known: g}).values[stream] for g in given)
            ):
                return True
    except BudgetError:
        return None
    return False
