"""Oracles of couplings: what one process of future and action is, and what a cascade is."""

from __future__ import annotations

from cases import Case

from oracles.registry import oracle
from wamkit.contract.specs import ACTION


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
    import torch

    batch = case.batch()
    torch.manual_seed(0)
    plain = case.design.loss(batch, {})
    torch.manual_seed(0)
    doubled = case.design.loss(batch, {ACTION: 2.0})
    assert torch.allclose(doubled.total, plain.total + plain.terms[ACTION])
